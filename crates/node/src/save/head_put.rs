//! Putting a head, and staying with it until the store has answered.

use std::time::Duration;

use bytes::Bytes;
use cove_content::commit::{Next, Outcome, ReadHead, after_put};
use cove_content::document::ProjectDocument;
use cove_content::head::{Create, Head, HeadObject, HeadState, OlderEntries, Op, Tombstone};
use cove_content::locations::Locations;
use cove_content::root::Root;
use cove_content::spec::VolumeSpec;
use cove_database::HeadRow;
use cove_objects::{Put, ReadError, Version};
use cove_types::{Classify, ErrorKind, OperationId, VolumeId, chain};

use crate::capture::sub;
use crate::node::{Inner, document_digest};
use crate::save::SaveError;
use crate::save::lineage::is_answer;
use crate::save::older::read_older;
use crate::save::rescue::{keep_foreign, take_head};
use crate::save::{op, stamp};
use crate::volume::{Known, Volume};
use crate::work::Pending;

/// How often one PUT is repeated before the work waits.
pub(crate) const PUT_ATTEMPTS: u32 = 4;

/// What is said of a head whose bytes are not what was put.
const DAMAGED: &str = "the head of this project is damaged in the store";
/// What is said when there is none.
const MISSING: &str = "the head of this project is missing in the store";

/// Whether what keeps work from being saved is that the head is missing or damaged.
pub(crate) fn is_head_lost(what: &str) -> bool {
    what.starts_with(DAMAGED) || what.starts_with(MISSING)
}

/// Creates the head of a new volume, with the empty tree.
pub(crate) fn create_head(
    inner: &Inner,
    volume: &Volume,
    pending: &Pending,
    document: &ProjectDocument,
    spec: &VolumeSpec,
) -> Result<(), SaveError> {
    let create = create_empty(inner, &volume.id, document);
    // the call itself takes effect with the commit that follows
    let first = Op { id: sub(&pending.operation, 2), ..op(pending, Vec::new()) };
    let mut head = Head::create(create, first, stamp(inner));
    head.document = Some(document.clone());
    head.spec.clone_from(spec);
    let operation = Some(&pending.operation);
    let found =
        put_head(inner, &volume.id, None, head.clone(), OlderEntries::default(), operation)?;
    let (known, _) = keep_foreign(inner, &volume.id, &head, found, operation)?;
    remember(inner, volume, known)
}

/// What a volume begins with of which nothing is stored.
pub(crate) fn create_empty(inner: &Inner, volume: &VolumeId, document: &ProjectDocument) -> Create {
    let empty = cove_content::tree::Root::empty();
    Create {
        volume: volume.clone(),
        project: document.id.clone(),
        holder: inner.options.node.clone(),
        now: Root {
            tree: empty.digest,
            level: empty.level,
            document: document_digest(document),
            ..crate::volume::unknown_root()
        },
        entries: Vec::new(),
        locations: Locations::default(),
        root_frame: None,
    }
}

pub(crate) fn remember(inner: &Inner, volume: &Volume, known: Known) -> Result<(), SaveError> {
    let row = head_row(inner, &known)?;
    inner
        .wait(inner.database.put_head(&row))
        .map_err(|error| SaveError::later("failed to write down a head", &error))?;
    volume.state().known = Some(known);
    Ok(())
}

pub(crate) fn head_row(inner: &Inner, known: &Known) -> Result<HeadRow, SaveError> {
    let body = known
        .head
        .encode()
        .map_err(|error| SaveError::Later { kind: ErrorKind::Internal, what: chain(&error) })?;
    Ok(HeadRow {
        volume: known.head.volume.clone(),
        version: known.version.0.clone(),
        body,
        saved_us: inner.now_us(),
    })
}

pub(crate) fn put_or_begin_again(
    inner: &Inner,
    volume: &Volume,
    known: &Known,
    next: Head,
    older: OlderEntries,
    operation: &OperationId,
) -> Result<Option<Known>, SaveError> {
    match put_head(inner, &volume.id, Some(known), next, older, Some(operation)) {
        // it took effect some time ago, and another copy has saved since: its head is not this one's
        Ok(found) if !is_answer(&found.head, operation) => {
            let what = "another copy of this Cove has saved meanwhile".to_owned();
            Err(SaveError::Later { kind: ErrorKind::Conflict, what })
        }
        Ok(known) => Ok(Some(known)),
        Err(SaveError::Later { kind: ErrorKind::Conflict, what }) => {
            tracing::info!(volume = %volume.id, what, "beginning again");
            let found = read_head(inner, &volume.id)?;
            take_head(inner, volume, &known.head, found, Some(operation))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn read_head(inner: &Inner, volume: &VolumeId) -> Result<(Head, Version), SaveError> {
    let deleted = || SaveError::Fenced { what: format!("volume {volume} is deleted") };
    find_head(inner, volume)?.ok_or_else(deleted)
}

/// The head in the store; `None` for a tombstone.
pub(crate) fn find_head(
    inner: &Inner,
    volume: &VolumeId,
) -> Result<Option<(Head, Version)>, SaveError> {
    let key = inner.remote.head_key(volume);
    let object = inner
        .remote
        .get(&key)
        .map_err(|error| SaveError::later("failed to read a head", &error))?;
    match HeadObject::decode_of(volume, &object.bytes) {
        Ok(HeadObject::Head(head)) => Ok(Some((*head, object.version))),
        Ok(HeadObject::Tombstone(_)) => Ok(None),
        // one that is whole and not for this version has another owner
        Err(error) if error.kind() != ErrorKind::Corrupt => {
            Err(SaveError::Fenced { what: chain(&error) })
        }
        Err(error) => Err(SaveError::later(DAMAGED, &error)),
    }
}

/// Puts a head and stays with it until the store has answered for certain or the tries are used up.
///
/// # Errors
///
/// One that cannot be written is refused: no PUT of it was begun, and none ever can be. So is a first head where a
/// tombstone is: its volume is deleted, or never came to be, and nobody else holds it.
pub(crate) fn put_head(
    inner: &Inner,
    volume: &VolumeId,
    known: Option<&Known>,
    next: Head,
    older: OlderEntries,
    operation: Option<&OperationId>,
) -> Result<Known, SaveError> {
    let bytes = next
        .encode()
        .map_err(|error| SaveError::Refused { kind: error.kind(), what: chain(&error) })?;
    match put_object(inner, volume, known, &next, &Bytes::from(bytes), operation)? {
        Placed::Put(version) => Ok(Known { head: next, older, version }),
        Placed::Found(HeadObject::Head(head), _)
            if known.is_none() && head.state == HeadState::Deleted =>
        {
            Err(deleted(volume))
        }
        Placed::Found(HeadObject::Head(head), version) => {
            let older = read_older(inner, &head)?;
            Ok(Known { head: *head, older, version })
        }
        Placed::Found(HeadObject::Tombstone(_), _) if known.is_none() => Err(deleted(volume)),
        Placed::Found(HeadObject::Tombstone(_), _) => {
            Err(SaveError::Fenced { what: format!("volume {volume} is deleted") })
        }
    }
}

/// What is told of a first head for a volume that is deleted.
fn deleted(volume: &VolumeId) -> SaveError {
    let what = format!("volume {volume} is deleted, and does not come back");
    SaveError::Refused { kind: ErrorKind::Precondition, what }
}

/// Puts a tombstone in place of a head. Success is that the tombstone of `operation` is there; that of another one
/// fences.
pub(crate) fn put_tombstone_of(
    inner: &Inner,
    known: &Known,
    tombstone: &Tombstone,
    operation: &OperationId,
) -> Result<(), SaveError> {
    let volume = &known.head.volume;
    // as a change of the head of the same seq and chance, which is what decides
    let mine = Head { seq: tombstone.seq, nonce: tombstone.nonce, ..known.head.clone() };
    let bytes = Bytes::from(tombstone.encode());
    put_object(inner, volume, Some(known), &mine, &bytes, Some(operation)).map(drop)
}

/// How an object came to be under a head's key.
enum Placed {
    /// By this PUT.
    Put(Version),
    /// By an attempt before: this is what is there.
    Found(HeadObject, Version),
}

/// Puts the bytes of what follows `known`, or of a first head, and stays with it until the store has answered for
/// certain or the tries are used up. `mine` tells these bytes from others.
fn put_object(
    inner: &Inner,
    volume: &VolumeId,
    known: Option<&Known>,
    mine: &Head,
    bytes: &Bytes,
    operation: Option<&OperationId>,
) -> Result<Placed, SaveError> {
    let key = inner.remote.head_key(volume);
    let mut wait = Duration::from_millis(100);
    let mut tried = 0;
    let mut last = String::new();
    loop {
        tried += 1;
        let put = match known {
            Some(known) => inner.remote.put_if_match(&key, bytes.clone(), &known.version),
            None => inner.remote.put_if_absent(&key, bytes.clone()),
        };
        let outcome = match put {
            Ok(Put::Done(version)) => {
                inner.heard();
                return Ok(Placed::Put(version));
            }
            Ok(Put::Refused) => Outcome::Refused,
            Err(error) => {
                last = chain(&error);
                Outcome::Unknown
            }
        };
        let (mut version, mut damage) = (None, None);
        let read = match inner.remote.get(&key) {
            Ok(object) => {
                version = Some(object.version.clone());
                match HeadObject::decode_of(volume, &object.bytes) {
                    Ok(found) => ReadHead::Found(found),
                    Err(error) => {
                        damage = (error.kind() == ErrorKind::Corrupt)
                            .then(|| SaveError::later(DAMAGED, &error));
                        last = chain(&error);
                        ReadHead::Unknown
                    }
                }
            }
            Err(ReadError::NotFound { .. }) => ReadHead::Absent,
            Err(error) => {
                last = chain(&error);
                ReadHead::Unknown
            }
        };
        let time_left =
            tried < PUT_ATTEMPTS && !inner.stopping.load(std::sync::atomic::Ordering::SeqCst);
        match after_put(outcome, mine, Some(&read), operation, time_left) {
            Next::Success => {
                let (ReadHead::Found(found), Some(version)) = (read, version) else {
                    return Err(SaveError::Later {
                        kind: ErrorKind::Unavailable,
                        what: "the head was saved and cannot be read".into(),
                    });
                };
                return Ok(Placed::Found(found, version));
            }
            Next::BeginAgain | Next::SealedForMe { .. } => {
                return Err(SaveError::Later {
                    kind: ErrorKind::Conflict,
                    what: format!("the head of volume {volume} has changed"),
                });
            }
            Next::Fenced { .. } => {
                return Err(SaveError::Fenced {
                    what: format!("volume {volume} is held by another node"),
                });
            }
            Next::Missing => {
                return Err(SaveError::Later { kind: ErrorKind::Corrupt, what: MISSING.into() });
            }
            Next::Deleted { lived: false } if known.is_none() => {
                return Err(SaveError::Refused {
                    kind: ErrorKind::Precondition,
                    what: "this very call has failed before".into(),
                });
            }
            Next::Deleted { .. } if known.is_none() => return Err(deleted(volume)),
            Next::Deleted { .. } => {
                return Err(SaveError::Fenced { what: format!("volume {volume} is deleted") });
            }
            Next::RepeatSame | Next::ReadAgain => {
                inner.wait(tokio::time::sleep(wait));
                wait *= 2;
            }
            Next::AnswerUnknown => {
                return Err(damage.unwrap_or_else(|| SaveError::Later {
                    kind: ErrorKind::Unavailable,
                    what: format!("the store does not answer: {last}"),
                }));
            }
        }
    }
}

/// Puts a tombstone for a volume that was never there, unless one is there already.
///
/// # Errors
///
/// [`SaveError::Later`]: that the volume was not created is not certain, and no one is told so.
pub(crate) fn put_tombstone(inner: &Inner, tombstone: &Tombstone) -> Result<(), SaveError> {
    let key = inner.remote.head_key(&tombstone.volume);
    let put = inner.remote.put_if_absent(&key, Bytes::from(tombstone.encode()));
    match put.map_err(|error| SaveError::later("failed to write down a failure", &error))? {
        Put::Done(_) => return Ok(()),
        Put::Refused => {}
    }
    let object = inner.remote.get(&key);
    let object = object.map_err(|error| SaveError::later("failed to read a head", &error))?;
    match HeadObject::decode_of(&tombstone.volume, &object.bytes) {
        Ok(HeadObject::Tombstone(_)) => Ok(()),
        // what is left of a volume that lived keeps any other from being created as well
        Ok(HeadObject::Head(head)) if head.state == HeadState::Deleted => Ok(()),
        Ok(HeadObject::Head(_)) => Err(SaveError::Later {
            kind: ErrorKind::Conflict,
            what: "the volume was created although its files are not here".into(),
        }),
        Err(error) => Err(SaveError::later(DAMAGED, &error)),
    }
}
