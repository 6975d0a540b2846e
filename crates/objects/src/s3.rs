//! Objects in S3.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::counts::Counters;
use crate::{
    Key, Listed, Location, Object, OpenError, Put, ReadError, Requests, Store, Version, WriteError,
};

/// Where an S3 store is and how it lets us in.
#[derive(Clone)]
pub struct S3Config {
    /// The bucket; it exists.
    pub bucket: String,
    /// What all keys begin with; may be empty, and slashes at its ends do not count.
    pub prefix: String,
    /// The region, such as `us-east-1`.
    pub region: String,
    /// `http://host:port` or `https://host` of a store that is not AWS.
    pub endpoint: Option<String>,
    /// The id of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: String,
    /// The token of temporary credentials.
    pub session_token: Option<String>,
}

/// Shows no secret.
impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// Objects in an S3 bucket.
#[derive(Debug)]
pub struct S3Store {
    config: S3Config,
    counters: Counters,
}

impl S3Store {
    /// Opens the store that `config` names. Asks it nothing.
    ///
    /// # Errors
    ///
    /// The settings are not usable.
    pub fn open(config: S3Config) -> Result<Self, OpenError> {
        Ok(Self { config, counters: Counters::default() })
    }
}

fn pending(key: &str) -> std::io::Error {
    std::io::Error::other(format!("{key} pending"))
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, key: &Key) -> Result<Object, ReadError> {
        let _ = &self.config;
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
        Location::Url(String::new())
    }
    fn requests(&self) -> Requests {
        self.counters.read()
    }
}
