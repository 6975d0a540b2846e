//! Who writes in a store: the object `store`.
//!
//! One Cove writes in a store. It takes the object `store` at its start, renews it every
//! [`RENEW_SECONDS`], and another is refused unless it is told to take over, which
//! raises the epoch here and, volume by volume, in the heads. Safety lies in the
//! epochs of the heads; this object keeps two that mean no harm apart.

use cove_types::StoreHolderId;
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

/// How often the holder renews the record, in seconds.
pub const RENEW_SECONDS: u64 = 20;

/// A record that was renewed less than this many seconds ago has a holder that lives:
/// two renewals may be lost.
pub const ALIVE_SECONDS: u64 = 60;

/// The longest record that is read.
const RECORD_BYTES_MAX: usize = 64 << 10;

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
        /// How long ago it was renewed, in seconds, by the store's clock.
        age_seconds: u64,
        /// Whether that is recent.
        alive: bool,
    },
    /// Another held it: put a record with the next epoch, if unchanged.
    TakeOver,
}

/// Decides about `existing`: the record, and the response's Date minus its
/// Last-Modified in seconds.
#[must_use]
pub fn decide(existing: Option<(&StoreRecord, u64)>, me: &StoreHolderId, take: Take) -> Claim {
    let Some((record, age_seconds)) = existing else { return Claim::Create };
    let alive = age_seconds < ALIVE_SECONDS;
    match take {
        _ if record.holder == *me => Claim::Mine,
        Take::Force => Claim::TakeOver,
        Take::Recover if !alive => Claim::TakeOver,
        Take::No | Take::Recover => Claim::HeldByOther { age_seconds, alive },
    }
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
