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

#[test]
fn packs_are_listed_after_ten_minutes_though_there_are_few() {
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let env = Env::new(clock.clone(), Arc::new(SeededChance::new(1)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Arc::new(MemoryStore::new(env.clone()));
    let remote = Remote::new(store, runtime.handle().clone(), "t".parse().unwrap());
    let known = Chunks::new(remote, Arc::new(PackCache::new(None)), Locations::default());
    let volume = "v".parse().unwrap();
    let listed = RefCell::new(Vec::new());
    let list = |packs: &[PackRef]| {
        listed.borrow_mut().push(packs.len());
        Ok(())
    };
    let session = Session::new(&known, &env, &volume, [7; 8], Progress::default());
    let mut session = session.listing(Box::new(list));
    let mut next = 0;
    let mut put = |session: &mut Session<'_>, packs: usize| {
        // one pack is 16 MiB and a chunk at most
        for _ in 0..packs * 128 {
            let bytes = chunk(next);
            session.put_data(Digest::of(&bytes), &bytes).unwrap();
            next += 1;
        }
    };
    put(&mut session, 2);
    clock.advance(LISTED_WITHIN - Duration::from_secs(1));
    put(&mut session, 1);
    assert!(listed.borrow().is_empty());
    clock.advance(Duration::from_secs(1));
    put(&mut session, 2);
    let first = listed.borrow().clone();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!((2..=4).contains(&first[0]), "{first:?}");
    // and so on from there
    clock.advance(LISTED_WITHIN);
    put(&mut session, 2);
    assert_eq!(listed.borrow().len(), 2);
}
