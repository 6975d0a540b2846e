//! Objects in memory: the strict fake.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use cove_env::Env;

use crate::counts::Counters;
use crate::{Key, Listed, Location, Object, Put, ReadError, Requests, Store, Version, WriteError};

/// How a request to a [`MemoryStore`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request does not arrive: `Unknown`, without effect.
    BeforeEffect,
    /// The request takes effect and its answer is lost: `Unknown`.
    AfterEffect,
    /// The store refuses us: `Denied`, without effect.
    Denied,
    /// The store is full: `Exhausted` for a write, `Unknown` for the rest; without effect.
    Exhausted,
}

/// A request to a [`MemoryStore`], as a test sees it before it takes effect.
#[expect(missing_docs, reason = "the names of the methods of Store")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    Get(Key),
    GetRange(Key, Range<u64>),
    GetTail(Key, u64),
    PutIfAbsent(Key),
    PutIfMatch(Key),
    List(String),
    Delete(Key),
}

impl Request {
    /// The key, or the prefix of a list.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Get(key)
            | Self::GetRange(key, _)
            | Self::GetTail(key, _)
            | Self::PutIfAbsent(key)
            | Self::PutIfMatch(key)
            | Self::Delete(key) => key.as_str(),
            Self::List(prefix) => prefix,
        }
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn is_write(&self) -> bool {
        matches!(self, Self::PutIfAbsent(_) | Self::PutIfMatch(_) | Self::Delete(_))
    }
}

/// Decides which requests fail.
type Judge = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// Objects in memory, which fail when a test says so.
///
/// Stricter than a real store: a version is derived from the bytes alone, so that
/// whoever relies on a version to notice a change and its undoing is caught; and a
/// key that continues another by `/` is refused.
pub struct MemoryStore {
    env: Env,
    counters: Counters,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, (Bytes, jiff::Timestamp)>,
    faults: VecDeque<Option<Fault>>,
    judge: Option<Judge>,
}

impl MemoryStore {
    /// An empty store whose clock is that of `env`.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self { env, counters: Counters::default(), state: Mutex::default() }
    }

    /// Lets the next `n` requests fail by `fault`, after those that were said before.
    pub fn fail_next(&self, n: usize, fault: Fault) {
        self.lock().faults.extend(std::iter::repeat_n(Some(fault), n));
    }

    /// Lets the request after the next `n` fail by `fault`; 0 is the next one.
    pub fn fail_after(&self, n: usize, fault: Fault) {
        let mut state = self.lock();
        state.faults.extend(std::iter::repeat_n(None, n));
        state.faults.push_back(Some(fault));
    }

    /// Asks `judge` about every request from now on, in place of an earlier judge.
    pub fn fail_when(&self, judge: impl FnMut(&Request) -> Option<Fault> + Send + 'static) {
        self.lock().judge = Some(Box::new(judge));
    }

    /// Forgets all faults that were said and not yet met.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.judge = None;
    }

    /// Everything that is stored, past all faults and counts.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<Key, Bytes> {
        let state = self.lock();
        state.objects.iter().map(|(key, (bytes, _))| (key.clone(), bytes.clone())).collect()
    }

    /// Sets an object to `bytes`, past all laws: damage.
    pub fn set(&self, key: &Key, bytes: impl Into<Bytes>) {
        let now = self.env.now();
        self.lock().objects.insert(key.clone(), (bytes.into(), now));
    }

    /// Takes an object away, past all laws: loss. Says whether it was there.
    pub fn remove(&self, key: &Key) -> bool {
        self.lock().objects.remove(key).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// The fault that `request` meets. Others run first, so that races are races.
    async fn meet(&self, request: &Request) -> Option<Fault> {
        tokio::task::yield_now().await;
        let mut state = self.lock();
        let said = state.faults.pop_front().flatten();
        let judged = state.judge.as_mut().and_then(|judge| judge(request));
        said.or(judged)
    }

    async fn read<T>(
        &self,
        request: Request,
        read: impl FnOnce(&State) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let fault = self.meet(&request).await;
        let key = request.key().to_owned();
        match fault {
            None => read(&self.lock()),
            Some(Fault::Denied) => Err(ReadError::Denied { key, source: cause("access denied") }),
            Some(Fault::BeforeEffect | Fault::AfterEffect | Fault::Exhausted) => {
                Err(ReadError::Unknown { key, source: cause("connection lost") })
            }
        }
    }

    async fn write<T>(
        &self,
        request: Request,
        write: impl FnOnce(&mut State) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let fault = self.meet(&request).await;
        let key = request.key().to_owned();
        let unknown = |key| Err(WriteError::Unknown { key, source: cause("connection lost") });
        match fault {
            None => {
                let result = write(&mut self.lock());
                tokio::task::yield_now().await;
                result
            }
            Some(Fault::AfterEffect) => {
                let _lost = write(&mut self.lock());
                unknown(key)
            }
            Some(Fault::BeforeEffect) => unknown(key),
            Some(Fault::Denied) => Err(WriteError::Denied { key, source: cause("access denied") }),
            Some(Fault::Exhausted) => {
                Err(WriteError::Exhausted { key, source: cause("no space left") })
            }
        }
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryStore({} objects)", self.lock().objects.len())
    }
}

impl State {
    fn get(&self, key: &Key) -> Result<&(Bytes, jiff::Timestamp), ReadError> {
        self.objects.get(key).ok_or_else(|| ReadError::NotFound { key: key.to_string() })
    }

    /// Refuses a key that continues another by `/`, or is continued by one.
    fn check_place(&self, key: &Key) -> Result<(), WriteError> {
        let clash = |other: &Key| {
            let (short, long) = if other < key { (other, key) } else { (key, other) };
            long.as_str().strip_prefix(short.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        match self.objects.keys().find(|other| clash(other)) {
            None => Ok(()),
            Some(other) => Err(WriteError::Denied {
                key: key.to_string(),
                source: cause(format!("object {other} is in its place")),
            }),
        }
    }

    fn put(&mut self, key: &Key, bytes: Bytes, now: jiff::Timestamp) -> Put {
        let version = version_of(&bytes);
        self.objects.insert(key.clone(), (bytes, now));
        Put::Done(version)
    }
}

/// The version of some bytes in the stores that derive it from them: their BLAKE3.
pub(crate) fn version_of(bytes: &[u8]) -> Version {
    Version(cove_types::Digest::of(bytes).to_string())
}

fn cause(text: impl Into<String>) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(io::Error::other(text.into()))
}

fn since(then: jiff::Timestamp, now: jiff::Timestamp) -> Option<std::time::Duration> {
    Some(std::time::Duration::try_from(now.duration_since(then)).unwrap_or_default())
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.counters.get();
        let now = self.env.now();
        self.read(Request::Get(key.clone()), |state| {
            let (bytes, then) = state.get(key)?;
            let size = bytes.len() as u64;
            if size > bytes_max {
                return Err(ReadError::TooLong { key: key.to_string(), size, bytes_max });
            }
            Ok(Object { bytes: bytes.clone(), version: version_of(bytes), age: since(*then, now) })
        })
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.counters.get();
        self.read(Request::GetRange(key.clone(), range.clone()), |state| {
            let (bytes, _) = state.get(key)?;
            let (from, to) = (usize::try_from(range.start), usize::try_from(range.end));
            match (from, to) {
                (Ok(from), Ok(to)) if to <= bytes.len() => Ok(bytes.slice(from..to)),
                _ => Err(ReadError::Cut {
                    key: key.to_string(),
                    size: bytes.len() as u64,
                    end: range.end,
                }),
            }
        })
        .await
    }

    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.counters.get();
        self.read(Request::GetTail(key.clone(), bytes), |state| {
            let (all, _) = state.get(key)?;
            let wanted = usize::try_from(bytes).unwrap_or(usize::MAX).min(all.len());
            Ok((all.slice(all.len() - wanted..), all.len() as u64))
        })
        .await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.counters.put();
        let now = self.env.now();
        self.write(Request::PutIfAbsent(key.clone()), |state| {
            state.check_place(key)?;
            if state.objects.contains_key(key) {
                return Ok(Put::Refused);
            }
            Ok(state.put(key, bytes, now))
        })
        .await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        self.counters.put();
        let now = self.env.now();
        self.write(Request::PutIfMatch(key.clone()), |state| {
            match state.objects.get(key) {
                Some((present, _)) if version_of(present) == *version => {}
                _ => return Ok(Put::Refused),
            }
            Ok(state.put(key, bytes, now))
        })
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        self.counters.list();
        let now = self.env.now();
        self.read(Request::List(prefix.to_owned()), |state| {
            let wanted = |(key, _): &(&Key, _)| {
                key.as_str().starts_with(prefix) && after.is_none_or(|after| *key > after)
            };
            let listed = |(key, (bytes, then)): (&Key, &(Bytes, jiff::Timestamp))| Listed {
                key: key.clone(),
                bytes: bytes.len() as u64,
                age: since(*then, now),
            };
            Ok(state.objects.iter().filter(wanted).take(limit).map(listed).collect())
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.counters.delete();
        self.write(Request::Delete(key.clone()), |state| {
            state.objects.remove(key);
            Ok(())
        })
        .await
    }

    fn location(&self) -> Location {
        Location::Url("memory:".into())
    }

    fn requests(&self) -> Requests {
        self.counters.read()
    }
}

#[cfg(test)]
mod tests;
