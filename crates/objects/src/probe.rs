//! Whether a store keeps the law.

use bytes::Bytes;
use cove_env::Env;
use cove_types::{Classify, ErrorKind};
use futures::future::join_all;

use crate::{Key, Put, ReadError, Store, Version, WriteError};

/// The longest object that is read back; those of the probe are some bytes long.
const BYTES_MAX: u64 = 64 << 10;

/// How many writers race. Real servers answer eight within seconds, more within minutes.
const RACERS: usize = 4;

/// How many races of each kind: a store that only looks first and then writes lets
/// several win in nearly each of them.
const RACES: usize = 2;

/// What a store does to objects by rules of its own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case", tag = "found")]
pub enum Rules {
    /// It has none.
    None,
    /// It keeps old versions of objects, which cost room until they are deleted.
    Versioning,
    /// They cannot be read, or not all of them.
    Unreadable {
        /// Why not.
        why: String,
    },
    /// It expires, archives or locks objects. Such a store is refused.
    Harmful {
        /// Which rule.
        what: String,
    },
}

/// What the probe found in a store that is fit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Probe {
    /// How many writers raced in each race; one of them won each.
    pub racers: u32,
    /// What the store does to objects by rules of its own.
    pub rules: Rules,
}

/// Why a store is not fit, or why that is not known.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A conditional write did what it must not.
    #[error("the object store does not keep conditional writes: {what}")]
    NotConditional { what: String },
    /// A rule would take objects away.
    #[error("the object store would not keep objects: {what}")]
    NotKept { what: String },
    /// A write of the probe failed.
    #[error("failed to probe the object store")]
    Write { source: WriteError },
    /// A read of the probe failed.
    #[error("failed to probe the object store")]
    Read { source: ReadError },
}

impl Classify for ProbeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotConditional { .. } | Self::NotKept { .. } => ErrorKind::Precondition,
            Self::Write { source } => source.kind(),
            Self::Read { source } => source.kind(),
        }
    }
}

impl From<WriteError> for ProbeError {
    fn from(source: WriteError) -> Self {
        Self::Write { source }
    }
}

impl From<ReadError> for ProbeError {
    fn from(source: ReadError) -> Self {
        Self::Read { source }
    }
}

/// Tries whether `store` is fit: races of 4 creates and of 4 updates have one winner
/// each, a stale update is refused and changes nothing, and no rule of the store takes
/// objects away.
///
/// Writes a few small objects below `probe/` under fresh names and deletes them again;
/// what an interrupted probe leaves is harmless. Costs some 30 requests and, with
/// stores that are slow to refuse, some seconds. May be repeated.
///
/// # Errors
///
/// The store is not fit ([`ErrorKind::Precondition`]), or did not answer.
pub async fn probe(store: &dyn Store, env: &Env) -> Result<Probe, ProbeError> {
    let chance = u128::from_le_bytes(env.random());
    let keys: Vec<Key> = (0..RACES)
        .map(|race| Key::parse(&format!("probe/{chance:032x}.{race}")))
        .collect::<Result<_, _>>()
        .expect("hexadecimal digits make a key");
    let mut tried = Ok(());
    for key in &keys {
        tried = race(store, key).await;
        if tried.is_err() {
            break;
        }
    }
    for key in &keys {
        // What stays is harmless, and what was found is more worth saying.
        if let Err(error) = store.delete(key).await {
            tracing::debug!(%key, %error, "an object of the probe stays");
        }
    }
    tried?;
    match store.rules().await {
        Rules::Harmful { what } => Err(ProbeError::NotKept { what }),
        rules => Ok(Probe { racers: RACERS as u32, rules }),
    }
}

/// One race of creates and one of updates over `key`.
async fn race(store: &dyn Store, key: &Key) -> Result<(), ProbeError> {
    let body = |step: &str, racer: usize| Bytes::from(format!("{key} {step} {racer}"));

    let creates = (0..RACERS).map(|racer| store.put_if_absent(key, body("create", racer)));
    let (racer, first) = only_winner("creates", join_all(creates).await)?;
    expect_state(store, key, &body("create", racer), &first).await?;

    let updates = (0..RACERS).map(|racer| store.put_if_match(key, body("update", racer), &first));
    let (racer, second) = only_winner("updates", join_all(updates).await)?;
    expect_state(store, key, &body("update", racer), &second).await?;

    if store.put_if_match(key, body("stale", 0), &first).await? != Put::Refused {
        return Err(not("an update from a version that was replaced is not refused"));
    }
    if store.put_if_absent(key, body("again", 0)).await? != Put::Refused {
        return Err(not("the creation of an object that exists is not refused"));
    }
    expect_state(store, key, &body("update", racer), &second).await
}

fn not(what: impl Into<String>) -> ProbeError {
    ProbeError::NotConditional { what: what.into() }
}

/// The racer that won, with the version it made.
///
/// A lost answer leaves open who won; one winner too many does not.
fn only_winner(
    what: &str,
    puts: Vec<Result<Put, WriteError>>,
) -> Result<(usize, Version), ProbeError> {
    let mut winners = Vec::new();
    let mut lost = None;
    for (racer, put) in puts.into_iter().enumerate() {
        match put {
            Ok(Put::Done(version)) => winners.push((racer, version)),
            Ok(Put::Refused) => {}
            Err(error) => lost = Some(error),
        }
    }
    match (winners.len(), lost) {
        (2.., _) => Err(not(format!(
            "of {RACERS} racing {what} of one object {} were accepted",
            winners.len()
        ))),
        (_, Some(error)) => Err(error.into()),
        (0, None) => Err(not(format!("of {RACERS} racing {what} of one object none was accepted"))),
        (1, None) => Ok(winners.swap_remove(0)),
    }
}

async fn expect_state(
    store: &dyn Store,
    key: &Key,
    bytes: &Bytes,
    version: &Version,
) -> Result<(), ProbeError> {
    match store.get(key, BYTES_MAX).await {
        Ok(object) if object.bytes == *bytes && object.version == *version => Ok(()),
        Ok(object) if object.bytes == *bytes => {
            Err(not("an object is read with another version than it was written with"))
        }
        Ok(_) => Err(not("an object does not have the bytes of the write that was accepted")),
        Err(ReadError::NotFound { .. }) => Err(not("an object that was written cannot be found")),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
