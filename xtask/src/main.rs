//! What `make` does where more than a few lines of shell are needed.

#![expect(clippy::disallowed_methods, reason = "a program: it reads clocks and starts cargo")]

mod proof;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Work on the repository itself.
#[derive(Parser)]
#[command(name = "xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Runs every test at full length and writes proof/report.json.
    ///
    /// Steps that passed at this commit are not run again, so an interrupted proof goes on where it was.
    Proof {
        /// Forget what passed before and run everything.
        #[arg(long)]
        again: bool,
    },
}

fn main() -> ExitCode {
    let Task::Proof { again } = Arguments::parse().task;
    match proof::run(again) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
