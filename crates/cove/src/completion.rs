//! Completion on the command line: the verbs and flags of this program, and the projects and entries of
//! the Cove that runs.
//!
//! The script that a shell sources calls this program at each tab, with the shell in `COMPLETE`.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::Shells;
use cove_client::Client;
use cove_types::wire::Entry;
use cove_types::{EntryState, ErrorKind};

use crate::args::{Shell, to_complete};
use crate::environment;
use crate::failure::{Failure, printable};

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";
/// How long a person waits at a tab before nothing is proposed.
const PATIENCE: Duration = Duration::from_millis(500);

/// The script of bash. Ours, because bash takes words apart at `@` and `:`, which stand in most of them.
const BASH: &str = include_str!("completion/cove.bash");
/// The script of zsh, which ends no word with a blank that goes on, and answers the tab at which zsh
/// loads it from a directory of `fpath`, too.
const ZSH: &str = include_str!("completion/cove.zsh");

/// Answers a shell that asks, and ends; returns where none does.
pub fn answer() {
    CompleteEnv::with_factory(to_complete).var(VARIABLE).bin("cove").completer("cove").complete();
}

/// The script that a shell sources.
pub fn script(shell: Shell) -> Result<Vec<u8>, Failure> {
    match shell {
        Shell::Bash => Ok(BASH.into()),
        Shell::Zsh => Ok(ZSH.into()),
        Shell::Fish => {
            let mut script = Vec::new();
            let shells = Shells::builtins();
            let fish = shells.completer("fish").ok_or_else(|| {
                Failure::new(ErrorKind::Internal, "there is no completion for fish")
            })?;
            fish.write_registration(VARIABLE, "cove", "cove", "cove", &mut script)
                .map_err(|error| Failure::io("failed to write a completion script", &error))?;
            Ok(script)
        }
    }
}

/// The names of the projects; none where no Cove answers in time.
pub fn projects() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let slugs = asked(Asked::Projects { trashed: false });
        slugs.into_iter().map(|(slug, _)| CompletionCandidate::new(slug)).collect()
    })
}

/// NAME or NAME@x.
pub fn references() -> ArgValueCompleter {
    completer(Form { after_name: "", after_entry: "", is_range: false, trashed: false })
}

/// NAME@x, where x must be an entry.
pub fn entries() -> ArgValueCompleter {
    completer(Form { after_name: "@", after_entry: "", is_range: false, trashed: false })
}

/// NAME or NAME@x of what is in the trash.
pub fn trash() -> ArgValueCompleter {
    completer(Form { after_name: "", after_entry: "", is_range: false, trashed: true })
}

/// NAME@x, or two of them with `..` between.
pub fn moments() -> ArgValueCompleter {
    completer(Form { after_name: "", after_entry: "", is_range: true, trashed: false })
}

/// NAME:/path or NAME@x:/path, as far as the path.
pub fn places() -> ArgValueCompleter {
    completer(PLACE)
}

/// The same, or a path of this machine.
pub fn sides() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut candidates = PLACE.complete(current);
        candidates.extend(PathCompleter::any().complete(current));
        candidates
    })
}

const PLACE: Form = Form { after_name: ":/", after_entry: ":/", is_range: false, trashed: false };

/// How a word is written that names a project, and perhaps one of its entries.
#[derive(Debug, Clone, Copy)]
struct Form {
    after_name: &'static str,
    after_entry: &'static str,
    /// Two may stand with `..` between.
    is_range: bool,
    /// What is in the trash is named.
    trashed: bool,
}

/// What is asked of Cove for a word.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'w> {
    Projects { trashed: bool },
    Entries { project: &'w str, trashed: bool },
}

impl Form {
    /// What stands before that which is completed, and what may stand there; nothing where neither a
    /// project nor an entry may.
    fn read<'w>(&self, word: &'w str) -> Option<(&'w str, Asked<'w>)> {
        let begins = match self.is_range {
            true => word.rfind("..").map_or(0, |at| at + "..".len()),
            false => 0,
        };
        let (kept, one) = word.split_at(begins);
        if one.contains([':', '/']) {
            return None;
        }
        Some(match one.split_once('@') {
            None => (kept, Asked::Projects { trashed: self.trashed }),
            Some((project, _)) => {
                let before = begins + project.len() + "@".len();
                (&word[..before], Asked::Entries { project, trashed: self.trashed })
            }
        })
    }
}

impl ValueCompleter for Form {
    fn complete(&self, current: &OsStr) -> Vec<CompletionCandidate> {
        let Some(word) = current.to_str() else { return Vec::new() };
        let Some((kept, what)) = self.read(word) else { return Vec::new() };
        let after = match what {
            Asked::Projects { .. } => self.after_name,
            Asked::Entries { .. } => self.after_entry,
        };
        let offered = asked(what).into_iter().map(|(name, about)| {
            CompletionCandidate::new(format!("{kept}{name}{after}")).help(about.map(Into::into))
        });
        let word = word.as_bytes();
        offered.filter(|one| one.get_value().as_encoded_bytes().starts_with(word)).collect()
    }
}

fn completer(form: Form) -> ArgValueCompleter {
    ArgValueCompleter::new(form)
}

/// The names that Cove knows, with what there is to say of each; none where it does not answer in time.
fn asked(what: Asked<'_>) -> Vec<(String, Option<String>)> {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let listed = runtime.block_on(async {
        let client = environment::client().ok()?;
        tokio::time::timeout(PATIENCE, names(&client, what)).await.ok()?
    });
    listed.unwrap_or_default()
}

async fn names(client: &Client, what: Asked<'_>) -> Option<Vec<(String, Option<String>)>> {
    Some(match what {
        Asked::Projects { trashed } => {
            let projects = client.list(trashed).await.ok()?.projects;
            projects.into_iter().map(|project| (project.slug, None)).collect()
        }
        Asked::Entries { project, trashed } => {
            let entries = client.timeline(&project.parse().ok()?, trashed).await.ok()?.entries;
            let state = if trashed { EntryState::Trashed } else { EntryState::Live };
            entries.iter().filter(|entry| entry.state == state).map(name_of).collect()
        }
    })
}

/// What an entry is called on the command line: by its label, where it has one.
fn name_of(entry: &Entry) -> (String, Option<String>) {
    let name = entry.label.clone().unwrap_or_else(|| entry.id.clone());
    let about = entry.message.as_deref().map(printable);
    (name, about.or_else(|| Some(entry.kind.as_str().to_owned())))
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
        assert!(ZSH.starts_with("#compdef cove\n"));
    }

    #[test]
    fn a_word_is_completed_by_what_stands_in_it_already() {
        let projects = |kept| Some((kept, Asked::Projects { trashed: false }));
        let entries = |kept, project| Some((kept, Asked::Entries { project, trashed: false }));
        let range = Form { is_range: true, ..PLACE };
        assert_eq!(PLACE.read("sh"), projects(""));
        assert_eq!(PLACE.read("shop@v"), entries("shop@", "shop"));
        assert_eq!(PLACE.read("shop:"), None);
        assert_eq!(PLACE.read("./src"), None);
        assert_eq!(range.read("shop@v1..sh"), projects("shop@v1.."));
        assert_eq!(range.read("shop@v1..shop@"), entries("shop@v1..shop@", "shop"));
        assert_eq!(range.read("shop@v1"), entries("shop@", "shop"));
    }

    #[test]
    fn verbs_are_offered_by_their_names_and_not_by_their_aliases() {
        let mut command = to_complete();
        let words = vec!["cove".into(), "".into()];
        let offered = clap_complete::engine::complete(&mut command, words, 1, None).unwrap();
        let offered: Vec<_> = offered.iter().map(|one| one.get_value().to_os_string()).collect();
        for (name, alias) in [("ls", "list"), ("timeline", "log")] {
            assert!(offered.iter().any(|one| one == name), "{name}: {offered:?}");
            assert!(!offered.iter().any(|one| one == alias), "{alias}: {offered:?}");
        }
    }
}
