//! Packs: immutable objects of frames, with their own index.
//!
//! All integers are little-endian.
//!
//! ```text
//! header    0  magic          8 bytes   "covepack"
//!           8  format         u32       1
//!          12  reserved       u32       0
//!          16  must           u64       features that a reader has to know
//!          24  may            u64       features that it may ignore
//!          32  key id        16 bytes   of the key that seals the frames; 0 = none
//!          48  pack id       16 bytes   its name
//!          64  session       16 bytes   the run of storing that wrote it
//!          80  volume        64 bytes   a length byte, then up to 63 bytes, then zeros
//! frames  144                           one after another, without gaps
//! footer       rows          48 each    ascending by digest, each digest once
//!              head record              canonical JSON; may be empty
//! trailer   0  frames end     u64       where the rows begin
//!           8  rows           u32       how many
//!          12  head record    u32       its bytes
//!          16  must           u64       as in the header
//!          24  key id        16 bytes   as in the header
//!          40  pack id       16 bytes   as in the header
//!          56  content       32 bytes   BLAKE3 of all before the rows
//!          88  footer        32 bytes   BLAKE3 of rows, head record and trailer up to here
//!         120  magic          8 bytes   "packends"
//!
//! row       0  digest        32 bytes   of the chunk's plain bytes
//!          32  frame offset   u32       from the start of the pack
//!          36  frame bytes    u32
//!          40  position       u32       where the chunk begins in the frame's plain bytes
//!          44  bytes          u32       of the chunk
//! ```
//!
//! The head record is the head that the pack was written for. It cannot name the
//! pack's own place among the locations (its footer holds the record); whoever
//! [rebuilds](crate::rebuild) a lost head from the newest pack adds it.

use std::ops::Range;

use cove_types::{Digest, PackId, SessionId, VolumeId};

use crate::DecodeError;
use crate::chunk::{CHUNK_BYTES_MAX, GRID_BYTES};
use crate::decode::{Fields, check_features};
use crate::frame::{self, FRAME_BYTES_MAX, FrameChunk};
use crate::locations::PackRef;

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

/// A pack of this many bytes takes no further frame.
///
/// 16 MiB are sent in about a second and are enough for a full pipe; many small
/// objects cost a request each.
pub const PACK_BYTES_TARGET: u64 = 16 << 20;

/// The longest pack that is lawful: the target, and the largest frame with its rows.
pub const PACK_BYTES_MAX: u64 = 32 << 20;

/// The bytes of the header.
pub const HEADER_BYTES: u32 = 144;

/// The bytes of the trailer.
pub const TRAILER_BYTES: u32 = 128;

/// The longest head record, as long as the longest head that is read.
pub const HEAD_RECORD_BYTES_MAX: usize = crate::head::HEAD_BYTES_READ_MAX;

/// The bytes of a row.
const ROW_BYTES: u32 = 48;

/// The features that this version knows: none.
const KNOWN_FEATURES: u64 = 0;

const WHAT: &str = "pack";
const MAGIC: &[u8; 8] = b"covepack";
const MAGIC_END: &[u8; 8] = b"packends";

/// Where a chunk lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRow {
    /// The chunk's name.
    pub digest: Digest,
    /// Where its frame begins, from the start of the pack.
    pub frame_offset: u32,
    /// How long the frame is.
    pub frame_bytes: u32,
    /// Where the chunk begins in the frame's plain bytes.
    pub position: u32,
    /// How many bytes the chunk has.
    pub bytes: u32,
}

impl IndexRow {
    /// The bytes of the pack that hold the frame.
    #[must_use]
    pub fn frame(&self) -> Range<u64> {
        let start = u64::from(self.frame_offset);
        start..start + u64::from(self.frame_bytes)
    }

    pub(crate) fn encode_place(&self, bytes: &mut Vec<u8>) {
        for field in [self.frame_offset, self.frame_bytes, self.position, self.bytes] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
    }

    /// Reads a row whose digest is read already and checks it against the laws that
    /// hold without its pack.
    pub(crate) fn decode_place(
        what: &'static str,
        digest: Digest,
        fields: &mut Fields<'_>,
    ) -> Result<Self, DecodeError> {
        let row = Self {
            digest,
            frame_offset: fields.u32()?,
            frame_bytes: fields.u32()?,
            position: fields.u32()?,
            bytes: fields.u32()?,
        };
        let lawful = !digest.is_hole()
            && row.frame_offset >= HEADER_BYTES
            && (1..=FRAME_BYTES_MAX).contains(&row.frame_bytes)
            && row.bytes >= 1
            && match row.bytes {
                // gathered
                ..GRID_BYTES => row.position <= GRID_BYTES - row.bytes,
                // alone
                GRID_BYTES.. => row.position == 0 && row.bytes <= CHUNK_BYTES_MAX,
            };
        match lawful {
            true => Ok(row),
            false => Err(DecodeError::damaged(what, format!("the place of {digest} is unlawful"))),
        }
    }
}

/// Builds a pack in memory.
#[derive(Debug)]
pub struct PackWriter {
    id: PackId,
    bytes: Vec<u8>,
    rows: Vec<IndexRow>,
}

/// A pack that is ready to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedPack {
    /// Its name.
    pub id: PackId,
    /// The whole object.
    pub bytes: Vec<u8>,
    /// BLAKE3 of the header and the frames, as in the trailer and in the table of an index.
    pub blake3: Digest,
    /// The bytes of rows, head record and trailer, at its end.
    pub footer_bytes: u32,
    /// Where its chunks lie, ascending by digest.
    pub index: Vec<IndexRow>,
}

impl PackWriter {
    /// An empty pack of `session`, which stores `volume`.
    #[must_use]
    pub fn new(id: PackId, volume: &VolumeId, session: SessionId) -> Self {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&KNOWN_FEATURES.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&session.0);
        let name = volume.as_str().as_bytes();
        bytes.push(u8::try_from(name.len()).expect("a volume id has at most 63 bytes"));
        bytes.extend_from_slice(name);
        bytes.resize(to_usize(HEADER_BYTES), 0);
        Self { id, bytes, rows: Vec::new() }
    }

    /// Appends a frame and says what is in it.
    ///
    /// # Panics
    ///
    /// When the pack [`is_full`](Self::is_full), or the chunks do not lie within
    /// `plain_bytes`: both are the caller's to see to.
    pub fn push_frame(&mut self, frame: &[u8], plain_bytes: u32, chunks: &[FrameChunk]) {
        assert!(!self.is_full(), "a full pack takes no further frame");
        assert!(frame.len() <= to_usize(FRAME_BYTES_MAX), "a frame is at most a chunk long");
        let frame_offset = to_u32(self.bytes.len());
        self.bytes.extend_from_slice(frame);
        for chunk in chunks {
            let end = chunk.position.checked_add(chunk.bytes);
            assert!(end.is_some_and(|end| end <= plain_bytes), "a chunk lies within its frame");
            self.rows.push(IndexRow {
                digest: chunk.digest,
                frame_offset,
                frame_bytes: to_u32(frame.len()),
                position: chunk.position,
                bytes: chunk.bytes,
            });
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> PackId {
        self.id
    }

    /// Whether nothing was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How long the pack is if it is finished now, without a head record.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let rows = self.rows.len() as u64 * u64::from(ROW_BYTES);
        self.bytes.len() as u64 + rows + u64::from(TRAILER_BYTES)
    }

    /// Whether it has its size and is to be finished.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes() >= PACK_BYTES_TARGET
    }

    /// Where the chunks lie that were pushed, ascending by digest, as the footer will say it.
    #[must_use]
    pub fn index(&self) -> Vec<IndexRow> {
        in_order(self.rows.clone())
    }

    /// Ends the pack with its index and the head that it was written for.
    ///
    /// A chunk that was pushed twice keeps its first place.
    ///
    /// # Panics
    ///
    /// When the head record is longer than [`HEAD_RECORD_BYTES_MAX`]; no head is.
    #[must_use]
    pub fn finish(self, head_record: &[u8]) -> FinishedPack {
        assert!(head_record.len() <= HEAD_RECORD_BYTES_MAX, "a head record is as long as a head");
        let Self { id, mut bytes, rows } = self;
        let rows = in_order(rows);
        let frames_end = bytes.len();
        let blake3 = Digest::of(&bytes);
        for row in &rows {
            bytes.extend_from_slice(&row.digest.0);
            row.encode_place(&mut bytes);
        }
        bytes.extend_from_slice(head_record);
        bytes.extend_from_slice(&(frames_end as u64).to_le_bytes());
        bytes.extend_from_slice(&to_u32(rows.len()).to_le_bytes());
        bytes.extend_from_slice(&to_u32(head_record.len()).to_le_bytes());
        bytes.extend_from_slice(&KNOWN_FEATURES.to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&blake3.0);
        let footer = Digest::of(&bytes[frames_end..]);
        bytes.extend_from_slice(&footer.0);
        bytes.extend_from_slice(MAGIC_END);
        let footer_bytes = to_u32(bytes.len() - frames_end);
        FinishedPack { id, bytes, blake3, footer_bytes, index: rows }
    }
}

/// Rows as a footer has them: of a chunk that was pushed twice, the first place.
fn in_order(mut rows: Vec<IndexRow>) -> Vec<IndexRow> {
    rows.sort_by_key(|row| (row.digest, row.frame_offset, row.position));
    rows.dedup_by_key(|row| row.digest);
    rows
}

/// What a pack's footer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackIndex {
    /// The pack's name.
    pub id: PackId,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its header and frames.
    pub blake3: Digest,
    /// The bytes of rows, head record and trailer.
    pub footer_bytes: u32,
    /// Where its chunks lie, ascending by digest.
    pub rows: Vec<IndexRow>,
    /// The head that it was written for; empty when it was written for none.
    pub head_record: Vec<u8>,
}

impl PackIndex {
    /// The length of the footer of the pack that ends with `tail` (at least
    /// [`TRAILER_BYTES`] of it), for when it is not known from the locations.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is not the end of a pack of `pack_bytes`.
    pub fn footer_bytes(tail: &[u8], pack_bytes: u64) -> Result<u32, DecodeError> {
        Trailer::decode(tail, pack_bytes).map(|trailer| trailer.footer_bytes)
    }

    /// Reads the footer of a pack of `pack_bytes` from its last bytes; `tail` may be
    /// longer than the footer.
    ///
    /// The frames stay unchecked: each chunk is checked when it is read.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] on any byte that is not as written; the memory taken is bounded by
    /// the length of `tail`.
    pub fn decode_tail(tail: &[u8], pack_bytes: u64) -> Result<Self, DecodeError> {
        let trailer = Trailer::decode(tail, pack_bytes)?;
        let start = tail.len().checked_sub(to_usize(trailer.footer_bytes)).ok_or_else(|| {
            let reason = format!(
                "its footer has {} bytes, only {} are here",
                trailer.footer_bytes,
                tail.len()
            );
            DecodeError::damaged(WHAT, reason)
        })?;
        let footer = &tail[start..];
        let (covered, end) = footer.split_at(footer.len() - 40);
        if Digest::of(covered).0 != end[..32] {
            return Err(DecodeError::damaged(WHAT, "its footer is not what was written"));
        }
        // only now: a flipped bit is damage, and no feature of the future
        check_features(WHAT, trailer.must, KNOWN_FEATURES)?;
        let mut fields = Fields::new(WHAT, covered);
        let mut rows = Vec::with_capacity(to_usize(trailer.rows));
        let mut last = Digest::HOLE;
        for _ in 0..trailer.rows {
            let digest = fields.digest()?;
            let row = IndexRow::decode_place(WHAT, digest, &mut fields)?;
            if row.digest <= last {
                return Err(DecodeError::damaged(WHAT, "its rows are not in ascending order"));
            }
            if row.frame().end > trailer.frames_end {
                return Err(DecodeError::damaged(WHAT, "a frame ends past the frames"));
            }
            last = row.digest;
            rows.push(row);
        }
        let head_record = fields.take(to_usize(trailer.head_record))?.to_vec();
        Ok(Self {
            id: trailer.id,
            bytes: pack_bytes,
            blake3: trailer.blake3,
            footer_bytes: trailer.footer_bytes,
            rows,
            head_record,
        })
    }

    /// The place of the chunk `digest`.
    #[must_use]
    pub fn find(&self, digest: &Digest) -> Option<&IndexRow> {
        let at = self.rows.binary_search_by_key(digest, |row| row.digest).ok()?;
        Some(&self.rows[at])
    }
}

/// The first bytes of a pack: what it is without what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackHeader {
    /// Its name.
    pub id: PackId,
    /// The run of storing that wrote it.
    pub session: SessionId,
    /// The volume that it was written for.
    pub volume: VolumeId,
}

impl PackHeader {
    /// Reads a header from the first [`HEADER_BYTES`] of a pack. Nothing but the whole pack's
    /// digest covers it: what is read alone is no more than a hint.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when a pack does not begin so.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(WHAT, bytes);
        fields.literal(MAGIC, "it does not begin as a pack")?;
        let format = fields.u32()?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat { what: WHAT, found: format, known: FORMAT });
        }
        fields.literal(&[0; 4], "a reserved field is used")?;
        check_features(WHAT, fields.u64()?, KNOWN_FEATURES)?;
        let _may = fields.u64()?;
        fields.literal(&[0; 16], "it is sealed with a key")?;
        let id = PackId(fields.array()?);
        let session = SessionId(fields.array()?);
        let name = fields.array::<64>()?;
        let length = usize::from(name[0]);
        let volume = name.get(1..=length).and_then(|text| std::str::from_utf8(text).ok());
        let volume = volume
            .and_then(|text| text.parse().ok())
            .filter(|_| name[1 + length..].iter().all(|byte| *byte == 0))
            .ok_or_else(|| DecodeError::damaged(WHAT, "its volume id is unlawful"))?;
        Ok(Self { id, session, volume })
    }
}

/// The last bytes of a pack: where its head record is, without its rows.
///
/// The footer's digest is not looked at, because the rows may be long: the record has a check of its
/// own, and the rows are checked when a chunk is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackEnd {
    /// The pack, as a head names it.
    pub pack: PackRef,
    /// How long the head record is; 0 when it was written for no head.
    pub record_bytes: u32,
}

impl PackEnd {
    /// Reads the end of a pack of `pack_bytes` from its last bytes, at least [`TRAILER_BYTES`].
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is not the end of such a pack.
    pub fn decode(tail: &[u8], pack_bytes: u64) -> Result<Self, DecodeError> {
        let trailer = Trailer::decode(tail, pack_bytes)?;
        check_features(WHAT, trailer.must, KNOWN_FEATURES)?;
        let pack =
            PackRef { id: trailer.id, bytes: pack_bytes, footer_bytes: trailer.footer_bytes };
        Ok(Self { pack, record_bytes: trailer.head_record })
    }

    /// Where the head record lies in the pack.
    #[must_use]
    pub fn record(&self) -> Range<u64> {
        let end = self.pack.bytes - u64::from(TRAILER_BYTES);
        end - u64::from(self.record_bytes)..end
    }
}

/// A whole pack, checked from its first byte to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The volume that it was written for.
    pub volume: VolumeId,
    /// The run of storing that wrote it.
    pub session: SessionId,
    /// Its footer.
    pub index: PackIndex,
}

impl Pack {
    /// Checks a whole pack: header, frames against the trailer's BLAKE3, footer. It
    /// does not decompress the frames.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] on any byte that is not as written.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let index = PackIndex::decode_tail(bytes, bytes.len() as u64)?;
        let frames = bytes.len() - to_usize(index.footer_bytes);
        let found = Digest::of(&bytes[..frames]);
        if found != index.blake3 {
            return Err(DecodeError::OtherContent { what: WHAT, expected: index.blake3, found });
        }
        let PackHeader { id, session, volume } = PackHeader::decode(bytes)?;
        if id != index.id {
            return Err(DecodeError::damaged(WHAT, "its header has another id than its trailer"));
        }
        Ok(Self { volume, session, index })
    }
}

/// Frames of a pack with the rows of what lies in them, in the order of the pack.
#[must_use]
pub fn by_frame(rows: &[IndexRow]) -> Vec<Vec<IndexRow>> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (row.frame_offset, row.position));
    rows.chunk_by(|a, b| a.frame_offset == b.frame_offset).map(<[_]>::to_vec).collect()
}

/// Checks the chunks of `rows`, which lie in one `frame`: each against its digest. Decompresses
/// the frame once. Gives the frame's plain length.
///
/// # Errors
///
/// [`DecodeError`] when the frame does not decompress or holds something else.
pub fn check_frame(frame: &[u8], rows: &[IndexRow]) -> Result<u32, DecodeError> {
    let longest = rows.iter().map(|row| row.bytes).max().unwrap_or(0);
    let plain = frame::decompress(frame, longest.max(GRID_BYTES))?;
    for row in rows {
        let start = to_usize(row.position);
        let chunk = plain.get(start..start + to_usize(row.bytes));
        let found = chunk.map(Digest::of);
        if found != Some(row.digest) {
            return Err(match found {
                Some(found) => {
                    DecodeError::OtherContent { what: "chunk", expected: row.digest, found }
                }
                None => DecodeError::damaged("frame", format!("it ends within {}", row.digest)),
            });
        }
    }
    Ok(to_u32(plain.len()))
}

/// The last bytes of a pack, with bounds that hold among them.
#[derive(Debug)]
struct Trailer {
    frames_end: u64,
    rows: u32,
    head_record: u32,
    must: u64,
    id: PackId,
    blake3: Digest,
    footer_bytes: u32,
}

impl Trailer {
    fn decode(tail: &[u8], pack_bytes: u64) -> Result<Self, DecodeError> {
        let damaged = |reason: &str| DecodeError::damaged(WHAT, reason);
        if pack_bytes > PACK_BYTES_MAX {
            return Err(damaged("it is longer than 32 MiB"));
        }
        if tail.len() as u64 > pack_bytes {
            return Err(damaged("its tail is longer than it is"));
        }
        let start = tail.len().checked_sub(to_usize(TRAILER_BYTES));
        let start = start.ok_or_else(|| damaged("it ends too early"))?;
        let mut fields = Fields::new(WHAT, &tail[start..]);
        let frames_end = fields.u64()?;
        let rows = fields.u32()?;
        let head_record = fields.u32()?;
        let must = fields.u64()?;
        let key_id = fields.array::<16>()?;
        let id = PackId(fields.array()?);
        let blake3 = fields.digest()?;
        let _footer = fields.digest()?;
        fields.literal(MAGIC_END, "it does not end as a pack")?;
        if key_id != [0; 16] {
            return Err(damaged("it is sealed with a key"));
        }
        let footer_bytes = u64::from(rows) * u64::from(ROW_BYTES)
            + u64::from(head_record)
            + u64::from(TRAILER_BYTES);
        let adds_up = frames_end.checked_add(footer_bytes) == Some(pack_bytes)
            && frames_end >= u64::from(HEADER_BYTES)
            && to_usize(head_record) <= HEAD_RECORD_BYTES_MAX;
        if !adds_up {
            return Err(damaged("its parts do not add up to its length"));
        }
        let footer_bytes = u32::try_from(footer_bytes).map_err(|_| damaged("it is too long"))?;
        Ok(Self { frames_end, rows, head_record, must, id, blake3, footer_bytes })
    }
}

fn to_usize(length: u32) -> usize {
    usize::try_from(length).expect("we run on 32 bits or more")
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a pack is at most 32 MiB long")
}

#[cfg(test)]
mod tests;
