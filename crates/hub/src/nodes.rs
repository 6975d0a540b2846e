//! The nodes, and what they tell when they are asked.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use cove_content::volumes::{EntryView, VolumeError, VolumeFilter, VolumeStatus, Volumes};
use cove_types::{NodeId, SnapshotId, VolumeId, VolumeName};
use futures::future::join_all;
use futures::stream::{self, StreamExt};

use crate::plan::{NodeView, View, unavailable};
use crate::request::message_of;
use crate::{HubError, words};

/// How many volumes are asked for their entries at once; each may ask the store for its older ones.
const ASKED_AT_ONCE: usize = 16;

/// A node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) volumes: Arc<dyn Volumes>,
}

/// The nodes that are known, the first that came first.
pub(crate) struct Nodes(RwLock<Vec<Node>>);

/// What was seen: the view to decide by, and what nodes said word for word.
#[derive(Default)]
pub(crate) struct Observed {
    pub(crate) view: View,
    pub(crate) statuses: BTreeMap<VolumeId, (NodeId, VolumeStatus)>,
    pub(crate) entries: BTreeMap<SnapshotId, EntryView>,
}

impl Observed {
    fn insert(&mut self, volume: VolumeId, entry: EntryView) {
        let id = SnapshotId { volume, entry: entry.record.id };
        self.view.snapshots.insert(id.clone(), words::snapshot_view(&entry));
        self.entries.insert(id, entry);
    }
}

impl Nodes {
    pub(crate) fn new(nodes: Vec<Node>) -> Self {
        Self(RwLock::new(nodes))
    }

    /// All of them, as they are now.
    pub(crate) fn all(&self) -> Vec<Node> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a node, in place of the one of its id.
    pub(crate) fn put(&self, node: Node) {
        let mut nodes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match nodes.iter_mut().find(|other| other.id == node.id) {
            Some(other) => *other = node,
            None => nodes.push(node),
        }
    }

    /// A node's volumes.
    pub(crate) fn get(&self, node: &NodeId) -> Result<Arc<dyn Volumes>, HubError> {
        let found = self.all().into_iter().find(|other| other.id == *node);
        found.map(|node| node.volumes).ok_or_else(|| HubError::NoNode { node: node.clone() })
    }

    /// Looks at all volumes.
    ///
    /// # Errors
    ///
    /// No node answers; where some do, the view says which do not.
    pub(crate) async fn observe_all(&self) -> Result<Observed, HubError> {
        let nodes = self.all();
        let asked = nodes.iter().map(|node| node.volumes.list());
        observed(nodes.iter().zip(join_all(asked).await), "list the volumes")
    }

    /// Looks at those volumes that a decision asks for.
    ///
    /// # Errors
    ///
    /// As of [`observe_all`](Self::observe_all).
    pub(crate) async fn observe_some(&self, wanted: &VolumeFilter) -> Result<Observed, HubError> {
        let nodes = self.all();
        let asked = nodes.iter().map(|node| node.volumes.find(wanted));
        observed(nodes.iter().zip(join_all(asked).await), "look for the volumes")
    }

    /// Looks at one volume.
    ///
    /// # Errors
    ///
    /// As of [`observe_all`](Self::observe_all).
    pub(crate) async fn observe(&self, volume: &VolumeId) -> Result<Observed, HubError> {
        let nodes = self.all();
        let asked = nodes.iter().map(|node| async {
            match node.volumes.status(volume).await {
                Ok(status) => Ok(vec![status]),
                Err(VolumeError::NotHere { .. }) => Ok(Vec::new()),
                Err(error) => Err(error),
            }
        });
        observed(nodes.iter().zip(join_all(asked).await), &format!("look at volume {volume}"))
    }

    /// Looks at the live entries of some volumes, as far as they are there.
    ///
    /// # Errors
    ///
    /// A volume's entries could not be read: no snapshot is taken for absent then.
    pub(crate) async fn observe_entries(
        &self,
        observed: &mut Observed,
        of: impl IntoIterator<Item = VolumeId>,
    ) -> Result<(), HubError> {
        let there: Vec<(VolumeId, NodeId)> = of
            .into_iter()
            .filter_map(|id| observed.statuses.get(&id).map(|(node, _)| (id.clone(), node.clone())))
            .collect();
        let asked = there.into_iter().map(|(volume, node)| async move {
            match self.get(&node)?.entries(&volume).await {
                Ok(entries) => Ok((volume, entries)),
                // it went meanwhile
                Err(VolumeError::NotHere { .. }) => Ok((volume, Vec::new())),
                Err(error) => Err(HubError::of(
                    format!("list the snapshots of volume {volume}"),
                    &volume,
                    error,
                )),
            }
        });
        // boxed: the compiler does not see that the borrows of this stream can be sent
        let mut asked = stream::iter(asked).buffered(ASKED_AT_ONCE).boxed();
        while let Some(answer) = asked.next().await {
            let (volume, entries) = answer?;
            for entry in entries.into_iter().filter(|entry| entry.record.is_live()) {
                observed.insert(volume.clone(), entry);
            }
        }
        Ok(())
    }

    /// Looks at the live snapshots of a name, of all volumes on the nodes that answer.
    ///
    /// # Errors
    ///
    /// As of [`observe_entries`](Self::observe_entries).
    pub(crate) async fn observe_snapshots_called(
        &self,
        observed: &mut Observed,
        name: &VolumeName,
    ) -> Result<(), HubError> {
        let message = message_of(name);
        let nodes = self.all();
        let asked = nodes.iter().map(|node| node.volumes.find_entries(&message));
        for (node, found) in nodes.iter().zip(join_all(asked).await) {
            let what = || format!("look for snapshots of that name on node {}", node.id);
            let found = found.map_err(|source| HubError::Volumes { what: what(), source })?;
            for (volume, entry) in found {
                observed.insert(volume, entry);
            }
        }
        Ok(())
    }

    /// Looks at the room on nodes that answer. One that cannot say has none for new volumes.
    pub(crate) async fn observe_room(&self, observed: &mut Observed) {
        let nodes = self.all();
        let asked = nodes.iter().map(|node| node.volumes.capacity());
        for (node, capacity) in nodes.iter().zip(join_all(asked).await) {
            // one that came meanwhile was not looked at
            let views = observed.view.nodes.iter_mut();
            let Some(view) = views.into_iter().find(|view| view.node == node.id) else { continue };
            match capacity {
                Ok(capacity) => view.free_bytes = Some(capacity.available_bytes),
                Err(error) => {
                    tracing::warn!(node = %view.node, %error, "it does not say what room it has");
                }
            }
        }
    }
}

fn observed<'a>(
    answers: impl Iterator<Item = (&'a Node, Result<Vec<VolumeStatus>, VolumeError>)>,
    what: &str,
) -> Result<Observed, HubError> {
    let mut observed = Observed::default();
    let mut silent = None;
    let mut answers = answers.peekable();
    if answers.peek().is_none() {
        return Err(unavailable(what, "no node has come yet"));
    }
    for (node, answer) in answers {
        let id = node.id.clone();
        let answers = answer.is_ok();
        observed.view.nodes.push(NodeView { node: id.clone(), answers, free_bytes: None });
        match answer {
            Ok(statuses) => {
                for status in statuses {
                    let volume = status.volume.clone();
                    observed.view.volumes.insert(volume.clone(), words::volume_view(&id, &status));
                    observed.statuses.insert(volume, (id.clone(), status));
                }
            }
            Err(error) => silent = Some((id, error)),
        }
    }
    match silent {
        Some((node, source)) if observed.view.nodes.iter().all(|node| !node.answers) => {
            Err(HubError::Volumes { what: format!("{what} on node {node}"), source })
        }
        _ => Ok(observed),
    }
}
