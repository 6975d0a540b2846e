//! Checking what the store holds of a volume.

use std::collections::{HashMap, HashSet};

use cove_types::{Digest, EntryId, PackId, wire};

use crate::chunks::{ChunkError, Chunks};
use crate::pack::Pack;
use crate::read::project_root;
use crate::tree::{self, Content, Key, Value, Xattrs};

/// How many paths a problem names.
const PATHS_MAX: usize = 100;

/// A state to check: an entry, or `None` for the present state, with its tree.
pub type State = (Option<EntryId>, Digest);

/// Walks all trees and sees that every chunk lies in a location with the right size.
/// Costs a read of each distinct tree node; files' chunks are not read.
pub fn located(
    chunks: &Chunks,
    states: &[State],
    problems: &mut Vec<wire::VerifyProblem>,
    checked: &mut wire::Checked,
) {
    let mut known: HashMap<Digest, bool> = HashMap::new();
    let mut walked: HashSet<Digest> = HashSet::new();
    for (entry, root) in states {
        checked.entries += 1;
        if !walked.insert(*root) {
            continue;
        }
        let mut missing: Vec<String> = Vec::new();
        for item in tree::range(chunks, root, Key::all()) {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    problems.push(problem(*entry, &error.to_string(), None, Vec::new()));
                    break;
                }
            };
            let Ok((parts, value)) = item.decode() else {
                let what = "an item of the tree is not of its form";
                problems.push(problem(*entry, what, None, Vec::new()));
                break;
            };
            let whole = chunks_of_value(&value).into_iter().all(|(digest, bytes)| {
                *known.entry(digest).or_insert_with(|| {
                    checked.chunks += 1;
                    let place = chunks.locate(&digest).ok().flatten();
                    place.is_some_and(|place| {
                        bytes.is_none_or(|bytes| u64::from(place.row.bytes) == bytes)
                    })
                })
            });
            if !whole {
                missing.push(shown(&parts.path));
            }
        }
        if !missing.is_empty() {
            missing.dedup();
            let what = format!("{} files have content that no location holds", missing.len());
            missing.truncate(PATHS_MAX);
            problems.push(problem(*entry, &what, None, missing));
        }
    }
}

/// Reads the packs of `part` (of `of`) whole, checks each byte, and names the files that what is damaged hits.
pub fn read_packs(
    chunks: &Chunks,
    states: &[State],
    (part, of): (u32, u32),
    problems: &mut Vec<wire::VerifyProblem>,
    checked: &mut wire::Checked,
) {
    let packs = match chunks.packs() {
        Ok(packs) => packs,
        Err(error) => {
            problems.push(problem(None, &error.to_string(), None, Vec::new()));
            return;
        }
    };
    for pack in packs.iter().filter(|pack| in_part(pack, part, of)) {
        let key = chunks.remote().pack_key(pack);
        let object = match chunks.remote().get(&key) {
            Ok(object) => object,
            Err(error) => {
                let error = ChunkError::Read { source: error };
                let hit = hit_by(chunks, states, pack);
                for (entry, paths) in hit {
                    problems.push(problem(entry, &format!("{error}: {key}"), Some(&key), paths));
                }
                continue;
            }
        };
        checked.packs_read += 1;
        checked.bytes_read += object.bytes.len() as u64;
        if let Err(error) = check_pack(&object.bytes) {
            let hit = hit_by(chunks, states, pack);
            if hit.is_empty() {
                problems.push(problem(None, &error, Some(&key), Vec::new()));
            }
            for (entry, paths) in hit {
                problems.push(problem(entry, &error, Some(&key), paths));
            }
        }
    }
}

/// Whether a pack belongs to a part; by its name, so that parts are disjoint and complete.
fn in_part(pack: &PackId, part: u32, of: u32) -> bool {
    let number = u32::from_be_bytes([pack.0[12], pack.0[13], pack.0[14], pack.0[15]]);
    number % of.max(1) == part.saturating_sub(1)
}

/// Why the bytes of a pack are not what was written.
fn check_pack(bytes: &[u8]) -> Result<(), String> {
    let pack = Pack::decode(bytes).map_err(|error| error.to_string())?;
    for row in &pack.index.rows {
        let range = row.frame();
        let frame = usize::try_from(range.start)
            .ok()
            .zip(usize::try_from(range.end).ok())
            .and_then(|(from, to)| bytes.get(from..to))
            .ok_or("a frame lies outside the pack")?;
        crate::pack::read_chunk(frame, row).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The states and files that have chunks in a pack.
fn hit_by(chunks: &Chunks, states: &[State], pack: &PackId) -> Vec<(Option<EntryId>, Vec<String>)> {
    let mut hit = Vec::new();
    for (entry, root) in states {
        let mut paths = Vec::new();
        for item in tree::range(chunks, root, Key::all()) {
            let Ok((parts, value)) =
                item.map_err(drop).and_then(|item| item.decode().map_err(drop))
            else {
                break;
            };
            let in_pack = |digest: &Digest| {
                chunks.locate(digest).ok().flatten().is_some_and(|place| place.pack == *pack)
            };
            if chunks_of_value(&value).iter().any(|(digest, _)| in_pack(digest)) {
                paths.push(shown(&parts.path));
            }
            if paths.len() > PATHS_MAX {
                break;
            }
        }
        paths.dedup();
        paths.truncate(PATHS_MAX);
        if !paths.is_empty() {
            hit.push((*entry, paths));
        }
    }
    hit
}

/// The chunks that an item names, with their lengths where the item says them.
fn chunks_of_value(value: &Value) -> Vec<(Digest, Option<u64>)> {
    let mut found = Vec::new();
    match value {
        Value::Entry(entry) => {
            if let Content::File { size, chunk: Some(digest), .. } = &entry.content {
                found.push((*digest, Some(*size)));
            }
            if let Xattrs::Chunk(digest) = &entry.xattrs {
                found.push((*digest, None));
            }
        }
        Value::Chunks(list) => found.extend(
            list.chunks()
                .filter(|(_, _, digest)| !digest.is_hole())
                .map(|(_, bytes, digest)| (digest, Some(bytes))),
        ),
    }
    found
}

fn shown(path: &cove_types::TreePath) -> String {
    path.below(&project_root()).unwrap_or_else(|| path.clone()).to_string()
}

fn problem(
    entry: Option<EntryId>,
    what: &str,
    object: Option<&cove_objects::Key>,
    paths: Vec<String>,
) -> wire::VerifyProblem {
    wire::VerifyProblem {
        what: what.to_owned(),
        project: None,
        entry: entry.map(|entry| entry.to_string()),
        object: object.map(ToString::to_string),
        paths,
        nearest_good: None,
    }
}
