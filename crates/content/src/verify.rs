//! Checking what the store holds of a volume.
//!
//! Everything is read as a machine reads it that has never seen the volume. What this node
//! remembers serves to name what is hit.
//!
//! **Invariant:** only what is lost or damaged is a problem. That the store does not answer is an
//! error, after which nothing is known.

use std::collections::HashMap;
use std::error::Error;

use cove_types::{Classify, Digest, EntryId, ErrorKind, PackId, wire};

use crate::chunks::{ChunkError, Chunks};
use crate::root::Root;

mod hits;
mod objects;
mod walk;

use hits::{Fault, Hits};
use walk::Walk;

/// A state to check: the present one, or an entry's.
#[derive(Debug, Clone)]
pub struct State {
    /// `None` for the present state.
    pub entry: Option<EntryId>,
    /// What it is.
    pub root: Root,
}

/// What is checked.
pub struct Subject<'a> {
    /// What the store says: a reader that begins without a cache.
    pub stored: &'a Chunks,
    /// What this node remembers of it, from which paths are named that the store cannot tell.
    pub remembered: &'a Chunks,
    /// The states.
    pub states: &'a [State],
}

/// Walks all trees and sees that every chunk lies in a location with the right size; with `read`,
/// a part of so many, reads that share of the packs and indexes before, and checks each byte.
///
/// Costs a read of each distinct tree node, and of the share; other chunks of files are read only
/// where their pack is damaged. What is found is added to `problems` and `checked`; the answer tells of
/// each state whether it is whole.
///
/// # Errors
///
/// [`VerifyError`]: the store did not answer.
pub fn check(
    subject: &Subject<'_>,
    read: Option<(u32, u32)>,
    problems: &mut Vec<wire::VerifyProblem>,
    checked: &mut wire::Checked,
) -> Result<Vec<bool>, VerifyError> {
    let mut damaged: HashMap<PackId, Fault> = HashMap::new();
    let mut faults: Vec<Fault> = Vec::new();
    if let Some(share) = read {
        for (pack, fault) in objects::read(subject.stored, share, checked)? {
            faults.push(fault.clone());
            if let Some(pack) = pack {
                damaged.insert(pack, fault);
            }
        }
    }
    let mut walk = Walk::new(subject.stored, subject.remembered, &damaged);
    let mut known: HashMap<Digest, Hits> = HashMap::new();
    let mut is_whole = Vec::new();
    for state in subject.states {
        checked.entries += 1;
        let mut hits = match known.get(&state.root.tree) {
            Some(hits) => hits.clone(),
            None => {
                let hits = walk.tree(&state.root)?;
                known.insert(state.root.tree, hits.clone());
                hits
            }
        };
        // the head carries the document of the present state itself
        if state.entry.is_some() {
            walk.part("the project's document", &state.root.document, &mut hits)?;
        }
        if let Some(list) = &state.root.not_captured.all {
            walk.part("the list of what is not captured", list, &mut hits)?;
        }
        is_whole.push(hits.is_empty());
        faults.retain(|fault| !hits.names(fault));
        problems.extend(hits.into_problems(state.entry));
    }
    checked.chunks += walk.chunks();
    problems.extend(faults.into_iter().map(|fault| fault.into_problem(None)));
    Ok(is_whole)
}

/// Why it is not known whether a volume is whole.
#[derive(Debug, thiserror::Error)]
#[error("failed to read what is to be verified")]
pub struct VerifyError {
    kind: ErrorKind,
    source: Box<dyn Error + Send + Sync>,
}

impl VerifyError {
    fn new(error: impl Error + Classify + Send + Sync + 'static) -> Self {
        Self { kind: error.kind(), source: Box::new(error) }
    }
}

impl From<ChunkError> for VerifyError {
    fn from(error: ChunkError) -> Self {
        Self::new(error)
    }
}

impl Classify for VerifyError {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

#[cfg(test)]
mod tests;
