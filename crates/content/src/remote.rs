//! An object store as blocking code sees it.
//!
//! Everything in this crate that works on content runs on blocking threads;
//! this is the one place where such a thread waits for an asynchronous request.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cove_objects::{Key, Listed, Object, Put, ReadError, Store, Version, WriteError};
use cove_types::{Classify, ErrorKind, IndexId, PackId, TeamId, VolumeId};
use tokio::runtime::Handle;

use crate::head::HEAD_BYTES_READ_MAX;

/// One team's part of an object store. Cloning is cheap.
///
/// Its methods block: call them from a blocking thread, never from a task.
#[derive(Clone)]
pub struct Remote {
    store: Arc<dyn Store>,
    runtime: Handle,
    team: TeamId,
}

impl Remote {
    /// The part of `store` that belongs to `team`; requests run on `runtime`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, runtime: Handle, team: TeamId) -> Self {
        Self { store, runtime, team }
    }

    /// The store itself, for what is not below a team.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Where requests run.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    fn key(&self, rest: &str) -> Key {
        Key::parse(&format!("teams/{}/{rest}", self.team))
            .expect("ids of one part make a lawful key")
    }

    /// The head of a volume.
    #[must_use]
    pub fn head_key(&self, volume: &VolumeId) -> Key {
        self.key(&format!("volumes/{volume}/head"))
    }

    /// A pack.
    #[must_use]
    pub fn pack_key(&self, pack: &PackId) -> Key {
        self.key(&format!("packs/{pack}"))
    }

    /// An index.
    #[must_use]
    pub fn index_key(&self, index: &IndexId) -> Key {
        self.key(&format!("indexes/{index}"))
    }

    /// A whole head or record: an object of at most [`HEAD_BYTES_READ_MAX`].
    ///
    /// # Errors
    ///
    /// [`ReadError`]; `NotFound` only when the store said so.
    pub fn get(&self, key: &Key) -> Result<Object, ReadError> {
        self.get_at_most(key, HEAD_BYTES_READ_MAX as u64)
    }

    /// A whole object of at most `bytes_max` bytes, which it costs in memory.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_at_most(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.runtime.block_on(self.store.get(key, bytes_max))
    }

    /// A part of an object, of exactly the length asked for.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.runtime.block_on(self.store.get_range(key, range))
    }

    /// Several parts of objects at once, at most `parallel` requests under way; in the order asked.
    ///
    /// # Errors
    ///
    /// The first that any of them met.
    pub fn get_ranges(
        &self,
        wanted: &[(Key, Range<u64>)],
        parallel: usize,
    ) -> Result<Vec<Bytes>, ReadError> {
        use futures::stream::{StreamExt, TryStreamExt};
        let requests = wanted.iter().cloned().map(|(key, range)| {
            let store = Arc::clone(&self.store);
            async move { store.get_range(&key, range).await }
        });
        self.runtime
            .block_on(futures::stream::iter(requests).buffered(parallel.max(1)).try_collect())
    }

    /// Several parts of objects at once, at most `parallel` requests under way; in the order asked,
    /// each with its own result.
    #[must_use]
    pub fn get_each(
        &self,
        wanted: &[(Key, Range<u64>)],
        parallel: usize,
    ) -> Vec<Result<Bytes, ReadError>> {
        use futures::stream::StreamExt;
        if wanted.is_empty() {
            return Vec::new();
        }
        let requests = wanted.iter().cloned().map(|(key, range)| {
            let store = Arc::clone(&self.store);
            async move { store.get_range(&key, range).await }
        });
        self.runtime.block_on(futures::stream::iter(requests).buffered(parallel.max(1)).collect())
    }

    /// The last bytes of an object and its whole size.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.runtime.block_on(self.store.get_tail(key, bytes))
    }

    /// Writes an object that is not there yet.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; after `Unknown` it may be there.
    pub fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.runtime.block_on(self.store.put_if_absent(key, bytes))
    }

    /// Replaces an object that is still the one that was read.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; after `Unknown` it may be replaced.
    pub fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        self.runtime.block_on(self.store.put_if_match(key, bytes, version))
    }

    /// The volumes that have a head here, in order.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the list is whole or not given at all.
    pub fn volumes(&self) -> Result<Vec<(Option<VolumeId>, Key)>, ReadError> {
        let prefix = format!("teams/{}/volumes/", self.team);
        // one page: a store that lists in another order than that of keys sorts all of it each time
        let listed: Vec<Listed> =
            self.runtime.block_on(self.store.list(&prefix, None, usize::MAX))?;
        let volume = |listed: Listed| {
            let rest = listed.key.as_str().strip_prefix(&prefix).unwrap_or_default();
            (rest.strip_suffix("/head").and_then(|id| id.parse().ok()), listed.key)
        };
        Ok(listed.into_iter().map(volume).collect())
    }

    /// A page of the packs that are here, whoever names them: of the first `limit` objects in the order of
    /// names, or of those after `after`.
    ///
    /// Of a store that lists in an order of its own each page costs the whole list.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the page is whole or not given at all.
    pub fn packs(&self, after: Option<&Key>, limit: usize) -> Result<PackPage, ReadError> {
        let prefix = format!("teams/{}/packs/", self.team);
        let listed: Vec<Listed> = self.runtime.block_on(self.store.list(&prefix, after, limit))?;
        let next = listed.last().filter(|_| listed.len() >= limit).map(|last| last.key.clone());
        let pack = |listed: Listed| {
            let id = listed.key.as_str().strip_prefix(&prefix)?;
            Some((id.parse().ok()?, listed.bytes))
        };
        Ok(PackPage { packs: listed.into_iter().filter_map(pack).collect(), next })
    }
}

/// Packs as a store lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackPage {
    /// The packs in the order of their ids, with their lengths; what has no pack's name is left out.
    pub packs: Vec<(PackId, u64)>,
    /// What the next page comes after, if there may be one.
    pub next: Option<Key>,
}

/// Writes an object whose name is used once, asking again while the answer is unknown.
///
/// A refusal after an unknown answer is this call's own success, because nobody
/// else knows the name. A refusal of the first attempt is not: something else has the name.
///
/// # Errors
///
/// The last [`WriteError`], after `attempts` tries; the object may be there.
/// [`WriteError::NameIsUsed`]: another object has the name, and the caller takes a fresh one.
pub async fn put_once(
    store: &dyn Store,
    key: &Key,
    bytes: Bytes,
    attempts: u32,
) -> Result<(), WriteError> {
    let mut wait = Duration::from_millis(200);
    let mut tried = 0;
    loop {
        match store.put_if_absent(key, bytes.clone()).await {
            Ok(Put::Refused) if tried == 0 => {
                return Err(WriteError::NameIsUsed { key: key.to_string() });
            }
            Ok(Put::Done(_) | Put::Refused) => return Ok(()),
            Err(error) => {
                tried += 1;
                let lasting = matches!(error.kind(), ErrorKind::Denied | ErrorKind::Exhausted);
                if lasting || tried >= attempts {
                    return Err(error);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(5));
            }
        }
    }
}

#[cfg(test)]
mod tests;
