use cove_content::document::ProjectDocument;
use cove_content::head::{Create, Op, OpResult, RequestHash};
use cove_types::{Digest, OperationId};

use super::*;
use crate::volume::unknown_root;

/// The head of project `number`, a fork of another or of none.
fn head(number: u8, source: Option<u8>) -> Head {
    let operation = OperationId([number; 16]);
    let project = |number| ProjectId::derive("tester", &OperationId([number; 16]), 0);
    let create = Create {
        volume: VolumeId::derive("tester", &operation, 0),
        project: project(number),
        holder: "node-a".parse().unwrap(),
        now: unknown_root(),
        entries: Vec::new(),
        locations: Locations::default(),
        root_frame: None,
    };
    let op = Op {
        id: operation,
        request: RequestHash([1; 8]),
        kind: "create".into(),
        result: OpResult::Done { entries: Vec::new(), tree: None },
    };
    let stamp = Stamp { time: jiff::Timestamp::UNIX_EPOCH, nonce: Nonce([1; 8]) };
    let forked_from = source.map(|source| ForkedFrom {
        project: project(source),
        entry: None,
        tree: Digest::HOLE,
    });
    let document = ProjectDocument {
        id: project(number),
        name: "a project".into(),
        slug: "a-project".parse().unwrap(),
        config: serde_json::Map::new(),
        graph: serde_json::Map::new(),
        forked_from,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        unknown: serde_json::Map::new(),
    };
    Head { document: Some(document), ..Head::create(create, op, stamp) }
}

fn seen(heads: &[Head]) -> Seen {
    let mut seen = Seen::default();
    heads.iter().for_each(|head| seen.add(head));
    seen
}

#[test]
fn a_record_of_a_fork_is_trusted_only_while_every_source_has_its_head() {
    let (own, fork) = (head(1, None), head(2, Some(1)));
    let all = seen(&[own.clone(), fork.clone(), head(3, Some(2))]);
    assert!(all.trusts(&own) && all.trusts(&fork) && all.trusts(&head(3, Some(2))));
    assert!(all.trusts(&head(4, Some(1))), "one that is deleted by now");
    assert!(!all.trusts(&head(4, Some(5))), "whose source may be lost");
    // a fork of a fork names packs of the first source too
    let without = seen(&[fork.clone(), head(3, Some(2))]);
    assert!(without.trusts(&own), "its own packs alone");
    assert!(!without.trusts(&fork) && !without.trusts(&head(3, Some(2))));
}

fn damaged(text: &'static str) -> Found {
    Found::Damaged(Some((Bytes::from_static(text.as_bytes()), Version("v".into()))))
}

#[test]
fn a_head_is_lost_only_when_two_looks_say_so_in_the_same_way() {
    let unknown = || Found::Unknown("the store is away".into());
    for lost in [Found::Missing, damaged("a"), Found::Damaged(None)] {
        assert_eq!(agreed(lost.clone(), lost.clone()), lost);
    }
    let all = [Found::Whole, Found::Missing, damaged("a"), damaged("b"), Found::Damaged(None)];
    for (first, second) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        let found = agreed(first.clone(), second.clone());
        let is_lost = matches!(found, Found::Missing | Found::Damaged(_));
        assert_eq!(is_lost, first == second && *first != Found::Whole, "{first:?} {second:?}");
        let is_seen = *first == Found::Whole || *second == Found::Whole;
        assert_eq!(found == Found::Whole, is_seen, "{first:?} {second:?}");
        // what is not known is not lost
        for seen in [first, second] {
            let expected = if *seen == Found::Whole { Found::Whole } else { unknown() };
            assert_eq!(agreed(seen.clone(), unknown()), expected);
            assert_eq!(agreed(unknown(), seen.clone()), expected);
        }
    }
}
