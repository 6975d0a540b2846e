//! The chunks of files that are longer than one.

use bytes::Bytes;
use cove_types::{Digest, ParseError, TreePath};

use super::entry::{Content, Entry, Grid};
use super::varint::{Reader, put_varint};
use super::{Item, Key};

/// How many chunks one list names, except the last list of a file.
pub const GROUP_CHUNKS: usize = 64;

/// The digests of the chunks of one group: of 64 grids of a file's bytes, or of what is
/// left at its end.
///
/// ```text
///  0  count   u8       1 to 64, plus 128 when the grid is 16 KiB
///  1  digests 32 each  a hole is 32 zero bytes; one at least is none
///     last    varint   bytes of the last chunk; absent when it is a whole grid
/// ```
///
/// The list repeats of its file what it takes to count its bytes without the entry, which
/// may lie in another node: so a node's [`Counts`](super::Counts) depend on nothing but
/// the node, and equal nodes can be shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChunkList {
    grid: Grid,
    digests: Vec<Digest>,
    last_bytes: u64,
}

impl ChunkList {
    /// The list of the group at `offset` of a file of `size` bytes; `None` when all of it
    /// is a hole, which has no list.
    ///
    /// # Errors
    ///
    /// `offset` is no group's beginning, or there are not as many digests as the group has
    /// chunks.
    pub fn of_group(
        grid: Grid,
        size: u64,
        offset: u64,
        digests: Vec<Digest>,
    ) -> Result<Option<Self>, ParseError> {
        if offset >= size || !offset.is_multiple_of(grid.group_bytes()) {
            return Err(ParseError(format!("{offset} begins no group of {size} bytes")));
        }
        let group = (size - offset).min(grid.group_bytes());
        let chunks = grid.chunks(group);
        if digests.len() as u64 != chunks {
            return Err(ParseError(format!(
                "the group at {offset} has {chunks} chunks, found {}",
                digests.len()
            )));
        }
        if digests.iter().all(Digest::is_hole) {
            return Ok(None);
        }
        let last_bytes = group - (chunks - 1) * grid.bytes();
        Ok(Some(Self { grid, digests, last_bytes }))
    }

    /// The digests; [`Digest::HOLE`] for a hole.
    #[must_use]
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// The grid of the file.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The bytes of the file that it is about.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.digests.len() as u64 - 1) * self.grid.bytes() + self.last_bytes
    }

    /// The bytes of its chunks that are no holes.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.chunks().filter(|(_, _, digest)| !digest.is_hole()).map(|(_, bytes, _)| bytes).sum()
    }

    /// Each chunk: where it begins in the group, its length, its digest.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, u64, Digest)> {
        let last = self.digests.len() - 1;
        self.digests.iter().enumerate().map(move |(index, digest)| {
            let bytes = if index == last { self.last_bytes } else { self.grid.bytes() };
            (index as u64 * self.grid.bytes(), bytes, *digest)
        })
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(1 + 32 * self.digests.len() + 3);
        let small = if self.grid == Grid::Small { 0x80 } else { 0 };
        bytes.push(self.digests.len() as u8 | small);
        for digest in &self.digests {
            bytes.extend_from_slice(&digest.0);
        }
        if self.last_bytes != self.grid.bytes() {
            put_varint(&mut bytes, self.last_bytes);
        }
        bytes.into()
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    ///
    /// # Errors
    ///
    /// The bytes break the form above in any way.
    pub fn decode(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let header = reader.byte()?;
        let grid = if header & 0x80 == 0 { Grid::Large } else { Grid::Small };
        let count = usize::from(header & 0x7f);
        if !(1..=GROUP_CHUNKS).contains(&count) {
            return Err(ParseError(format!("a chunk list has 1 to 64 chunks, found {count}")));
        }
        let digests = (0..count)
            .map(|_| reader.array().map(Digest))
            .collect::<Result<Vec<Digest>, ParseError>>()?;
        if digests.iter().all(Digest::is_hole) {
            return Err(ParseError("a chunk list has only holes".into()));
        }
        let last_bytes = if reader.is_empty() { grid.bytes() } else { reader.varint()? };
        let short = bytes.len() > 1 + 32 * count;
        if !reader.is_empty() || (short && !(1..grid.bytes()).contains(&last_bytes)) {
            return Err(ParseError("the last chunk of a list is not 1 byte to a grid".into()));
        }
        Ok(Self { grid, digests, last_bytes })
    }
}

/// All items of one file: its entry and its chunk lists. `digests` are those of all its
/// chunks in order, [`Digest::HOLE`] for a hole; the entry's own `chunk` is set from them.
/// Other kinds have none.
///
/// # Errors
///
/// There are not as many digests as chunks, or the entry is refused by [`Entry::encode`].
pub fn file_items(
    path: &TreePath,
    entry: &Entry,
    digests: &[Digest],
) -> Result<Vec<Item>, ParseError> {
    let mut entry = entry.clone();
    let Content::File { size, grid, chunk } = &mut entry.content else {
        return Ok(vec![Item { key: Key::entry(path), value: entry.encode()? }]);
    };
    let (size, grid) = (*size, *grid);
    if digests.len() as u64 != grid.chunks(size) {
        return Err(ParseError(format!(
            "file {path} has {} chunks, found {}",
            grid.chunks(size),
            digests.len()
        )));
    }
    *chunk = match digests {
        [only] if !only.is_hole() => Some(*only),
        _ => None,
    };
    let mut items = vec![Item { key: Key::entry(path), value: entry.encode()? }];
    if entry.has_chunk_lists() {
        for (index, group) in digests.chunks(GROUP_CHUNKS).enumerate() {
            let offset = index as u64 * grid.group_bytes();
            if let Some(list) = ChunkList::of_group(grid, size, offset, group.to_vec())? {
                items.push(Item { key: Key::chunks(path, offset), value: list.encode() });
            }
        }
    }
    Ok(items)
}
