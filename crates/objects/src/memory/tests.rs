use std::sync::Arc;
use std::time::Duration;

use cove_env::{ManualClock, SeededChance};

use super::*;
use crate::contract::{self, MAX, Races, key};

#[tokio::test]
async fn memory_keeps_the_contract() {
    let store = MemoryStore::new(Env::system());
    contract::keep_all(&store, "contract/", Races { racers: 8, rounds: 10 }).await;
}

#[tokio::test]
async fn a_fault_before_the_effect_has_none_and_one_after_it_has() {
    let store = MemoryStore::new(Env::system());
    let head = key("", "head");
    for (fault, is_there) in [(Fault::BeforeEffect, false), (Fault::AfterEffect, true)] {
        store.fail_next(1, fault);
        let error = store.put_if_absent(&head, "x".into()).await.unwrap_err();
        assert!(matches!(error, WriteError::Unknown { .. }), "{fault:?}: {error:?}");
        assert_eq!(store.contents().contains_key(&head), is_there, "{fault:?}");
    }
    store.fail_next(1, Fault::AfterEffect);
    assert!(matches!(store.get(&head, MAX).await, Err(ReadError::Unknown { .. })));
    store.fail_next(1, Fault::Denied);
    assert!(matches!(store.get(&head, MAX).await, Err(ReadError::Denied { .. })));
    store.fail_next(1, Fault::Exhausted);
    assert!(matches!(store.delete(&head).await, Err(WriteError::Exhausted { .. })));
    assert_eq!(store.get(&head, MAX).await.unwrap().bytes, "x");
}

#[tokio::test]
async fn a_fault_is_met_where_the_test_says() {
    let store = MemoryStore::new(Env::system());
    let (head, pack) = (key("", "head"), key("", "pack"));
    store.fail_after(1, Fault::BeforeEffect);
    assert_ne!(store.put_if_absent(&head, "x".into()).await.unwrap(), Put::Refused);
    store.get(&head, MAX).await.unwrap_err();
    store.get(&head, MAX).await.unwrap();
    store.fail_when(|request| (request.key() == "pack").then_some(Fault::BeforeEffect));
    store.get(&head, MAX).await.unwrap();
    store.put_if_absent(&pack, "y".into()).await.unwrap_err();
    store.heal();
    assert_ne!(store.put_if_absent(&pack, "y".into()).await.unwrap(), Put::Refused);
    let (puts, gets) = (3, 3);
    assert_eq!(store.requests(), Requests { puts, gets, ..Requests::default() });
}

#[tokio::test]
async fn an_age_moves_with_the_clock_of_the_store() {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let store = MemoryStore::new(Env::new(clock.clone(), Arc::new(SeededChance::new(1))));
    let head = key("", "head");
    assert_ne!(store.put_if_absent(&head, "x".into()).await.unwrap(), Put::Refused);
    clock.advance(Duration::from_secs(90));
    assert_eq!(store.get(&head, MAX).await.unwrap().age, Some(Duration::from_secs(90)));
}

#[tokio::test]
async fn a_version_returns_with_the_bytes() {
    let store = MemoryStore::new(Env::system());
    let head = key("", "head");
    let Put::Done(a) = store.put_if_absent(&head, "a".into()).await.unwrap() else { panic!() };
    let Put::Done(b) = store.put_if_match(&head, "b".into(), &a).await.unwrap() else { panic!() };
    let Put::Done(again) = store.put_if_match(&head, "a".into(), &b).await.unwrap() else {
        panic!()
    };
    assert_eq!(a, again);
}

#[tokio::test]
async fn a_key_below_an_object_is_refused() {
    let store = MemoryStore::new(Env::system());
    assert_ne!(store.put_if_absent(&key("", "a/b"), "x".into()).await.unwrap(), Put::Refused);
    for clash in ["a", "a/b/c"] {
        let error = store.put_if_absent(&key("", clash), "y".into()).await.unwrap_err();
        assert!(matches!(error, WriteError::Denied { .. }), "{clash}: {error:?}");
    }
}
