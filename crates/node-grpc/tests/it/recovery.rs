//! The recovery of a store, and the look for what is lost.

use std::time::Duration;

use cove_content::volumes::{Progress, Volumes};
use cove_types::wire::LOOKING_FOR_LOST;

use crate::world::{SOON, World, create, volume};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_for_what_is_lost_before_that_is_awaited() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"a".to_vec()).await;
    create(&client, 2, "a", b"a".to_vec()).await;
    world.volumes.fake.lose_head(&volume(2));
    world.volumes.fake.let_look(false);
    let progress = Progress::default();
    let recovered = client.recover(true, progress.clone()).await.unwrap();
    assert_eq!(recovered.volumes.len(), 1);
    assert_eq!(progress.look().step, "recovering");
    // whoever does not wait can go on
    client.status(&volume(1)).await.unwrap();
    assert_eq!(progress.look().step, "recovering");

    let rest = tokio::spawn(recovered.rest);
    let looking = async {
        while progress.look().step != LOOKING_FOR_LOST {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, looking).await.unwrap();
    world.volumes.fake.let_look(true);
    let found = rest.await.unwrap().unwrap();
    assert_eq!(found.rebuilt.len(), 1);
    assert_eq!(found.volumes[0].volume, volume(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_nobody_wants_is_not_made() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"a".to_vec()).await;
    world.volumes.fake.lose_head(&volume(1));
    drop(client.recover(false, Progress::default()).await.unwrap());
    let volumes = std::sync::Arc::clone(&world.volumes);
    world.ended().await;
    assert_eq!(volumes.fake.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_goes_on_when_its_caller_is_gone() {
    let world = World::start();
    let client = world.client();
    create(&client, 1, "a", b"a".to_vec()).await;
    world.volumes.fake.lose_head(&volume(1));
    world.volumes.fake.let_look(false);
    let progress = Progress::default();
    let recovered = client.recover(false, progress.clone()).await.unwrap();
    let rest = tokio::spawn(recovered.rest);
    while progress.look().step != LOOKING_FOR_LOST {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rest.abort();
    assert!(rest.await.unwrap_err().is_cancelled());
    let volumes = std::sync::Arc::clone(&world.volumes);
    volumes.fake.let_look(true);
    world.ended().await;
    assert_eq!(volumes.fake.count(), 1);
}
