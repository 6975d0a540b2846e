//! Heads: the one mutable object of a volume.
//!
//! A head is canonical JSON ([`json`]) of at most 16 KiB, whatever the
//! volume's size, with a field `check` over the rest. It names the root of now, the entries, where
//! the chunks lie, who may write, and which operations took effect. It changes
//! only by a conditional PUT.
//!
//! What may become of a head is written down here as pure functions, each of which gives
//! a new head and leaves the old one as it is; the store is not known here.

use std::fmt;
use std::str::FromStr;

use cove_types::{
    Classify, Digest, EntryId, EntryState, ErrorKind, Label, NodeId, OperationId, PackId,
    ParseError, ProjectId, VolumeId,
};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::DecodeError;
use crate::decode::check_features;
use crate::document::ProjectDocument;
use crate::entry::{ENTRIES_MAX, EntryRecord};
use crate::json::{self, is_zero};
use crate::locations::Locations;
use crate::root::Root;
use crate::spec::VolumeSpec;

mod older;
mod transition;

use older::count_of;
pub use older::{Older, OlderEntries};
pub use transition::{Commit, Create, EntryEdit, Replace, TransitionError};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// The longest head that is written, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// The longest head that is read: room for what newer versions add.
pub const HEAD_BYTES_READ_MAX: usize = 64 << 10;

/// The most entries that lie in the head itself.
pub const ENTRIES_IN_HEAD_MAX: usize = 16;

/// The most operations that a head remembers.
pub const OPS_MAX: usize = 32;

/// The kind under which background commits are recorded; they share one slot.
pub const BACKGROUND: &str = "background";

/// The longest kind of an operation and the longest text of its failure, in bytes; the text has as
/// many in JSON, where a control character is six.
const OP_KIND_BYTES_MAX: usize = 32;
const OP_FAILURE_BYTES_MAX: usize = 200;

/// The longest list of operations that is written, in bytes of JSON: 32 that failed, without their
/// texts, or that name two entries each; or one that names all entries. With it, the most packs and indexes, the
/// longest roots and [`DESCRIBED_BYTES_MAX`] a head without entries has less than [`HEAD_BYTES_MAX`].
const OPS_BYTES_MAX: usize = 7 << 10;

/// The most that a project's document and what is asked of its volume have together, in bytes of canonical JSON:
/// beside it a head has room for the most of all else. A longer one could be captured and never be saved.
pub const DESCRIBED_BYTES_MAX: usize = 3 << 10;

/// The features that this version knows: none.
const KNOWN_FEATURES: u64 = 0;

const WHAT: &str = "head";

/// Defines 64 bits that are written as 16 hexadecimal digits.
macro_rules! hex64 {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 8]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", u64::from_be_bytes(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let lawful = text.len() == 16
                    && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                let number = lawful.then(|| u64::from_str_radix(text, 16).ok()).flatten();
                number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| {
                    ParseError(concat!($what, " is 16 lower-case hexadecimal digits").into())
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex64! {
    /// Chance that makes two PUTs of the same content two contents, so that an etag
    /// tells them apart.
    Nonce, "a nonce"
}

hex64! {
    /// What a request asked for, principal included: the first 64 bits of its BLAKE3.
    RequestHash, "a request hash"
}

impl RequestHash {
    /// The hash of the canonical bytes of a request.
    #[must_use]
    pub fn of(request: &[u8]) -> Self {
        let mut hash = [0; 8];
        hash.copy_from_slice(&Digest::of(request).0[..8]);
        Self(hash)
    }
}

/// Time and chance of one new head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The writer's clock; nothing is decided by it.
    pub time: Timestamp,
    /// Fresh for each attempt that is begun anew, kept when the same PUT is repeated.
    pub nonce: Nonce,
}

/// Whether a volume is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadState {
    /// In use.
    Live,
    /// In the trash, from which it comes back whole.
    Trashed,
    /// Deleted while some of its entries are held (by a VolumeSnapshot, a share): those
    /// are its entries, and `now` repeats the root of the newest of them. It is
    /// in no list of volumes.
    Deleted,
}

/// An operation that took effect, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The caller's id for it.
    pub id: OperationId,
    /// What it asked for.
    pub request: RequestHash,
    /// What it is: `snapshot`, `restore`, `rename`, …, or [`BACKGROUND`].
    pub kind: String,
    /// How it ended.
    pub result: OpResult,
}

/// An operation in a head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpRecord {
    /// The caller's id for it.
    pub id: OperationId,
    /// What it asked for.
    pub request: RequestHash,
    /// What it is.
    pub kind: String,
    /// How it ended.
    pub result: OpResult,
    /// The seq of the head with which it took effect.
    pub seq: u32,
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpResult {
    /// It did what was asked for.
    Done {
        /// The entries that it made; the one asked for comes first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<EntryId>,
        /// The tree of now after it, where that says more than the entries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tree: Option<Digest>,
    },
    /// It did not, and will not.
    Failed {
        /// The error's kind.
        kind: ErrorKind,
        /// Its text.
        message: String,
    },
}

/// What a head says about an operation that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpAnswer {
    /// It took effect; this is its result.
    First(OpResult),
    /// Another request took effect under this id: refuse.
    OtherRequest,
    /// It may have taken effect so long ago that the head forgot: neither run it nor call it
    /// failed; the timeline tells.
    TooOld,
    /// It has not taken effect.
    New,
}

/// Refuses a document and a spec for which a head might have no room together.
///
/// # Errors
///
/// How long they are, in words for whoever asked for them.
pub fn check_described(document: &ProjectDocument, spec: &VolumeSpec) -> Result<(), ParseError> {
    let bytes = document.encode().len() + spec.encode().len();
    match bytes {
        ..=DESCRIBED_BYTES_MAX => Ok(()),
        _ => Err(ParseError(format!(
            "the project document and what is asked of its volume have {bytes} bytes together as JSON, more than \
             {DESCRIBED_BYTES_MAX}"
        ))),
    }
}

/// The frame that holds the root node of the tree of now, so that a cold read needs
/// no index for it. In JSON `[pack, offset, bytes]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(PackId, u32, u32)", into = "(PackId, u32, u32)")]
pub struct RootFrame {
    /// The pack.
    pub pack: PackId,
    /// Where the frame begins in it.
    pub offset: u32,
    /// How long it is.
    pub bytes: u32,
}

impl From<(PackId, u32, u32)> for RootFrame {
    fn from((pack, offset, bytes): (PackId, u32, u32)) -> Self {
        Self { pack, offset, bytes }
    }
}

impl From<RootFrame> for (PackId, u32, u32) {
    fn from(frame: RootFrame) -> Self {
        (frame.pack, frame.offset, frame.bytes)
    }
}

/// The state of a volume.
///
/// Invariants, kept by the transitions and looked at again by encode and decode:
///
/// - each change raises `seq` by one; a new owner raises `epoch` by one;
/// - no entry is there twice, no two live ones have one label, and there are at most
///   [`ENTRIES_MAX`] with the older ones;
/// - an operation is there at most once; none whose seq is `ops_from` or later is
///   missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORMAT`].
    pub format: u32,
    /// Features that whoever touches it has to know.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub must: u64,
    /// Features that a reader may ignore.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub may: u64,
    /// Whose head it is.
    pub volume: VolumeId,
    /// Whose workspace the volume is.
    pub project: ProjectId,
    /// Counts owners.
    pub epoch: u64,
    /// Counts changes, from 1.
    pub seq: u32,
    /// Whether it is in use.
    pub state: HeadState,
    /// When it was put in the trash, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trashed_at: Option<Timestamp>,
    /// The one node that may write.
    pub holder: NodeId,
    /// The present state.
    pub now: Root,
    /// What the project wrote last: in the head itself, so that a rename or a fork is one
    /// PUT and a recovered store names its projects by their heads alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<ProjectDocument>,
    /// What was asked of the volume as such.
    #[serde(default, skip_serializing_if = "VolumeSpec::is_empty")]
    pub spec: VolumeSpec,
    /// The newest entries, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<EntryRecord>,
    /// The others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older: Option<Older>,
    /// Further lists, of entries before those of `older`, that could not be read when others were
    /// moved out, the newest first. What they hold is part of the timeline as soon as they can be
    /// read again; a head never drops one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Older>,
    /// Where the chunks of now and of all entries lie.
    pub locations: Locations,
    /// Where the first node of the present tree lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_frame: Option<RootFrame>,
    /// The operations that took effect last, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<OpRecord>,
    /// A caller whose last seen seq is below this may have been forgotten.
    pub ops_from: u32,
    /// Chance.
    pub nonce: Nonce,
    /// When it was written, by the writer's clock.
    pub time: Timestamp,
    /// Fields that a newer version wrote; they are kept.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What stays of a deleted volume for ever, so that nobody creates it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose head it was.
    pub volume: VolumeId,
    /// The last epoch; 0 when it never lived.
    pub epoch: u64,
    /// The last seq; 0 when it never lived.
    pub seq: u32,
    /// Always `deleted`.
    pub state: TombstoneState,
    /// Whether the volume was ever there; if not, its create failed.
    pub lived: bool,
    /// The operation that deleted it or that failed to create it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<OperationId>,
    /// Chance.
    pub nonce: Nonce,
    /// When it was written.
    pub time: Timestamp,
}

/// The one state of a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TombstoneState {
    /// Gone for ever.
    Deleted,
}

/// What lies under the key of a head.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadObject {
    /// A volume.
    Head(Box<Head>),
    /// What is left of one.
    Tombstone(Tombstone),
}

/// Why a head cannot be written.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// It breaks one of its own laws.
    #[error("the head of volume {volume} is unlawful")]
    Unlawful { volume: VolumeId, source: DecodeError },
    /// It would be longer than any head may be.
    #[error("the head of volume {volume} would have {bytes} bytes, more than {HEAD_BYTES_MAX}")]
    TooLong { volume: VolumeId, bytes: usize },
}

impl Classify for EncodeError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Internal
    }
}

impl HeadObject {
    /// Reads a head or a tombstone.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; one that a newer version wrote is told from a damaged one and is
    /// not to be touched.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let value = json::open(WHAT, bytes, HEAD_BYTES_READ_MAX, FORMAT)?;
        let must = value.get("must").map_or(Ok(0), |_| json::number(WHAT, &value, "must"))?;
        check_features(WHAT, must, KNOWN_FEATURES)?;
        let damaged = |error: serde_json::Error| DecodeError::damaged(WHAT, error.to_string());
        if value["state"] == "deleted" && value.get("now").is_none() {
            return serde_json::from_value(value).map(Self::Tombstone).map_err(damaged);
        }
        let head: Head = serde_json::from_value(value).map_err(damaged)?;
        head.check()?;
        Ok(Self::Head(Box::new(head)))
    }

    /// Reads what was found under the key of `volume`: what is another volume's is damage, however
    /// whole it is, because whoever believed it would go on from another history.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    pub fn decode_of(volume: &VolumeId, bytes: &[u8]) -> Result<Self, DecodeError> {
        let object = Self::decode(bytes)?;
        let found = object.volume();
        if found != volume {
            return Err(DecodeError::damaged(WHAT, format!("it is that of volume {found}")));
        }
        Ok(object)
    }

    /// Whose it is.
    #[must_use]
    pub fn volume(&self) -> &VolumeId {
        match self {
            Self::Head(head) => &head.volume,
            Self::Tombstone(tombstone) => &tombstone.volume,
        }
    }

    /// The bytes of the object.
    ///
    /// # Errors
    ///
    /// [`EncodeError`].
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Head(head) => head.encode(),
            Self::Tombstone(tombstone) => Ok(tombstone.encode()),
        }
    }

    /// Counts owners.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        match self {
            Self::Head(head) => head.epoch,
            Self::Tombstone(tombstone) => tombstone.epoch,
        }
    }
}

impl Tombstone {
    /// What takes the place of a create that failed, so that no late PUT of it succeeds.
    #[must_use]
    pub fn of_failed_create(volume: VolumeId, op: OperationId, stamp: Stamp) -> Self {
        Self {
            format: FORMAT,
            volume,
            epoch: 0,
            seq: 0,
            state: TombstoneState::Deleted,
            lived: false,
            op: Some(op),
            nonce: stamp.nonce,
            time: stamp.time,
        }
    }

    /// The bytes of the object: fewer than 300.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        json::seal(self)
    }
}

impl Head {
    /// The bytes of the object.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]. After [`spill`](Self::spill) a head that the transitions made is too long only by a
    /// document or spec that [`check_described`] refuses, or by fields that a newer version wrote.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        self.check()
            .map_err(|source| EncodeError::Unlawful { volume: self.volume.clone(), source })?;
        let bytes = json::seal(self);
        if bytes.len() > HEAD_BYTES_MAX {
            let volume = self.volume.clone();
            return Err(EncodeError::TooLong { volume, bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// The record of this head for the packs that are written for it; see [`pack`](crate::pack).
    #[must_use]
    pub fn record(&self) -> Vec<u8> {
        json::seal(self)
    }

    /// Reads a head; a tombstone is refused.
    ///
    /// # Errors
    ///
    /// As [`HeadObject::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match HeadObject::decode(bytes)? {
            HeadObject::Head(head) => Ok(*head),
            HeadObject::Tombstone(_) => Err(DecodeError::damaged(WHAT, "it is a tombstone")),
        }
    }

    /// Reads the head that was found as that of `volume`; a tombstone is refused.
    ///
    /// # Errors
    ///
    /// As [`HeadObject::decode_of`].
    pub fn decode_of(volume: &VolumeId, bytes: &[u8]) -> Result<Self, DecodeError> {
        match HeadObject::decode_of(volume, bytes)? {
            HeadObject::Head(head) => Ok(*head),
            HeadObject::Tombstone(_) => Err(DecodeError::damaged(WHAT, "it is a tombstone")),
        }
    }

    /// How many entries the volume has, the older ones included.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len().saturating_add(count_of(self.lists()))
    }

    /// The entry `id`, if it lies in the head itself.
    #[must_use]
    pub fn find_entry(&self, id: &EntryId) -> Option<&EntryRecord> {
        self.entries.iter().find(|entry| entry.id == *id)
    }

    /// What the head knows about operation `id` that asks for `request`.
    #[must_use]
    pub fn find_op(&self, id: &OperationId, request: &RequestHash) -> OpAnswer {
        match self.ops.iter().find(|op| op.id == *id) {
            Some(op) if op.request == *request => OpAnswer::First(op.result.clone()),
            Some(_) => OpAnswer::OtherRequest,
            None if id.seq() < self.ops_from => OpAnswer::TooOld,
            None => OpAnswer::New,
        }
    }

    /// Looks at every law that holds within one head.
    fn check(&self) -> Result<(), DecodeError> {
        let damaged = |reason: &str| Err(DecodeError::damaged(WHAT, reason));
        if self.format != FORMAT {
            return Err(DecodeError::UnknownFormat {
                what: WHAT,
                found: self.format,
                known: FORMAT,
            });
        }
        if self.seq == 0 || self.epoch == 0 {
            return damaged("its seq or epoch is 0");
        }
        if (self.state == HeadState::Trashed) != self.trashed_at.is_some() {
            return damaged("it is in the trash without a time, or the reverse");
        }
        if self.entries.len() > ENTRIES_IN_HEAD_MAX || self.entry_count() > ENTRIES_MAX {
            return damaged("it has too many entries");
        }
        if self.lists().any(|list| list.count == 0) {
            return damaged("it names a chunk of no older entries");
        }
        for (n, entry) in self.entries.iter().enumerate() {
            entry.check()?;
            if self.entries[..n].iter().any(|other| other.id == entry.id) {
                return damaged("it has an entry twice");
            }
        }
        if label_twice(&self.entries).is_some() {
            return damaged("two of its live entries have one label");
        }
        self.now.check()?;
        self.spec.check().map_err(|error| DecodeError::damaged(WHAT, error.to_string()))?;
        self.locations.check()?;
        self.check_ops()
    }

    fn check_ops(&self) -> Result<(), DecodeError> {
        let damaged = |reason: &str| Err(DecodeError::damaged(WHAT, reason));
        if self.ops.len() > OPS_MAX {
            return damaged("it has too many operations");
        }
        for (n, op) in self.ops.iter().enumerate() {
            let failure = match &op.result {
                OpResult::Failed { message, .. } => message.len(),
                OpResult::Done { .. } => 0,
            };
            if op.kind.len() > OP_KIND_BYTES_MAX || failure > OP_FAILURE_BYTES_MAX {
                return damaged("the text of an operation is too long");
            }
            if op.seq > self.seq || self.ops[..n].iter().any(|other| other.id == op.id) {
                return damaged("it has an operation twice, or one of the future");
            }
        }
        Ok(())
    }
}

/// A label that two live entries have.
fn label_twice(entries: &[EntryRecord]) -> Option<&Label> {
    let live = |entry: &&EntryRecord| entry.state == EntryState::Live;
    entries.iter().filter(live).enumerate().find_map(|(n, entry)| {
        let label = entry.label.as_ref()?;
        let before = entries.iter().filter(live).take(n);
        before.map(|other| other.label.as_ref()).any(|other| other == Some(label)).then_some(label)
    })
}

#[cfg(test)]
mod tests;
