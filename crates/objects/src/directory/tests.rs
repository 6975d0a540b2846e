use super::*;
use crate::contract::{self, MAX, Races, key};

fn open(directory: &Path) -> DirectoryStore {
    DirectoryStore::open(directory, Env::system()).unwrap()
}

fn temporaries(directory: &Path) -> usize {
    std::fs::read_dir(directory.join("temporary")).unwrap().count()
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("new/deep"));
    contract::keep_all(&store, "contract/", Races { racers: 8, rounds: 10 }).await;
    contract::keep_all(&store, "", Races { racers: 2, rounds: 2 }).await;
    assert_eq!(temporaries(&directory.path().join("new/deep")), 0);
    assert_eq!(store.location(), Location::ThisDisk);
}

#[tokio::test]
async fn two_openings_of_one_directory_are_one_store() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(directory.path()), open(directory.path()));
    let head = key("", "head");
    let Put::Done(mut version) = one.put_if_absent(&head, "start".into()).await.unwrap() else {
        panic!("an empty store has a head")
    };
    for round in 0..50 {
        let (a, b) = (format!("{round} by one"), format!("{round} by other"));
        let (a, b) = tokio::join!(
            one.put_if_match(&head, a.into(), &version),
            other.put_if_match(&head, b.into(), &version)
        );
        version = match (a.unwrap(), b.unwrap()) {
            (Put::Done(version), Put::Refused) | (Put::Refused, Put::Done(version)) => version,
            both => panic!("round {round}: {both:?}"),
        };
    }
}

#[tokio::test]
async fn a_failed_fsync_is_unknown_and_asked_again_ends_definitely() {
    // A create below a new directory syncs that directory's parent, the file and the
    // directory; an update syncs the file and the directory.
    for (step, is_there) in [(0, false), (1, false), (2, true)] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let head = key("", "volume/head");
        store.fail_fsync_after(step);
        let error = store.put_if_absent(&head, "x".into()).await.unwrap_err();
        assert!(matches!(error, WriteError::Unknown { .. }), "step {step}: {error:?}");
        assert_eq!(store.get(&head, MAX).await.is_ok(), is_there, "step {step}");
        assert_eq!(temporaries(directory.path()), 0, "step {step}");
        let again = store.put_if_absent(&head, "x".into()).await.unwrap();
        assert_eq!(again == Put::Refused, is_there, "step {step}");
        assert_eq!(store.get(&head, MAX).await.unwrap().bytes, "x");
    }
    for (step, text) in [(0, "x"), (1, "y")] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let head = key("", "volume/head");
        let Put::Done(version) = store.put_if_absent(&head, "x".into()).await.unwrap() else {
            panic!("an empty store has a head")
        };
        store.fail_fsync_after(step);
        let error = store.put_if_match(&head, "y".into(), &version).await.unwrap_err();
        assert!(matches!(error, WriteError::Unknown { .. }), "step {step}: {error:?}");
        assert_eq!(store.get(&head, MAX).await.unwrap().bytes, text, "step {step}");
    }
}

#[tokio::test]
async fn a_name_whose_fsync_failed_counts_once_a_fresh_file_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let pack = key("", "packs/one");
    let file = directory.path().join("objects/packs/one");
    let _ = store.put_if_absent(&key("", "packs/other"), "o".into()).await.unwrap();
    // the file is on disk, its name perhaps not
    store.fail_fsync_after(1);
    let error = store.put_if_absent(&pack, "x".into()).await.unwrap_err();
    assert!(matches!(error, WriteError::Unknown { .. }), "{error:?}");
    let first = std::fs::metadata(&file).unwrap().ino();
    // a second fsync of that directory would succeed; the name is not taken for durable by it
    for step in [0, 1] {
        store.fail_fsync_after(step);
        let error = store.put_if_absent(&pack, "x".into()).await.unwrap_err();
        assert!(matches!(error, WriteError::Unknown { .. }), "step {step}: {error:?}");
        store.fail_fsync_after(step);
        let error = store.get(&pack, MAX).await.unwrap_err();
        assert!(matches!(error, ReadError::Unknown { .. }), "step {step}: {error:?}");
    }
    assert_eq!(store.get(&pack, MAX).await.unwrap().bytes, "x");
    assert_ne!(std::fs::metadata(&file).unwrap().ino(), first);
    assert_eq!(store.put_if_absent(&pack, "x".into()).await.unwrap(), Put::Refused);
    assert_eq!(temporaries(directory.path()), 0);
}

#[tokio::test]
async fn a_refusal_waits_until_what_it_is_about_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let head = key("", "head");
    assert_ne!(store.put_if_absent(&head, "x".into()).await.unwrap(), Put::Refused);
    store.fail_fsync_after(1);
    let error = store.put_if_absent(&head, "x".into()).await.unwrap_err();
    assert!(matches!(error, WriteError::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn what_an_interrupted_write_left_is_swept_unless_another_has_the_store_open() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    std::fs::write(directory.path().join("temporary/left"), "half").unwrap();
    let second = open(directory.path());
    assert_eq!(temporaries(directory.path()), 1, "another's work was swept");
    drop((store, second));
    let store = open(directory.path());
    assert_eq!(temporaries(directory.path()), 0);
    assert_eq!(store.list("", None, usize::MAX).await.unwrap(), []);
}

#[tokio::test]
async fn a_directory_that_is_lost_is_no_empty_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    std::fs::remove_dir(directory.path().join("objects")).unwrap();
    let error = store.list("", None, 1).await.unwrap_err();
    assert!(matches!(error, ReadError::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn nothing_is_said_of_objects_while_the_disk_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (head, absent) = (key("", "volume/head"), key("", "volume/absent"));
    let Put::Done(version) = store.put_if_absent(&head, "x".into()).await.unwrap() else {
        panic!("an empty store has a head")
    };
    let (here, away) = (directory.path().join("objects"), directory.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    // an empty mount point, and another disk with an empty store
    for is_empty in [true, false] {
        if !is_empty {
            std::fs::create_dir(&here).unwrap();
        }
        for key in [&head, &absent] {
            let unknown = |error| matches!(error, ReadError::Unknown { .. });
            assert!(unknown(store.get(key, MAX).await.unwrap_err()));
            assert!(unknown(store.get_range(key, 0..1).await.unwrap_err()));
            assert!(unknown(store.get_tail(key, 1).await.unwrap_err()));
            assert!(unknown(store.list("", None, 1).await.unwrap_err()));
            let unknown = |error| matches!(error, WriteError::Unknown { .. });
            assert!(unknown(store.put_if_absent(key, "y".into()).await.unwrap_err()));
            assert!(unknown(store.put_if_match(key, "y".into(), &version).await.unwrap_err()));
            assert!(unknown(store.delete(key).await.unwrap_err()));
        }
    }
    std::fs::remove_dir(&here).unwrap();
    std::fs::rename(&away, &here).unwrap();
    assert_eq!(store.get(&head, MAX).await.unwrap().bytes, "x");
    assert!(matches!(store.get(&absent, MAX).await, Err(ReadError::NotFound { .. })));
}

#[tokio::test]
async fn a_store_that_was_there_is_not_made_afresh() {
    let directory = tempfile::tempdir().unwrap();
    let gone = DirectoryStore::open_known(directory.path(), Env::system()).unwrap_err();
    assert!(matches!(gone, OpenError::Gone { .. }), "{gone:?}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    drop(open(directory.path()));
    DirectoryStore::open_known(directory.path(), Env::system()).unwrap();
}

#[tokio::test]
async fn a_key_below_an_object_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert_ne!(store.put_if_absent(&key("", "a/b"), "x".into()).await.unwrap(), Put::Refused);
    for clash in ["a", "a/b/c"] {
        let error = store.put_if_absent(&key("", clash), "y".into()).await.unwrap_err();
        assert!(matches!(error, WriteError::Denied { .. }), "{clash}: {error:?}");
    }
}

/// The modes of everything below a directory, itself included, as octal text.
fn modes(directory: &Path) -> std::collections::BTreeSet<String> {
    let mut modes = std::collections::BTreeSet::new();
    let metadata = std::fs::symlink_metadata(directory).unwrap();
    let kind = if metadata.is_dir() { 'd' } else { 'f' };
    modes.insert(format!("{kind}{:o}", metadata.mode() & 0o7777));
    if metadata.is_dir() {
        for below in std::fs::read_dir(directory).unwrap() {
            modes.extend(self::modes(&below.unwrap().path()));
        }
    }
    modes
}

#[tokio::test]
async fn nobody_but_the_owner_reaches_the_objects() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("above/objects");
    let private = || std::collections::BTreeSet::from(["d700".to_owned(), "f600".to_owned()]);
    let store = open(&root);
    let head = key("", "volume/head");
    let Put::Done(version) = store.put_if_absent(&head, "a".into()).await.unwrap() else {
        panic!("an empty store has a head")
    };
    let put = store.put_if_match(&head, "b".into(), &version).await.unwrap();
    assert!(matches!(put, Put::Done(_)));
    assert_eq!(modes(&root), private());

    // As an earlier Cove left it: what keeps others out is closed when it is opened again.
    drop(store);
    let open_to_all = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in ["", "objects", "temporary"] {
        open_to_all(&root.join(name), 0o755);
    }
    for name in ["lock", "users", "clock"] {
        open_to_all(&root.join(name), 0o644);
    }
    drop(open(&root));
    assert_eq!(modes(&root), private());

    // A directory that holds something else too is its operator's.
    std::fs::write(root.join("notes"), "").unwrap();
    open_to_all(&root.join("notes"), 0o600);
    open_to_all(&root, 0o755);
    open_to_all(&root.join("objects"), 0o755);
    drop(open(&root));
    assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o777, 0o755);
    assert_eq!(std::fs::metadata(root.join("objects")).unwrap().mode() & 0o777, 0o700);
}
