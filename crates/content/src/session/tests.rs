use std::cell::RefCell;

use cove_env::{ManualClock, SeededChance};
use cove_objects::MemoryStore;

use super::*;
use crate::locations::Locations;

/// Bytes that do not compress: chunk `n` of them.
fn chunk(n: u64) -> Vec<u8> {
    let mut bytes = vec![0; GRID_BYTES as usize];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A session on an empty store in memory, with chunks that do not compress.
struct Run {
    clock: Arc<ManualClock>,
    env: Env,
    known: Chunks,
    _runtime: tokio::runtime::Runtime,
}

impl Run {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let env = Env::new(clock.clone(), Arc::new(SeededChance::new(1)));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Arc::new(MemoryStore::new(env.clone()));
        let remote = Remote::new(store, runtime.handle().clone(), "t".parse().unwrap());
        let known = Chunks::new(remote, Arc::new(PackCache::new(None)), Locations::default());
        Self { clock, env, known, _runtime: runtime }
    }

    fn listing<'a>(&'a self, list: List<'a>) -> Session<'a> {
        let volume = "v".parse().unwrap();
        Session::new(&self.known, &self.env, &volume, [7; 8], Progress::default()).listing(list)
    }
}

/// Puts as many packs and a chunk at most; each is 16 MiB.
fn put(session: &mut Session<'_>, next: &mut u64, packs: usize) {
    for _ in 0..packs * 128 {
        let bytes = chunk(*next);
        session.put_data(Digest::of(&bytes), &bytes).unwrap();
        *next += 1;
    }
}

#[test]
fn packs_are_listed_after_ten_minutes_though_there_are_few() {
    let run = Run::new();
    let listed = RefCell::new(Vec::new());
    let mut session = run.listing(Box::new(|packs: &[PackRef]| {
        listed.borrow_mut().push(packs.len());
        Ok(())
    }));
    let mut next = 0;
    put(&mut session, &mut next, 2);
    run.clock.advance(LISTED_WITHIN - Duration::from_secs(1));
    put(&mut session, &mut next, 1);
    assert!(listed.borrow().is_empty());
    run.clock.advance(Duration::from_secs(1));
    put(&mut session, &mut next, 2);
    let first = listed.borrow().clone();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!((2..=4).contains(&first[0]), "{first:?}");
    // and so on from there
    run.clock.advance(LISTED_WITHIN);
    put(&mut session, &mut next, 2);
    assert_eq!(listed.borrow().len(), 2);
}

#[test]
fn what_no_list_names_is_a_few_packs_and_each_is_listed_once() {
    let run = Run::new();
    let listed = RefCell::new(Vec::new());
    let mut session = run.listing(Box::new(|packs: &[PackRef]| {
        listed.borrow_mut().extend(packs.iter().map(|pack| pack.id));
        Ok(())
    }));
    let mut next = 0;
    for _ in 0..4 * LISTED_AFTER {
        put(&mut session, &mut next, 1);
        assert!(session.finished.len() < LISTED_AFTER + UPLOADS, "{}", session.finished.len());
    }
    let left = session.finish(b"{}").unwrap();
    let mut all = listed.borrow().clone();
    all.extend(left.packs.iter().map(|(pack, _)| pack.id));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "none is listed twice");
    assert!(count >= 4 * LISTED_AFTER, "{count}");
}
