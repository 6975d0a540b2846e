use cove_env::Env;
use cove_objects::{Fault, MemoryStore};

use super::*;

fn pack() -> Key {
    Key::parse("teams/t/packs/1").unwrap()
}

#[tokio::test]
async fn a_refusal_after_a_lost_answer_is_our_own_write() {
    let store = MemoryStore::new(Env::system());
    store.fail_next(1, Fault::AfterEffect);
    put_once(&store, &pack(), "mine".into(), 3).await.unwrap();
    assert_eq!(store.get(&pack(), 99).await.unwrap().bytes, "mine");
}

#[tokio::test]
async fn a_name_that_another_object_has_is_not_taken_for_our_own_write() {
    let store = MemoryStore::new(Env::system());
    let theirs = store.put_if_absent(&pack(), "theirs".into()).await.unwrap();
    assert!(matches!(theirs, Put::Done(_)));
    let error = put_once(&store, &pack(), "mine".into(), 3).await.unwrap_err();
    assert!(matches!(error, WriteError::NameIsUsed { .. }), "{error:?}");
    assert_eq!(store.get(&pack(), 99).await.unwrap().bytes, "theirs");
}
