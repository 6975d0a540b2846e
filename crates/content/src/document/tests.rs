use expect_test::expect;

use super::*;
use crate::sample::{entry_id, time};

fn document() -> ProjectDocument {
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
    ProjectDocument {
        id: "prj-1".parse().unwrap(),
        name: "Intake für alle".into(),
        slug: "intake".parse().unwrap(),
        config: object(r#"{"retention": 5, "idle": "30m"}"#),
        graph: object(r#"{"containers": [{"ports": [3000], "name": "web", "cpu": 0.5}]}"#),
        forked_from: Some(ForkedFrom {
            project: "prj-0".parse().unwrap(),
            entry: Some(entry_id(1)),
            tree: Digest([1; 32]),
        }),
        created_at: time(0),
        unknown: Map::new(),
    }
}

#[test]
fn the_bytes_of_a_document_are_these() {
    let bytes = document().encode();
    expect![[r#"{"config":{"idle":"30m","retention":5},"created_at":"2026-11-01T00:00:00Z","forked_from":{"entry":"ihoxftkksedb","project":"prj-0","tree":"0101010101010101010101010101010101010101010101010101010101010101"},"graph":{"containers":[{"cpu":0.5,"name":"web","ports":[3000]}]},"id":"prj-1","name":"Intake für alle","slug":"intake"}"#]].assert_eq(std::str::from_utf8(&bytes).unwrap());
    assert_eq!(ProjectDocument::decode(&bytes).unwrap(), document());
}

#[test]
fn what_a_newer_version_added_is_kept() {
    let mut newer = document();
    newer.unknown.insert("secrets".into(), Value::from(vec!["db"]));
    let bytes = newer.encode();
    assert_eq!(ProjectDocument::decode(&bytes).unwrap().encode(), bytes);
}

#[test]
fn only_the_canonical_text_is_a_document() {
    let bytes = document().encode();
    let spaced = [b" ", bytes.as_slice()].concat();
    assert!(ProjectDocument::decode(&spaced).is_err());
    assert!(ProjectDocument::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(ProjectDocument::decode(b"{}").is_err());
    assert!(ProjectDocument::decode(&vec![b' '; (1 << 20) + 1]).is_err());
}

#[test]
fn a_document_has_a_name() {
    let nameless = ProjectDocument { name: String::new(), ..document() };
    assert!(ProjectDocument::decode(&nameless.encode()).is_err());
}
