//! Checking a volume against the store.

use std::sync::Arc;

use cove_content::verify;
use cove_content::volumes::{Verified, VerifyLevel};
use cove_types::wire;

use crate::node::Inner;
use crate::volume::{Known, Volume};

pub(crate) fn unsaved_problem() -> wire::VerifyProblem {
    wire::VerifyProblem {
        what: "nothing of it is in the store yet".into(),
        project: None,
        entry: None,
        object: None,
        paths: Vec::new(),
        nearest_good: None,
    }
}

/// Checks a volume against what the store has, not against what this node remembers.
pub(crate) fn check(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    level: VerifyLevel,
    verified: &mut Verified,
) {
    let key = inner.remote.head_key(&volume.id);
    let head =
        inner.remote.get(&key).map_err(|error| crate::node::chain(&error)).and_then(|object| {
            cove_content::head::Head::decode(&object.bytes)
                .map_err(|error| crate::node::chain(&error))
        });
    let head = match head {
        Ok(head) => head,
        Err(what) => {
            let object = Some(key.to_string());
            verified.problems.push(wire::VerifyProblem { what, object, ..unsaved_problem() });
            return;
        }
    };
    if head.seq < known.head.seq {
        let what = format!("the head is at {}, this node had {} saved", head.seq, known.head.seq);
        verified.problems.push(wire::VerifyProblem {
            what,
            object: Some(key.to_string()),
            ..unsaved_problem()
        });
    }
    let mut states: Vec<verify::State> = vec![(None, head.now.tree)];
    states.extend(known.entries().map(|entry| (Some(entry.id), entry.root.tree)));
    if level == VerifyLevel::Agree {
        verified.checked.entries = states.len() as u64;
        return;
    }
    // what the store says, not what this node remembers of it
    let nothing = Arc::new(cove_content::chunks::PackCache::new(None));
    let stored =
        cove_content::chunks::Chunks::new(inner.remote.clone(), nothing, head.locations.clone());
    verify::located(&stored, &states, &mut verified.problems, &mut verified.checked);
    let chunks = crate::save::chunks_of(inner, &head.locations);
    if let VerifyLevel::Read { part, of } = level {
        verify::read_packs(
            &chunks,
            &states,
            (part, of),
            &mut verified.problems,
            &mut verified.checked,
        );
    }
    let bad: Vec<Option<String>> =
        verified.problems.iter().map(|problem| problem.entry.clone()).collect();
    let good = known
        .entries()
        .find(|entry| entry.is_live() && !bad.contains(&Some(entry.id.to_string())))
        .map(|entry| entry.id.to_string());
    for problem in &mut verified.problems {
        problem.nearest_good.clone_from(&good);
    }
}
