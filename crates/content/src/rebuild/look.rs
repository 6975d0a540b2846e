//! Reading what packs record, from their ends.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use cove_objects::{Key, ReadError};
use cove_types::{PackId, VolumeId};

use super::{Record, Remains};
use crate::head::{HEAD_BYTES_MAX, Head, HeadState};
use crate::pack::{HEADER_BYTES, PACK_BYTES_MAX, PackEnd, PackHeader, TRAILER_BYTES};
use crate::remote::Remote;

/// Requests under way at once.
const PARALLEL: usize = 64;

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

/// Reads what `packs`, of these lengths, record of volumes that are lost: of others nothing is kept. A
/// volume of which packs are there that record nothing is among them, with nothing.
///
/// Costs a request of up to 16 KiB for each pack, 64 at once, and one of 144 bytes for those that record a
/// lost volume or nothing. What is lost, damaged or kept from us is left out.
///
/// # Errors
///
/// The store did not answer: what it has is not known.
pub fn look(
    remote: &Remote,
    packs: &[(PackId, u64)],
    is_lost: impl Fn(&VolumeId) -> bool,
) -> Result<BTreeMap<VolumeId, Remains>, ReadError> {
    let mut found: BTreeMap<VolumeId, Remains> = BTreeMap::new();
    let least = u64::from(HEADER_BYTES) + u64::from(TRAILER_BYTES);
    let packs = packs.iter().filter(|(_, bytes)| (least..=PACK_BYTES_MAX).contains(bytes));
    let packs: Vec<(PackId, u64)> = packs.copied().collect();
    for packs in packs.chunks(PARALLEL) {
        let mut ends = ends(remote, packs)?;
        ends.retain(|(_, end)| match end {
            End::Recorded(_, head) => head.state != HeadState::Deleted && is_lost(&head.volume),
            End::Plain(_) | End::Unread => true,
        });
        let wanted: Vec<(Key, Range<u64>)> =
            ends.iter().map(|(id, _)| (remote.pack_key(id), 0..u64::from(HEADER_BYTES))).collect();
        for ((id, end), header) in ends.into_iter().zip(remote.get_each(&wanted, PARALLEL)) {
            let header = given(header)?.and_then(|bytes| PackHeader::decode(&bytes).ok());
            let Some(header) = header.filter(|header| header.id == id) else { continue };
            if !is_lost(&header.volume) {
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
    }
    Ok(found)
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
