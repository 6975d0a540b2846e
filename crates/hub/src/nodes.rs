//! The nodes, and what they tell when they are asked.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use cove_content::volumes::{
    Capacity, EntryView, VolumeError, VolumeFilter, VolumeStatus, Volumes,
};
use cove_types::{ErrorKind, NodeId, SnapshotId, VolumeId, VolumeName};
use futures::future::join_all;
use futures::stream::{self, StreamExt};

use crate::plan::{NodeView, View, unavailable};
use crate::request::message_of;
use crate::{HubError, words};

/// How many volumes are asked for their entries at once; each may ask the store for its older ones.
const ASKED_AT_ONCE: usize = 16;

/// How long a node may take to say what it has, which it knows without its store: one that hangs with its disk is one
/// that does not answer, and whoever asks for what is elsewhere does not wait for it.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) volumes: Arc<dyn Volumes>,
}

impl Node {
    /// One volume, unless the node has it not.
    pub(crate) async fn find(
        &self,
        volume: &VolumeId,
    ) -> Result<Option<VolumeStatus>, VolumeError> {
        match in_time(self.volumes.status(volume)).await {
            Ok(status) => Ok(Some(status)),
            Err(VolumeError::NotHere { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The room for new volumes.
    pub(crate) async fn capacity(&self) -> Result<Capacity, VolumeError> {
        in_time(self.volumes.capacity()).await
    }
}

/// What a node answers within [`ANSWER_WAIT`].
pub(crate) async fn in_time<T>(
    answer: impl Future<Output = Result<T, VolumeError>>,
) -> Result<T, VolumeError> {
    tokio::time::timeout(ANSWER_WAIT, answer).await.unwrap_or_else(|_| {
        let what = format!("it does not answer within {} s", ANSWER_WAIT.as_secs());
        Err(VolumeError::Refused { kind: ErrorKind::Unavailable, what })
    })
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
    pub(crate) fn insert(&mut self, volume: VolumeId, entry: EntryView) {
        let id = SnapshotId { volume, entry: entry.record.id };
        self.view.snapshots.insert(id.clone(), words::snapshot_view(&entry));
        self.entries.insert(id, entry);
    }

    fn put(&mut self, node: &NodeId, status: VolumeStatus) {
        let volume = status.volume.clone();
        self.view.volumes.insert(volume.clone(), words::volume_view(node, &status));
        self.statuses.insert(volume, (node.clone(), status));
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

    /// Takes a node away. One that is gone already is as good.
    pub(crate) fn remove(&self, id: &NodeId) {
        let mut nodes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|node| node.id != *id);
    }

    /// The volumes of a node that was there just now.
    ///
    /// # Errors
    ///
    /// It has gone since, with what it has, which is not absent for that: the kind is `Unavailable`.
    pub(crate) fn get(&self, node: &NodeId) -> Result<Arc<dyn Volumes>, HubError> {
        let found = self.all().into_iter().find(|other| other.id == *node);
        found
            .map(|node| node.volumes)
            .ok_or_else(|| unavailable(format!("reach node {node}"), "it has just gone"))
    }

    /// Looks at all volumes.
    ///
    /// # Errors
    ///
    /// No node answers; where some do, the view says which do not.
    pub(crate) async fn observe_all(&self) -> Result<Observed, HubError> {
        let nodes = self.all();
        let asked = nodes.iter().map(|node| in_time(node.volumes.list()));
        observed(nodes.iter().zip(join_all(asked).await), "list the volumes")
    }

    /// Looks at those volumes that a decision asks for.
    ///
    /// # Errors
    ///
    /// As of [`observe_all`](Self::observe_all).
    pub(crate) async fn observe_some(&self, wanted: &VolumeFilter) -> Result<Observed, HubError> {
        let nodes = self.all();
        let asked = nodes.iter().map(|node| in_time(node.volumes.find(wanted)));
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
            node.find(volume).await.map(|found| found.into_iter().collect::<Vec<_>>())
        });
        observed(nodes.iter().zip(join_all(asked).await), &format!("look at volume {volume}"))
    }

    /// Looks at the live entries of some volumes, as far as they are there. Those that nobody can read are left out:
    /// whether there are such, a status tells that is asked for afterwards.
    ///
    /// # Errors
    ///
    /// A node, or its store, does not give a volume's entries now.
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

    /// Looks for one snapshot. Where it is not found, its volume is looked at again: whether it has entries that
    /// nobody can read is known only once they were asked for.
    ///
    /// # Errors
    ///
    /// As of [`observe_entries`](Self::observe_entries).
    pub(crate) async fn observe_snapshot(
        &self,
        observed: &mut Observed,
        snapshot: &SnapshotId,
    ) -> Result<(), HubError> {
        let volume = &snapshot.volume;
        self.observe_entries(observed, [volume.clone()]).await?;
        let Some((node, _)) = observed.statuses.get(volume) else { return Ok(()) };
        if observed.entries.contains_key(snapshot) {
            return Ok(());
        }
        let node = Node { id: node.clone(), volumes: self.get(node)? };
        let again = node.find(volume).await;
        let what = || format!("look at volume {volume}");
        // one that went meanwhile took its snapshots with it
        if let Some(status) = again.map_err(|error| HubError::of(what(), volume, error))? {
            observed.put(&node.id, status);
        }
        Ok(())
    }

    /// The live snapshots of a name, of all volumes. Those that nobody can read are left out, as by
    /// [`observe_entries`](Self::observe_entries).
    ///
    /// # Errors
    ///
    /// As of [`observe_entries`](Self::observe_entries), of any node.
    pub(crate) async fn snapshots_called(
        &self,
        name: &VolumeName,
    ) -> Result<Vec<(VolumeId, EntryView)>, HubError> {
        let message = message_of(name);
        let nodes = self.all();
        let asked = nodes.iter().map(|node| node.volumes.find_entries(&message));
        let mut all = Vec::new();
        for (node, found) in nodes.iter().zip(join_all(asked).await) {
            let what = || format!("look for snapshots of that name on node {}", node.id);
            all.extend(found.map_err(|source| HubError::Volumes { what: what(), source })?);
        }
        Ok(all)
    }

    /// Looks at the room on nodes that answer. One that cannot say has none for new volumes.
    pub(crate) async fn observe_room(&self, observed: &mut Observed) {
        let nodes = self.all();
        let asked = nodes.iter().map(Node::capacity);
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

/// Why nothing can be said while there is no node.
pub(crate) const NONE_HAS_COME: &str = "no node has come yet";

fn observed<'a>(
    answers: impl Iterator<Item = (&'a Node, Result<Vec<VolumeStatus>, VolumeError>)>,
    what: &str,
) -> Result<Observed, HubError> {
    let mut observed = Observed::default();
    let mut silent = None;
    let mut answers = answers.peekable();
    if answers.peek().is_none() {
        return Err(unavailable(what, NONE_HAS_COME));
    }
    for (node, answer) in answers {
        let id = node.id.clone();
        let answers = answer.is_ok();
        observed.view.nodes.push(NodeView { node: id.clone(), answers, free_bytes: None });
        match answer {
            Ok(statuses) => {
                for status in statuses {
                    observed.put(&id, status);
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
