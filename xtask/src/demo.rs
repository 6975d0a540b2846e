//! The story of the README, played on a real project: from the first file to a lost machine.
//!
//! What is shown is what runs: each command as it is typed, with what it prints, and below it what
//! was looked at and found to be so. The first thing that is not so ends the demo with an error.

mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cove_testkit::proof;
use serde_json::Value;

use self::stage::Stage;

/// The first size of the pool.
const POOL: &str = "3GiB";
/// What must be free below the temporary directory: two pools, a store and a project.
const FREE_BYTES_MIN: u64 = 8 << 30;
/// How long the demo is to take.
const TIME_MAX: Duration = Duration::from_secs(180);
/// How long an S3 server that has just been started may refuse objects.
const STORE_WITHIN: Duration = Duration::from_secs(60);
/// How many files a real project has at least.
const FILES_MIN: u64 = 10_000;
/// All that the database must give back: how many rows there are, and what is in them.
const ROWS: &str = "psql -tAc \"SELECT count(*) || ' ' || md5(string_agg(b::text, ';' ORDER BY id)) FROM bookings b\"";

/// Plays the demo with a program, or with one that it builds.
pub fn run(program: Option<PathBuf>, root: &Path) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the demo mounts a btrfs pool, which needs root: sudo make demo");
    }
    for (name, package) in [("npm", "npm"), ("git", "git"), ("setpriv", "util-linux")] {
        if find(name).is_none() {
            bail!("{name} is not in PATH; as root: apt-get install {package}");
        }
    }
    let postgres = postgres().context(
        "PostgreSQL's initdb is neither in PATH nor in /usr/lib/postgresql; as root: apt-get \
         install postgresql",
    )?;
    let free = rustix::fs::statvfs(std::env::temp_dir()).context("failed to look for room")?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    if free < FREE_BYTES_MIN {
        let place = std::env::temp_dir();
        bail!("the demo needs 8 GiB in {}, where {} MiB are free", place.display(), free >> 20);
    }
    let program = match program {
        Some(program) => fs::canonicalize(&program)
            .with_context(|| format!("there is no program {}", program.display()))?,
        None => build(root)?,
    };
    let mut stage = Stage::set(&program, &postgres)?;
    let played = play(&mut stage, &root.join("demo"));
    println!("\nclearing it away");
    let left = stage.clear();
    let took = played?;
    if !left.is_empty() {
        bail!("the demo left behind: {}", left.join("; "));
    }
    figure("demo: all of it", format!("{} s", took.as_secs()));
    if took > TIME_MAX {
        println!("It is to take {} s at most: this machine is busy, or slow.", TIME_MAX.as_secs());
    }
    Ok(())
}

/// Builds the program as it is released.
fn build(root: &Path) -> Result<PathBuf> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "-p", "cove"])
        .current_dir(root)
        .status()
        .context("failed to start cargo")?;
    if !status.success() {
        bail!("cargo build ended with {status}");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(root.join(target).join("release/cove"))
}

/// The directory of a program in `PATH`.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find(|place| place.join(name).is_file())
}

/// Where PostgreSQL's programs are: of several versions those of the newest.
fn postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let numbered = versions.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((number, entry.path().join("bin")))
    });
    let newest = numbered.filter(|(_, place)| place.join("initdb").is_file()).max();
    newest.map(|(_, place)| place).or_else(|| find("initdb"))
}

/// What is true of the project, to be true again at the end.
struct Known {
    /// The answer to [`ROWS`] in `harbour`.
    rows: String,
    /// The same in the fork that was changed.
    rows_of_fork: String,
}

fn play(stage: &mut Stage, project: &Path) -> Result<Duration> {
    let endpoint = stage.start_store()?;
    stage.title("Cove: a real project, its database, and a machine that is lost");
    stage.tell(&format!(
        "All of it lies in {}, with an S3 server of its own (SeaweedFS), and is gone afterwards.",
        stage.dir().display()
    ));
    let files = make_project(stage, project)?;
    start_cove(stage, &endpoint)?;
    bring_in(stage, files)?;
    let rows = take_snapshot(stage)?;
    go_back(stage, &rows)?;
    let rows_of_fork = try_several_ways(stage, &rows)?;
    lose_the_machine(stage, &Known { rows, rows_of_fork })?;
    Ok(stage.summary())
}

fn make_project(stage: &mut Stage, project: &Path) -> Result<u64> {
    stage.act(
        "A real project",
        "harbour is an API and a page. Its dependencies come from the npm registry, its history is in \
         git, its database is a PostgreSQL data directory in the project.",
    );
    let place = stage.dir().join("harbour");
    copy(project, &place)?;
    stage.enter("harbour")?;
    stage.run("npm ci --no-audit --no-fund --ignore-scripts --no-progress")?;
    stage.run("git init -q && git add -A && git commit -qm 'harbour, as it is'")?;
    std::os::unix::fs::chown(&make_directory(&place.join("db"))?, Some(1000), Some(1000))?;
    stage.run("initdb -D db -U harbour -A trust >/dev/null")?;
    let settings = format!(
        "\nlisten_addresses = ''\nunix_socket_directories = '{}'\n",
        stage.dir().join("run").display()
    );
    append(&place.join("db/postgresql.conf"), &settings)?;
    stage
        .run("pg_ctl -D db -l db/log -s start && psql -q -f schema.sql && pg_ctl -D db -s stop")?;
    let files: u64 = stage.ask("find . -type f | wc -l")?.parse()?;
    let size = stage.ask("du -sh . | cut -f1")?;
    if files < FILES_MIN {
        bail!("a real project has {FILES_MIN} files, this one has {files}");
    }
    stage.holds(&format!("{} files, {size}", grouped(files)), None);
    Ok(files)
}

fn start_cove(stage: &mut Stage, endpoint: &str) -> Result<()> {
    stage.act("Cove, with a bucket", "What Cove calls saved is in the bucket, acknowledged.");
    let home = stage.dir().join("home").display().to_string();
    stage.export("COVE_HOME", &home);
    stage.export("AWS_ENDPOINT_URL", endpoint);
    let took =
        stage.run(&format!("cove up --detach -q --objects s3://cove/demo --pool-bytes {POOL}"))?;
    // the S3 server has just been started, and refuses objects until all of its parts have met
    let until = Instant::now() + STORE_WITHIN;
    loop {
        let checked = stage.json("doctor");
        if checked.as_ref().is_ok_and(all_checks_are_well) {
            break;
        }
        if Instant::now() > until || stage.is_interrupted() {
            expect(all_checks_are_well(&checked?), "a check of `cove doctor` fails")?;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    stage.holds("it serves, and all checks of `cove doctor` are well", Some(took));
    Ok(())
}

fn bring_in(stage: &mut Stage, files: u64) -> Result<()> {
    stage.act(
        "The project becomes a workspace",
        "Dependencies, history and database come along. From now on it is edited where Cove keeps it: \
         plain files of a directory.",
    );
    let took = stage.run("cove new harbour --from .")?;
    stage.enter("\"$(cove path harbour)\"")?;
    let found: u64 = stage.ask("find . -type f | wc -l")?.parse()?;
    expect(found == files, &format!("{files} files went in and {found} are there"))?;
    expect(is_saved(&stage.json("show harbour")?), "harbour is not saved")?;
    stage.holds("every file is there, and saved in the bucket", Some(took));
    start_database(stage)?;
    Ok(())
}

fn take_snapshot(stage: &mut Stage) -> Result<String> {
    stage.act(
        "A snapshot while the database writes",
        "One program writes a visit after the other, each a transaction. A snapshot is of one instant, \
         like a power cut: the database recovers from it as from that.",
    );
    let rows = stage.ask(ROWS)?;
    stage.start_writer("psql -q -f visits.sql")?;
    let until = Instant::now() + Duration::from_secs(20);
    while visits(stage)?.1 == 0 {
        expect(Instant::now() < until, "no visit was written within 20 s")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = stage.run("cove snapshot harbour -m 'before the refactor' --label v1")?;
    stage.stop_writer();
    let entries = stage.json("timeline harbour")?;
    let entry = &entries["entries"][0];
    expect(entry["durability"] == "saved", "the snapshot is not saved")?;
    let captured = entry["captured_ms"].as_u64().context("an entry has captured_ms")?;
    stage.holds(&format!("captured in {captured} ms, and in the bucket"), Some(took));
    figure("demo: snapshot captured", format!("{captured} ms"));
    figure("demo: snapshot saved", format!("{} ms", took.as_millis()));
    Ok(rows)
}

fn go_back(stage: &mut Stage, rows: &str) -> Result<()> {
    stage.act(
        "A bad day, and back",
        "Sources are gone, and a table with them. A restore is refused while a program has files open \
         for writing, and says which.",
    );
    stage.run("rm -r src && psql -qc 'DROP TABLE bookings'")?;
    let changes = stage.run("cove diff harbour@v1 | grep -v ' db/'")?;
    let differences = stage.json("diff harbour@v1")?;
    let removed = differences["changes"].as_array().into_iter().flatten();
    let removed = removed.filter(|change| change["change"] == "removed");
    let sources = removed
        .filter(|change| change["path"].as_str().is_some_and(|path| path.starts_with("src/")));
    expect(sources.count() == 3, "the difference does not name the three sources")?;
    stage.holds("the difference names what is gone", Some(changes));
    stage.refused("cove restore harbour v1", 4)?;
    stage.run("pg_ctl -D db -s stop -m fast")?;
    let took = stage.run("cove restore harbour v1")?;
    stage.enter("\"$(cove path harbour)\"")?;
    stage.tell("The lock file is of that instant, too: pg_ctl finds it as after a power cut.");
    start_database(stage)?;
    expect(stage.ask(ROWS)? == rows, "the restored rows are others than before")?;
    let (count, last) = visits(stage)?;
    expect(count == last && last > 0, &format!("{count} visits are there, the last is {last}"))?;
    expect(stage.ask("git status --porcelain")?.is_empty(), "the sources differ from the commit")?;
    stage.holds("sources and rows are back, and no visit before the last is missing", Some(took));
    Ok(())
}

fn try_several_ways(stage: &mut Stage, rows: &str) -> Result<String> {
    stage.act(
        "Eight ways at once",
        "A fork is a workspace of its own and costs nothing until it is written to. Its database starts \
         beside the other.",
    );
    let took = stage.run("cove fork harbour@v1 --count 8 | tail -1")?;
    let forks = stage.json("ls")?;
    expect(forks["projects"].as_array().map(Vec::len) == Some(9), "there are not nine projects")?;
    stage.holds(&format!("8 forks, {} ms each", took.as_millis() / 8), Some(took));
    figure("demo: 8 forks", format!("{} ms", took.as_millis()));
    stage.enter("\"$(cove path harbour-3)\"")?;
    stage.export("PGPORT", "5433");
    start_database(stage)?;
    stage.run(
        "psql -qc \"INSERT INTO bookings (berth, boat, nights, price) SELECT 7, 'regatta ' || n, 2, 99 \
         FROM generate_series(1, 500) n\"",
    )?;
    let took = stage.run("cove snapshot harbour-3 -m 'with the regatta'")?;
    let rows_of_fork = stage.ask(ROWS)?;
    let of_source = stage.ask(&format!("PGPORT=5432 {ROWS}"))?;
    expect(of_source == rows, "the fork's rows are in its source too")?;
    expect(rows_of_fork.starts_with("12500 "), "the fork has not 12,500 rows")?;
    stage.holds("12,500 rows in the fork, 12,000 in its source", Some(took));
    stage.run("pg_ctl -D db -s stop")?;
    Ok(rows_of_fork)
}

fn lose_the_machine(stage: &mut Stage, known: &Known) -> Result<()> {
    stage.act("The machine is lost", "Nothing is left of it but the bucket.");
    stage.run("pg_ctl -D \"$(cove path harbour)/db\" -s stop")?;
    stage.run("cove ls")?;
    stage.enter("/")?;
    stage.run("cove down -q && rm -r \"$COVE_HOME\"")?;
    expect(!stage.dir().join("home").exists(), "the home is still there")?;
    stage.act(
        "Another machine",
        "An empty home and the same bucket. The lost machine gave a sign of life a moment ago, so \
         --take says that it is gone for good.",
    );
    let home = stage.dir().join("another-machine").display().to_string();
    stage.export("COVE_HOME", &home);
    stage.run(&format!("cove up --detach -q --objects s3://cove/demo --pool-bytes {POOL}"))?;
    let took = stage.run("cove recover --take")?;
    stage.holds("9 projects are back", Some(took));
    figure("demo: recovery", format!("{} ms", took.as_millis()));
    stage.enter("\"$(cove path harbour-3)\"")?;
    start_database(stage)?;
    let took =
        stage.run("psql -c 'SELECT count(*) AS bookings, sum(price) AS takings FROM bookings'")?;
    expect(stage.ask(ROWS)? == known.rows_of_fork, "the recovered rows are others than before")?;
    stage.run("pg_ctl -D db -s stop")?;
    expect(stage.ask("git status --porcelain")?.is_empty(), "the sources differ from the commit")?;
    stage.ask("git fsck --no-progress")?;
    stage.holds("row by row as before the machine was lost; git finds no fault", Some(took));
    stage.ask("pg_ctl -D \"$(cove path harbour)/db\" -l /dev/null -s start")?;
    expect(stage.ask(ROWS)? == known.rows, "the recovered rows of harbour are others than before")?;
    stage.ask("pg_ctl -D \"$(cove path harbour)/db\" -s stop")?;
    stage.run("cove timeline harbour")?;
    let entries = stage.json("timeline harbour")?;
    let v1 = entries["entries"].as_array().into_iter().flatten().any(|one| one["label"] == "v1");
    expect(v1, "the entry v1 is not in the timeline")?;
    let took = stage.run("cove verify --level 2")?;
    stage.holds("timelines too, and the store holds what it must", Some(took));
    stage.run("cove down -q")?;
    Ok(())
}

/// Starts the database of the project that was entered; its log tells why where it does not.
fn start_database(stage: &mut Stage) -> Result<Duration> {
    stage.run("pg_ctl -D db -l db/log -s start").map_err(|error| {
        let log = stage.ask("tail -12 db/log").unwrap_or_default();
        error.context(format!("the database does not start; the end of its log is\n{log}\n"))
    })
}

fn expect(is_so: bool, otherwise: &str) -> Result<()> {
    if !is_so {
        bail!("{otherwise}");
    }
    Ok(())
}

/// How many visits there are, and the number of the last.
fn visits(stage: &Stage) -> Result<(u64, u64)> {
    let text = stage.ask("psql -tAF' ' -c 'SELECT count(*), coalesce(max(n), 0) FROM visits'")?;
    let (count, last) = text.split_once(' ').context("two numbers are answered")?;
    Ok((count.parse()?, last.parse()?))
}

fn is_saved(reply: &Value) -> bool {
    reply["project"]["durability"] == "saved"
        && reply["project"]["saved_to"].as_str().is_some_and(|place| place.starts_with("s3://"))
}

fn all_checks_are_well(reply: &Value) -> bool {
    let checks = reply["checks"].as_array();
    checks
        .is_some_and(|checks| !checks.is_empty() && checks.iter().all(|check| check["ok"] == true))
}

/// A figure for the report of a proof; a person has seen it already.
fn figure(name: &str, value: String) {
    if proof::is_full() {
        proof::figure(name, value);
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Copies what is in a directory into another.
fn copy(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("failed to read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &make_directory(&target)?)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn make_directory(place: &Path) -> Result<PathBuf> {
    fs::create_dir(place).with_context(|| format!("failed to make {}", place.display()))?;
    Ok(place.to_owned())
}

fn append(file: &Path, text: &str) -> Result<()> {
    let before =
        fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    fs::write(file, before + text).with_context(|| format!("failed to write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([grouped(7), grouped(1_234), grouped(12_345_678)], ["7", "1,234", "12,345,678"]);
    }
}
