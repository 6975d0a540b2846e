//! Measures the release program beside what people use today, in one run on one machine.

#![expect(clippy::disallowed_methods, reason = "a program: it reads clocks and runs others")]

mod baseline;
mod connection;
mod corpus;
mod door;
mod edit;
mod floor_server;
mod http1;
mod interrupt;
mod load;
mod machine;
mod measure;
mod mounts;
mod peers;
mod pool;
mod program;
mod rows;
mod sample;
mod shell;
mod sockets;
mod table;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};

use crate::baseline::{Baseline, Corpus};
use crate::measure::Measure;
use crate::rows::Row;
use crate::shell::{command, run};
use crate::world::{Extent, World, say};

/// Measure Cove beside `btrfs send | sha256sum | zstd -3` and restic. Needs root.
#[derive(Debug, Parser)]
#[command(name = "cove-bench")]
struct Arguments {
    /// The release program, instead of the one beside this
    #[arg(long, value_name = "PATH")]
    cove: Option<PathBuf>,
    /// Only these rows, in the order of all
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROW,…")]
    rows: Vec<Row>,
    /// A smaller corpus, for trying: so many files and as many bytes as they have
    #[arg(long, value_name = "N")]
    files: Option<usize>,
    /// Repetitions of what takes long
    #[arg(long, value_name = "N", default_value_t = 3)]
    reps: usize,
    /// Repetitions of what takes milliseconds
    #[arg(long, value_name = "N", default_value_t = 30)]
    short_reps: usize,
    /// Also a volume of 1,000,000 files
    #[arg(long)]
    full: bool,
    /// Where to work, with room for some 10 GB
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Record what was measured in bench/baselines
    #[arg(long)]
    save: bool,
    /// Serve nothing, for the floor of calls
    #[arg(long, hide = true)]
    serve_nothing: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = if arguments.serve_nothing { floor_server::run() } else { bench(&arguments) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "the benchmark mounts a pool, which needs root");
    interrupt::watch()?;
    let program = match &arguments.cove {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("where is this program?")?.with_file_name("cove"),
    };
    let program =
        program.canonicalize().with_context(|| format!("{} is not built", program.display()))?;
    let commit = run(&mut command("git", &["describe", "--always", "--dirty", "--abbrev=40"]))?;
    let commit = commit.trim().to_owned();
    let mut machine = machine::look();
    let began = jiff::Timestamp::now();
    let extent = Extent {
        files: arguments.files.unwrap_or(100_000),
        bytes: if arguments.files.is_some() { 0 } else { 2_500_000_000 },
        reps: arguments.reps.max(1),
        short_reps: arguments.short_reps.max(1),
        full: arguments.full,
    };
    let scratch = arguments.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let mut world = World::make(program, &scratch, extent)?;
    let mut rows = arguments.rows.clone();
    if rows.is_empty() {
        rows = Row::value_variants().to_vec();
    }
    rows.sort_unstable();
    rows.dedup();
    let mut ended = Ok(());
    for row in rows {
        ended = row.measure(&mut world);
        if ended.is_err() {
            break;
        }
    }
    machine.load[1] = machine::load();
    // What was measured before a row failed is worth seeing too.
    print!("{}", show(&world.measures));
    if arguments.save && !world.measures.is_empty() {
        let corpus = Corpus { files: world.corpus.files.len(), bytes: world.corpus.bytes() };
        let rows = world.measures.iter().map(Into::into).collect();
        let broke_off = ended.as_ref().err().map(|error| format!("{error:#}"));
        let began = began.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        save(&Baseline { commit, began, machine, corpus, broke_off, rows })?;
    }
    ended
}

fn show(measures: &[Measure]) -> String {
    let head = ["work", "Cove, median", "range", "others (Cove's part)", "goal", "met"];
    table::render(head, &measures.iter().map(Measure::cells).collect::<Vec<_>>())
}

/// Records a run under its date, beside an earlier one of the same day.
fn save(baseline: &Baseline) -> Result<()> {
    let directory = PathBuf::from("bench/baselines");
    std::fs::create_dir_all(&directory)?;
    let date = baseline.began.split('T').next().unwrap_or_default();
    let names = std::iter::once(date.to_owned()).chain((2..).map(|n| format!("{date}-{n}")));
    let mut places = names.map(|name| directory.join(format!("{name}.json")));
    let place = places.find(|place| !place.exists()).context("there is always a next name")?;
    std::fs::write(&place, serde_json::to_string_pretty(baseline)? + "\n")?;
    say(&format!("recorded in {}", place.display()));
    Ok(())
}
