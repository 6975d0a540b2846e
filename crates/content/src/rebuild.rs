//! Lost heads, made anew from what the packs of their volumes record.
//!
//! A pack carries the head that it was written for. When a head is lost, the newest of these records
//! tells what the volume was, apart from what was changed later without a pack (a name, a label, a pin).
//! It becomes another volume: nobody who still holds the lost one, or brings its head back, is
//! surprised by a head that somebody else wrote.
//!
//! `look` reads what packs record; everything else here is pure.

use std::cmp::Reverse;
use std::collections::HashMap;

use cove_types::{NodeId, OperationId, ProjectId, SessionId, VolumeId};

use crate::document::ProjectDocument;
use crate::entry::EntryRecord;
use crate::head::{FORMAT, Head, Stamp};
use crate::locations::{Locations, PackRef};
use crate::root::Root;

mod look;

pub use look::{Heads, look};

/// How many records of one volume are kept, the newest: those before them are worth looking at only
/// when each of so many states is lost.
const RECORDS_MAX: usize = 16;
/// How many of them may be attempts at one change: it may be tried any number of times before it takes effect.
const ATTEMPTS_MAX: usize = 4;

/// A head as a pack records it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The pack, which the record cannot name.
    pub pack: PackRef,
    /// The run of storing that wrote it.
    pub session: SessionId,
    /// The head that was to be put after it.
    pub head: Head,
}

impl Record {
    /// Where it stands among the records of its volume: by the owner, then by the change. Of two
    /// attempts at one change the later is the one that took effect, if any did; no clock
    /// decides anything else.
    fn rank(&self) -> impl Ord + use<> {
        (self.head.epoch, self.head.seq, self.head.time, self.pack.id)
    }

    /// The change that was to take effect with it.
    fn change(&self) -> (u64, u32, Option<OperationId>) {
        (self.head.epoch, self.head.seq, newest_operation(&self.head))
    }
}

/// What the packs of one volume tell of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remains {
    /// The newest first, at most [`RECORDS_MAX`], and [`ATTEMPTS_MAX`] of one change.
    records: Vec<Record>,
    /// Whether older changes were left out.
    is_cut: bool,
    /// Packs without a record, which belong to the last one of their session.
    packs: Vec<(SessionId, PackRef)>,
}

impl Remains {
    /// Adds what a pack records.
    pub fn add_record(&mut self, record: Record) {
        self.records.push(record);
        self.records.sort_by_key(|record| Reverse(record.rank()));
        let mut attempts: HashMap<_, usize> = HashMap::new();
        self.records.retain(|record| {
            let count = attempts.entry(record.change()).or_default();
            *count += 1;
            *count <= ATTEMPTS_MAX
        });
        self.is_cut |= self.records.len() > RECORDS_MAX;
        self.records.truncate(RECORDS_MAX);
    }

    /// The heads that were recorded for changes after the one at this epoch and seq; `None` when there may be
    /// more than are kept.
    #[must_use]
    pub fn after(&self, at: (u64, u32)) -> Option<Vec<&Head>> {
        let heads = self.records.iter().map(|record| &record.head);
        let after: Vec<&Head> = heads.filter(|head| (head.epoch, head.seq) > at).collect();
        (!self.is_cut || after.len() < self.records.len()).then_some(after)
    }

    /// Adds a pack that records nothing.
    pub fn add_pack(&mut self, session: SessionId, pack: PackRef) {
        self.packs.push((session, pack));
    }

    /// Leaves out what was recorded for these operations: whoever has them saves them elsewhere.
    pub fn leave_out(&mut self, operations: &[OperationId]) {
        self.records.retain(|record| {
            newest_operation(&record.head).is_none_or(|of| !operations.contains(&of))
        });
    }

    /// The newest record, whether its state can be read or not.
    #[must_use]
    pub fn newest(&self) -> Option<&Record> {
        self.records.first()
    }

    /// Where the chunks of a record's head lie: what it names, its own pack, and the packs that the same
    /// session had written before.
    #[must_use]
    pub fn locations(&self, record: &Record) -> Locations {
        let mut locations = record.head.locations.clone();
        let of_session = self.packs.iter().filter(|(session, _)| *session == record.session);
        let own = of_session.map(|(_, pack)| *pack).chain([record.pack]);
        for pack in own {
            if locations.packs.iter().all(|named| named.id != pack.id) {
                locations.packs.push(pack);
            }
        }
        locations
    }

    /// The newest record whose state `is_readable`; the newest of all when none is, so that its timeline
    /// comes back. `None` when no pack records anything.
    ///
    /// How much of a state has to be readable is the caller's to say. Whoever asks for its topmost node alone,
    /// which costs two requests, chooses a record of which deeper nodes are lost before an older one that is
    /// whole: what is left of the newest is built, what is not is named, and the older states are its entries.
    ///
    /// A record of a head that was never put may name an index that is not there: its state is not
    /// readable then, and the one before it is what the head said.
    ///
    /// # Errors
    ///
    /// What `is_readable` met: whether a state can be read is not known.
    pub fn choose<E>(
        &self,
        mut is_readable: impl FnMut(&Record, &Locations) -> Result<bool, E>,
    ) -> Result<Option<&Record>, E> {
        for record in &self.records {
            if is_readable(record, &self.locations(record))? {
                return Ok(Some(record));
            }
        }
        Ok(self.newest())
    }
}

/// The operation that took effect, or was to, with this very head; `None` for one that nobody asked for.
#[must_use]
pub fn newest_operation(head: &Head) -> Option<OperationId> {
    head.ops.iter().rev().find(|op| op.seq == head.seq).map(|op| op.id)
}

/// The volume that a record of `lost` becomes, and its project. Both follow from the record, so that who
/// was interrupted, and begins again, makes no second one.
#[must_use]
pub fn names(record: &Head) -> (VolumeId, ProjectId) {
    let volume = VolumeId::rebuilt(&record.volume, record.epoch, record.seq);
    let project = ProjectId::of_rebuilt(&volume);
    (volume, project)
}

/// The first head of the volume that a record becomes: its state, its entries and its project's document
/// under names of their own. No operation took effect on it. An entry that the record was the first to carry
/// was saved with it, and took as long as that; how much longer the head's own PUT took, nobody knows.
///
/// The project was created now: of two projects of one name the older keeps it, which is the lost one
/// should its head come back.
#[must_use]
pub fn head(record: &Head, locations: Locations, holder: NodeId, stamp: Stamp) -> Head {
    let (volume, project) = names(record);
    let document = record.document.as_ref().map(|document| ProjectDocument {
        id: project.clone(),
        created_at: stamp.time,
        ..document.clone()
    });
    let document_digest = document
        .as_ref()
        .map_or(record.now.document, |document| cove_types::Digest::of(&document.encode()));
    let now = Root {
        document: document_digest,
        parents: vec![record.now.digest()],
        ..record.now.clone()
    };
    let saved = |entry: &EntryRecord| {
        let took = record.time.as_millisecond() - entry.time.as_millisecond();
        u64::try_from(took).unwrap_or(0).max(entry.captured_ms)
    };
    let entries = record.entries.iter().map(|entry| EntryRecord {
        saved_ms: entry.saved_ms.or_else(|| Some(saved(entry))),
        ..entry.clone()
    });
    Head {
        format: FORMAT,
        volume,
        project,
        epoch: 1,
        seq: 1,
        holder,
        now,
        document,
        entries: entries.collect(),
        locations,
        // that of the record is of the state before
        root_frame: None,
        ops: Vec::new(),
        ops_from: 0,
        nonce: stamp.nonce,
        time: stamp.time,
        ..record.clone()
    }
}

#[cfg(test)]
mod tests;
