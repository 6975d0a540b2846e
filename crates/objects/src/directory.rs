//! Objects in a directory.

use std::ops::Range;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use cove_env::Env;

use crate::counts::Counters;
use crate::{
    Key, Listed, Location, Object, OpenError, Put, ReadError, Requests, Store, Version, WriteError,
};

/// Objects in a directory.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    env: Env,
    counters: Counters,
}

impl DirectoryStore {
    /// Opens the store in `directory`, which is made when it does not exist.
    ///
    /// # Errors
    ///
    /// The directory cannot be made, locked or written.
    pub fn open(directory: &Path, env: Env) -> Result<Self, OpenError> {
        Ok(Self { root: directory.to_owned(), env, counters: Counters::default() })
    }
}

fn pending(key: &str) -> std::io::Error {
    std::io::Error::other(format!("{key} pending"))
}

#[async_trait]
impl Store for DirectoryStore {
    async fn get(&self, key: &Key) -> Result<Object, ReadError> {
        let _ = (&self.root, &self.env);
        Err(ReadError::Unknown { key: key.to_string(), source: Box::new(pending("get")) })
    }
    async fn get_range(&self, key: &Key, _range: Range<u64>) -> Result<Bytes, ReadError> {
        Err(ReadError::Unknown { key: key.to_string(), source: Box::new(pending("get")) })
    }
    async fn get_tail(&self, key: &Key, _bytes: u64) -> Result<(Bytes, u64), ReadError> {
        Err(ReadError::Unknown { key: key.to_string(), source: Box::new(pending("get")) })
    }
    async fn put_if_absent(&self, key: &Key, _bytes: Bytes) -> Result<Put, WriteError> {
        Err(WriteError::Unknown { key: key.to_string(), source: Box::new(pending("put")) })
    }
    async fn put_if_match(
        &self,
        key: &Key,
        _bytes: Bytes,
        _version: &Version,
    ) -> Result<Put, WriteError> {
        Err(WriteError::Unknown { key: key.to_string(), source: Box::new(pending("put")) })
    }
    async fn list(
        &self,
        prefix: &str,
        _after: Option<&Key>,
        _limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        Err(ReadError::Unknown { key: prefix.to_owned(), source: Box::new(pending("list")) })
    }
    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        Err(WriteError::Unknown { key: key.to_string(), source: Box::new(pending("delete")) })
    }
    fn location(&self) -> Location {
        Location::ThisDisk
    }
    fn requests(&self) -> Requests {
        self.counters.read()
    }
}
