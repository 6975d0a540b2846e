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
    Ok(match shell {
        Shell::Zsh => loaded_at_the_first_tab(&String::from_utf8_lossy(&script)).into_bytes(),
        Shell::Bash | Shell::Fish => script,
    })
}

/// The script of zsh, so that it also answers the tab at which zsh loads it from a directory of
/// `fpath`: it is the body of the function `_cove` then, and nobody calls what it defines.
fn loaded_at_the_first_tab(script: &str) -> String {
    let (function, register) =
        ("_clap_dynamic_completer_cove", "compdef _clap_dynamic_completer_cove cove");
    let either = format!(
        "if [[ $funcstack[1] == _cove ]]; then\n    {function} \"$@\"\nelse\n    {register}\nfi"
    );
    script.replacen(&format!("\n{register}"), &format!("\n{either}"), 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_that_asks_this_program() {
        for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let script = String::from_utf8(script(shell).unwrap()).unwrap();
            assert!(script.contains(VARIABLE) && script.contains(name), "{script}");
        }
        let zsh = String::from_utf8(script(Shell::Zsh).unwrap()).unwrap();
        assert!(zsh.starts_with("#compdef cove\n"), "{zsh}");
        assert!(zsh.contains("== _cove ]]; then\n    _clap_dynamic_completer_cove"), "{zsh}");
    }
}
