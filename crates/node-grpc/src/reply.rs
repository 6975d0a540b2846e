//! Replies: of the domain into those of the wire, and back.

use bytes::Bytes;
use cove_content::volumes::{Capacity, EntryView, FileView, Rebuilt, VolumeStatus};
use cove_types::{FileTime, VolumeId, wire};

use crate::field::{
    FieldError, document, json, message, optional_directory, optional_instant, optional_json,
    required, spec, tree_path, wire_directory, wire_instant, wire_json, wire_list, wire_spec,
    wire_tree_path,
};
use crate::pb;
use crate::word::{durability, file_kind, wire_durability, wire_file_kind};

impl TryFrom<VolumeStatus> for pb::VolumeStatus {
    type Error = FieldError;

    fn try_from(status: VolumeStatus) -> Result<Self, FieldError> {
        let wire::Bytes { logical, unique, shared } = status.bytes;
        Ok(Self {
            volume: status.volume.to_string(),
            document_json: status.document.encode().into(),
            spec_json: wire_spec(&status.spec),
            epoch: status.epoch,
            seq: status.seq,
            path: status.path.map(wire_directory).unwrap_or_default(),
            is_deleted: status.is_deleted,
            trashed_at: status.trashed_at.map(wire_instant),
            saved_at: status.saved_at.map(wire_instant),
            durability: wire_durability(status.durability),
            unsaved_bytes: status.unsaved_bytes,
            logical_bytes: logical,
            unique_bytes: unique,
            shared_bytes: shared,
            entries: status.entries,
            unread_entries: status.unread_entries,
            not_captured_json: wire_list("not_captured_json", &status.not_captured)?,
            not_captured_count: status.not_captured_count,
            problems_json: wire_list("problems_json", &status.problems)?,
            store: status.store,
        })
    }
}

impl TryFrom<pb::VolumeStatus> for VolumeStatus {
    type Error = FieldError;

    fn try_from(status: pb::VolumeStatus) -> Result<Self, FieldError> {
        let not_captured = optional_json("not_captured_json", &status.not_captured_json)?;
        let problems = optional_json("problems_json", &status.problems_json)?;
        Ok(Self {
            volume: required("volume", &status.volume)?,
            document: document(&status.document_json)?,
            spec: spec(&status.spec_json)?,
            epoch: status.epoch,
            seq: status.seq,
            path: optional_directory("path", &status.path)?,
            is_deleted: status.is_deleted,
            trashed_at: optional_instant("trashed_at", status.trashed_at)?,
            saved_at: optional_instant("saved_at", status.saved_at)?,
            durability: durability(status.durability)?,
            unsaved_bytes: status.unsaved_bytes,
            bytes: wire::Bytes {
                logical: status.logical_bytes,
                unique: status.unique_bytes,
                shared: status.shared_bytes,
            },
            entries: status.entries,
            unread_entries: status.unread_entries,
            not_captured: not_captured.unwrap_or_default(),
            not_captured_count: status.not_captured_count,
            problems: problems.unwrap_or_default(),
            store: status.store,
        })
    }
}

impl TryFrom<EntryView> for pb::Entry {
    type Error = FieldError;

    fn try_from(view: EntryView) -> Result<Self, FieldError> {
        Ok(Self {
            record_json: wire_json("record_json", &view.record)?,
            is_known: view.known,
            durability: wire_durability(view.durability),
        })
    }
}

impl TryFrom<pb::Entry> for EntryView {
    type Error = FieldError;

    fn try_from(entry: pb::Entry) -> Result<Self, FieldError> {
        Ok(Self {
            record: json("record_json", &entry.record_json)?,
            known: entry.is_known,
            durability: durability(entry.durability)?,
        })
    }
}

impl TryFrom<(VolumeId, EntryView)> for pb::FoundEntry {
    type Error = FieldError;

    fn try_from((volume, entry): (VolumeId, EntryView)) -> Result<Self, FieldError> {
        Ok(Self { volume: volume.to_string(), entry: Some(entry.try_into()?) })
    }
}

impl TryFrom<pb::FoundEntry> for (VolumeId, EntryView) {
    type Error = FieldError;

    fn try_from(found: pb::FoundEntry) -> Result<Self, FieldError> {
        Ok((required("volume", &found.volume)?, message("entry", found.entry)?))
    }
}

impl TryFrom<FileView> for pb::File {
    type Error = FieldError;

    fn try_from(view: FileView) -> Result<Self, FieldError> {
        Ok(Self {
            path: wire_tree_path(&view.path),
            kind: wire_file_kind(view.kind)?,
            bytes: view.bytes,
            mode: view.mode,
            modified_seconds: view.modified.seconds,
            modified_nanoseconds: view.modified.nanoseconds,
            target: view.target.map(Bytes::from),
        })
    }
}

impl TryFrom<pb::File> for FileView {
    type Error = FieldError;

    fn try_from(file: pb::File) -> Result<Self, FieldError> {
        let nanoseconds = file.modified_nanoseconds;
        if nanoseconds > 999_999_999 {
            let law = format!("a second has 1,000,000,000, found {nanoseconds}");
            return Err(FieldError::unlawful("modified_nanoseconds", law));
        }
        Ok(Self {
            path: tree_path("path", &file.path)?,
            kind: file_kind(file.kind)?,
            bytes: file.bytes,
            mode: file.mode,
            modified: FileTime { seconds: file.modified_seconds, nanoseconds },
            target: file.target.map(Into::into),
        })
    }
}

impl From<Rebuilt> for pb::Rebuilt {
    fn from(rebuilt: Rebuilt) -> Self {
        Self {
            lost: rebuilt.lost.to_string(),
            volume: rebuilt.volume.to_string(),
            recorded_at: Some(wire_instant(rebuilt.recorded_at)),
        }
    }
}

impl TryFrom<pb::Rebuilt> for Rebuilt {
    type Error = FieldError;

    fn try_from(rebuilt: pb::Rebuilt) -> Result<Self, FieldError> {
        let recorded_at = optional_instant("recorded_at", rebuilt.recorded_at)?;
        Ok(Self {
            lost: required("lost", &rebuilt.lost)?,
            volume: required("volume", &rebuilt.volume)?,
            recorded_at: recorded_at.ok_or_else(|| FieldError::missing("recorded_at"))?,
        })
    }
}

impl From<Capacity> for pb::GetCapacityResponse {
    fn from(capacity: Capacity) -> Self {
        let Capacity { available_bytes, total_bytes } = capacity;
        Self { available_bytes, total_bytes }
    }
}

impl From<pb::GetCapacityResponse> for Capacity {
    fn from(capacity: pb::GetCapacityResponse) -> Self {
        let pb::GetCapacityResponse { available_bytes, total_bytes } = capacity;
        Self { available_bytes, total_bytes }
    }
}

impl From<wire::Progress> for pb::Progress {
    fn from(progress: wire::Progress) -> Self {
        let wire::Progress { step, done_bytes, total_bytes, done_files, total_files } = progress;
        Self { step, done_bytes, total_bytes, done_files, total_files }
    }
}

impl From<pb::Progress> for wire::Progress {
    fn from(progress: pb::Progress) -> Self {
        let pb::Progress { step, done_bytes, total_bytes, done_files, total_files } = progress;
        Self { step, done_bytes, total_bytes, done_files, total_files }
    }
}

#[cfg(test)]
mod tests;
