//! Who writes in a store: the object `store`.
//!
//! One Cove writes in a store. It takes the object `store` at its start, renews it every
//! [`RENEW_EVERY`], and another is refused unless it is told to take over, which
//! raises the epoch here and, volume by volume, in the heads. Safety lies in the
//! epochs of the heads; this object keeps two that mean no harm apart.

use std::time::Duration;

use cove_objects::{Key, Put, ReadError, Store, Version, WriteError};
use cove_types::{Classify, ErrorKind, StoreHolderId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::DecodeError;
use crate::decode::check_features;
use crate::head::{Nonce, Stamp};
use crate::json::{self, is_zero};

/// The key of the object, beside `teams/`.
pub const KEY: &str = "store";

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// How often the holder renews the record.
pub const RENEW_EVERY: Duration = Duration::from_secs(20);

/// A record that was renewed less than this ago has a holder that lives: two
/// renewals may be lost.
pub const ALIVE_FOR: Duration = Duration::from_secs(60);

/// How often a claim that another change was faster than is decided anew.
const ATTEMPTS: u32 = 3;

/// The longest record that is read.
pub const RECORD_BYTES_MAX: usize = 64 << 10;

/// The features that this version knows: none.
const KNOWN_FEATURES: u64 = 0;

const WHAT: &str = "store record";

/// Who holds a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Features that whoever writes in the store has to know.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub must: u64,
    /// Features that may be ignored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub may: u64,
    /// The one that writes.
    pub holder: StoreHolderId,
    /// Counts holders, from 1.
    pub epoch: u64,
    /// What the store was found able to do; none until it was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// When it was renewed, by the holder's clock; nothing is decided by it.
    pub time: Timestamp,
    /// Chance, so that each renewal has another etag.
    pub nonce: Nonce,
    /// Fields that a newer version wrote; they are kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What was found of a store, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// When.
    pub time: Timestamp,
    /// How many raced for one object; one must have won each time.
    pub racers: u32,
    /// Whether the store keeps old versions, which cost; none when that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub versioning: Option<bool>,
    /// What an operator should know, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Whether to take a store that another holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Never.
    No,
    /// When the other gives no sign of life: its machine is lost.
    Recover,
    /// Always.
    Force,
}

/// What to do about the store's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// There is none: create it, if absent.
    Create,
    /// It is mine: renew it, if unchanged.
    Mine,
    /// Another holds it: refuse.
    HeldByOther {
        /// How long ago it was renewed, by the store's clock; none when the store does not say.
        age: Option<Duration>,
        /// Whether that is recent. What is not known counts as recent.
        alive: bool,
    },
    /// Another held it: put a record with the next epoch, if unchanged.
    TakeOver,
}

/// Decides about `existing`: the record, and its age by the store's own clock.
#[must_use]
pub fn decide(
    existing: Option<(&StoreRecord, Option<Duration>)>,
    me: &StoreHolderId,
    take: Take,
) -> Claim {
    let Some((record, age)) = existing else { return Claim::Create };
    let alive = age.is_none_or(|age| age < ALIVE_FOR);
    match take {
        _ if record.holder == *me => Claim::Mine,
        Take::Force => Claim::TakeOver,
        Take::Recover if !alive => Claim::TakeOver,
        Take::No | Take::Recover => Claim::HeldByOther { age, alive },
    }
}

/// A store that is ours, as of the last answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The record as we put it.
    pub record: StoreRecord,
    /// Its version, for the next renewal.
    pub version: Version,
    /// Who held it before, when it was taken over.
    pub taken_from: Option<StoreHolderId>,
    /// The chance of the record of ours that this one replaced: one that no attempt of ours drew
    /// is the sign of life of a copy that goes by our name.
    pub renewed: Option<Nonce>,
}

/// Why the store is not ours.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another writes there.
    #[error("the object store is held by {holder}{}", renewed(*.age))]
    HeldByOther { holder: StoreHolderId, age: Option<Duration>, alive: bool },
    /// Others change the record as fast as we read it.
    #[error("the holder of the object store changed {ATTEMPTS} times while it was being taken")]
    Contended,
    /// The record cannot be read.
    #[error("failed to read who holds the object store")]
    Read { source: ReadError },
    /// Whether the record was written is not known; claiming again is safe.
    #[error("failed to write who holds the object store")]
    Write { source: WriteError },
    /// The record is not what was written, or a newer version's.
    #[error("failed to read who holds the object store")]
    Record { source: DecodeError },
}

/// How long ago a record was renewed, for people.
fn renewed(age: Option<Duration>) -> String {
    age.map_or_else(String::new, |age| format!(", which renewed it {} s ago", age.as_secs()))
}

impl Classify for ClaimError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::HeldByOther { .. } => ErrorKind::Precondition,
            Self::Contended => ErrorKind::Conflict,
            Self::Read { source } => source.kind(),
            Self::Write { source } => source.kind(),
            Self::Record { source } => source.kind(),
        }
    }
}

/// Takes the store for `me`, or refuses.
///
/// `stamp` gives time and fresh chance for each attempt. `probe` is what was found of the
/// store, if it was looked at; else what the record says stays.
///
/// May be repeated: what a lost reply hid is found as ours.
///
/// # Errors
///
/// [`ClaimError`]; the record is as it was, or ours after [`ClaimError::Write`].
pub async fn claim(
    store: &dyn Store,
    me: &StoreHolderId,
    take: Take,
    probe: Option<&Probe>,
    stamp: impl Fn() -> Stamp + Send,
) -> Result<Held, ClaimError> {
    for _ in 0..ATTEMPTS {
        let existing = find(store).await?;
        let known = existing.as_ref().map(|found| (&found.record, found.age));
        let stamp = stamp();
        let (mut record, taken_from, renewed) = match (decide(known, me, take), &existing) {
            (Claim::HeldByOther { age, alive }, Some(found)) => {
                let holder = found.record.holder.clone();
                return Err(ClaimError::HeldByOther { holder, age, alive });
            }
            (Claim::TakeOver, Some(found)) => {
                let before = Some(found.record.holder.clone());
                (found.record.taken_over(me.clone(), stamp), before, None)
            }
            (Claim::Mine, Some(found)) => {
                (found.record.renewed(stamp), None, Some(found.record.nonce))
            }
            (_, _) => (StoreRecord::create(me.clone(), None, stamp), None, None),
        };
        if let Some(probe) = probe {
            record.probe = Some(probe.clone());
        }
        let bytes = record.encode().into();
        let put = match &existing {
            None => store.put_if_absent(&key(), bytes).await,
            Some(found) => store.put_if_match(&key(), bytes, &found.version).await,
        };
        match put.map_err(|source| ClaimError::Write { source })? {
            Put::Done(version) => return Ok(Held { record, version, taken_from, renewed }),
            Put::Refused => {}
        }
    }
    Err(ClaimError::Contended)
}

/// Gives a sign of life.
///
/// # Errors
///
/// [`ClaimError`]: [`HeldByOther`](ClaimError::HeldByOther) when the store was taken over, so that its
/// heads will refuse us too. After any other the next renewal may succeed.
pub async fn renew(
    store: &dyn Store,
    held: &Held,
    stamp: impl Fn() -> Stamp + Send,
) -> Result<Held, ClaimError> {
    let record = held.record.renewed(stamp());
    let put = store.put_if_match(&key(), record.encode().into(), &held.version).await;
    match put.map_err(|source| ClaimError::Write { source })? {
        Put::Done(version) => {
            let renewed = Some(held.record.nonce);
            Ok(Held { record, version, taken_from: held.taken_from.clone(), renewed })
        }
        // An earlier renewal of ours whose reply was lost, or another holder: the record tells.
        Put::Refused => match find(store).await? {
            Some(found) if found.record.holder == held.record.holder => {
                let (record, version) = (found.record, found.version);
                let renewed = Some(held.record.nonce);
                Ok(Held { record, version, taken_from: held.taken_from.clone(), renewed })
            }
            Some(found) => {
                let alive = found.age.is_none_or(|age| age < ALIVE_FOR);
                let holder = found.record.holder;
                Err(ClaimError::HeldByOther { holder, age: found.age, alive })
            }
            None => Err(ClaimError::Contended),
        },
    }
}

/// A record that was read.
struct Found {
    record: StoreRecord,
    version: Version,
    age: Option<Duration>,
}

async fn find(store: &dyn Store) -> Result<Option<Found>, ClaimError> {
    match store.get(&key(), RECORD_BYTES_MAX as u64).await {
        Ok(object) => {
            let record = StoreRecord::decode(&object.bytes)
                .map_err(|source| ClaimError::Record { source })?;
            Ok(Some(Found { record, version: object.version, age: object.age }))
        }
        Err(ReadError::NotFound { .. }) => Ok(None),
        Err(source) => Err(ClaimError::Read { source }),
    }
}

fn key() -> Key {
    Key::parse(KEY).expect("\"store\" is a lawful key")
}

impl StoreRecord {
    /// The first record of a store.
    #[must_use]
    pub fn create(holder: StoreHolderId, probe: Option<Probe>, stamp: Stamp) -> Self {
        Self {
            format: FORMAT,
            must: 0,
            may: 0,
            holder,
            epoch: 1,
            probe,
            time: stamp.time,
            nonce: stamp.nonce,
            unknown: Map::new(),
        }
    }

    /// The same holder's next sign of life.
    #[must_use]
    pub fn renewed(&self, stamp: Stamp) -> Self {
        Self { time: stamp.time, nonce: stamp.nonce, ..self.clone() }
    }

    /// The next holder's record.
    #[must_use]
    pub fn taken_over(&self, holder: StoreHolderId, stamp: Stamp) -> Self {
        Self { holder, epoch: self.epoch.saturating_add(1), ..self.renewed(stamp) }
    }

    /// The bytes of the object.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        json::seal(self)
    }

    /// Reads the object.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; a store that a newer version holds is told from a damaged record.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let value = json::open(WHAT, bytes, RECORD_BYTES_MAX, FORMAT)?;
        let must = value.get("must").map_or(Ok(0), |_| json::number(WHAT, &value, "must"))?;
        check_features(WHAT, must, KNOWN_FEATURES)?;
        serde_json::from_value(value).map_err(|error| DecodeError::damaged(WHAT, error.to_string()))
    }
}

#[cfg(test)]
mod tests;
