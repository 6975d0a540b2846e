use cove_types::EntryKind;
use expect_test::{Expect, expect};

use super::*;
use crate::json::canonical;
use crate::sample::{entry, time};

fn refused(entry: &EntryRecord, expected: &Expect) {
    expected.assert_eq(&entry.check().unwrap_err().to_string());
}

#[test]
fn the_bytes_of_an_entry_are_these() {
    let entry = EntryRecord {
        cause: Some("restore of abc".into()),
        message: Some("before the upgrade\nof the database".into()),
        label: Some("v1".parse().unwrap()),
        pinned: true,
        saved_ms: Some(810),
        state: EntryState::Trashed,
        trashed_at: Some(time(60)),
        volume_snapshot: Some("default/snap-1".into()),
        quota_bytes: Some(5 << 20),
        ..entry(1, EntryKind::BeforeRestore)
    };
    entry.check().unwrap();
    let text = canonical(&entry);
    expect![[r#"{"author":"ada","captured_ms":12,"cause":"restore of abc","consistency":"instant","id":"ihoxftkksedb","kind":"before-restore","label":"v1","message":"before the upgrade\nof the database","pinned":true,"quota_bytes":5242880,"root":{"counts":{"data_bytes":60000,"depth":3,"entries":7,"logical_bytes":70000},"document":"d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0","level":1,"tree":"0101010101010101010101010101010101010101010101010101010101010101"},"saved_ms":810,"state":"trashed","time":"2026-11-01T00:00:01Z","trashed_at":"2026-11-01T00:01:00Z","volume_snapshot":"default/snap-1"}"#]].assert_eq(std::str::from_utf8(&text).unwrap());
    assert_eq!(serde_json::from_slice::<EntryRecord>(&text).unwrap(), entry);
}

#[test]
fn a_message_has_at_most_1000_bytes_and_nothing_that_acts_on_a_terminal() {
    let with = |message: &str| EntryRecord {
        message: Some(message.into()),
        ..entry(1, EntryKind::Manual)
    };
    with(&"ä".repeat(500)).check().unwrap();
    refused(
        &with(&"a".repeat(1001)),
        &expect!["the entry is damaged: its message has 1001 bytes, more than 1000"],
    );
    refused(
        &with("red \u{1b}[31m"),
        &expect![[r#"the entry is damaged: its message holds "\x1b""#]],
    );
}

#[test]
fn what_an_entry_needs_follows_from_what_it_holds_and_from_what_held_it() {
    let needs = |quota_bytes, is_known| {
        EntryRecord { quota_bytes, ..entry(1, EntryKind::Csi) }.needs_bytes(is_known)
    };
    assert_eq!(needs(None, true), Some(60_000));
    assert_eq!(needs(Some(70_000), true), Some(60_000));
    assert_eq!(needs(Some(50_000), true), Some(50_000), "the file system packs it");
    assert_eq!(needs(Some(50_000), false), Some(50_000));
    assert_eq!(needs(None, false), None);
}

#[test]
fn an_author_has_at_most_200_bytes() {
    let author = "a".repeat(201);
    refused(
        &EntryRecord { author, ..entry(1, EntryKind::Manual) },
        &expect!["the entry is damaged: its author has 201 bytes, more than 200"],
    );
}
