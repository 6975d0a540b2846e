//! Two Coves that take one store from each other.

use cove_content::volumes::{Moment, Volumes};

use cove_objects::{Fault, Request};

use crate::home::{Home, on_both_pools};
use crate::world::memory;

on_both_pools!(
    a_store_that_is_taken_back_brings_the_others_state_and_keeps_ones_own,
    what_was_captured_before_the_store_was_lost_is_saved_when_it_is_taken_back,
    a_recovery_that_breaks_off_and_a_restart_save_nothing_over_the_others_state,
);

async fn a_store_that_is_taken_back_brings_the_others_state_and_keeps_ones_own(is_real: bool) {
    let store = memory();
    let (mut a, mut b) = (Home::new(&store, is_real), Home::new(&store, is_real));
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "file", "first").await;
    a.snapshot(&volume).await;
    b.up().await;
    let (found, lost) = b.recover().await;
    assert_eq!((found.len(), lost), (1, Vec::new()));
    for round in 0..3 {
        for (name, home, other) in [("b", &b, &a), ("a", &a, &b)] {
            let theirs = home.text(&volume, &Moment::Now, "file").await.unwrap();
            let text = format!("of {name} in round {round}");
            home.write(&volume, "file", &text).await;
            home.snapshot(&volume).await;
            // the other does not know yet that it has lost the store, and writes on
            let late = format!("late in round {round}, beside {text}");
            other.write(&volume, "file", &late).await;
            let (found, lost) = other.recover().await;
            assert_eq!((found.as_slice(), lost), (std::slice::from_ref(&volume), Vec::new()));
            assert_eq!(other.text(&volume, &Moment::Now, "file").await.unwrap(), text);
            let texts = other.texts(&volume, "file").await;
            for text in [&theirs, &text, &late] {
                assert!(texts.contains(text), "{text} is lost: {texts:?}");
            }
            other.assert_whole(&volume).await;
        }
    }
    for home in [&mut a, &mut b] {
        home.down().await;
    }
}

async fn what_was_captured_before_the_store_was_lost_is_saved_when_it_is_taken_back(is_real: bool) {
    let store = memory();
    let (mut a, mut b) = (Home::new(&store, is_real), Home::new(&store, is_real));
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "file", "first").await;
    a.look(&volume).await;
    b.up().await;
    b.recover().await;
    b.write(&volume, "file", "of b").await;
    b.look(&volume).await;
    a.write(&volume, "file", "captured").await;
    let captured = a.capture(&a.call(u32::MAX), &volume).await;
    let refused = captured.saved.await.unwrap_err();
    assert!(refused.to_string().contains("another Cove"), "{refused}");
    a.write(&volume, "file", "late").await;
    let (_, lost) = a.recover().await;
    assert_eq!(lost, [""; 0]);
    a.node().wait_saved(&volume).await.unwrap();
    a.look(&volume).await;
    assert_eq!(a.text(&volume, &Moment::Now, "file").await.unwrap(), "of b");
    let texts = a.texts(&volume, "file").await;
    for text in ["captured", "late", "of b"] {
        assert!(texts.contains(&text.to_owned()), "{text} is lost: {texts:?}");
    }
    a.assert_whole(&volume).await;
    // and what is saved is so for whoever comes next
    a.down().await;
    let mut c = Home::new(&store, is_real);
    c.up().await;
    c.recover().await;
    assert_eq!(c.text(&volume, &Moment::Now, "file").await.unwrap(), "of b");
    for home in [&mut b, &mut c] {
        home.down().await;
    }
}

async fn a_recovery_that_breaks_off_and_a_restart_save_nothing_over_the_others_state(
    is_real: bool,
) {
    let store = memory();
    let (mut a, mut b) = (Home::new(&store, is_real), Home::new(&store, is_real));
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "file", "first").await;
    a.look(&volume).await;
    b.up().await;
    b.recover().await;
    b.write(&volume, "file", "of b").await;
    b.look(&volume).await;
    b.down().await;
    a.write(&volume, "file", "late").await;
    // heads are taken, and nothing that is stored beside them
    store.fail_when(|request: &Request| {
        matches!(request, Request::PutIfAbsent(_)).then_some(Fault::BeforeEffect)
    });
    let (_, lost) = a.recover().await;
    assert!(!lost.is_empty(), "it broke off");
    store.heal();
    a.down().await;
    a.up().await;
    // whatever is captured by itself before somebody asks again
    let now = (volume.clone(), Moment::Now);
    let _ = a.node().diff(now.clone(), now).await;
    let (_, lost) = a.recover().await;
    assert_eq!(lost, [""; 0]);
    a.look(&volume).await;
    let texts = a.texts(&volume, "file").await;
    for text in ["late", "of b"] {
        assert!(texts.contains(&text.to_owned()), "{text} is lost: {texts:?}");
    }
    a.assert_whole(&volume).await;
    a.down().await;
}
