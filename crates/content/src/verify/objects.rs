//! Reading a share of the objects whole.

use cove_types::{PackId, wire};

use super::VerifyError;
use super::hits::Fault;
use crate::chunks::{ChunkError, Chunks, NamedPacks};
use crate::decode::DecodeError;
use crate::pack::{PACK_BYTES_MAX, Pack, by_frame, check_frame};

/// Reads the packs and indexes of `part` (of `of`) whole and checks each byte; gives what is lost
/// or damaged.
pub(super) fn read(
    stored: &Chunks,
    (part, of): (u32, u32),
    checked: &mut wire::Checked,
) -> Result<Vec<(Option<PackId>, Fault)>, VerifyError> {
    let mut found = Vec::new();
    let NamedPacks { packs, damaged } = stored.packs()?;
    found.extend(damaged.iter().map(|error| (None, Fault::of(error))));
    for index in stored.locations().indexes.iter().filter(|index| in_part(&index.id.0, part, of)) {
        match stored.whole_index(index) {
            Ok((_, bytes)) => checked.bytes_read += bytes.len() as u64,
            Err(error) => {
                let fault = (None, fault(error)?);
                // its tables may have said so already
                if !found.iter().any(|(_, other)| other.object == fault.1.object) {
                    found.push(fault);
                }
            }
        }
    }
    for (pack, bytes_named) in packs.into_iter().filter(|(pack, _)| in_part(&pack.0, part, of)) {
        let key = stored.remote().pack_key(&pack);
        let object = stored
            .remote()
            .get_at_most(&key, PACK_BYTES_MAX)
            .map_err(|source| ChunkError::Read { source });
        let checked_pack = object.and_then(|object| {
            checked.packs_read += 1;
            checked.bytes_read += object.bytes.len() as u64;
            check_pack(&pack, bytes_named, &object.bytes)
                .map_err(|source| ChunkError::Damaged { object: key.to_string(), source })
        });
        if let Err(error) = checked_pack {
            found.push((Some(pack), fault(error)?));
        }
    }
    Ok(found)
}

/// Damage as a fault; anything else ends the check.
fn fault(error: ChunkError) -> Result<Fault, VerifyError> {
    if error.is_damage() { Ok(Fault::of(&error)) } else { Err(error.into()) }
}

/// Whether an object belongs to a part; by its name, which is random, so that parts are disjoint
/// and complete and each is about as long.
pub(super) fn in_part(id: &[u8; 16], part: u32, of: u32) -> bool {
    let number = u32::from_be_bytes([id[12], id[13], id[14], id[15]]);
    number % of.max(1) == part.saturating_sub(1)
}

/// Refuses the bytes of a pack that are not what was written.
fn check_pack(id: &PackId, bytes_named: u64, bytes: &[u8]) -> Result<(), DecodeError> {
    let damaged = |reason: String| Err(DecodeError::damaged("pack", reason));
    if bytes.len() as u64 != bytes_named {
        return damaged(format!("it has {} bytes instead of {bytes_named}", bytes.len()));
    }
    let pack = Pack::decode(bytes)?;
    if pack.index.id != *id {
        return damaged(format!("it is pack {}", pack.index.id));
    }
    for rows in by_frame(&pack.index.rows) {
        let range = rows[0].frame();
        check_frame(&bytes[range.start as usize..range.end as usize], &rows)?;
    }
    Ok(())
}
