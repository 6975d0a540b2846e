//! What `make` does where more than a few lines of shell are needed.

#![expect(clippy::disallowed_methods, reason = "a program: it reads clocks and starts others")]

mod demo;
mod proof;
mod report;

use std::path::{Path, PathBuf};
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
    /// Plays the story of the README on a real project, and checks it.
    Demo {
        /// This program, and not one that is built for it.
        #[arg(long)]
        program: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Proof { again } => proof::run(again),
        Task::Demo { program } => demo::run(program, &root()).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the repository is.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}
