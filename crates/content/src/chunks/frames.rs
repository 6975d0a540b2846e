//! Frames of packs: fetched together, checked, given out as they are.

use std::collections::HashSet;
use std::iter::Peekable;
use std::ops::Range;

use bytes::Bytes;
use cove_objects::Key;
use cove_types::{Digest, PackId};

use super::pack_cache::lock;
use super::{ChunkError, Chunks, FRAMES_BYTES_MAX, Located, PARALLEL, Place, REQUEST_BYTES_MAX};
use crate::chunk::GRID_BYTES;
use crate::decode::DecodeError;
use crate::frame;

/// Frames of one pack that are no further apart are fetched by one request.
const GAP_BYTES: u64 = 64 << 10;
/// The same of frames for which that would take more than [`MANY_REQUESTS`].
const WIDE_GAP_BYTES: u64 = 256 << 10;
/// So many requests wait for each other: then fewer and longer ones are faster.
const MANY_REQUESTS: usize = 2 * PARALLEL;
/// What requests for frames bring at once, gaps included: what of it is wanted is kept before more is
/// asked for.
const FETCHED_BYTES_MAX: u64 = 16 << 20;
/// Frames that one reader needs at once: those of several readers are kept at the same time.
const GROUP_BYTES: u64 = 8 << 20;

impl Chunks {
    /// Chunks, in the order asked for, located together and fetched in groups, each checked.
    ///
    /// When the store does not answer, the rest is said not to be there for the same reason and not
    /// asked for.
    pub(crate) fn checked(&self, digests: &[Digest]) -> Vec<Result<Checked, ChunkError>> {
        let located = match self.locate_all(digests) {
            Ok(located) => located,
            Err(error) => return digests.iter().map(|_| Err(error.said_again())).collect(),
        };
        let mut checked = Vec::with_capacity(digests.len());
        let mut silent: Option<ChunkError> = None;
        let mut located = digests.iter().zip(located).peekable();
        while located.peek().is_some() {
            let group = next_group(&mut located);
            if silent.is_none() {
                let places = group.iter().filter_map(|(_, place)| place.as_ref().ok()?.as_ref());
                silent = self.fetch_frames(places).err();
            }
            for (digest, place) in group {
                let chunk = match &silent {
                    Some(error) => Err(error.said_again()),
                    None => place.and_then(|place| self.check(digest, place)),
                };
                if let Err(error) = &chunk
                    && silent.is_none()
                    && !error.is_damage()
                {
                    silent = Some(error.said_again());
                }
                checked.push(chunk);
            }
        }
        checked
    }

    fn check(&self, digest: &Digest, place: Option<Place>) -> Result<Checked, ChunkError> {
        let place = place.ok_or(ChunkError::Missing { digest: *digest })?;
        self.check_at(digest, &place)
            .or_else(|error| self.elsewhere(digest, &place, error).map(Checked::Plain))
    }

    fn check_at(&self, digest: &Digest, place: &Place) -> Result<Checked, ChunkError> {
        let row = &place.row;
        let is_whole = row.bytes == GRID_BYTES && row.position == 0;
        if !is_whole || row.frame_bytes >= GRID_BYTES {
            return self.chunk_at(place, digest).map(Checked::Plain);
        }
        let frame = self.frame(place)?;
        let plain = frame::decompress(&frame, GRID_BYTES)
            .map_err(|source| self.damaged_frame(place, source))?;
        if Digest::of(&plain) != *digest {
            return Err(self.damaged(place, "its bytes have another digest"));
        }
        Ok(if plain.len() == GRID_BYTES as usize {
            Checked::Frame { frame, bytes: GRID_BYTES }
        } else {
            Checked::Plain(plain.into())
        })
    }

    /// The encoded bytes of the frame in which a chunk lies, as the store gave them: checked against
    /// nothing.
    pub(super) fn frame(&self, place: &Place) -> Result<Bytes, ChunkError> {
        let at = (place.pack, place.row.frame_offset);
        if let Some(frame) = lock(&self.frames).find(&at) {
            return Ok(frame);
        }
        let key = self.remote.pack_key(&place.pack);
        let frame = self
            .remote
            .get_range(&key, place.row.frame())
            .map_err(|source| ChunkError::Read { source })?;
        lock(&self.frames).keep(at, frame.clone(), frame.len());
        Ok(frame)
    }

    /// Fetches the frames of these chunks together, neighbours by one request, as many as the memory
    /// for frames holds. What is not fetched is left to [`chunk`](Self::chunk), to read or to report.
    pub fn fetch(&self, digests: &[Digest]) {
        let digests: Vec<Digest> =
            digests.iter().filter(|digest| !digest.is_hole()).copied().collect();
        let Ok(located) = self.locate_all(&digests) else { return };
        let places = located.iter().filter_map(|place| place.as_ref().ok()?.as_ref());
        // who reads them one by one says it
        let _ = self.fetch_frames(places);
    }

    /// Fetches the frames of these places that are not here, up to what is kept of them.
    ///
    /// # Errors
    ///
    /// The store did not answer. What is lost or damaged is found by whoever reads it.
    fn fetch_frames<'p>(&self, places: impl Iterator<Item = &'p Place>) -> Result<(), ChunkError> {
        let mut wanted: Vec<(PackId, Range<u64>)> = Vec::new();
        for place in places {
            if !lock(&self.frames).contains(&(place.pack, place.row.frame_offset)) {
                wanted.push((place.pack, place.row.frame()));
            }
        }
        wanted.sort_by_key(|(pack, range)| (*pack, range.start));
        wanted.dedup();
        let mut bytes = 0;
        wanted.retain(|(_, range)| {
            bytes += range.end - range.start;
            bytes <= FRAMES_BYTES_MAX as u64
        });
        let mut requests = joined(&wanted, GAP_BYTES);
        if requests.len() > MANY_REQUESTS {
            requests = joined(&wanted, WIDE_GAP_BYTES);
        }
        for batch in batches(&requests) {
            let ranges: Vec<(Key, Range<u64>)> = batch
                .iter()
                .map(|(pack, whole, _)| (self.remote.pack_key(pack), whole.clone()))
                .collect();
            let fetched = match self.remote.get_ranges(&ranges, PARALLEL) {
                Ok(fetched) => fetched,
                Err(source) => {
                    let error = ChunkError::Read { source };
                    return if error.is_damage() { Ok(()) } else { Err(error) };
                }
            };
            let mut frames = lock(&self.frames);
            for ((pack, whole, parts), bytes) in batch.iter().zip(fetched) {
                for part in parts {
                    let from = (part.start - whole.start) as usize;
                    let to = (part.end - whole.start) as usize;
                    let offset = u32::try_from(part.start).unwrap_or(u32::MAX);
                    frames.keep((*pack, offset), own_part(&bytes, from..to), to - from);
                }
            }
        }
        Ok(())
    }
}

/// A request for frames of one pack, and where those are that are wanted of it.
type FrameRequest = (PackId, Range<u64>, Vec<Range<u64>>);

/// Requests for frames, which are in order, those of one pack together that are no further apart
/// than `gap` bytes, up to the longest request.
fn joined(wanted: &[(PackId, Range<u64>)], gap: u64) -> Vec<FrameRequest> {
    let mut requests: Vec<FrameRequest> = Vec::new();
    for (pack, range) in wanted {
        match requests.last_mut() {
            Some((last, whole, parts))
                if last == pack
                    && range.start <= whole.end + gap
                    && range.end - whole.start <= REQUEST_BYTES_MAX =>
            {
                whole.end = whole.end.max(range.end);
                parts.push(range.clone());
            }
            _ => requests.push((*pack, range.clone(), vec![range.clone()])),
        }
    }
    requests
}

/// Requests in order, as many together as may be brought at once.
fn batches(requests: &[FrameRequest]) -> impl Iterator<Item = &[FrameRequest]> {
    let mut bytes = 0;
    requests.chunk_by(move |before, next| {
        let of = |(_, whole, _): &FrameRequest| whole.end - whole.start;
        bytes = if bytes == 0 { of(before) } else { bytes } + of(next);
        let is_together = bytes <= FETCHED_BYTES_MAX;
        if !is_together {
            bytes = 0;
        }
        is_together
    })
}

/// Takes the chunks whose frames are fetched together, at least one.
fn next_group<'d>(
    located: &mut Peekable<impl Iterator<Item = (&'d Digest, Located)>>,
) -> Vec<(&'d Digest, Located)> {
    let (mut group, mut frames, mut bytes) = (Vec::new(), HashSet::new(), 0);
    while let Some((_, place)) = located.peek() {
        if let Ok(Some(place)) = place
            && frames.insert((place.pack, place.row.frame_offset))
        {
            bytes += u64::from(place.row.frame_bytes);
            if bytes > GROUP_BYTES && frames.len() > 1 {
                break;
            }
        }
        group.extend(located.next());
    }
    group
}

/// A part of what one request brought, which keeps no more in memory than twice its length: a
/// slice keeps all of the buffer.
fn own_part(bytes: &Bytes, part: Range<usize>) -> Bytes {
    let part = bytes.slice(part);
    if part.len() * 2 < bytes.len() { Bytes::copy_from_slice(&part) } else { part }
}

/// A chunk that was checked against its digest.
pub(crate) enum Checked {
    /// Its plain bytes.
    Plain(Bytes),
    /// It alone in a frame that is shorter, and its length.
    Frame { frame: Bytes, bytes: u32 },
}

impl Checked {
    /// Its plain bytes; decompresses a frame once more.
    ///
    /// # Errors
    ///
    /// None of what was checked.
    pub(crate) fn plain(self) -> Result<Bytes, DecodeError> {
        match self {
            Self::Plain(plain) => Ok(plain),
            Self::Frame { frame, bytes } => frame::decompress(&frame, bytes).map(Bytes::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use cove_types::PackId;

    use super::*;
    use crate::pack::IndexRow;

    fn pack(number: u8) -> PackId {
        PackId([number; 16])
    }

    #[test]
    fn what_is_brought_at_once_is_bounded_and_all_of_it_is_brought() {
        let mib = |n: u64| n << 20;
        let lengths = [4, 4, 4, 4, 1, 30, 1, 4, 4, 4, 3, 2];
        let requests: Vec<FrameRequest> =
            (0..).zip(lengths).map(|(n, length)| (pack(n), 0..mib(length), Vec::new())).collect();
        let batches: Vec<Vec<u64>> = batches(&requests)
            .map(|batch| batch.iter().map(|(_, whole, _)| whole.end >> 20).collect())
            .collect();
        assert_eq!(batches, [vec![4, 4, 4, 4], vec![1], vec![30], vec![1, 4, 4, 4, 3], vec![2]]);
    }

    #[test]
    fn a_group_has_the_chunks_of_some_frames_however_many_lie_in_each() {
        let digest = Digest::of(b"any");
        let place = |frame: u32| {
            let row = IndexRow {
                digest,
                frame_offset: frame << 20,
                frame_bytes: 3 << 20,
                position: 0,
                bytes: 100,
            };
            Ok(Some(Place { pack: pack(1), row }))
        };
        let mut located: Vec<(&Digest, Located)> =
            [0, 0, 0, 1, 0, 1, 2, 1, 3].map(|frame| (&digest, place(frame))).into();
        located.insert(2, (&digest, Ok(None)));
        let mut located = located.into_iter().peekable();
        let mut groups = Vec::new();
        while located.peek().is_some() {
            groups.push(next_group(&mut located).len());
        }
        assert_eq!(groups, [7, 2, 1]);
    }

    #[test]
    fn a_small_part_of_a_request_does_not_keep_all_of_it_in_memory() {
        let request = Bytes::from(vec![7; 4 << 20]);
        let is_within = |part: &Bytes| request.as_ptr_range().contains(&part.as_ptr());
        let small = own_part(&request, 100..128 << 10);
        assert!(!is_within(&small) && small == request[100..128 << 10]);
        assert!(is_within(&own_part(&request, 0..3 << 20)));
    }
}
