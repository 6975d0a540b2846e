//! The contract of every store: each function is one sentence of it, kept below
//! `place`, which is empty and ends with `/`.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::future::join_all;

use crate::{Key, Listed, Put, ReadError, Store, Version};

/// More than any object here has.
pub(crate) const MAX: u64 = u64::MAX;

/// How hard to race: a real server answers contended writes slowly.
#[derive(Clone, Copy)]
pub(crate) struct Races {
    pub racers: usize,
    pub rounds: usize,
}

/// The whole contract.
pub(crate) async fn keep_all(store: &dyn Store, place: &str, races: Races) {
    absence_is_said_definitely(store, &format!("{place}absent/")).await;
    what_was_put_is_read(store, &format!("{place}put/")).await;
    an_object_that_is_too_long_is_not_read(store, &format!("{place}long/")).await;
    an_object_is_created_once(store, &format!("{place}create/")).await;
    an_object_changes_only_from_the_version_that_was_read(store, &format!("{place}match/")).await;
    a_range_is_exact_or_an_error(store, &format!("{place}range/")).await;
    a_tail_comes_with_the_size(store, &format!("{place}tail/")).await;
    a_list_is_in_key_order_and_complete(store, &format!("{place}list/")).await;
    deleting_is_idempotent(store, &format!("{place}delete/")).await;
    an_age_is_the_stores(store, &format!("{place}age/")).await;
    of_racing_creates_one_wins(store, &format!("{place}race-create/"), races).await;
    of_racing_updates_one_wins(store, &format!("{place}race-match/"), races).await;
}

pub(crate) fn key(place: &str, name: &str) -> Key {
    Key::parse(&format!("{place}{name}")).unwrap()
}

async fn create(store: &dyn Store, key: &Key, bytes: impl Into<Bytes>) -> Version {
    match store.put_if_absent(key, bytes.into()).await.unwrap() {
        Put::Done(version) => version,
        Put::Refused => panic!("{key} exists before it is created"),
    }
}

pub(crate) async fn absence_is_said_definitely(store: &dyn Store, place: &str) {
    let absent = key(place, "deep/in/absent");
    let is_not_found = |error: &ReadError| matches!(error, ReadError::NotFound { .. });
    assert!(is_not_found(&store.get(&absent, MAX).await.unwrap_err()));
    assert!(is_not_found(&store.get_range(&absent, 0..1).await.unwrap_err()));
    assert!(is_not_found(&store.get_tail(&absent, 1).await.unwrap_err()));
    let version = Version("\"d41d8cd98f00b204e9800998ecf8427e\"".into());
    assert_eq!(store.put_if_match(&absent, "x".into(), &version).await.unwrap(), Put::Refused);
    assert!(is_not_found(&store.get(&absent, MAX).await.unwrap_err()), "a refused update creates");

    // Neither is the way to an object an object.
    create(store, &absent, "there").await;
    assert!(is_not_found(&store.get(&key(place, "deep"), MAX).await.unwrap_err()));
    assert!(is_not_found(&store.get(&key(place, "deep/in"), MAX).await.unwrap_err()));
}

pub(crate) async fn what_was_put_is_read(store: &dyn Store, place: &str) {
    let big: Vec<u8> =
        (0..5_000_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for (name, bytes) in [("empty", vec![]), ("one", vec![7]), ("big", big)] {
        let key = key(place, name);
        let bytes = Bytes::from(bytes);
        let version = create(store, &key, bytes.clone()).await;
        let object = store.get(&key, MAX).await.unwrap();
        assert!(object.bytes == bytes, "{name} comes back otherwise");
        assert_eq!(object.version, version, "of {name}");
    }
}

pub(crate) async fn an_object_that_is_too_long_is_not_read(store: &dyn Store, place: &str) {
    let (digits, empty) = (key(place, "digits"), key(place, "empty"));
    create(store, &digits, "0123456789").await;
    create(store, &empty, "").await;
    assert_eq!(store.get(&digits, 10).await.unwrap().bytes, "0123456789");
    assert_eq!(store.get(&empty, 0).await.unwrap().bytes, "");
    for bytes_max in [0, 1, 9] {
        let error = store.get(&digits, bytes_max).await.unwrap_err();
        assert!(
            matches!(&error, ReadError::TooLong { size: 10, bytes_max: max, .. } if *max == bytes_max),
            "at most {bytes_max} of 10 bytes: {error:?}"
        );
    }
}

pub(crate) async fn an_object_is_created_once(store: &dyn Store, place: &str) {
    let key = key(place, "once");
    create(store, &key, "first").await;
    assert_eq!(store.put_if_absent(&key, "second".into()).await.unwrap(), Put::Refused);
    assert_eq!(store.put_if_absent(&key, "first".into()).await.unwrap(), Put::Refused);
    assert_eq!(store.get(&key, MAX).await.unwrap().bytes, "first");
}

pub(crate) async fn an_object_changes_only_from_the_version_that_was_read(
    store: &dyn Store,
    place: &str,
) {
    let key = key(place, "head");
    let first = create(store, &key, "first").await;
    let Put::Done(second) = store.put_if_match(&key, "second".into(), &first).await.unwrap() else {
        panic!("the version that was just written is refused")
    };
    assert_ne!(first, second);
    let stale = store.put_if_match(&key, "third".into(), &first).await.unwrap();
    assert_eq!(stale, Put::Refused);
    let read = store.get(&key, MAX).await.unwrap();
    assert_eq!((read.bytes, &read.version), ("second".into(), &second));
    store.delete(&key).await.unwrap();
    let gone = store.put_if_match(&key, "fourth".into(), &second).await.unwrap();
    assert_eq!(gone, Put::Refused, "an update brings a deleted object back");
    store.get(&key, MAX).await.unwrap_err();
}

pub(crate) async fn a_range_is_exact_or_an_error(store: &dyn Store, place: &str) {
    let key = key(place, "digits");
    create(store, &key, "0123456789").await;
    for (range, wanted) in
        [(0..10, "0123456789"), (0..1, "0"), (3..7, "3456"), (9..10, "9"), (4..4, "")]
    {
        assert_eq!(store.get_range(&key, range).await.unwrap(), wanted);
    }
    for range in [0..11, 9..12, 10..11, 20..30] {
        let error = store.get_range(&key, range.clone()).await.unwrap_err();
        assert!(
            matches!(&error, ReadError::Cut { size: 10, end, .. } if *end == range.end),
            "{range:?} of 10 bytes: {error:?}"
        );
    }
}

pub(crate) async fn a_tail_comes_with_the_size(store: &dyn Store, place: &str) {
    let (digits, empty) = (key(place, "digits"), key(place, "empty"));
    create(store, &digits, "0123456789").await;
    create(store, &empty, "").await;
    for (bytes, wanted) in [(0, ""), (1, "9"), (4, "6789"), (10, "0123456789"), (99, "0123456789")]
    {
        assert_eq!(store.get_tail(&digits, bytes).await.unwrap(), (wanted.into(), 10));
        assert_eq!(store.get_tail(&empty, bytes).await.unwrap(), (Bytes::new(), 0));
    }
}

pub(crate) async fn a_list_is_in_key_order_and_complete(store: &dyn Store, place: &str) {
    // `-` and `.` sort before `/`, digits after it.
    let names = ["a/b", "a/b2", "a-b", "a.b", "a0", "a1/c", "aa/d/e", "ab", "b/0", "b/1", "b/2"];
    let mut keys: Vec<Key> = names.iter().map(|name| key(place, name)).collect();
    for key in &keys {
        create(store, key, key.as_str().to_owned()).await;
    }
    keys.sort();
    let of = |listed: &[Listed]| listed.iter().map(|listed| listed.key.clone()).collect::<Vec<_>>();

    let all = store.list(place, None, 100).await.unwrap();
    assert_eq!(of(&all), keys);
    for listed in &all {
        assert_eq!(listed.bytes, listed.key.as_str().len() as u64);
    }
    for limit in 0..=keys.len() + 1 {
        assert_eq!(
            of(&store.list(place, None, limit).await.unwrap()),
            keys[..limit.min(keys.len())]
        );
    }
    for (at, after) in keys.iter().enumerate() {
        assert_eq!(of(&store.list(place, Some(after), 100).await.unwrap()), keys[at + 1..]);
        let next = &keys[at + 1..keys.len().min(at + 3)];
        assert_eq!(of(&store.list(place, Some(after), 2).await.unwrap()), next);
    }
    let between = key(place, "a/b1");
    let rest: Vec<_> = keys.iter().filter(|key| **key > between).cloned().collect();
    assert_eq!(of(&store.list(place, Some(&between), 100).await.unwrap()), rest);

    // A prefix is text, and may end within a component.
    for prefix in ["a", "a/", "a/b", "b/1", "nothing"] {
        let prefix = format!("{place}{prefix}");
        let wanted: Vec<_> =
            keys.iter().filter(|key| key.as_str().starts_with(&prefix)).cloned().collect();
        assert_eq!(of(&store.list(&prefix, None, 100).await.unwrap()), wanted, "{prefix}");
    }
}

pub(crate) async fn deleting_is_idempotent(store: &dyn Store, place: &str) {
    let (gone, other) = (key(place, "a/gone"), key(place, "a/other"));
    store.delete(&gone).await.unwrap();
    create(store, &gone, "x").await;
    create(store, &other, "y").await;
    store.delete(&gone).await.unwrap();
    store.delete(&gone).await.unwrap();
    assert!(matches!(store.get(&gone, MAX).await, Err(ReadError::NotFound { .. })));
    assert_eq!(store.get(&other, MAX).await.unwrap().bytes, "y");
    create(store, &gone, "again").await;
}

pub(crate) async fn an_age_is_the_stores(store: &dyn Store, place: &str) {
    let key = key(place, "fresh");
    create(store, &key, "x").await;
    let age = store.get(&key, MAX).await.unwrap().age.expect("each of our stores says it");
    assert!(age.as_secs() < 60, "a fresh object is {age:?} old");
    let listed = store.list(place, None, 10).await.unwrap();
    let age = listed[0].age.expect("each of our stores says it");
    assert!(age.as_secs() < 60, "a fresh object is listed as {age:?} old");
}

pub(crate) async fn of_racing_creates_one_wins(store: &dyn Store, place: &str, races: Races) {
    for round in 0..races.rounds {
        let key = key(place, &format!("{round}"));
        let bodies = (0..races.racers).map(|racer| Bytes::from(format!("{round} by {racer}")));
        let puts = bodies.clone().map(|body| store.put_if_absent(&key, body));
        let puts: Vec<_> = join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let done: Vec<_> =
            puts.iter().zip(bodies).filter(|(put, _)| **put != Put::Refused).collect();
        assert_eq!(done.len(), 1, "winners of round {round}: {done:?}");
        let object = store.get(&key, MAX).await.unwrap();
        assert_eq!((object.bytes, &Put::Done(object.version)), (done[0].1.clone(), done[0].0));
    }
}

pub(crate) async fn of_racing_updates_one_wins(store: &dyn Store, place: &str, races: Races) {
    let key = key(place, "head");
    let mut version = create(store, &key, "start").await;
    let mut seen = BTreeSet::from([version.0.clone()]);
    for round in 0..races.rounds {
        let bodies = (0..races.racers).map(|racer| Bytes::from(format!("{round} by {racer}")));
        let puts = bodies.clone().map(|body| store.put_if_match(&key, body, &version));
        let puts: Vec<_> = join_all(puts).await.into_iter().map(Result::unwrap).collect();
        let done: Vec<_> =
            puts.iter().zip(bodies).filter(|(put, _)| **put != Put::Refused).collect();
        assert_eq!(done.len(), 1, "winners of round {round}: {done:?}");
        let object = store.get(&key, MAX).await.unwrap();
        let winner = (done[0].1.clone(), done[0].0);
        assert_eq!((object.bytes, &Put::Done(object.version.clone())), winner);
        assert!(seen.insert(object.version.0.clone()), "a version came twice");
        version = object.version;
    }
}
