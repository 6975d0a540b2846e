//! A change that took effect without an answer that anybody has, and what comes before it is asked for again.

use cove_content::volumes::Volumes;
use cove_database::Finished;
use cove_objects::{Fault, Request};
use cove_types::{Classify, ErrorKind};

use crate::home::{Home, head_key, on_both_pools};
use crate::world::{World, is_root, memory, until};

on_both_pools!(a_copy_that_saves_on_a_lost_answer_keeps_nobody_waiting_and_loses_nothing);

async fn a_copy_that_saves_on_a_lost_answer_keeps_nobody_waiting_and_loses_nothing(is_real: bool) {
    let store = memory();
    let mut a = Home::new(&store, is_real);
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "file", "both").await;
    a.look(&volume).await;
    a.down().await;
    let mut b = a.copy();
    a.up().await;
    let before = a.head(&volume).seq;
    let (key, mut is_put) = (head_key(&volume), false);
    store.fail_when(move |request| match request {
        Request::PutIfMatch(of) if *of == key && !is_put => {
            is_put = true;
            Some(Fault::AfterEffect)
        }
        _ => (request.key() == key.as_str()).then_some(Fault::BeforeEffect),
    });
    a.write(&volume, "file", "of a").await;
    let call = a.call(u32::MAX);
    drop(a.capture(&call, &volume).await.saved);
    until("the head without an answer", || async {
        let seq = a.head(&volume).seq;
        if seq > before { Ok(()) } else { Err(format!("{seq}")) }
    })
    .await;
    a.down().await;
    store.heal();
    b.up().await;
    b.write(&volume, "file", "of b").await;
    b.snapshot(&volume).await;
    b.down().await;
    a.up().await;
    until("the first result of the call", || async {
        let repeated = a.capture(&call, &volume).await;
        let saved = tokio::time::timeout(std::time::Duration::from_secs(5), repeated.saved).await;
        saved.map_err(|_| "still waiting".to_owned())?.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let texts = a.texts(&volume, "file").await;
    for text in ["of a", "of b"] {
        assert!(texts.contains(&text.to_owned()), "{text} is lost: {texts:?}");
    }
    a.assert_whole(&volume).await;
    a.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_written_down_and_cannot_be_read_is_not_told_as_success() {
    if !is_root("an_end_that_is_written_down_and_cannot_be_read…") {
        return;
    }
    let world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let call = world.call();
    world.snapshot_as(&call, &volume).await.unwrap().saved.await.unwrap();
    let database = world.database().await;
    let mut row = database.find_result(&call.operation).await.unwrap().unwrap();
    // as a newer version writes it, which has failed in a way that this one does not know
    row.result = r#"{"failure":["of_a_newer_version","it did not take effect"]}"#.into();
    database.delete_results(row.at_us + 1).await.unwrap();
    database.finish(&Finished { results: vec![row], ..Finished::default() }).await.unwrap();
    let told = world.snapshot_as(&call, &volume).await.err().unwrap();
    assert_eq!(told.kind(), ErrorKind::Corrupt, "{told}");
    assert!(told.to_string().contains(&call.operation.to_string()), "{told}");
    assert_eq!(world.node.entries(&volume).await.unwrap().len(), 1);
    world.snapshot(&volume).await;
    world.node.stop().await;
}
