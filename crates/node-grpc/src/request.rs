//! Requests: of the domain into those of the wire, and back.

use std::ops::Range;

use bytes::Bytes;
use cove_content::head::DESCRIBED_BYTES_MAX;
use cove_content::volumes::{
    Call, EntryEdit, FileEdit, Moment, NewEntry, NewVolume, Progress, Restore, VerifyLevel,
    VolumeFilter,
};
use cove_types::{EntryId, OperationId, TreePath, VolumeId};

use crate::field::{
    FieldError, document, message, moment, optional, required, spec, tree_path, wire_moment,
    wire_spec, wire_tree_path,
};
use crate::pb;
use crate::pb::edit_entry_request::Edit as WireEntryEdit;
use crate::pb::new_edit::Edit as WireFileEdit;
use crate::pb::verify_request::Level;
use crate::word::{entry_kind, wire_entry_kind};

/// A call, whose progress stays here.
pub(crate) fn wire_call(call: &Call) -> pb::Call {
    pb::Call {
        op_id: call.operation.to_string(),
        principal: call.principal.clone(),
        request: Bytes::copy_from_slice(&call.request),
    }
}

impl TryFrom<pb::Call> for Call {
    type Error = FieldError;

    fn try_from(call: pb::Call) -> Result<Self, FieldError> {
        let operation: OperationId = required("op_id", &call.op_id)?;
        let request = call.request[..].try_into();
        let unlawful = |_| {
            let law = format!("it has 8 bytes, found {}", call.request.len());
            FieldError::unlawful("request", law)
        };
        Ok(Self {
            operation,
            principal: call.principal,
            request: request.map_err(unlawful)?,
            progress: Progress::default(),
        })
    }
}

/// A call on a volume.
pub(crate) fn call_on(
    call: Option<pb::Call>,
    volume: &str,
) -> Result<(Call, VolumeId), FieldError> {
    Ok((message("call", call)?, required("volume", volume)?))
}

impl From<NewVolume> for pb::NewVolume {
    fn from(new: NewVolume) -> Self {
        Self {
            volume: new.volume.to_string(),
            document_json: new.document.encode().into(),
            spec_json: wire_spec(&new.spec),
        }
    }
}

/// The longest JSON that is read of what a volume is or is to be, in bytes. Its law is on the canonical form, of
/// [`DESCRIBED_BYTES_MAX`], and is looked at once it is parsed, which takes many times the room: of 100 targets with as
/// much as a message holds, gigabytes. White space, escapes and fields of a newer version may make it longer than that
/// form, and not so much longer.
const JSON_BYTES_MAX: usize = 16 * DESCRIBED_BYTES_MAX;

/// Refuses JSON that is too long to be read.
pub(crate) fn check_length(field: &str, json: &Bytes) -> Result<(), FieldError> {
    match json.len() {
        ..=JSON_BYTES_MAX => Ok(()),
        found => {
            let law = format!("at most {JSON_BYTES_MAX} bytes, found {found}");
            Err(FieldError::unlawful(field, law))
        }
    }
}

impl TryFrom<pb::NewVolume> for NewVolume {
    type Error = FieldError;

    fn try_from(new: pb::NewVolume) -> Result<Self, FieldError> {
        check_length("document_json", &new.document_json)?;
        check_length("spec_json", &new.spec_json)?;
        Ok(Self {
            volume: required("volume", &new.volume)?,
            document: document(&new.document_json)?,
            spec: spec(&new.spec_json)?,
        })
    }
}

/// Which volumes are looked for.
pub(crate) fn wire_volume_filter(wanted: &VolumeFilter) -> pb::FindRequest {
    pb::FindRequest {
        ids: wanted.ids.iter().map(ToString::to_string).collect(),
        names: wanted.names.iter().cloned().collect(),
    }
}

pub(crate) fn volume_filter(request: pb::FindRequest) -> Result<VolumeFilter, FieldError> {
    let ids = request.ids.iter().map(|id| required("ids", id)).collect::<Result<_, _>>()?;
    let names =
        request.names.iter().map(|name| required("names", name)).collect::<Result<_, _>>()?;
    Ok(VolumeFilter { ids, names })
}

/// What volumes begin as, and for whom.
pub(crate) struct NewFork {
    pub(crate) call: Call,
    pub(crate) source: VolumeId,
    pub(crate) moment: Moment,
}

impl TryFrom<pb::NewFork> for NewFork {
    type Error = FieldError;

    fn try_from(fork: pb::NewFork) -> Result<Self, FieldError> {
        Ok(Self {
            call: message("call", fork.call)?,
            source: required("source", &fork.source)?,
            moment: moment("entry", &fork.entry)?,
        })
    }
}

impl From<NewEntry> for pb::NewEntry {
    fn from(entry: NewEntry) -> Self {
        Self {
            kind: wire_entry_kind(entry.kind),
            author: entry.author,
            message: entry.message,
            label: entry.label.map(|label| label.to_string()).unwrap_or_default(),
            cause: entry.cause,
            keep: entry.keep,
        }
    }
}

impl TryFrom<pb::NewEntry> for NewEntry {
    type Error = FieldError;

    fn try_from(entry: pb::NewEntry) -> Result<Self, FieldError> {
        Ok(Self {
            kind: entry_kind(entry.kind)?,
            author: entry.author,
            message: entry.message,
            label: optional("label", &entry.label)?,
            cause: entry.cause,
            keep: entry.keep,
        })
    }
}

pub(crate) fn wire_restore(call: &Call, volume: &VolumeId, restore: Restore) -> pb::RestoreRequest {
    pb::RestoreRequest {
        call: Some(wire_call(call)),
        volume: volume.to_string(),
        entry: restore.entry.to_string(),
        paths: restore.paths.iter().map(wire_tree_path).collect(),
        force: restore.force,
        author: restore.author,
        keep: restore.keep,
    }
}

/// What a restore does, of a request whose call was read.
pub(crate) fn restore(request: pb::RestoreRequest) -> Result<Restore, FieldError> {
    let paths = request.paths.iter().map(|path| tree_path("paths", path));
    Ok(Restore {
        entry: required("entry", &request.entry)?,
        paths: paths.collect::<Result<_, _>>()?,
        force: request.force,
        author: request.author,
        keep: request.keep,
    })
}

impl From<EntryEdit> for WireEntryEdit {
    fn from(edit: EntryEdit) -> Self {
        match edit {
            EntryEdit::Pin(pin) => Self::Pin(pin),
            EntryEdit::Label(label) => {
                Self::Label(label.map(|label| label.to_string()).unwrap_or_default())
            }
            EntryEdit::Trash => Self::Trash(true),
            EntryEdit::Undelete { keep } => Self::UndeleteKeep(keep),
        }
    }
}

/// A change of an entry.
pub(crate) fn entry_edit(edit: Option<WireEntryEdit>) -> Result<EntryEdit, FieldError> {
    Ok(match edit.ok_or_else(|| FieldError::missing("edit"))? {
        WireEntryEdit::Pin(pin) => EntryEdit::Pin(pin),
        WireEntryEdit::Label(label) => EntryEdit::Label(optional("label", &label)?),
        WireEntryEdit::Trash(true) => EntryEdit::Trash,
        WireEntryEdit::Trash(false) => return Err(never("trash")),
        WireEntryEdit::UndeleteKeep(keep) => EntryEdit::Undelete { keep },
    })
}

/// A field that is true or not there.
pub(crate) fn never(field: &str) -> FieldError {
    FieldError::unlawful(field, "it is always true")
}

impl From<VerifyLevel> for pb::VerifyRequest {
    fn from(level: VerifyLevel) -> Self {
        let (level, part, of) = match level {
            VerifyLevel::Agree => (Level::Agree, 0, 0),
            VerifyLevel::Located => (Level::Located, 0, 0),
            VerifyLevel::Read { part, of } => (Level::Read, part, of),
        };
        Self { volume: String::new(), level: level.into(), part, of }
    }
}

/// How deep to look.
pub(crate) fn verify_level(request: &pb::VerifyRequest) -> Result<VerifyLevel, FieldError> {
    let unlawful = |unknown| FieldError::unlawful("level", unknown);
    let (part, of) = (request.part, request.of);
    match Level::try_from(request.level).map_err(unlawful)? {
        Level::Unspecified => Err(FieldError::missing("level")),
        Level::Agree => Ok(VerifyLevel::Agree),
        Level::Located => Ok(VerifyLevel::Located),
        Level::Read if (1..=of).contains(&part) => Ok(VerifyLevel::Read { part, of }),
        Level::Read => {
            let law = format!("it is one of 1 to {of}, found {part}");
            Err(FieldError::unlawful("part", law))
        }
    }
}

pub(crate) fn wire_place(volume: &VolumeId, moment: &Moment) -> pb::Place {
    pb::Place { volume: volume.to_string(), entry: wire_moment(moment) }
}

/// A state of a volume.
pub(crate) fn place(
    field: &str,
    place: Option<pb::Place>,
) -> Result<(VolumeId, Moment), FieldError> {
    let place = place.ok_or_else(|| FieldError::missing(field))?;
    let read = || Ok((required("volume", &place.volume)?, moment("entry", &place.entry)?));
    read().map_err(|error: FieldError| error.within(field))
}

/// A path of a state.
pub(crate) fn path_at(
    wanted: Option<pb::Place>,
    path: &Bytes,
) -> Result<(VolumeId, Moment, TreePath), FieldError> {
    let (volume, moment) = place("place", wanted)?;
    Ok((volume, moment, tree_path("path", path)?))
}

/// Which bytes of a file.
pub(crate) fn range(range: pb::Range) -> Result<Range<u64>, FieldError> {
    let pb::Range { start, end } = range;
    if end < start {
        let law = format!("it begins at {start} and ends before, at {end}");
        return Err(FieldError::unlawful("range", law));
    }
    Ok(start..end)
}

/// Refuses more of something than a call can have.
pub(crate) fn at_most(field: &str, most: usize, found: usize) -> Result<(), FieldError> {
    match found {
        found if found <= most => Ok(()),
        found => Err(FieldError::unlawful(field, format!("at most {most}, found {found}"))),
    }
}

/// An entry of a volume.
pub(crate) fn entry_of(entry: &str) -> Result<EntryId, FieldError> {
    required("entry", entry)
}

/// A change of files without the bytes that come with it.
pub(crate) enum NewEdit {
    /// Nothing comes with it.
    Whole(FileEdit),
    /// The content of a file comes with it.
    Put(TreePath),
    /// An archive comes with it.
    Extract(TreePath),
}

/// A change of files and the volume that it is of.
pub(crate) fn new_edit(request: pb::NewEdit) -> Result<(VolumeId, NewEdit), FieldError> {
    let volume = required("volume", &request.volume)?;
    let edit = match request.edit.ok_or_else(|| FieldError::missing("edit"))? {
        WireFileEdit::Put(path) => NewEdit::Put(tree_path("put", &path)?),
        WireFileEdit::Extract(path) => NewEdit::Extract(tree_path("extract", &path)?),
        WireFileEdit::MakeDirectory(path) => {
            NewEdit::Whole(FileEdit::MakeDirectory(tree_path("make_directory", &path)?))
        }
        WireFileEdit::Remove(pb::Removal { path, recursive }) => {
            let path = tree_path("remove.path", &path)?;
            NewEdit::Whole(FileEdit::Remove { path, recursive })
        }
        WireFileEdit::Move(pb::Renaming { from, to }) => {
            let (from, to) = (tree_path("move.from", &from)?, tree_path("move.to", &to)?);
            NewEdit::Whole(FileEdit::Move { from, to })
        }
    };
    Ok((volume, edit))
}

/// What is sent of a change of files: the change, and what is read for it.
pub(crate) fn wire_edit(
    volume: &VolumeId,
    edit: FileEdit,
) -> (pb::NewEdit, Option<Box<dyn std::io::Read + Send>>) {
    let (edit, content) = match edit {
        FileEdit::Put(path, content) => (WireFileEdit::Put(wire_tree_path(&path)), Some(content)),
        FileEdit::Extract(path, content) => {
            (WireFileEdit::Extract(wire_tree_path(&path)), Some(content))
        }
        FileEdit::MakeDirectory(path) => (WireFileEdit::MakeDirectory(wire_tree_path(&path)), None),
        FileEdit::Remove { path, recursive } => {
            let path = wire_tree_path(&path);
            (WireFileEdit::Remove(pb::Removal { path, recursive }), None)
        }
        FileEdit::Move { from, to } => {
            let (from, to) = (wire_tree_path(&from), wire_tree_path(&to));
            (WireFileEdit::Move(pb::Renaming { from, to }), None)
        }
    };
    (pb::NewEdit { volume: volume.to_string(), edit: Some(edit) }, content)
}
