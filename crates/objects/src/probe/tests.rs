use std::ops::Range;

use async_trait::async_trait;

use super::*;
use crate::{Fault, Listed, Location, MemoryStore, Object, Requests};

/// How a store breaks the law.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sin {
    /// `If-None-Match` is not known to it.
    CreatesAlways,
    /// `If-Match` is not known to it.
    UpdatesAlways,
    /// It looks first and writes then.
    LooksFirst,
    /// It does not know either and says so.
    RefusesAll,
    /// Its list of rules has one that expires.
    Expires,
}

struct Sinful(MemoryStore, Sin);

#[async_trait]
impl Store for Sinful {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.0.get(key, bytes_max).await
    }
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.0.get_range(key, range).await
    }
    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.0.get_tail(key, bytes).await
    }
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        match self.1 {
            Sin::RefusesAll => return Ok(Put::Refused),
            Sin::LooksFirst if self.0.get(key, u64::MAX).await.is_ok() => return Ok(Put::Refused),
            Sin::CreatesAlways | Sin::LooksFirst => {}
            _ => return self.0.put_if_absent(key, bytes).await,
        }
        tokio::task::yield_now().await;
        let version = crate::memory::version_of(&bytes);
        self.0.set(key, bytes);
        Ok(Put::Done(version))
    }
    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        if self.1 != Sin::UpdatesAlways {
            return self.0.put_if_match(key, bytes, version).await;
        }
        let version = crate::memory::version_of(&bytes);
        self.0.set(key, bytes);
        Ok(Put::Done(version))
    }
    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        self.0.list(prefix, after, limit).await
    }
    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.0.delete(key).await
    }
    fn location(&self) -> Location {
        self.0.location()
    }
    fn requests(&self) -> Requests {
        self.0.requests()
    }
    async fn rules(&self) -> Rules {
        match self.1 {
            Sin::Expires => Rules::Harmful { what: "the lifecycle rule r expires".into() },
            _ => Rules::None,
        }
    }
}

#[tokio::test]
async fn a_lawful_store_is_fit_and_left_as_it_was() {
    let (store, env) = (MemoryStore::new(Env::system()), Env::system());
    assert_eq!(probe(&store, &env).await.unwrap(), Probe { racers: 4, rules: Rules::None });
    assert!(store.contents().is_empty());
}

#[tokio::test]
async fn a_store_that_breaks_the_law_is_refused_with_what_it_did() {
    let env = Env::system();
    for (sin, said) in [
        (Sin::CreatesAlways, "of 4 racing creates of one object 4 were accepted"),
        (Sin::LooksFirst, "of 4 racing creates of one object 4 were accepted"),
        (Sin::UpdatesAlways, "of 4 racing updates of one object 4 were accepted"),
        (Sin::RefusesAll, "of 4 racing creates of one object none was accepted"),
        (Sin::Expires, "the lifecycle rule r expires"),
    ] {
        let error = probe(&Sinful(MemoryStore::new(Env::system()), sin), &env).await.unwrap_err();
        assert!(error.to_string().ends_with(said), "{sin:?}: {error}");
        assert_eq!(error.kind(), ErrorKind::Precondition);
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_called_unfit() {
    let (store, env) = (MemoryStore::new(Env::system()), Env::system());
    for request in 0..20 {
        for fault in [Fault::BeforeEffect, Fault::AfterEffect] {
            store.heal();
            store.fail_after(request, fault);
            let kind = probe(&store, &env).await.map_err(|error| error.kind());
            assert!(matches!(kind, Ok(_) | Err(ErrorKind::Unavailable)), "{request}: {kind:?}");
        }
    }
}
