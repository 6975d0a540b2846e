//! The program: the command line, and everything in one process.
//!
//! Each verb but `up` and `completions` is a client of the HTTP API. Data goes to
//! standard output and prose to standard error; the exit status tells the kind of
//! failure.

mod args;
mod copy;
mod environment;
mod failure;
mod output;
mod progress;
mod render;
mod signals;
mod up;
mod verbs;

use std::process::ExitCode;

use clap::error::ErrorKind as Kind;
use clap::{CommandFactory, Parser};
use cove_types::ErrorKind;

use crate::args::{Cli, Shell, Verb};
use crate::failure::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    let Cli { verb, output } = match Cli::try_parse_from(args::as_options(std::env::args_os())) {
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
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            let shell = match shell {
                Shell::Bash => clap_complete::Shell::Bash,
                Shell::Zsh => clap_complete::Shell::Zsh,
                Shell::Fish => clap_complete::Shell::Fish,
            };
            clap_complete::generate(shell, &mut Cli::command(), "cove", &mut script);
            output::write(&script).map(|()| ExitCode::SUCCESS)
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
