//! Starting, watching and stopping the volumes of a node.

mod evict;
mod hold;
mod reread;
mod sweep;
mod task;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use cove_btrfs::{Pool, PoolError, SubvolumePath};
use cove_content::chunks::PackCache;
use cove_content::claim::Take;
use cove_content::head::{Head, OlderEntries};
use cove_content::remote::Remote;
use cove_content::volumes::{NewVolume, VolumeError};
use cove_database::{DatabaseError, NodeDatabase, StoredRow};
use cove_env::Env;
use cove_objects::{Store, Version};
use cove_types::{
    Classify, Digest, ErrorKind, NodeId, OperationId, StoreHolderId, TeamId, VolumeId, chain,
};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use crate::capture;
use crate::claim::{Holding, SignsOfLife, claim_store};
use crate::ending_store::EndingStore;
use crate::files::Flushes;
use crate::in_making::InMaking;
use crate::node::evict::make_room;
pub(crate) use crate::node::evict::make_room_in;
use crate::node::hold::{Hold, claim_within, renew_in_turn};
pub(crate) use crate::node::hold::{ask, refresh};
pub(crate) use crate::node::reread::{is_other_state, reread_heads, reread_heads_alone};
pub(crate) use crate::node::sweep::{DISCARDED_DAYS, drop_discarded_of};
use crate::node::sweep::{sweep, sweep_old};
use crate::node::task::{keep_saving, to_its_end};
use crate::volume::{Ended, Known, Trouble, Volume};
use crate::work::{Pending, Work};

/// How often what is old is removed, at the looks for changes.
const SWEEP: Duration = Duration::from_secs(3600);
/// How long a start waits for the store.
const CLAIM_WITHIN: Duration = Duration::from_secs(8);

/// How many calls may wait for the store on threads of their own, and how many volumes may be saved at
/// once. Together far fewer than the threads for blocking work, of which a runtime has 512: a store that
/// does not answer leaves the others to files and captures.
const ASKING_MAX: u32 = 64;
const SAVING_MAX: u32 = 64;
/// How long, at the end, whoever asks the store has to notice that it is over.
const END_WAIT: Duration = Duration::from_secs(10);
/// The first and the longest wait before work is tried again.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a node is told when it starts.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its name.
    pub node: NodeId,
    /// Under which name it holds the store.
    pub holder: StoreHolderId,
    /// Whose volumes it keeps.
    pub team: TeamId,
    /// How often it looks for changes, if not more often yet by `store_every`.
    pub look_every: Duration,
    /// How long after it last stored a volume it stores what has changed there since.
    pub store_every: Duration,
    /// The first 64 bits of all its packs' names: its standing pin.
    pub pin: [u8; 8],
    /// A directory for footers of packs, which may be lost at any time.
    pub cache: PathBuf,
}

/// The volumes of one node. Cloning shares it.
#[derive(Clone)]
pub struct Node {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub pool: Arc<dyn Pool>,
    pub remote: Remote,
    pub cache: Arc<PackCache>,
    pub database: NodeDatabase,
    pub env: Env,
    pub options: NodeOptions,
    pub runtime: Handle,
    pub volumes: RwLock<HashMap<VolumeId, Arc<Volume>>>,
    pub hold: Hold,
    pub signs: SignsOfLife,
    unread: std::sync::Mutex<HashSet<VolumeId>>,
    given_up: std::sync::Mutex<HashSet<VolumeId>>,
    /// Since when something is wrong with the pool.
    pub pool_fault_since: std::sync::Mutex<Option<jiff::Timestamp>>,
    /// The flushes of files that are put.
    pub flushes: Flushes,
    /// What calls are making that no volume knows of yet.
    pub in_making: Arc<InMaking>,
    pub stopping: AtomicBool,
    /// Permits for calls that may wait for the store on a thread.
    pub asking: Arc<Semaphore>,
    /// Permits for saving.
    pub saving: Arc<Semaphore>,
    /// Held by the one recovery that may run, or by the one that reads heads again.
    pub recovering: tokio::sync::Mutex<()>,
    /// Held by the one recovery that may look for lost volumes, before the other.
    pub looking_for_lost: tokio::sync::Mutex<()>,
    /// Ends all requests of the store.
    pub ending: watch::Sender<bool>,
    /// Whether what a crash interrupted is finished; nothing is saved before.
    loaded: AtomicBool,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it remembers could not be read.
    #[error("failed to read the node's database")]
    Database(#[from] DatabaseError),
    /// The pool did not do its part.
    #[error("failed to look through the pool")]
    Pool(#[from] PoolError),
    /// The store is unfit.
    #[error("failed to take the store")]
    Store(#[from] VolumeError),
}

impl Classify for StartError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Database(source) => source.kind(),
            Self::Pool(source) => source.kind(),
            Self::Store(source) => source.kind(),
        }
    }
}

impl Inner {
    /// Tells how the work of another volume will end that brings the head of `fork`; `None` when there is
    /// none.
    pub fn end_of_fork(&self, fork: &VolumeId) -> Option<oneshot::Receiver<Ended>> {
        self.all_volumes().into_iter().find_map(|source| {
            let mut state = source.state();
            let operation = state.queue.iter().find_map(|pending| match &pending.work {
                Work::Fork { targets, .. } if targets.iter().any(|new| new.volume == *fork) => {
                    Some(pending.operation)
                }
                _ => None,
            })?;
            Some(state.end_of(&operation))
        })
    }

    /// Waits, on a blocking thread, for something asynchronous.
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn find_volume(&self, id: &VolumeId) -> Option<Arc<Volume>> {
        self.volumes.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(id).cloned()
    }

    pub fn get_volume(&self, id: &VolumeId) -> Result<Arc<Volume>, VolumeError> {
        self.find_volume(id).ok_or_else(|| VolumeError::NotHere { volume: id.clone() })
    }

    pub fn all_volumes(&self) -> Vec<Arc<Volume>> {
        let volumes = self.volumes.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        volumes.values().cloned().collect()
    }

    /// Volumes whose kept head cannot be read and has not come from the store again yet.
    pub fn unread(&self) -> std::sync::MutexGuard<'_, HashSet<VolumeId>> {
        self.unread.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Has no name kept for a volume whose head does not come back, as the store or a recovery has told, until the
    /// next start.
    pub fn give_up(&self, id: &VolumeId) {
        let mut given_up = self.given_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        given_up.insert(id.clone());
    }

    /// Those of the [unread](Self::unread) whose heads may come back: nobody knows their names and snapshots until then.
    pub fn awaited(&self) -> HashSet<VolumeId> {
        let unread = self.unread().clone();
        let given_up = self.given_up.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        unread.difference(&given_up).cloned().collect()
    }

    pub fn now_us(&self) -> i64 {
        self.env.now().as_microsecond()
    }

    /// Adds a volume, unless it is there, and begins to save what it owes.
    pub fn adopt(self: &Arc<Self>, volume: &Arc<Volume>) {
        let mut volumes = self.volumes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let volume = volumes.entry(volume.id.clone()).or_insert_with(|| Arc::clone(volume));
        if !self.loaded.load(Ordering::SeqCst) || volume.is_started.swap(true, Ordering::SeqCst) {
            return;
        }
        let task = self.runtime.spawn(keep_saving(Arc::clone(self), Arc::clone(volume)));
        let mut tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Takes a volume out that is not one.
    pub fn forget(&self, id: &VolumeId) {
        self.volumes.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
    }

    /// Deletes a snapshot below `stored/` with its row, when nothing needs it.
    pub fn drop_stored(&self, volume: &VolumeId, operation: &OperationId) {
        let place = SubvolumePath::Stored(volume.clone(), *operation);
        match self.pool.delete(&place) {
            Ok(_) => {
                if let Err(error) = self.wait(self.database.delete_stored(volume, operation)) {
                    tracing::warn!(%volume, %operation, %error, "a snapshot's row stays behind");
                }
            }
            Err(error) => tracing::warn!(%volume, %operation, %error, "a snapshot stays behind"),
        }
    }
}

impl Node {
    /// Starts the volumes of a pool: reads what the database remembers, finishes what a crash
    /// interrupted, sweeps what belongs to nothing, and begins to watch and to save.
    ///
    /// The store need not answer; until it does, nothing is saved and health says so.
    ///
    /// # Errors
    ///
    /// [`StartError`]. Nothing was changed but what had been interrupted.
    pub async fn start(
        pool: Arc<dyn Pool>,
        store: Arc<dyn Store>,
        database: NodeDatabase,
        env: Env,
        options: NodeOptions,
    ) -> Result<Self, StartError> {
        let runtime = Handle::current();
        let (ending, ended) = watch::channel(false);
        let store: Arc<dyn Store> = Arc::new(EndingStore::new(store, ended));
        let signs = SignsOfLife::default();
        let claim = claim_store(&store, &env, &options.holder, Take::No, &signs);
        let holding = claim_within(CLAIM_WITHIN, claim).await?;
        let hold = Hold::new(holding, env.now(), env.since_boot());
        let inner = Arc::new(Inner {
            pool,
            remote: Remote::new(store, runtime.clone(), options.team.clone()),
            cache: Arc::new(PackCache::new(Some(options.cache.clone()))),
            database,
            env,
            options,
            runtime,
            volumes: RwLock::default(),
            hold,
            signs,
            unread: std::sync::Mutex::default(),
            given_up: std::sync::Mutex::default(),
            pool_fault_since: std::sync::Mutex::default(),
            flushes: Flushes::default(),
            in_making: Arc::default(),
            stopping: AtomicBool::new(false),
            asking: Arc::new(Semaphore::new(ASKING_MAX as usize)),
            saving: Arc::new(Semaphore::new(SAVING_MAX as usize)),
            recovering: tokio::sync::Mutex::default(),
            looking_for_lost: tokio::sync::Mutex::default(),
            ending,
            loaded: AtomicBool::new(false),
            tasks: std::sync::Mutex::default(),
        });
        let node = Self { inner };
        node.load().await?;
        node.watch();
        Ok(node)
    }

    async fn load(&self) -> Result<(), StartError> {
        let inner = &self.inner;
        let mut volumes: HashMap<VolumeId, Arc<Volume>> = HashMap::new();
        for row in inner.database.heads().await? {
            let head = match Head::decode_of(&row.volume, &row.body) {
                Ok(head) => head,
                Err(error) => {
                    tracing::error!(volume = %row.volume, %error, "a kept head cannot be read");
                    inner.unread().insert(row.volume.clone());
                    continue;
                }
            };
            let volume = volume_of(&mut volumes, &row.volume);
            let mut state = volume.state();
            state.document.clone_from(&head.document);
            state.saved_at = jiff::Timestamp::from_microsecond(row.saved_us).ok();
            state.known = Some(Known {
                head,
                older: OlderEntries::default(),
                version: Version(row.version.clone()),
            });
        }
        for row in inner.database.copies().await? {
            let volume = volume_of(&mut volumes, &row.volume);
            volume.state().copy = Some(row);
        }
        for row in inner.database.all_stored().await? {
            let volume = volume_of(&mut volumes, &row.volume);
            volume.state().stored.insert(row.operation, row);
        }
        let mut unreadable: HashSet<OperationId> = HashSet::new();
        for row in inner.database.pending().await? {
            let pending: Pending = match serde_json::from_str(&row.body) {
                Ok(pending) => pending,
                Err(error) => {
                    tracing::error!(operation = %row.operation, %error, "pending work cannot be read");
                    let what = format!("a captured change ({}) cannot be read", row.kind);
                    let (kind, since) = (ErrorKind::Corrupt, inner.env.now());
                    let volume = volume_of(&mut volumes, &row.volume);
                    volume.state().lost.push(Trouble { what, kind, since });
                    unreadable.insert(row.operation);
                    continue;
                }
            };
            let volume = volume_of(&mut volumes, &row.volume);
            let mut state = volume.state();
            match &pending.work {
                Work::Create { document, spec, .. } => state.is_to_be(document, spec),
                Work::Describe { document } => state.becomes(Some(document.clone())),
                Work::Specify { document, .. } => state.becomes(document.clone()),
                Work::Fork { targets, .. } => {
                    for NewVolume { volume, document, spec } in targets {
                        volume_of(&mut volumes, volume).state().is_to_be(document, spec);
                    }
                }
                _ => {}
            }
            state.queue.push_back(pending);
            state.is_resumed = true;
        }
        let resumed = Arc::clone(inner);
        let volumes: Vec<Arc<Volume>> = volumes.into_values().collect();
        for volume in &volumes {
            inner.adopt(volume);
        }
        let task = tokio::task::spawn_blocking(move || {
            for volume in &volumes {
                capture::resume(&resumed, volume);
            }
            sweep(&resumed, &volumes, &unreadable)?;
            Ok::<_, StartError>(volumes)
        });
        let volumes = match task.await {
            Ok(volumes) => volumes?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        inner.loaded.store(true, Ordering::SeqCst);
        let unread = inner.unread().clone();
        for volume in volumes.into_iter().filter(|volume| !unread.contains(&volume.id)) {
            let is_there = {
                let state = volume.state();
                state.known.is_some() || !state.queue.is_empty() || state.document.is_some()
            };
            if is_there {
                inner.adopt(&volume);
            } else {
                let mut all =
                    inner.volumes.write().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.remove(&volume.id);
            }
        }
        let rereading = Arc::clone(inner);
        let task = tokio::task::spawn_blocking(move || {
            reread_heads(&rereading);
            capture::hold_all_to_quotas(&rereading);
        });
        if let Err(error) = task.await {
            std::panic::resume_unwind(error.into_panic());
        }
        Ok(())
    }

    /// Starts the loops that renew the hold and look for changes.
    fn watch(&self) {
        let inner = Arc::clone(&self.inner);
        let renewing = move || renew_in_turn(Arc::clone(&inner));
        let renew = tokio::spawn(to_its_end("renew", RETRY.0, renewing, || {}));
        let inner = Arc::clone(&self.inner);
        let looking = move || look_in_turn(Arc::clone(&inner));
        let look = tokio::spawn(to_its_end("look", RETRY.0, looking, || {}));
        let mut tasks = self.inner.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        tasks.extend([renew, look]);
    }

    /// Whether this node may write to its store.
    #[must_use]
    pub fn holding(&self) -> Holding {
        self.inner.holding()
    }

    /// Tells whoever waits until something is saved that Cove is stopping, and ends all requests of the
    /// store. What is captured stays captured and is saved after the next start.
    ///
    /// Files are read and changed as before, until [`stop`](Self::stop).
    pub fn end_waiting(&self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        self.inner.ending.send_replace(true);
    }

    /// Stops looking and saving, within a bounded time whatever the store does.
    pub async fn stop(&self) {
        self.end_waiting();
        let tasks = std::mem::take(
            &mut *self.inner.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        // what asks the store or saves now meets the end at its next request
        let all = async {
            let asking = self.inner.asking.acquire_many(ASKING_MAX).await;
            let saving = self.inner.saving.acquire_many(SAVING_MAX).await;
            (asking, saving)
        };
        if tokio::time::timeout(END_WAIT, all).await.is_err() {
            tracing::warn!("work on this disk goes on beyond the end of the node");
        }
        self.inner.database.close().await;
    }
}

/// Looks for changes again and again, and sweeps what is old in between.
async fn look_in_turn(inner: Arc<Inner>) {
    let mut swept = inner.env.since_boot();
    loop {
        tokio::time::sleep(pause_between_looks(&inner)).await;
        let looking = Arc::clone(&inner);
        let is_due = inner.env.since_boot().saturating_sub(swept) >= SWEEP;
        if is_due {
            swept = inner.env.since_boot();
        }
        let looked = tokio::task::spawn_blocking(move || {
            capture::look_at_all(&looking);
            make_room(&looking);
            if is_due && let Err(error) = sweep_old(&looking) {
                tracing::warn!(error = chain(&error), "what is old stays for now");
            }
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "a look ended without an answer");
        }
    }
}

/// How long it is until the next look: as one of the volumes is to be stored at the soonest.
fn pause_between_looks(inner: &Inner) -> Duration {
    let all = inner.all_volumes();
    let own = all.iter().filter_map(|volume| volume.state().spec().storing_interval()).min();
    let own = own.unwrap_or(inner.options.store_every);
    inner.options.look_every.min(inner.options.store_every).min(own)
}

fn volume_of(volumes: &mut HashMap<VolumeId, Arc<Volume>>, id: &VolumeId) -> Arc<Volume> {
    let volume = volumes.entry(id.clone()).or_insert_with(|| Arc::new(Volume::new(id.clone())));
    Arc::clone(volume)
}

/// A row for a snapshot that was just taken.
pub(crate) fn stored_row(inner: &Inner, pending: &Pending) -> StoredRow {
    let entry = match &pending.work {
        Work::Snapshot { entry, .. } => Some(entry.id),
        Work::Restore { before, .. } | Work::RestorePaths { before, .. } => Some(before.id),
        Work::Rescue { entry } => Some(entry.id),
        _ => None,
    };
    StoredRow {
        volume: pending.volume.clone(),
        operation: pending.operation,
        entry,
        root: None,
        captured_us: inner.now_us(),
    }
}

/// The digest of a project document as it is stored.
pub(crate) fn document_digest(document: &cove_content::document::ProjectDocument) -> Digest {
    Digest::of(&document.encode())
}
