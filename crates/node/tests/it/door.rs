//! A store behind a door: while it is shut, requests wait and are never answered.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cove_objects::{
    Key, Listed, Location, MemoryStore, Object, Put, ReadError, Requests, Store, Version,
    WriteError,
};
use tokio::sync::watch;

pub(crate) struct Door {
    store: Arc<MemoryStore>,
    is_open: watch::Sender<bool>,
}

impl Door {
    pub(crate) fn before(store: &Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { store: Arc::clone(store), is_open: watch::Sender::new(true) })
    }

    /// Shuts it until what is returned is dropped: a test that fails ends.
    pub(crate) fn shut(&self) -> Shut<'_> {
        self.is_open.send_replace(false);
        Shut(self)
    }

    /// How many requests wait before it.
    pub(crate) fn waiting(&self) -> usize {
        self.is_open.receiver_count()
    }

    async fn pass(&self) {
        self.is_open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

pub(crate) struct Shut<'a>(&'a Door);

impl Drop for Shut<'_> {
    fn drop(&mut self) {
        self.0.is_open.send_replace(true);
    }
}

#[async_trait]
impl Store for Door {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.pass().await;
        self.store.get(key, bytes_max).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.pass().await;
        self.store.get_range(key, range).await
    }

    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.pass().await;
        self.store.get_tail(key, bytes).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.pass().await;
        self.store.put_if_absent(key, bytes).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        self.pass().await;
        self.store.put_if_match(key, bytes, version).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        self.pass().await;
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.pass().await;
        self.store.delete(key).await
    }

    fn location(&self) -> Location {
        self.store.location()
    }

    fn requests(&self) -> Requests {
        self.store.requests()
    }
}
