//! The Hub over volumes in memory.

mod changes;
mod creates;
mod forwards;
mod operations;
mod reads;
mod snapshots;
mod watches;

use std::collections::BTreeMap;
use std::time::Duration;

use cove_content::document::ProjectDocument;
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{NewVolume, Source};
use cove_env::{ManualClock, SeededChance};
use cove_types::{Classify, ErrorKind, ProjectId};
use serde_json::json;

use super::*;
use crate::fake::Fake;
use crate::request::call;
use crate::volume_hub::{QuotaRange, VolumeSource};

/// A Hub over one node, which is called `a`.
struct World {
    hub: Hub,
    fake: Fake,
    env: Env,
}

impl World {
    fn new() -> Self {
        let env = env();
        let fake = Fake::new(env.clone());
        Self { hub: hub(&[("a", &fake)], &env), fake, env }
    }

    /// The same volumes, and nothing of what the Hub had in memory.
    fn restarted(&self) -> Hub {
        hub(&[("a", &self.fake)], &self.env)
    }

    /// An operation of a caller that has seen no head.
    fn operation(&self) -> OperationId {
        self.env.operation_id(0)
    }

    fn wanted(&self, name: &str) -> CreateVolume {
        CreateVolume {
            name: name.parse().unwrap(),
            operation: self.operation(),
            source: None,
            quota: QuotaRange::default(),
            labels: BTreeMap::new(),
            parameters: BTreeMap::new(),
            wait_saved: false,
        }
    }

    async fn create(&self, name: &str) -> VolumeId {
        self.hub.create_volume(self.wanted(name)).await.unwrap().0.id
    }

    fn snapshots_of(&self, volumes: &[&VolumeId], name: &str) -> SnapshotVolumes {
        SnapshotVolumes {
            volumes: volumes.iter().map(|volume| (*volume).clone()).collect(),
            name: name.parse().unwrap(),
            is_group: volumes.len() > 1,
            operation: self.operation(),
            wait_saved: true,
        }
    }

    async fn snapshot(&self, volume: &VolumeId, name: &str) -> Snapshot {
        self.hub.snapshot(self.snapshots_of(&[volume], name)).await.unwrap().remove(0)
    }

    async fn delete(&self, volume: &VolumeId) {
        self.hub.delete_volume(volume.clone(), self.operation()).await.unwrap();
    }

    /// A project's workspace, as projects make them.
    async fn workspace(&self, slug: &str) -> VolumeId {
        workspace(&self.fake, &self.env, slug).await
    }
}

fn env() -> Env {
    let clock = ManualClock::new("2026-11-26T12:00:00Z".parse().unwrap());
    Env::new(Arc::new(clock), Arc::new(SeededChance::new(7)))
}

fn hub(nodes: &[(&str, &Fake)], env: &Env) -> Hub {
    let volumes = |fake: &Fake| Arc::new(fake.clone()) as Arc<dyn volumes::Volumes>;
    let nodes = nodes.iter().map(|(id, fake)| (id.parse().unwrap(), volumes(fake))).collect();
    Hub::new(nodes, env.clone())
}

async fn workspace(volumes: &dyn volumes::Volumes, env: &Env, slug: &str) -> VolumeId {
    let operation = env.operation_id(0);
    let volume = VolumeId::derive("ada", &operation, 0);
    let document = ProjectDocument {
        id: ProjectId::derive("ada", &operation, 0),
        name: slug.to_owned(),
        slug: slug.parse().unwrap(),
        config: json!({ "runtime": "none" }).as_object().unwrap().clone(),
        graph: json!({ "containers": [] }).as_object().unwrap().clone(),
        forked_from: None,
        created_at: env.now(),
        unknown: serde_json::Map::new(),
    };
    let new = NewVolume { volume: volume.clone(), document, spec: VolumeSpec::default() };
    volumes.create(call(operation, "create", &json!(slug)), new, Source::Empty).await.unwrap();
    volume
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// The kind of a refusal.
fn kind<T: std::fmt::Debug>(result: Result<T, HubError>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// What comes without anything else having to happen first.
async fn at_once<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), call).await.expect("it does not wait")
}

/// Lets other tasks come to where they wait.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
