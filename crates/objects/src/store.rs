//! The law of every store.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Key, Location, ReadError, Requests, WriteError};

/// What a store calls one state of an object (an etag), opaque.
///
/// It may be derived from the bytes alone: an object that is changed and changed
/// back may have its old version again. Whoever must notice that puts a nonce into
/// the bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(pub String);

/// An object as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// All its bytes.
    pub bytes: Bytes,
    /// Its version, for [`Store::put_if_match`].
    pub version: Version,
    /// How long ago it was last written, by the store's own clock at both ends and
    /// never by ours; `None` when the store does not say. Some stores count whole seconds.
    pub age: Option<Duration>,
}

/// An object as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub key: Key,
    /// Its size in bytes.
    pub bytes: u64,
    /// As in [`Object::age`].
    pub age: Option<Duration>,
}

/// The definite answers to a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused write changed nothing"]
pub enum Put {
    /// It was written, durably, and has this version.
    Done(Version),
    /// Nothing was written: the object exists already (`put_if_absent`), has another
    /// version or does not exist (`put_if_match`).
    ///
    /// A write of ours whose result was unknown may be what it collided with: read it.
    Refused,
}

/// Objects with conditional writes.
///
/// Reads see every write that was answered `Done` before they began. Dropping the
/// future of a write leaves it unknown whether it took effect.
///
/// No key may continue another by `/` (`a` and `a/b`): a directory cannot hold both.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// All of an object of at most `bytes_max` bytes. Costs memory of its size; of a longer one,
    /// whoever wrote it, no more than a buffer of the connection is read:
    /// [`ReadError::TooLong`].
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError>;

    /// The bytes `range` of the object: exactly those, or [`ReadError::Cut`] when it
    /// ends before. An empty range asks the store nothing.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError>;

    /// The last `bytes` bytes of the object, or all of it when it has fewer, and its whole size.
    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError>;

    /// Creates the object; refused when it exists. Asked once: never repeated inside.
    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError>;

    /// Replaces the object while it has `version`; refused when it has another or does
    /// not exist. Asked once: never repeated inside.
    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError>;

    /// The objects whose keys begin with `prefix` (text, not a component) and come
    /// after `after`, in key order: the first `limit` of them. Fewer than `limit` means
    /// that there are no more. Whoever wants all asks for `usize::MAX`: some servers list
    /// in an order of their own, and of those each page costs the whole list.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError>;

    /// Deletes the object; succeeds when it is gone already.
    async fn delete(&self, key: &Key) -> Result<(), WriteError>;

    /// Where the objects are, for people.
    fn location(&self) -> Location;

    /// How many requests were made of the store since it was opened.
    fn requests(&self) -> Requests;

    /// What could expire or archive objects behind our back, for the probe.
    async fn rules(&self) -> crate::Rules {
        crate::Rules::None
    }
}
