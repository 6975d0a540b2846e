use cove_objects::MemoryStore;
use expect_test::{Expect, expect};

use super::*;
use crate::sample::{refuses_every_other, stamp, time};

fn id(name: &str) -> StoreHolderId {
    name.parse().unwrap()
}

fn record() -> StoreRecord {
    let probe =
        Probe { time: time(0), racers: 8, versioning: Some(false), notes: vec!["x".into()] };
    StoreRecord::create(id("hub-1"), Some(probe), stamp(1))
}

/// What `hub-1` does about a record of `holder`, renewed `age` seconds ago.
fn check(holder: &str, age: Option<u64>, take: Take, expected: &Expect) {
    let record = StoreRecord { holder: id(holder), ..record() };
    let age = age.map(Duration::from_secs);
    expected.assert_eq(&format!("{:?}", decide(Some((&record, age)), &id("hub-1"), take)));
}

#[test]
fn a_store_without_a_record_is_taken() {
    assert_eq!(decide(None, &id("hub-1"), Take::No), Claim::Create);
}

#[test]
fn my_own_record_is_mine_however_old() {
    check("hub-1", Some(9999), Take::No, &expect!["Mine"]);
    check("hub-1", Some(1), Take::Force, &expect!["Mine"]);
}

#[test]
fn another_that_lives_keeps_the_store() {
    check("hub-2", Some(59), Take::No, &expect!["HeldByOther { age: Some(59s), alive: true }"]);
    check(
        "hub-2",
        Some(59),
        Take::Recover,
        &expect!["HeldByOther { age: Some(59s), alive: true }"],
    );
}

#[test]
fn another_that_is_silent_keeps_it_too_unless_it_is_to_be_replaced() {
    check("hub-2", Some(60), Take::No, &expect!["HeldByOther { age: Some(60s), alive: false }"]);
    check("hub-2", Some(60), Take::Recover, &expect!["TakeOver"]);
}

#[test]
fn an_age_that_the_store_does_not_say_counts_as_recent() {
    check("hub-2", None, Take::Recover, &expect!["HeldByOther { age: None, alive: true }"]);
}

#[test]
fn force_takes_it_from_anyone() {
    check("hub-2", Some(0), Take::Force, &expect!["TakeOver"]);
}

#[test]
fn the_bytes_of_a_record_are_these() {
    let bytes = record().encode();
    expect![[r#"{"check":"5ff1ab690e858b1f7a98ffaf458cddc6","epoch":1,"format":1,"holder":"hub-1","nonce":"0101010101010101","probe":{"notes":["x"],"racers":8,"time":"2026-11-01T00:00:00Z","versioning":false},"time":"2026-11-01T00:00:01Z"}"#]].assert_eq(std::str::from_utf8(&bytes).unwrap());
    assert_eq!(StoreRecord::decode(&bytes).unwrap(), record());
}

#[test]
fn any_other_bytes_are_no_record() {
    refuses_every_other(&record().encode(), StoreRecord::decode);
}

#[test]
fn the_record_of_a_newer_version_is_refused_by_name() {
    let newer = StoreRecord { must: 1, ..record() }.encode();
    let error = StoreRecord::decode(&newer).unwrap_err();
    assert_eq!(error, DecodeError::UnknownFeatures { what: "store record", features: 1 });
}

#[tokio::test]
async fn a_store_is_taken_kept_and_taken_over() {
    let store = MemoryStore::new(cove_env::Env::system());
    let mine = claim(&store, &id("hub-1"), Take::No, None, || stamp(1)).await.unwrap();
    assert_eq!((mine.record.epoch, &mine.taken_from), (1, &None));
    let mine = renew(&store, &mine, || stamp(2)).await.unwrap();

    let refused = claim(&store, &id("hub-2"), Take::No, None, || stamp(3)).await.unwrap_err();
    assert!(matches!(refused, ClaimError::HeldByOther { .. }));
    assert_eq!(refused.kind(), ErrorKind::Precondition);

    let other = claim(&store, &id("hub-2"), Take::Force, None, || stamp(4)).await.unwrap();
    assert_eq!((other.record.epoch, other.taken_from), (2, Some(id("hub-1"))));
    let lost = renew(&store, &mine, || stamp(5)).await.unwrap_err();
    assert!(matches!(lost, ClaimError::HeldByOther { holder, .. } if holder == id("hub-2")));
}

#[tokio::test]
async fn a_restart_finds_its_own_claim_and_a_lost_reply_is_found_at_the_next_renewal() {
    let store = MemoryStore::new(cove_env::Env::system());
    let first = claim(&store, &id("hub-1"), Take::No, None, || stamp(1)).await.unwrap();
    let again = claim(&store, &id("hub-1"), Take::No, None, || stamp(2)).await.unwrap();
    assert_eq!(again.record.epoch, 1);
    // `first` has a version of the past, as after a renewal whose reply was lost
    let renewed = renew(&store, &first, || stamp(3)).await.unwrap();
    assert_eq!(renewed.version, again.version);
    renew(&store, &renewed, || stamp(4)).await.unwrap();
}
