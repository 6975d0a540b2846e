//! Keeping a head small: an index over many packs takes the place of their names.

use bytes::Bytes;
use cove_env::Env;
use cove_objects::WriteError;
use cove_types::{Classify, ErrorKind};

use crate::chunks::{ChunkError, Chunks};
use crate::decode::DecodeError;
use crate::index::{self, IndexWriter, Location, PackEntry};
use crate::locations::{Locations, plan_gather};
use crate::remote::put_once;

/// How often an index is sent while the answer is unknown.
const ATTEMPTS: u32 = 6;

/// Writes an index over the packs of `locations` when there are too many for a head, and
/// gives the locations that a head is to name instead; `None` when all is well as it is.
///
/// Costs two requests and, where indexes are merged, one more for each. What was written is named by
/// nothing until a head is put.
///
/// # Errors
///
/// [`GatherError`].
pub fn gather(
    chunks: &Chunks,
    locations: &Locations,
    env: &Env,
) -> Result<Option<Locations>, GatherError> {
    let Some(plan) = plan_gather(locations) else { return Ok(None) };
    let remote = chunks.remote();
    let covered: Vec<_> = plan.rewrite.iter().chain(&plan.index).copied().collect();
    let footers = chunks.footers_of(&covered)?;
    let mut packs: Vec<PackEntry> = Vec::new();
    let mut sources: Vec<Vec<Location>> = Vec::new();
    for footer in &footers {
        packs.push(PackEntry { id: footer.id, bytes: footer.bytes, blake3: footer.blake3 });
        let rows = footer.rows.iter();
        sources.push(rows.map(|row| Location { pack: footer.id, row: *row }).collect());
    }
    for merged in &plan.merge {
        let key = remote.index_key(&merged.id);
        let object = remote.get(&key).map_err(|source| ChunkError::Read { source })?;
        let (table, rows) = index::decode_whole(&object.bytes)
            .map_err(|source| GatherError::Damaged { object: key.to_string(), source })?;
        packs.extend(table.packs().iter().cloned());
        sources.push(rows);
    }
    let id = env.index_id();
    let written = |source| GatherError::Index { source };
    let mut writer = IndexWriter::new(Vec::new(), id, packs).map_err(written)?;
    let sources = sources.into_iter().map(|rows| rows.into_iter().map(Ok)).collect();
    let mut last = None;
    for location in index::merge(sources) {
        let location: Location =
            location.map_err(|source| GatherError::Damaged { object: id.to_string(), source })?;
        // the same chunk may lie in several packs; one place is enough
        if last == Some(location.row.digest) {
            continue;
        }
        last = Some(location.row.digest);
        writer.push(&location).map_err(written)?;
    }
    let (bytes, reference) = writer.finish().map_err(written)?;
    let key = remote.index_key(&id);
    let put = put_once(remote.store().as_ref(), &key, Bytes::from(bytes), ATTEMPTS);
    remote.runtime().block_on(put).map_err(|source| GatherError::Put { source })?;
    Ok(Some(locations.gathered(&plan, reference)))
}

/// Why locations were not gathered.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum GatherError {
    /// A footer or an index could not be read.
    #[error("failed to read what is to be gathered")]
    Look(#[from] ChunkError),
    /// An index is not what was written.
    #[error("object {object} is damaged")]
    Damaged { object: String, source: DecodeError },
    /// The rows are not those of an index.
    #[error("failed to write an index")]
    Index { source: index::WriteError },
    /// The index may or may not be there; nothing names it.
    #[error("failed to put an index")]
    Put { source: WriteError },
}

impl Classify for GatherError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Look(source) => source.kind(),
            Self::Damaged { source, .. } => source.kind(),
            Self::Index { .. } => ErrorKind::Internal,
            Self::Put { source } => source.kind(),
        }
    }
}
