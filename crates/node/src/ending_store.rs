//! A store whose requests end with the node, so that nothing waits for an answer beyond it.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cove_objects::{
    Key, Listed, Location, Object, Put, ReadError, Requests, Rules, Store, Version, WriteError,
};
use tokio::sync::watch;

/// Passes requests on until the node ends; then those under way end as unknown, and so does each
/// new one before it begins.
pub(crate) struct EndingStore {
    store: Arc<dyn Store>,
    ended: watch::Receiver<bool>,
}

impl EndingStore {
    /// `ended` turns true once.
    pub fn new(store: Arc<dyn Store>, ended: watch::Receiver<bool>) -> Self {
        Self { store, ended }
    }

    /// Comes back when the node has ended.
    async fn end(&self) {
        let mut ended = self.ended.clone();
        // whoever could have ended it is gone: so is the node
        let _ = ended.wait_for(|ended| *ended).await;
    }

    async fn read<T>(
        &self,
        key: &str,
        request: impl Future<Output = Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        tokio::select! {
            biased;
            () = self.end() => {
                Err(ReadError::Unknown { key: key.to_owned(), source: "cove is stopping".into() })
            }
            answer = request => answer,
        }
    }

    async fn write<T>(
        &self,
        key: &Key,
        request: impl Future<Output = Result<T, WriteError>>,
    ) -> Result<T, WriteError> {
        tokio::select! {
            biased;
            () = self.end() => {
                Err(WriteError::Unknown { key: key.to_string(), source: "cove is stopping".into() })
            }
            answer = request => answer,
        }
    }
}

#[async_trait]
impl Store for EndingStore {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.read(key.as_str(), self.store.get(key, bytes_max)).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.read(key.as_str(), self.store.get_range(key, range)).await
    }

    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.read(key.as_str(), self.store.get_tail(key, bytes)).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.write(key, self.store.put_if_absent(key, bytes)).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        self.write(key, self.store.put_if_match(key, bytes, version)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        self.read(prefix, self.store.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.write(key, self.store.delete(key)).await
    }

    fn location(&self) -> Location {
        self.store.location()
    }

    fn requests(&self) -> Requests {
        self.store.requests()
    }

    async fn rules(&self) -> Rules {
        self.store.rules().await
    }
}
