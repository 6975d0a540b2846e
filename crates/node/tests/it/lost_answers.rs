//! A change that took effect in the store without an answer, and what comes before it is asked for again.

use cove_objects::{Fault, Request};

use crate::home::{Home, head_key, on_both_pools};
use crate::world::{memory, until};

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
