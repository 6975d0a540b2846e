//! Checking what the store holds of a volume.
//!
//! Everything is read as a machine reads it that has never seen the volume. What this node
//! remembers serves to name what is hit.
//!
//! **Invariant:** only what is lost or damaged is a problem. That the store does not answer is an
//! error, after which nothing is known.

use std::collections::HashMap;
use std::error::Error;

use cove_types::{Classify, Digest, EntryId, ErrorKind, PackId, chain, wire};

use crate::chunks::{ChunkError, Chunks};
use crate::head::Head;
use crate::root::Root;
use crate::tree;

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

/// Where a head contradicts itself, though it is of its form: one line for each.
///
/// The document that the head carries is the one that the root of now names. Costs no request.
#[must_use]
pub fn contradictions(head: &Head) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(document) = &head.document
        && Digest::of(&document.encode()) != head.now.document
    {
        found.push("the head's document is not the one that its present state names".into());
    }
    found
}

/// Walks all trees and sees that every chunk lies in a location with the right size; with `read`,
/// a part of so many, reads that share of the packs and indexes before, and checks each byte. A tree of
/// which nothing is lost is also checked as a whole: borders, order, parents, links, chunk lists.
///
/// Costs a read of each distinct tree node, and of the share; other chunks of files are read only
/// where their pack is damaged. Of each distinct tree all items are gone through, some
/// microseconds each; the paths of its directories and hard-linked files and, for all trees together,
/// 30 to 85 bytes for each distinct chunk are held in memory. What is found is added to `problems` and `checked`; the answer tells of
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
                let mut hits = walk.tree(&state.root)?;
                if hits.is_empty() {
                    form(subject.stored, &state.root.tree, &mut hits)?;
                }
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

/// What is wrong with a tree all nodes of which are there and of their form.
fn form(stored: &Chunks, tree: &Digest, hits: &mut Hits) -> Result<(), VerifyError> {
    let faults = match tree::check(stored, tree) {
        Ok(faults) => faults,
        // it was there a moment ago
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            hits.add(&Fault::new(format!("a part of the tree is lost: {}", chain(&error))), None);
            return Ok(());
        }
        Err(error) => return Err(VerifyError::new(error)),
    };
    for tree::Fault { path, why } in faults {
        let fault = Fault::new(format!("the tree is not of its form: {why}"));
        hits.add(&fault, Some(&path).filter(|path| !path.is_top()));
    }
    Ok(())
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
