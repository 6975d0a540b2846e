//! A present state that the store has lost a part of is put anew from the files of this node.

use cove_content::volumes::{Progress, VerifyLevel, Volumes};
use cove_objects::Key;
use cove_testkit::trees::{describe, difference};

use crate::world::{World, is_root, memory};

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Removed,
    Cut,
    Flipped,
}

const ALL: VerifyLevel = VerifyLevel::Read { part: 1, of: 1 };

async fn mended_after(harm: Harm) {
    let mut world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    for number in 0..20_u8 {
        std::fs::write(files.join(format!("file-{number}")), vec![number; 5_000]).unwrap();
    }
    std::fs::write(
        files.join("large"),
        (0..600_000_u32).map(|n| n.wrapping_mul(n) as u8).collect::<Vec<_>>(),
    )
    .unwrap();
    world.look(&volume).await;
    for (key, bytes) in world.store.contents() {
        if key.to_string().contains("/packs/") {
            harm_object(&world, &key, bytes.to_vec(), harm);
        }
    }
    // in memory is what the store has lost
    world.restart().await;
    let found = world.node.verify(&volume, ALL).await.unwrap();
    assert!(!found.problems.is_empty(), "{harm:?} is found");
    world.look(&volume).await;
    let left = world.node.verify(&volume, ALL).await.unwrap();
    // the objects are what they were, and nothing reads them any more
    let hit: Vec<_> = left.problems.iter().filter(|problem| problem.object.is_none()).collect();
    assert!(hit.is_empty(), "{harm:?}: {hit:?}");
    assert!(left.problems.iter().all(|problem| problem.paths.is_empty()), "{:?}", left.problems);
    // a machine that has only the store
    let expected = describe(&files).unwrap();
    let other = World::fake("b", &world.store).await;
    let recovered = other.node.recover(true, Progress::default()).await.unwrap();
    assert!(recovered.lost.is_empty(), "{harm:?}: {:?}", recovered.lost);
    let there = describe(&other.files(&volume).await).unwrap();
    assert_eq!(difference(&expected, &there), [""; 0], "{harm:?}");
}

fn harm_object(world: &World, key: &Key, mut bytes: Vec<u8>, harm: Harm) {
    match harm {
        Harm::Removed => assert!(world.store.remove(key)),
        Harm::Cut => {
            bytes.truncate(bytes.len() - 1);
            world.store.set(key, bytes);
        }
        Harm::Flipped => {
            let middle = bytes.len() / 3;
            bytes[middle] ^= 0x10;
            world.store.set(key, bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_has_lost_of_the_present_state_is_put_anew() {
    if !is_root("what_the_store_has_lost_of_the_present_state_is_put_anew") {
        return;
    }
    for harm in [Harm::Removed, Harm::Cut, Harm::Flipped] {
        mended_after(harm).await;
    }
}
