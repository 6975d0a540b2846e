//! What is decided, a sentence each.

mod change;
mod create;
mod snapshot;

use std::collections::BTreeMap;

use cove_types::{Classify, OperationId, chain};

use super::*;

/// Two nodes that answer: `a` has more room than `b`.
fn nodes() -> View {
    let node = |id: &str, free_bytes| NodeView {
        node: id.parse().unwrap(),
        answers: true,
        free_bytes: Some(free_bytes),
    };
    View { nodes: vec![node("b", 10 << 30), node("a", 20 << 30)], ..View::default() }
}

fn id(text: &str) -> VolumeId {
    text.parse().unwrap()
}

/// A caller's operation; `n` tells one from another.
fn operation(n: u8) -> OperationId {
    OperationId::new(0, [n; 12])
}

/// A live volume on node `a` that stands alone and is called as its id is.
fn alone(text: &str) -> VolumeView {
    VolumeView {
        node: "a".parse().unwrap(),
        name: text.to_owned(),
        state: VolumeState::Live,
        slug: text.parse().unwrap(),
        spec: VolumeSpec { stands_alone: true, ..VolumeSpec::default() },
        held_bytes: 2 << 20,
        unread_entries: 0,
        path: Some(format!("/pool/{text}").into()),
    }
}

/// The workspace of a project of that name.
fn workspace(text: &str) -> VolumeView {
    VolumeView { spec: VolumeSpec::default(), ..alone(text) }
}

fn with(volumes: impl IntoIterator<Item = (&'static str, VolumeView)>) -> View {
    let volumes = volumes.into_iter().map(|(text, volume)| (id(text), volume)).collect();
    View { volumes, ..nodes() }
}

/// A snapshot that was asked for by name.
fn named(name: &str) -> SnapshotView {
    SnapshotView {
        kind: EntryKind::Csi,
        name: Some(name.to_owned()),
        group: None,
        needs_bytes: Some(3 << 20),
    }
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The text of a refusal, with its kind.
fn refusal(error: &HubError) -> String {
    format!("{:?}: {}", error.kind(), chain(&error))
}

const DAMAGED: &str = "3 of the older entries cannot be read: the list of them is lost or damaged";

/// The same where a volume has entries that nobody can read.
fn damaged(mut view: View, volume: &str) -> View {
    view.volumes.get_mut(&id(volume)).unwrap().unread_entries = 3;
    view
}

const SILENT: &str = "node b does not answer";

/// The same where node `b` does not answer.
fn silent(mut view: View) -> View {
    view.nodes[0].answers = false;
    view
}
