//! A store whose requests are written down, and how many of them had to wait for one another.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cove_objects::{
    Key, Listed, Location, Object, Put, ReadError, Requests, Store, Version, WriteError,
};

/// What was asked since the last look.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A line for each request, in the order in which they began.
    pub(crate) lines: Vec<String>,
    /// The most requests of which each began after the one before had ended.
    pub(crate) trips: usize,
}

/// The store of a node, watched. Its holder's sign of life is not written down.
pub(crate) struct Watched {
    store: Arc<dyn Store>,
    asked: Mutex<Asked>,
    /// How long each request takes at least.
    takes: Mutex<Duration>,
}

impl Watched {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, asked: Mutex::default(), takes: Mutex::default() })
    }

    /// Has each request take so long at least. Those that are under way at once end at once then, and none is counted
    /// as a trip more because one beside it was slow.
    pub(crate) fn each_takes(&self, takes: Duration) {
        *self.takes.lock().unwrap() = takes;
    }

    /// What was asked since the last call.
    pub(crate) fn take(&self) -> Asked {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// The lines of it.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.take().lines
    }

    async fn watch<T>(&self, verb: &str, key: &str, request: impl Future<Output = T>) -> T {
        let kind = match key.split('/').nth(2).unwrap_or(key) {
            "store" => return request.await,
            "volumes" => "head",
            "packs" => "pack",
            "indexes" => "index",
            other => other,
        };
        // it begins after all that have ended, and so is one trip more than the longest of them
        let trips = {
            let mut asked = self.asked.lock().unwrap();
            asked.lines.push(format!("{verb} {kind}"));
            asked.trips + 1
        };
        let takes = *self.takes.lock().unwrap();
        let (answer, ()) = tokio::join!(request, tokio::time::sleep(takes));
        let mut asked = self.asked.lock().unwrap();
        asked.trips = asked.trips.max(trips);
        answer
    }
}

#[async_trait]
impl Store for Watched {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.watch("get", key.as_str(), self.store.get(key, bytes_max)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.watch("get range of", key.as_str(), self.store.get_range(key, range)).await
    }

    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.watch("get tail of", key.as_str(), self.store.get_tail(key, bytes)).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.watch("create", key.as_str(), self.store.put_if_absent(key, bytes)).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        self.watch("replace", key.as_str(), self.store.put_if_match(key, bytes, version)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        self.watch("list", prefix, self.store.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.watch("delete", key.as_str(), self.store.delete(key)).await
    }

    fn location(&self) -> Location {
        self.store.location()
    }

    fn requests(&self) -> Requests {
        self.store.requests()
    }
}
