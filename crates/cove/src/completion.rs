//! Completion on the command line: the verbs and flags of this program, and the names of the
//! projects of the Cove that runs.
//!
//! The script that a shell sources calls this program at each tab, with the shell in `COMPLETE`.

use std::time::Duration;

use clap_complete::CompleteEnv;
use clap_complete::env::Shells;
use clap_complete::{ArgValueCandidates, CompletionCandidate};
use cove_types::ErrorKind;

use crate::args::{Shell, command};
use crate::environment;
use crate::failure::Failure;

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";
/// How long a person waits at a tab before nothing is proposed.
const PATIENCE: Duration = Duration::from_millis(500);

/// Answers a shell that asks, and ends; returns where none does.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).bin("cove").completer("cove").complete();
}

/// The script that a shell sources.
pub fn script(shell: Shell) -> Result<Vec<u8>, Failure> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let mut script = Vec::new();
    let shells = Shells::builtins();
    let completer = shells.completer(name).ok_or_else(|| {
        Failure::new(ErrorKind::Internal, format!("there is no completion for {name}"))
    })?;
    completer
        .write_registration(VARIABLE, "cove", "cove", "cove", &mut script)
        .map_err(|error| Failure::io("failed to write a completion script", &error))?;
    Ok(script)
}

/// The names of the projects; none where no Cove answers in time.
pub fn projects() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names(false))
}

/// The names of the projects in the trash.
pub fn trash() -> ArgValueCandidates {
    ArgValueCandidates::new(|| names(true))
}

fn names(trashed: bool) -> Vec<CompletionCandidate> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let listed = runtime.block_on(async {
        let client = environment::client().ok()?;
        tokio::time::timeout(PATIENCE, client.list(trashed)).await.ok()?.ok()
    });
    let projects = listed.map(|reply| reply.projects).unwrap_or_default();
    projects.into_iter().map(|project| CompletionCandidate::new(project.slug)).collect()
}
