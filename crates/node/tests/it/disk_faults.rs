//! Faults of the disk under a store in a directory, at each step of each change: through the real
//! kernel, so that the store's own calls fail.
//!
//! Nothing is said to be saved that is not, the same call again gives the first result, what failed
//! goes on by itself, and an independent reader behind the disk finds everything whole.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cove_content::head::Head;
use cove_content::volumes::{Call, EntryEdit, Moment, Progress, VolumeError, Volumes};
use cove_env::Env;
use cove_objects::{DirectoryStore, Store};
use cove_testkit::proof::{Chance, figure, is_full, seed};
use cove_testkit::trees::describe;
use cove_testkit::{FaultyDisk, Step, When};
use cove_types::{Classify, Durability, ErrorKind, VolumeId};
use tokio::task::JoinSet;

use crate::acts::{ACTS, Act};
use crate::interruption::{Scene, assert_kept_here, assert_kept_there, same};
use crate::world::{World, is_root};

/// Plans of a run in which not all are tried.
const SAMPLE: usize = 48;

/// Plans at a time: most of the time each waits for the pause before its second attempt.
const AT_A_TIME: usize = 24;

/// What is done while the disk errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// One of the changes that are captured first.
    Act(Act),
    /// A look that finds a small change and stores it.
    Store,
    /// An entry goes to the trash and comes back.
    RemoveEntry,
    /// The volume goes to the trash and comes back.
    Remove,
    /// Another machine takes the volume over.
    Recover,
}

const DEEDS: [Deed; 10] = [
    Deed::Act(ACTS[0]),
    Deed::Act(ACTS[1]),
    Deed::Act(ACTS[2]),
    Deed::Act(ACTS[3]),
    Deed::Act(ACTS[4]),
    Deed::Act(ACTS[5]),
    Deed::Store,
    Deed::RemoveEntry,
    Deed::Remove,
    Deed::Recover,
];

impl Deed {
    /// A change that leaves the first volume and its entry as this one does.
    fn like(self) -> Act {
        match self {
            Self::Act(act) => act,
            Self::Store | Self::RemoveEntry | Self::Remove | Self::Recover => Act::Create,
        }
    }
}

/// Which step fails and how; all fields are in the name of a case that fails.
#[derive(Clone, Copy)]
struct Plan {
    deed: Deed,
    fault: Option<(Step, u64, io::ErrorKind, When)>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            None => write!(f, "{:?} on a disk that works", self.deed),
            Some((step, after, error, when)) => {
                write!(f, "{:?}, {step:?} after {after} others: {error:?} {when:?}", self.deed)
            }
        }
    }
}

/// The store below a directory, as a process of its own opens it.
fn store_in(dir: &Path) -> Arc<dyn Store> {
    Arc::new(DirectoryStore::open(&dir.join("store"), Env::system()).unwrap())
}

/// The head as it lies behind the disk.
fn head_behind(disk: &FaultyDisk, volume: &VolumeId) -> Option<Head> {
    let place = disk.behind().join(format!("store/objects/teams/home/volumes/{volume}/head"));
    let bytes = std::fs::read(place).ok()?;
    Some(Head::decode(&bytes).expect("a head that has its name is whole"))
}

/// Whatever is called saved lies behind the disk.
async fn assert_honest(scene: &Scene, deed: Deed, call: &Call, disk: &FaultyDisk) {
    for volume in scene.wanted(deed.like(), call).keys() {
        // asked first: what is saved meanwhile is not called so yet
        let Ok(views) = scene.world.node.entries(volume).await else { continue };
        let Ok(status) = scene.world.node.status(volume).await else { continue };
        let head = head_behind(disk, volume);
        for view in views.iter().filter(|view| view.durability == Durability::Saved) {
            let is_there =
                head.as_ref().is_some_and(|head| head.find_entry(&view.record.id).is_some());
            assert!(is_there, "entry {} is called saved and is not", view.record.id);
        }
        let is_saved = status.durability == Durability::Saved;
        assert!(!is_saved || head.is_some(), "volume {volume} is called saved and has no head");
    }
}

/// Does a deed until it is captured, or done where it is not captured first, then until it is
/// saved; gives what it made, in words.
async fn carry_out(scene: &Scene, deed: Deed, calls: &[Call; 2]) -> Result<String, VolumeError> {
    let (world, volume) = (&scene.world, &scene.volume);
    let [first, second] = calls.clone();
    match deed {
        Deed::Act(act) => {
            let (captured, saved) = scene.act(act, &first).await?;
            // what was captured is saved in the end: a disk that errs once undoes nothing
            let saved = saved.await.expect("what was captured is saved in the end");
            assert_eq!(saved, captured, "what is saved is what was captured");
            Ok(saved)
        }
        Deed::Store => {
            let now = (volume.clone(), Moment::Now);
            let changes = world.node.diff(now.clone(), now).await?;
            assert!(changes.is_empty(), "a state differs from itself: {changes:?}");
            world.node.wait_saved(volume).await?;
            Ok(String::new())
        }
        Deed::RemoveEntry => {
            let (entry, back) = (scene.entry, EntryEdit::Undelete { keep: 200 });
            let gone =
                world.node.edit_entry(first, volume.clone(), entry, EntryEdit::Trash).await?;
            let back = world.node.edit_entry(second, volume.clone(), entry, back).await?;
            Ok(format!("{} {}", gone.record.id, back.record.id))
        }
        Deed::Remove => {
            let gone = world.node.set_trashed(first, volume.clone(), true).await?;
            let back = world.node.set_trashed(second, volume.clone(), false).await?;
            Ok(format!("{} {}", gone.volume, back.volume))
        }
        Deed::Recover => {
            let recover = async || {
                let back = world.node.recover(true, Progress::default()).await?;
                Ok::<_, VolumeError>([back.lost, back.rest.await?.lost].concat())
            };
            let lost = recover().await?;
            if !lost.is_empty() {
                // what could not be read is told, and nothing of it is lost
                let again = recover().await?;
                assert!(again.is_empty(), "{lost:?} and again {again:?}");
            }
            Ok(String::new())
        }
    }
}

/// What one run of a plan met.
struct Ran {
    /// How many steps of each kind the deed took.
    steps: Vec<(Step, u64)>,
    has_failed: bool,
}

async fn run(plan: Plan) -> Option<Ran> {
    let disk = FaultyDisk::mount()?;
    let mut scene = Scene::on(World::on_store("a", store_in(&disk.path())).await).await;
    let deed = plan.deed;
    let since = if deed == Deed::Act(Act::Create) { 0 } else { u32::MAX };
    let calls = [scene.world.call_since(since), scene.world.call()];
    if deed == Deed::Recover {
        scene.world.look(&scene.volume).await;
        scene.world.node.stop().await;
        scene.world = World::on_store("c", store_in(&disk.path())).await;
    }
    let seen = Step::ALL.map(|step| disk.seen(step));
    if let Some((step, after, error, when)) = plan.fault {
        disk.fail_after(step, after, error, when);
    }
    let mut done = None;
    for _attempt in 0..3 {
        match carry_out(&scene, deed, &calls).await {
            Ok(made) => {
                done = Some(made);
                break;
            }
            // what needs the store first may fail; then it changes nothing and is asked again
            Err(error) => {
                let kinds = [ErrorKind::Unavailable, ErrorKind::Exhausted, ErrorKind::Denied];
                assert!(kinds.contains(&error.kind()), "{error:?}");
                if deed != Deed::Recover {
                    let found = describe(&scene.world.files(&scene.volume).await).unwrap();
                    same("the files after a call that failed", &scene.before, &found);
                }
            }
        }
        assert_honest(&scene, deed, &calls[0], &disk).await;
    }
    let done = done.expect("a disk that errs once keeps nothing from being done");
    assert_honest(&scene, deed, &calls[0], &disk).await;
    let steps =
        Step::ALL.iter().zip(seen).map(|(step, seen)| (*step, disk.seen(*step) - seen)).collect();
    let has_failed = disk.failed() > 0;
    disk.heal();
    for start in [false, true] {
        if start {
            scene.world.restart().await;
        }
        let again = carry_out(&scene, deed, &calls).await.unwrap();
        assert_eq!(again, done, "the same call again, restarted: {start}");
    }
    let live = assert_kept_here(&scene, deed.like(), &calls[0]).await;
    scene.world.node.stop().await;
    let other = World::on_store("b", store_in(&disk.behind())).await;
    assert_kept_there(&scene, deed.like(), &calls[0], live, &other).await;
    other.node.stop().await;
    Some(Ran { steps, has_failed })
}

/// What a step may fail with.
fn faults(step: Step) -> Vec<(io::ErrorKind, When)> {
    use io::ErrorKind::{Other, StorageFull};
    let before = When::BeforeEffect;
    match step {
        Step::Read => vec![(Other, before)],
        Step::Rename => {
            vec![(StorageFull, before), (Other, before), (Other, When::AfterEffect)]
        }
        _ => vec![(StorageFull, before), (Other, before)],
    }
}

async fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for deed in DEEDS {
        let Some(Ran { steps, .. }) = run(Plan { deed, fault: None }).await else {
            return Vec::new();
        };
        for (step, count) in steps {
            let faults = faults(step);
            plans.extend((0..count).flat_map(|after| {
                faults
                    .iter()
                    .map(move |(error, when)| Plan {
                        deed,
                        fault: Some((step, after, *error, *when)),
                    })
                    .collect::<Vec<_>>()
            }));
        }
    }
    plans
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_of_the_disk_that_fails_loses_nothing_and_is_made_good() {
    let test = "a_step_of_the_disk_that_fails_loses_nothing_and_is_made_good";
    if !is_root(test) {
        return;
    }
    let mut plans = plans().await;
    let all = plans.len();
    if !is_full() {
        let mut chance = Chance::new(seed(test));
        while plans.len() > SAMPLE {
            plans.swap_remove(chance.index(plans.len()));
        }
    }
    let tried = plans.len();
    let mut running = JoinSet::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(AT_A_TIME));
    for plan in plans {
        let slots = Arc::clone(&slots);
        running.spawn(async move {
            let _slot = slots.acquire_owned().await.unwrap();
            let ended = tokio::spawn(run(plan)).await;
            ended.map(|ran| ran.is_some_and(|ran| ran.has_failed)).map_err(|error| {
                let panic = error.into_panic();
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                format!("{plan:?}: {}", text.unwrap_or_default())
            })
        });
    }
    let ended = running.join_all().await;
    let met = ended.iter().filter(|ended| matches!(ended, Ok(true))).count();
    let mut failed: Vec<String> = ended.into_iter().filter_map(Result::err).collect();
    failed.sort_unstable();
    assert!(failed.is_empty(), "{} of {tried} failed:\n{}", failed.len(), failed.join("\n"));
    // a run that takes long renews its hold on the store, too, and such a step need not come again
    assert!(met >= tried - tried / 10, "{met} of {tried} met their faults");
    if tried > 0 {
        figure("directory store under faults of its disk", format!("{tried} of {all} plans"));
    }
}
