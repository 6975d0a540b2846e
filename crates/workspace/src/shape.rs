//! What people see of projects, entries and files.

use cove_content::document::{ForkedFrom, ProjectDocument};
use cove_content::volumes::{EntryView, FileView, VolumeStatus};
use cove_database::{ProjectRow, ProjectState};
use cove_types::{Durability, NodeId, escape_bytes, wire};
use jiff::Timestamp;

use crate::error::{FROM_STORE, in_project};
use crate::verification;

/// What is the same for all projects here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The node.
    pub(crate) node: NodeId,
    /// `this_disk` or the URL of the object store.
    pub(crate) saved_to: String,
}

/// A project, from what the database and the node know of it, and the rescues in its timeline.
pub(crate) fn project(
    row: &ProjectRow,
    status: &VolumeStatus,
    rescues: &[EntryView],
    place: &Place,
) -> wire::Project {
    let document = &status.document;
    let saved_at = status.saved_at.as_ref().map(ToString::to_string);
    let trashed_at = status.trashed_at.or_else(|| row.trashed_us.and_then(moment));
    let last_verify = last_verify(row);
    let problems = problems(row, status, last_verify.as_ref(), rescues);
    let health = wire::Health {
        state: health_state(status, last_verify.as_ref(), &problems).to_owned(),
        node: place.node.to_string(),
        saved_at: saved_at.clone(),
        unsaved_bytes: status.unsaved_bytes,
        store: status.store.clone(),
        last_verify,
        not_captured: status.not_captured.clone(),
        not_captured_count: status.not_captured_count,
        problems,
    };
    wire::Project {
        name: row.name.clone(),
        slug: row.slug.to_string(),
        id: document.id.to_string(),
        volume: status.volume.to_string(),
        path: status.path.as_ref().map(|path| escape_path(path)),
        forked_from: document.forked_from.as_ref().map(forked_from),
        durability: status.durability,
        saved_at,
        saved_to: place.saved_to.clone(),
        unsaved_bytes: status.unsaved_bytes,
        bytes: status.bytes,
        quota_bytes: status.spec.quota_bytes,
        health,
        state: if row.state == ProjectState::Trashed { "trashed" } else { "live" }.to_owned(),
        created_at: document.created_at.to_string(),
        trashed_at: trashed_at
            .filter(|_| row.state == ProjectState::Trashed)
            .map(|at| at.to_string()),
        seq: status.seq,
        entries: status.entries,
    }
}

/// A project whose volume is not on this machine, from what the database knows of it.
pub(crate) fn absent(row: &ProjectRow, place: &Place, now: Timestamp) -> wire::Project {
    let document = ProjectDocument::decode(row.document.as_bytes()).ok();
    let last_verify = last_verify(row);
    let health = wire::Health {
        state: "at_risk".into(),
        node: place.node.to_string(),
        saved_at: None,
        unsaved_bytes: None,
        store: "unknown".into(),
        last_verify,
        not_captured: Vec::new(),
        not_captured_count: 0,
        problems: vec![wire::Problem {
            what: "it is not on this machine".into(),
            since: now.to_string(),
            who_acts: "operator".into(),
            hint: Some(FROM_STORE.into()),
        }],
    };
    let is_trashed = row.state == ProjectState::Trashed;
    wire::Project {
        name: row.name.clone(),
        slug: row.slug.to_string(),
        id: row.id.to_string(),
        volume: row.volume.to_string(),
        path: None,
        forked_from: document
            .as_ref()
            .and_then(|document| Some(forked_from(document.forked_from.as_ref()?))),
        durability: Durability::OnThisNode,
        saved_at: None,
        saved_to: place.saved_to.clone(),
        unsaved_bytes: None,
        bytes: wire::Bytes { logical: 0, unique: 0, shared: 0 },
        quota_bytes: None,
        health,
        state: if is_trashed { "trashed" } else { "live" }.to_owned(),
        created_at: moment(row.created_us).unwrap_or_default().to_string(),
        trashed_at: row.trashed_us.filter(|_| is_trashed).and_then(moment).map(|at| at.to_string()),
        seq: 0,
        entries: 0,
    }
}

fn last_verify(row: &ProjectRow) -> Option<wire::LastVerify> {
    let last = row.verified?;
    Some(wire::LastVerify { at: moment(last.at_us)?.to_string(), problems: last.problems })
}

fn forked_from(from: &ForkedFrom) -> wire::ForkedFrom {
    wire::ForkedFrom {
        project: from.project.to_string(),
        entry: from.entry.map(|entry| entry.to_string()),
        tree: from.tree.to_string(),
    }
}

/// What is wrong, the gravest first: what the last check found, what the node says, and what was
/// rescued and waits for its user.
fn problems(
    row: &ProjectRow,
    status: &VolumeStatus,
    last_verify: Option<&wire::LastVerify>,
    rescues: &[EntryView],
) -> Vec<wire::Problem> {
    let slug = &row.slug;
    let mut problems = Vec::new();
    if let Some((last, check)) = last_verify.zip(row.verified).filter(|(last, _)| last.problems > 0)
    {
        let count = match last.problems {
            1 => "1 problem".to_owned(),
            count => format!("{count} problems"),
        };
        problems.push(wire::Problem {
            what: format!("the last verify found {count}"),
            since: last.at.clone(),
            who_acts: "operator".into(),
            hint: Some(format!("`cove verify {slug} {}` names them", verification::flags(&check))),
        });
    }
    problems.extend(
        status.problems.iter().map(|problem| wire::Problem {
            what: in_project(&problem.what, slug),
            ..problem.clone()
        }),
    );
    problems.extend(rescues.iter().map(|rescue| {
        let id = &rescue.record.id;
        wire::Problem {
            what: format!(
                "entry {id} holds what a program wrote into files that a restore had replaced"
            ),
            since: rescue.record.time.to_string(),
            who_acts: "you".into(),
            hint: Some(format!(
                "`cove diff {slug}@{id}..{slug}` shows it, `cove restore {slug} {id} -- PATH` \
                 brings it back, `cove rm {slug}@{id}` dismisses it"
            )),
        }
    }));
    problems
}

/// `at_risk`: something of it could be lost, or was found damaged. `attention`: somebody
/// should act. What was not captured is neither.
fn health_state(
    status: &VolumeStatus,
    last_verify: Option<&wire::LastVerify>,
    problems: &[wire::Problem],
) -> &'static str {
    let unsaved = status.durability == Durability::OnThisNode;
    let stuck = matches!(status.store.as_str(), "unreachable" | "held_by_another");
    let damaged = last_verify.is_some_and(|last| last.problems > 0);
    match (damaged || unsaved && stuck, problems.is_empty() && !stuck) {
        (true, _) => "at_risk",
        (false, false) => "attention",
        (false, true) => "ok",
    }
}

/// A path of this machine; `cove path` prints it and a shell takes it, so only what is
/// not UTF-8 is changed.
fn escape_path(path: &std::path::Path) -> String {
    path.to_str().map_or_else(
        || escape_bytes(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())),
        str::to_owned,
    )
}

/// The moment of a column.
fn moment(us: i64) -> Option<Timestamp> {
    Timestamp::from_microsecond(us).ok()
}

/// An entry of a timeline.
pub(crate) fn entry(view: &EntryView) -> wire::Entry {
    let record = &view.record;
    let counts = view.known.then_some(record.root.counts);
    wire::Entry {
        id: record.id.to_string(),
        kind: record.kind,
        message: record.message.clone(),
        label: record.label.as_ref().map(ToString::to_string),
        author: record.author.clone(),
        time: record.time.to_string(),
        pinned: record.pinned,
        consistency: record.consistency,
        durability: view.durability,
        captured_ms: record.captured_ms,
        saved_ms: record.saved_ms,
        tree: view.known.then(|| record.root.tree.to_string()),
        tree_entries: counts.map(|counts| counts.entries),
        logical_bytes: counts.map(|counts| counts.logical_bytes),
        volume_snapshot: record.volume_snapshot.clone(),
        state: record.state,
    }
}

/// A file; the root's path is `.`.
pub(crate) fn file(view: &FileView) -> wire::File {
    let path = if view.path.is_top() { ".".to_owned() } else { view.path.to_string() };
    wire::File {
        path,
        kind: view.kind.to_owned(),
        bytes: if view.kind == "file" { view.bytes } else { 0 },
        mode: format!("{:04o}", view.mode & 0o7777),
        modified: view.modified.to_string(),
        target: view.target.as_deref().map(escape_bytes),
    }
}

#[cfg(test)]
mod tests;
