//! Reading what packs record, from their ends.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use cove_objects::{Key, ReadError};
use cove_types::{PackId, VolumeId};

use super::{Record, Remains};
use crate::head::{HEAD_BYTES_MAX, Head, HeadState};
use crate::pack::{HEADER_BYTES, PACK_BYTES_MAX, PackEnd, PackHeader, TRAILER_BYTES};
use crate::remote::{PackPage, Remote};
use crate::volumes::Progress;

/// Requests under way at once.
const PARALLEL: usize = 64;

/// The most packs that are known not to be looked at, some 24 bytes each.
const PASSED_MAX: usize = 1 << 20;

/// The bytes of a pack's end that are read: a record as long as any head that is written is in them.
const TAIL_BYTES: u64 = HEAD_BYTES_MAX as u64 + TRAILER_BYTES as u64;

/// What the end of a pack told.
enum End {
    /// The head that it was written for.
    Recorded(PackEnd, Box<Head>),
    /// Nothing: it is not the last of its session.
    Plain(PackEnd),
    /// It cannot be read.
    Unread,
}

/// What whoever looks for lost volumes knows of those that are not lost.
pub trait Heads {
    /// Why it cannot be told.
    type Error: From<ReadError>;

    /// Leaves out of `packs` what is named by a head that names no pack of a lost volume.
    ///
    /// # Errors
    ///
    /// It is not known what the heads name.
    fn retain_unnamed(&mut self, packs: &mut Vec<(PackId, u64)>) -> Result<(), Self::Error>;

    /// Whether the head of a volume is lost, as far as is known.
    fn is_lost(&self, volume: &VolumeId) -> bool;

    /// Whether `record`, of a volume that is not lost, names no pack of one that is.
    fn is_trusted(&self, record: &Head) -> bool;
}

/// Reads what packs record of volumes that are lost, `page` packs at a time: of others nothing is kept. A
/// volume of which packs are there that record nothing is among them, with nothing.
///
/// A pack that no head names is not looked at either when a record that was read before names it, of a volume
/// that is not lost: it is that volume's own, gathered since. Packs come in the order of their names, which is
/// none of time, so of *n* that were gathered together some ln *n* are looked at (five of 64).
///
/// Costs a list, a request of up to 16 KiB for each pack that is looked at, 64 at once, and one of 144 bytes for
/// those that record a lost volume or nothing. Holds a page of the list, and the names of up to a million packs. What is
/// lost, damaged or kept from us is left out. `progress` counts packs, of all that are listed so far.
///
/// # Errors
///
/// The store did not answer, or what the heads name is not known: what is there is not known.
pub fn look<H: Heads>(
    remote: &Remote,
    heads: &mut H,
    page: usize,
    progress: &Progress,
) -> Result<BTreeMap<VolumeId, Remains>, H::Error> {
    let least = u64::from(HEADER_BYTES) + u64::from(TRAILER_BYTES);
    let mut found = BTreeMap::new();
    let mut passed = Passed::default();
    let (mut listed, mut after) = (0, None);
    loop {
        let PackPage { mut packs, next } = remote.packs(after.as_ref(), page)?;
        listed += packs.len() as u64;
        packs.retain(|(_, bytes)| (least..=PACK_BYTES_MAX).contains(bytes));
        heads.retain_unnamed(&mut packs)?;
        let mut left = packs.into_iter();
        loop {
            let some: Vec<(PackId, u64)> =
                left.by_ref().filter(|(id, _)| !passed.has(id)).take(PARALLEL).collect();
            progress.update(|progress| {
                progress.done_files = listed - (some.len() + left.len()) as u64;
                progress.total_files = Some(listed);
            });
            let Some((last, _)) = some.last() else { break };
            passed.forget_until(last);
            look_at(remote, heads, &some, &mut passed, &mut found)?;
        }
        after = next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

/// Reads what some packs record.
fn look_at<H: Heads>(
    remote: &Remote,
    heads: &H,
    packs: &[(PackId, u64)],
    passed: &mut Passed,
    found: &mut BTreeMap<VolumeId, Remains>,
) -> Result<(), ReadError> {
    let mut ends = ends(remote, packs)?;
    ends.retain(|(_, end)| match end {
        End::Recorded(_, head) if heads.is_lost(&head.volume) => head.state != HeadState::Deleted,
        End::Recorded(_, head) => {
            if heads.is_trusted(head) {
                passed.add(head.locations.packs.iter().map(|pack| pack.id));
            }
            false
        }
        End::Plain(_) | End::Unread => true,
    });
    let wanted: Vec<(Key, Range<u64>)> =
        ends.iter().map(|(id, _)| (remote.pack_key(id), 0..u64::from(HEADER_BYTES))).collect();
    for ((id, end), header) in ends.into_iter().zip(remote.get_each(&wanted, PARALLEL)) {
        let header = given(header)?.and_then(|bytes| PackHeader::decode(&bytes).ok());
        let Some(header) = header.filter(|header| header.id == id) else { continue };
        if !heads.is_lost(&header.volume) {
            continue;
        }
        let remains = found.entry(header.volume.clone()).or_default();
        match end {
            End::Recorded(end, head) if head.volume == header.volume => {
                let session = header.session;
                remains.add_record(Record { pack: end.pack, session, head: *head });
            }
            End::Plain(end) => remains.add_pack(header.session, end.pack),
            End::Recorded(..) | End::Unread => {}
        }
    }
    Ok(())
}

/// Packs that records name whose volumes are not lost, as far as they are still to come.
#[derive(Default)]
struct Passed {
    ids: BTreeSet<PackId>,
    /// The last one that was looked at.
    until: Option<PackId>,
}

impl Passed {
    /// Those that come last give way when there are too many: they are looked at, then, unless a later
    /// record names them again.
    fn add(&mut self, ids: impl Iterator<Item = PackId>) {
        let until = self.until;
        self.ids.extend(ids.filter(|id| until.is_none_or(|until| *id > until)));
        while self.ids.len() > PASSED_MAX {
            self.ids.pop_last();
        }
    }

    fn has(&self, id: &PackId) -> bool {
        self.ids.contains(id)
    }

    fn forget_until(&mut self, last: &PackId) {
        self.until = Some(*last);
        while self.ids.first().is_some_and(|first| first <= last) {
            self.ids.pop_first();
        }
    }
}

/// The ends of packs.
fn ends(remote: &Remote, packs: &[(PackId, u64)]) -> Result<Vec<(PackId, End)>, ReadError> {
    let wanted: Vec<(Key, Range<u64>)> = packs
        .iter()
        .map(|(id, bytes)| (remote.pack_key(id), bytes.saturating_sub(TAIL_BYTES)..*bytes))
        .collect();
    let mut ends = Vec::new();
    for ((id, bytes), tail) in packs.iter().zip(remote.get_each(&wanted, PARALLEL)) {
        let end = match given(tail)? {
            Some(tail) => end(remote, id, *bytes, &tail)?,
            None => End::Unread,
        };
        ends.push((*id, end));
    }
    Ok(ends)
}

fn end(remote: &Remote, id: &PackId, bytes: u64, tail: &Bytes) -> Result<End, ReadError> {
    let end = PackEnd::decode(tail, bytes).ok().filter(|end| end.pack.id == *id);
    let Some(end) = end else { return Ok(End::Unread) };
    let record = end.record();
    if record.is_empty() {
        return Ok(End::Plain(end));
    }
    let tail_at = bytes - tail.len() as u64;
    let record = match record.start.checked_sub(tail_at).zip(record.end.checked_sub(tail_at)) {
        Some((from, to)) => tail.get(usize_of(from)..usize_of(to)).map(Bytes::copy_from_slice),
        // a newer version writes longer heads
        None => given(remote.get_range(&remote.pack_key(id), record))?,
    };
    let head = record.and_then(|record| Head::decode(&record).ok());
    // without its document it does not say which project it is
    let head = head.filter(|head| head.document.is_some());
    Ok(head.map_or(End::Unread, |head| End::Recorded(end, Box::new(head))))
}

/// What the store gave; `None` for what is lost, damaged or kept from us.
fn given(read: Result<Bytes, ReadError>) -> Result<Option<Bytes>, ReadError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error @ ReadError::Unknown { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

fn usize_of(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
