//! A home on a disk, which may be copied, put back, or lose its database or its pool.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_btrfs::Pool;
use cove_content::document::{ForkedFrom, ProjectDocument};
use cove_content::head::Head;
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{
    Call, Captured, Moment, NewEntry, NewVolume, Progress, Restore, Restored, Snapshot, Source,
    VerifyLevel, VolumeError, VolumeStatus, Volumes,
};
use cove_database::NodeDatabase;
use cove_env::Env;
use cove_node::{Node, NodeOptions};
use cove_objects::{Key, MemoryStore, Store};
use cove_testkit::trees::{Description, describe};
use cove_types::{Digest, EntryId, EntryKind, ProjectId, TreePath, VolumeId};
use tempfile::TempDir;

use crate::world::{AnyPool, POOL_BYTES};

const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Runs a test of a home on both kinds of pool.
macro_rules! on_both_pools {
    ($($test:ident),+ $(,)?) => {
        mod fake {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    if crate::world::is_root(stringify!($test)) {
                        super::$test(false).await;
                    }
                }
            )+
        }

        mod live {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    if crate::world::is_root(stringify!($test)) {
                        super::$test(true).await;
                    }
                }
            )+
        }
    };
}
pub(crate) use on_both_pools;

/// A home on a disk, which may be copied while nothing runs there.
pub(crate) struct Home {
    is_real: bool,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) env: Env,
    /// How often its node looks for changes: never, for most.
    pub(crate) look_every: Duration,
    running: Option<(Node, AnyPool)>,
    /// The last that goes: what runs in it is let go of by its path.
    dir: TempDir,
}

/// A snapshot that somebody asks for without a word.
pub(crate) fn new_entry() -> NewEntry {
    NewEntry {
        kind: EntryKind::Manual,
        author: "tester".into(),
        message: None,
        label: None,
        cause: None,
        keep: 3,
    }
}

impl Home {
    pub(crate) fn new(store: &Arc<MemoryStore>, is_real: bool) -> Self {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::clone(store));
        Self { is_real, store, env: Env::system(), look_every: NEVER, running: None, dir }
    }

    /// A home and everything in it once more.
    pub(crate) fn copy(&self) -> Self {
        assert!(self.running.is_none(), "a home is copied while nothing runs there");
        let copy = Self::new(&self.store, self.is_real);
        copied(self.dir.path(), copy.dir.path());
        copy
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a node there, under the names that its database keeps.
    pub(crate) async fn up(&mut self) {
        std::fs::create_dir_all(self.path("cache")).unwrap();
        let pool = match self.is_real {
            true => AnyPool::on_loop(self.dir.path(), POOL_BYTES),
            false => AnyPool::fake(&self.path("pool")),
        };
        let database = NodeDatabase::open(&self.path("node.db")).await.unwrap();
        let name = match database.find_setting("name").await.unwrap() {
            Some(name) => name,
            None => {
                let name = self.env.operation_id(0).to_string().to_lowercase();
                database.put_setting("name", &name).await.unwrap();
                name
            }
        };
        let options = NodeOptions {
            node: format!("node-{name}").parse().unwrap(),
            holder: format!("cove-{name}").parse().unwrap(),
            team: "home".parse().unwrap(),
            look_every: self.look_every,
            store_every: NEVER,
            pin: *b"test-pin",
            cache: self.path("cache"),
        };
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let node =
            Node::start(pool.get(), store, database, self.env.clone(), options).await.unwrap();
        self.running = Some((node, pool));
    }

    pub(crate) async fn down(&mut self) {
        let (node, pool) = self.running.take().unwrap();
        node.stop().await;
        drop(node);
        drop(pool);
    }

    pub(crate) fn node(&self) -> &Node {
        &self.running.as_ref().unwrap().0
    }

    /// What the volume's quota group may be charged.
    pub(crate) fn limit(&self, volume: &VolumeId) -> Option<u64> {
        self.pool().usage(volume).unwrap().limit_bytes
    }

    pub(crate) fn call(&self, seq: u32) -> Call {
        Call {
            operation: self.env.operation_id(seq),
            principal: "tester".into(),
            request: *b"request.",
            progress: Progress::default(),
        }
    }

    pub(crate) async fn create(&self, slug: &str) -> VolumeId {
        let call = self.call(0);
        self.create_as(&call, slug).await.unwrap().saved.await.unwrap();
        volume_of(&call)
    }

    /// A volume of which something was asked.
    pub(crate) async fn create_with(&self, call: &Call, slug: &str, spec: VolumeSpec) -> VolumeId {
        let new = NewVolume { spec, ..new_volume(call, slug) };
        let made = self.node().create(call.clone(), new, Source::Empty).await.unwrap();
        made.saved.await.unwrap();
        volume_of(call)
    }

    /// A create of which nobody need wait until it is saved.
    pub(crate) async fn create_as(
        &self,
        call: &Call,
        slug: &str,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        self.node().create(call.clone(), new_volume(call, slug), Source::Empty).await
    }

    /// A fork of the present state under a name of its own.
    pub(crate) async fn fork(&self, volume: &VolumeId, slug: &str) -> VolumeId {
        let call = self.call(u32::MAX);
        self.fork_as(&call, volume, Moment::Now, slug).await.saved.await.unwrap();
        volume_of(&call)
    }

    /// A fork of an entry.
    pub(crate) async fn fork_entry(
        &self,
        volume: &VolumeId,
        entry: EntryId,
        slug: &str,
    ) -> VolumeId {
        let call = self.call(u32::MAX);
        self.fork_as(&call, volume, Moment::Entry(entry), slug).await.saved.await.unwrap();
        volume_of(&call)
    }

    /// A fork of the present state, of which nobody waits until it is saved.
    pub(crate) async fn start_fork(&self, call: &Call, volume: &VolumeId, slug: &str) -> VolumeId {
        drop(self.fork_as(call, volume, Moment::Now, slug).await.saved);
        volume_of(call)
    }

    async fn fork_as(
        &self,
        call: &Call,
        volume: &VolumeId,
        moment: Moment,
        slug: &str,
    ) -> Captured<Vec<VolumeStatus>> {
        let source = self.status(volume).await.document;
        let forked_from =
            Some(ForkedFrom { project: source.id.clone(), entry: None, tree: Digest::HOLE });
        let id = ProjectId::derive("tester", &call.operation, 0);
        let document = ProjectDocument {
            id,
            name: slug.into(),
            slug: slug.parse().unwrap(),
            forked_from,
            ..source
        };
        let spec = VolumeSpec::default();
        let targets = vec![NewVolume { volume: volume_of(call), document, spec }];
        self.node().fork(call.clone(), volume.clone(), moment, targets).await.unwrap()
    }

    pub(crate) async fn status(&self, volume: &VolumeId) -> VolumeStatus {
        self.node().status(volume).await.unwrap()
    }

    pub(crate) async fn files(&self, volume: &VolumeId) -> PathBuf {
        self.status(volume).await.path.unwrap()
    }

    pub(crate) async fn write(&self, volume: &VolumeId, name: &str, text: &str) {
        std::fs::write(self.files(volume).await.join(name), text).unwrap();
    }

    /// Saves the present state as the background does.
    pub(crate) async fn look(&self, volume: &VolumeId) {
        let now = (volume.clone(), Moment::Now);
        self.node().diff(now.clone(), now).await.unwrap();
    }

    pub(crate) async fn snapshot(&self, volume: &VolumeId) -> EntryId {
        let made = self.capture(&self.call(u32::MAX), volume).await;
        made.saved.await.unwrap().entry.record.id
    }

    /// A snapshot of which nobody need wait until it is saved.
    pub(crate) async fn capture(&self, call: &Call, volume: &VolumeId) -> Captured<Snapshot> {
        self.capture_or_not(call, volume).await.unwrap()
    }

    pub(crate) async fn capture_or_not(
        &self,
        call: &Call,
        volume: &VolumeId,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        self.node().snapshot(call.clone(), volume.clone(), new_entry()).await
    }

    pub(crate) async fn text(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        name: &str,
    ) -> Result<String, VolumeError> {
        let path = TreePath::from_bytes(name.as_bytes()).unwrap();
        let (_, mut reader) = self.node().read(volume, moment, &path, None).await?;
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
            text
        });
        Ok(read.await.unwrap())
    }

    /// What file `name` holds at each live entry that has it, and now.
    pub(crate) async fn texts(&self, volume: &VolumeId, name: &str) -> Vec<String> {
        let mut texts = Vec::new();
        for view in self.node().entries(volume).await.unwrap() {
            if view.record.is_live() {
                let moment = Moment::Entry(view.record.id);
                texts.extend(self.text(volume, &moment, name).await.ok());
            }
        }
        texts.extend(self.text(volume, &Moment::Now, name).await.ok());
        texts
    }

    pub(crate) async fn rescues(&self, volume: &VolumeId) -> usize {
        let entries = self.node().entries(volume).await.unwrap();
        let is_rescue = |record: &cove_content::entry::EntryRecord| {
            record.is_live() && record.kind == EntryKind::Rescue
        };
        entries.iter().filter(|view| is_rescue(&view.record)).count()
    }

    pub(crate) async fn assert_whole(&self, volume: &VolumeId) {
        let level = VerifyLevel::Read { part: 1, of: 1 };
        let verified = self.node().verify(volume, level).await.unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    }

    pub(crate) async fn problems(&self, volume: &VolumeId) -> Vec<String> {
        let status = self.status(volume).await;
        status.problems.into_iter().map(|problem| problem.what).collect()
    }

    pub(crate) fn head(&self, volume: &VolumeId) -> Head {
        Head::decode(&self.store.contents()[&head_key(volume)]).unwrap()
    }

    /// Recovers everything, also what has lost its head.
    pub(crate) async fn recover(&self) -> (Vec<VolumeId>, Vec<String>) {
        let back = self.node().recover(true, Progress::default()).await.unwrap();
        let found = back.rest.await.unwrap();
        let volumes = back.volumes.into_iter().chain(found.volumes);
        let lost = back.lost.into_iter().chain(found.lost);
        let lost = lost.map(|lost| format!("{}: {}", lost.what, lost.why));
        (volumes.map(|status| status.volume).collect(), lost.collect())
    }

    /// What the doctor finds wrong.
    pub(crate) async fn ills(&self) -> Vec<String> {
        let checks = self.node().doctor().await;
        checks.into_iter().filter(|check| !check.ok).map(|check| check.what).collect()
    }

    pub(crate) async fn rescued(&self, volume: &VolumeId, cause: &str) -> Vec<EntryId> {
        let entries = self.node().entries(volume).await.unwrap();
        let of_cause =
            entries.into_iter().filter(|view| view.record.cause.as_deref() == Some(cause));
        of_cause.map(|view| view.record.id).collect()
    }

    pub(crate) async fn restore(&self, volume: &VolumeId, entry: EntryId) {
        self.capture_restore(volume, entry).await.saved.await.unwrap();
    }

    /// A restore of which nobody need wait until it is saved.
    pub(crate) async fn capture_restore(
        &self,
        volume: &VolumeId,
        entry: EntryId,
    ) -> Captured<Restored> {
        let restore =
            Restore { entry, paths: Vec::new(), force: true, author: "tester".into(), keep: 3 };
        self.node().restore(self.call(u32::MAX), volume.clone(), restore).await.unwrap()
    }

    /// Its pool, for a look from outside.
    pub(crate) fn pool(&self) -> Arc<dyn Pool> {
        self.running.as_ref().unwrap().1.get()
    }

    /// Loses what the node remembers, while nothing runs.
    pub(crate) fn forget_node(&self) {
        assert!(self.running.is_none(), "a database is lost while nothing runs");
        for name in ["node.db", "node.db-wal", "node.db-shm"] {
            let _ = std::fs::remove_file(self.path(name));
        }
    }

    /// Loses the pool with all files, while nothing runs.
    pub(crate) fn lose_pool(&self) {
        assert!(self.running.is_none(), "a pool is lost while nothing runs");
        match self.is_real {
            true => std::fs::remove_file(self.path("pool.img")).unwrap(),
            false => std::fs::remove_dir_all(self.path("pool")).unwrap(),
        }
    }
}

fn new_volume(call: &Call, slug: &str) -> NewVolume {
    let document = ProjectDocument {
        id: ProjectId::derive("tester", &call.operation, 0),
        name: slug.into(),
        slug: slug.parse().unwrap(),
        config: serde_json::Map::new(),
        graph: serde_json::Map::new(),
        forked_from: None,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        unknown: serde_json::Map::new(),
    };
    NewVolume { volume: volume_of(call), document, spec: VolumeSpec::default() }
}

/// The volume that a call for a project makes.
pub(crate) fn volume_of(call: &Call) -> VolumeId {
    VolumeId::derive("tester", &call.operation, 0)
}

pub(crate) fn head_key(volume: &VolumeId) -> Key {
    Key::parse(&format!("teams/home/volumes/{volume}/head")).unwrap()
}

/// Copies a directory with everything that the file system keeps of it.
fn copied(from: &Path, to: &Path) {
    #[expect(clippy::disallowed_methods, reason = "what people copy homes with")]
    let status = std::process::Command::new("cp")
        .args(["-a", "--sparse=always"])
        .arg(from.join("."))
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

pub(crate) type Tree = BTreeMap<Vec<u8>, Description>;

pub(crate) fn tree(files: &Path) -> Tree {
    describe(files).unwrap()
}
