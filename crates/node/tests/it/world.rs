//! A node with a pool, a store and a database of its own, for one test.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cove_btrfs::{FakePool, LoopPool, Pool};
use cove_content::document::{ForkedFrom, ProjectDocument};
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{
    Call, Captured, Moment, NewEntry, NewVolume, Progress, Restore, Restored, Snapshot, Source,
    VolumeError, VolumeStatus, Volumes,
};
use cove_database::NodeDatabase;
use cove_env::Env;
use cove_node::{Node, NodeOptions};
use cove_objects::{MemoryStore, Store};
use cove_types::{Digest, EntryId, EntryKind, OperationId, ProjectId, TreePath, VolumeId};
use tempfile::TempDir;

use crate::door::Door;

/// Looks are asked for, so that a test decides when there is one.
const NEVER: Duration = Duration::from_secs(24 * 3600);
const SOON: Duration = Duration::from_millis(20);

/// How often a node looks and stores.
#[derive(Clone, Copy)]
struct Every {
    look: Duration,
    store: Duration,
}

/// How long the world may take to do what it must, on a machine that is busy with other things too. It tells what
/// never happens from what does, not what is prompt.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// How large a real pool is where nothing depends on it: several at once are to fit on a disk that is nearly full.
pub(crate) const POOL_BYTES: u64 = 512 << 20;

/// Says why a test that needs root does nothing without it.
pub(crate) fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: {test} needs root: the files of a volume belong to uid 1000");
    }
    is_root
}

/// Waits until a condition holds; what it last said is in the panic.
pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let mut last = String::new();
    let waiting = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(said) => last = said,
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(DEADLINE, waiting).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {DEADLINE:?}; last: {last}"),
    }
}

/// A pool on a directory or on a loop device.
pub(crate) enum AnyPool {
    Fake(Arc<FakePool>),
    Loop(Option<Arc<LoopPool>>, PathBuf),
}

impl AnyPool {
    pub(crate) fn fake(dir: &Path) -> Self {
        Self::Fake(Arc::new(FakePool::open(dir).unwrap()))
    }

    pub(crate) fn on_loop(dir: &Path, bytes: u64) -> Self {
        Self::Loop(Some(Arc::new(LoopPool::open(dir, bytes).unwrap())), dir.to_owned())
    }

    pub(crate) fn get(&self) -> Arc<dyn Pool> {
        match self {
            Self::Fake(pool) => Arc::clone(pool) as Arc<dyn Pool>,
            Self::Loop(pool, _) => Arc::clone(pool.as_ref().unwrap()) as Arc<dyn Pool>,
        }
    }
}

impl Drop for AnyPool {
    fn drop(&mut self) {
        let Self::Loop(pool, home) = self else { return };
        let Some(mut pool) = pool.take() else { return };
        // a test that fails does not stop its node, which then holds the pool
        let tries = if std::thread::panicking() { 0 } else { 500 };
        for _ in 0..tries {
            match Arc::try_unwrap(pool) {
                Ok(own) => return own.close().unwrap(),
                Err(shared) => pool = shared,
            }
            #[expect(clippy::disallowed_methods, reason = "a poll with an end")]
            std::thread::sleep(Duration::from_millis(10));
        }
        let lazily =
            "umount -l \"$1/pool\"; losetup -n -O NAME -j \"$1/pool.img\" | xargs losetup -d";
        #[expect(clippy::disallowed_methods, reason = "a failed test leaves no device behind")]
        let ended = std::process::Command::new("sh").args(["-c", lazily, "sh"]).arg(home).status();
        eprintln!("the pool was in use and is unmounted lazily: {ended:?}");
    }
}

/// One machine: its pool, its database and, while it runs, its node.
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) env: Env,
    pub(crate) node: Node,
    pub(crate) pool: AnyPool,
    /// The store as the node sees it.
    seen: Arc<dyn Store>,
    every: Every,
    calls: AtomicU64,
    dir: TempDir,
}

/// What a fresh store is.
pub(crate) fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Env::system()))
}

impl World {
    /// A machine with a fake pool.
    pub(crate) async fn fake(name: &str, store: &Arc<MemoryStore>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pool = AnyPool::fake(&dir.path().join("pool"));
        let seen = Arc::clone(store) as Arc<dyn Store>;
        Self::with(name, store, seen, Env::system(), dir, pool).await
    }

    /// A machine that reaches any store; what the test looks into is the store itself.
    pub(crate) async fn of(name: &str, seen: Arc<dyn Store>, is_real: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pool = match is_real {
            true => AnyPool::on_loop(dir.path(), POOL_BYTES),
            false => AnyPool::fake(&dir.path().join("pool")),
        };
        Self::with(name, &memory(), seen, Env::system(), dir, pool).await
    }

    /// A machine with a fake pool that reaches the store through a door.
    pub(crate) async fn behind(name: &str, store: &Arc<MemoryStore>, door: &Arc<Door>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pool = AnyPool::fake(&dir.path().join("pool"));
        let seen = Arc::clone(door) as Arc<dyn Store>;
        Self::with(name, store, seen, Env::system(), dir, pool).await
    }

    /// A machine with a fake pool and any store.
    pub(crate) async fn on_store(name: &str, seen: Arc<dyn Store>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pool = AnyPool::fake(&dir.path().join("pool"));
        Self::with(name, &memory(), seen, Env::system(), dir, pool).await
    }

    /// A machine with a fake pool and a clock that the test moves; it looks by itself.
    pub(crate) async fn with_clock(name: &str, store: &Arc<MemoryStore>, env: Env) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pool = AnyPool::fake(&dir.path().join("pool"));
        let seen = Arc::clone(store) as Arc<dyn Store>;
        let mut world = Self::with(name, store, seen, env, dir, pool).await;
        world.every = Every { look: SOON, store: SOON };
        world.restart().await;
        world
    }

    /// The same, which looks by itself and stores what changed a day after it last did.
    pub(crate) async fn that_looks(name: &str, store: &Arc<MemoryStore>, env: Env) -> Self {
        let mut world = Self::with_clock(name, store, env).await;
        world.every = Every { look: SOON, store: NEVER };
        world.restart().await;
        world
    }

    /// Starts the node again so that it looks all the time.
    pub(crate) async fn look_from_now_on(&mut self) {
        self.every = Every { look: SOON, store: NEVER };
        self.restart().await;
    }

    /// A machine with a real pool.
    pub(crate) async fn on_loop(name: &str, store: &Arc<MemoryStore>) -> Self {
        Self::on_loop_of(name, store, POOL_BYTES).await
    }

    /// A machine with a real pool of this size.
    pub(crate) async fn on_loop_of(name: &str, store: &Arc<MemoryStore>, bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pool = AnyPool::on_loop(dir.path(), bytes);
        let seen = Arc::clone(store) as Arc<dyn Store>;
        Self::with(name, store, seen, Env::system(), dir, pool).await
    }

    async fn with(
        name: &str,
        store: &Arc<MemoryStore>,
        seen: Arc<dyn Store>,
        env: Env,
        dir: TempDir,
        pool: AnyPool,
    ) -> Self {
        std::fs::create_dir_all(dir.path().join("cache")).unwrap();
        let every = Every { look: NEVER, store: NEVER };
        let node = start(name, &seen, &env, dir.path(), pool.get(), every).await;
        let (name, store) = (name.to_owned(), Arc::clone(store));
        Self { name, store, env, node, pool, seen, every, calls: AtomicU64::new(1), dir }
    }

    /// Stops the node, as a crash does for what it remembers, and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.node.stop().await;
        let (dir, pool) = (self.dir.path(), self.pool.get());
        self.node = start(&self.name, &self.seen, &self.env, dir, pool, self.every).await;
    }

    /// The node's database, for a look from outside.
    pub(crate) async fn database(&self) -> NodeDatabase {
        NodeDatabase::open(&self.dir.path().join("node.db")).await.unwrap()
    }

    /// Loses the packs and indexes that are kept until they are gathered.
    pub(crate) fn forget_what_will_be_gathered(&self) {
        for file in std::fs::read_dir(self.dir.path().join("cache/gathered")).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
    }

    /// Starts the node again with nothing of what it had kept of the store's packs and indexes.
    pub(crate) async fn restart_with_an_empty_cache(&mut self) {
        self.node.stop().await;
        let cache = self.dir.path().join("cache");
        std::fs::remove_dir_all(&cache).unwrap();
        std::fs::create_dir(&cache).unwrap();
        self.restart().await;
    }

    /// A call of its own.
    pub(crate) fn call(&self) -> Call {
        self.call_since(u32::MAX)
    }

    /// A call of somebody who had last seen `seq`.
    pub(crate) fn call_since(&self, seq: u32) -> Call {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        Call {
            operation: self.env.operation_id(seq),
            principal: "tester".into(),
            request: number.to_be_bytes(),
            progress: Progress::default(),
        }
    }

    pub(crate) async fn create(&self) -> VolumeId {
        let call = self.call_since(0);
        let volume = VolumeId::derive("tester", &call.operation, 0);
        let made = self.create_as(&call, &volume).await.unwrap();
        made.saved.await.unwrap();
        volume
    }

    pub(crate) async fn create_as(
        &self,
        call: &Call,
        volume: &VolumeId,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        self.create_from(call, volume, Source::Empty).await
    }

    pub(crate) async fn create_from(
        &self,
        call: &Call,
        volume: &VolumeId,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        let document = document(&call.operation, 0, None);
        let new = NewVolume { volume: volume.clone(), document, spec: VolumeSpec::default() };
        self.node.create(call.clone(), new, source).await
    }

    /// What a call is to make under a name.
    pub(crate) fn named(&self, call: &Call, name: &str) -> NewVolume {
        let volume = VolumeId::derive("tester", &call.operation, 0);
        let document = document(&call.operation, 0, None);
        let name = Some(name.parse().unwrap());
        NewVolume { volume, document, spec: VolumeSpec { name, ..VolumeSpec::default() } }
    }

    pub(crate) async fn snapshot_as(
        &self,
        call: &Call,
        volume: &VolumeId,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        let entry = NewEntry {
            kind: EntryKind::Manual,
            author: "tester".into(),
            message: None,
            label: None,
            cause: None,
            keep: 200,
        };
        self.node.snapshot(call.clone(), volume.clone(), entry).await
    }

    pub(crate) async fn snapshot(&self, volume: &VolumeId) -> EntryId {
        let captured = self.snapshot_as(&self.call(), volume).await.unwrap();
        captured.saved.await.unwrap().entry.record.id
    }

    pub(crate) async fn restore_as(
        &self,
        call: &Call,
        volume: &VolumeId,
        entry: &EntryId,
        paths: &[&str],
    ) -> Result<Captured<Restored>, VolumeError> {
        let restore = Restore {
            entry: *entry,
            paths: paths
                .iter()
                .map(|path| TreePath::from_bytes(path.as_bytes()).unwrap())
                .collect(),
            force: true,
            author: "tester".into(),
            keep: 200,
        };
        self.node.restore(call.clone(), volume.clone(), restore).await
    }

    pub(crate) async fn restore(&self, volume: &VolumeId, entry: &EntryId) -> Restored {
        let captured = self.restore_as(&self.call(), volume, entry, &[]).await.unwrap();
        captured.saved.await.unwrap()
    }

    pub(crate) async fn fork_as(
        &self,
        call: &Call,
        volume: &VolumeId,
        moment: Moment,
        count: u32,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        let source = self.node.status(volume).await?.document;
        let entry = match moment {
            Moment::Now => None,
            Moment::Entry(entry) => Some(entry),
        };
        let forked = ForkedFrom { project: source.id, entry, tree: Digest::HOLE };
        let targets = (0..count)
            .map(|ordinal| {
                let volume = VolumeId::derive("tester", &call.operation, ordinal);
                let document = document(&call.operation, ordinal, Some(forked.clone()));
                NewVolume { volume, document, spec: VolumeSpec::default() }
            })
            .collect();
        self.node.fork(call.clone(), volume.clone(), moment, targets).await
    }

    pub(crate) async fn fork(&self, volume: &VolumeId, moment: Moment) -> VolumeId {
        let call = self.call();
        let captured = self.fork_as(&call, volume, moment, 1).await.unwrap();
        captured.saved.await.unwrap().remove(0).volume
    }

    /// Looks at a volume as the background does and waits until what it found is saved.
    pub(crate) async fn look(&self, volume: &VolumeId) {
        let now = (volume.clone(), Moment::Now);
        let changes = self.node.diff(now.clone(), now).await.unwrap();
        assert!(changes.is_empty(), "a state differs from itself: {changes:?}");
    }

    /// The directory of a volume's files.
    pub(crate) async fn files(&self, volume: &VolumeId) -> PathBuf {
        self.node.status(volume).await.unwrap().path.unwrap()
    }
}

async fn start(
    name: &str,
    store: &Arc<dyn Store>,
    env: &Env,
    dir: &Path,
    pool: Arc<dyn Pool>,
    every: Every,
) -> Node {
    let database = NodeDatabase::open(&dir.join("node.db")).await.unwrap();
    let options = NodeOptions {
        node: format!("node-{name}").parse().unwrap(),
        holder: format!("cove-{name}").parse().unwrap(),
        team: "home".parse().unwrap(),
        look_every: every.look,
        store_every: every.store,
        pin: *b"test-pin",
        cache: dir.join("cache"),
    };
    Node::start(pool, Arc::clone(store), database, env.clone(), options).await.unwrap()
}

fn document(
    operation: &OperationId,
    ordinal: u32,
    forked_from: Option<ForkedFrom>,
) -> ProjectDocument {
    ProjectDocument {
        id: ProjectId::derive("tester", operation, ordinal),
        name: "a project".into(),
        slug: "a-project".parse().unwrap(),
        config: serde_json::Map::new(),
        graph: serde_json::Map::new(),
        forked_from,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        unknown: serde_json::Map::new(),
    }
}
