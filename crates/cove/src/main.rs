//! The program: the command line, and everything in one process.
//!
//! Each verb but `up`, `hub`, `node`, `completions` and `man` is a client of the HTTP API. Data goes to
//! standard output and prose to standard error; the exit status tells the kind of
//! failure.

// they panic where nobody reads, as after a terminal was closed: `output` says things
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod completion;
mod copy;
mod environment;
mod failure;
mod manual;
mod output;
mod progress;
mod render;
mod signals;
mod up;
mod verbs;

use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::ErrorKind as Kind;
use cove_types::ErrorKind;
use serde_json::json;

use crate::args::{Cli, Verb};
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    completion::answer();
    let words = args::as_options(std::env::args_os());
    let read = args::command()
        .try_get_matches_from(words)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let Cli { verb, output } = match read {
        Ok(cli) => cli,
        Err(refusal) => return not_parsed(&refusal),
    };
    match run(verb, Output::new(output)) {
        Ok(code) => code,
        Err(failure) => {
            output::warn_raw(&failure.message());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What is said of a command line that asks for help, or is none.
fn not_parsed(refusal: &clap::Error) -> ExitCode {
    let kind = refusal.kind();
    // Help and the version go where they are asked for, in clap's words.
    if !refusal.use_stderr() || kind == Kind::DisplayHelpOnMissingArgumentOrSubcommand {
        drop(refusal.print());
        return ExitCode::from(u8::from(refusal.use_stderr()) * 2);
    }
    let failure = Failure::from(refusal);
    output::warn_raw(&failure.message());
    ExitCode::from(failure.exit_code())
}

fn run(verb: Verb, output: Output) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Up(flags) => up::run(environment::up(flags)?, output).map_err(started),
        Verb::Hub(flags) => up::run_hub(environment::hub(flags)?).map_err(started),
        Verb::Node(flags) => {
            let (args, hub) = environment::node(flags)?;
            up::run_node(args, hub).map_err(started)
        }
        Verb::Completions { shell } => {
            output::write(&completion::script(shell)?).map(|()| ExitCode::SUCCESS)
        }
        Verb::Man { directory } => {
            let pages = manual::write(&directory)?;
            let lines: String = pages.iter().map(|page| format!("{page}\n")).collect();
            output.show(&json!({ "pages": pages }), pages, || lines)?;
            Ok(ExitCode::SUCCESS)
        }
        verb => {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| Failure::io("failed to start threads", &error))?;
            let result = runtime.block_on(async { verbs::Session::new(output)?.run(verb).await });
            // A thread may still wait for input that does not come.
            runtime.shutdown_background();
            result
        }
    }
}

/// Why `up` failed: its own words where it has some.
fn started(error: anyhow::Error) -> Failure {
    match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(other) => {
            let words: Vec<String> = other.chain().map(ToString::to_string).collect();
            Failure::new(ErrorKind::Internal, words.join(": "))
        }
    }
}
