//! Faults of the store at each request of each change: nothing is said to be saved that is not, the
//! same call again gives the first result, and once the faults stop everything is saved.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cove_btrfs::{Access, SubvolumePath};
use cove_content::head::Head;
use cove_content::volumes::{
    Call, FileEdit, Moment, Progress, Saving, VerifyLevel, VolumeError, Volumes,
};
use cove_database::StoredRow;
use cove_node::Holding;
use cove_objects::{Fault, Key, MemoryStore, Request, Store};
use cove_testkit::trees::{Description, describe, difference};
use cove_types::{Classify, Durability, EntryId, ErrorKind, TreePath, VolumeId};
use tokio::task::JoinSet;

use crate::acts::{ACTS, Act};
use crate::world::{AnyPool, DEADLINE, World, is_root, memory, until};

/// How it fails.
#[derive(Debug, Clone, Copy)]
enum Plan {
    /// Not at all.
    Well,
    /// The request after `n` others fails.
    Once(usize, Fault),
    /// The request after `n` others fails, and all after it do until the node was started again.
    Cut(usize, Fault),
    /// As `Cut`, and the store answers again only after the node was started.
    Away(usize),
}

pub(crate) type Tree = BTreeMap<Vec<u8>, Description>;

pub(crate) fn same(what: &str, wanted: &Tree, found: &Tree) {
    let lines = difference(wanted, found);
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

fn write(files: &Path, name: &str, text: &str) {
    let place = files.join(name);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, text.repeat(2_000)).unwrap();
}

/// A volume with an entry, changed since.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) volume: VolumeId,
    pub(crate) entry: EntryId,
    /// The files at the entry.
    then: Tree,
    /// The files before the act.
    pub(crate) before: Tree,
}

impl Scene {
    async fn set() -> Self {
        Self::on(World::fake("a", &memory()).await).await
    }

    pub(crate) async fn on(world: World) -> Self {
        let volume = world.create().await;
        let files = world.files(&volume).await;
        write(&files, "dir/kept", "kept");
        write(&files, "dir/changed", "as it was");
        write(&files, "other", "of both");
        let entry = world.snapshot(&volume).await;
        let then = describe(&files).unwrap();
        write(&files, "dir/changed", "as it is");
        write(&files, "dir/new", "new");
        let before = describe(&files).unwrap();
        Self { world, volume, entry, then, before }
    }

    /// Does the act, and says in words what it made.
    pub(crate) async fn act(
        &self,
        act: Act,
        call: &Call,
    ) -> Result<(String, Saving<String>), VolumeError> {
        let world = &self.world;
        match act {
            Act::Create => {
                let volume = VolumeId::derive("tester", &call.operation, 0);
                let made = world.create_as(call, &volume).await?;
                Ok((
                    format!("{}", made.value.0.volume),
                    Box::pin(async move {
                        made.saved.await.map(|(status, _)| format!("{}", status.volume))
                    }),
                ))
            }
            Act::Snapshot => {
                let made = world.snapshot_as(call, &self.volume).await?;
                Ok((
                    format!("{}", made.value.entry.record.id),
                    Box::pin(async move {
                        made.saved.await.map(|made| {
                            assert_eq!(made.entry.durability, Durability::Saved);
                            format!("{}", made.entry.record.id)
                        })
                    }),
                ))
            }
            Act::Restore | Act::RestorePaths => {
                let paths: &[&str] = if act == Act::Restore { &[] } else { &["dir"] };
                let made = world.restore_as(call, &self.volume, &self.entry, paths).await?;
                let say = |before: Option<cove_content::volumes::EntryView>| {
                    format!("{:?}", before.map(|before| before.record.id))
                };
                Ok((
                    say(made.value.before),
                    Box::pin(async move { made.saved.await.map(|made| say(made.before)) }),
                ))
            }
            Act::ForkNow | Act::ForkEntry => {
                let moment = match act {
                    Act::ForkNow => Moment::Now,
                    _ => Moment::Entry(self.entry),
                };
                let made = world.fork_as(call, &self.volume, moment, 2).await?;
                let say = |made: Vec<cove_content::volumes::VolumeStatus>| {
                    made.into_iter().map(|made| format!("{} ", made.volume)).collect::<String>()
                };
                Ok((say(made.value), Box::pin(async move { made.saved.await.map(say) })))
            }
        }
    }

    /// What the volumes that the act made or changed must hold.
    pub(crate) fn wanted(&self, act: Act, call: &Call) -> BTreeMap<VolumeId, Tree> {
        let made = |ordinal| VolumeId::derive("tester", &call.operation, ordinal);
        let now = match act {
            Act::Restore => &self.then,
            _ => &self.before,
        };
        let mut wanted = BTreeMap::from([(self.volume.clone(), now.clone())]);
        match act {
            Act::ForkNow | Act::ForkEntry => {
                let of = if act == Act::ForkNow { &self.before } else { &self.then };
                wanted.insert(made(0), of.clone());
                wanted.insert(made(1), of.clone());
            }
            _ => {}
        }
        wanted
    }

    /// The entries that must be there afterwards, with their files.
    fn entries(&self, act: Act, call: &Call) -> BTreeMap<EntryId, Tree> {
        let mut entries = BTreeMap::from([(self.entry, self.then.clone())]);
        let purpose = match act {
            Act::Snapshot => "snapshot",
            Act::Restore | Act::RestorePaths => "before",
            _ => return entries,
        };
        entries.insert(EntryId::derive(&call.operation, purpose), self.before.clone());
        entries
    }

    /// Whatever is called saved is in the store.
    async fn assert_honest(&self, act: Act, call: &Call) {
        for volume in self.wanted(act, call).keys() {
            // asked first: what is saved meanwhile is not called so yet
            let Ok(views) = self.world.node.entries(volume).await else { continue };
            let status = self.world.node.status(volume).await.unwrap();
            let head = stored_head(&self.world.store, volume);
            for view in views.iter().filter(|view| view.durability == Durability::Saved) {
                let head = head.as_ref().expect("an entry is saved, so there is a head");
                let is_there = head.find_entry(&view.record.id).is_some();
                assert!(is_there, "entry {} is called saved and is not", view.record.id);
            }
            let is_saved = status.durability == Durability::Saved;
            assert!(!is_saved || head.is_some(), "volume {volume} is called saved and has no head");
        }
    }
}

fn head_key(volume: &VolumeId) -> Key {
    Key::parse(&format!("teams/home/volumes/{volume}/head")).unwrap()
}

fn stored_head(store: &MemoryStore, volume: &VolumeId) -> Option<Head> {
    let contents = store.contents();
    contents.get(&head_key(volume)).map(|bytes| Head::decode(bytes).unwrap())
}

fn break_store(store: &MemoryStore, plan: Plan) {
    let mut seen = 0;
    match plan {
        Plan::Well => {}
        Plan::Once(n, fault) => store.fail_after(n, fault),
        Plan::Cut(n, fault) => store.fail_when(move |_: &Request| {
            seen += 1;
            match (seen - 1).cmp(&n) {
                std::cmp::Ordering::Less => None,
                std::cmp::Ordering::Equal => Some(fault),
                std::cmp::Ordering::Greater => Some(Fault::BeforeEffect),
            }
        }),
        Plan::Away(n) => store.fail_when(move |_: &Request| {
            seen += 1;
            (seen > n).then_some(Fault::BeforeEffect)
        }),
    }
}

/// Runs an act under a plan; returns how many requests it made.
async fn run(act: Act, plan: Plan) -> u64 {
    let mut scene = Scene::set().await;
    let store = Arc::clone(&scene.world.store);
    let seq = if act == Act::Create { 0 } else { u32::MAX };
    let call = scene.world.call_since(seq);
    let before = store.requests();
    break_store(&store, plan);
    let (captured, saved) = match scene.act(act, &call).await {
        Ok(begun) => begun,
        // what needs the store first may fail, and then it changes nothing
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
            let found = describe(&scene.world.files(&scene.volume).await).unwrap();
            same("the files after a call that failed", &scene.before, &found);
            store.heal();
            scene.act(act, &call).await.unwrap()
        }
    };
    scene.assert_honest(act, &call).await;
    let mut first = None;
    if let Plan::Cut(..) | Plan::Away(_) = plan {
        let volume = match act {
            Act::Create => VolumeId::derive("tester", &call.operation, 0),
            _ => scene.volume.clone(),
        };
        let waiting = tokio::spawn(saved);
        until("the store's failure is told", || async {
            let status = scene.world.node.status(&volume).await.map_err(|e| e.to_string())?;
            let ended = waiting.is_finished();
            (ended || !status.problems.is_empty()).then_some(()).ok_or("no problem".to_owned())
        })
        .await;
        scene.assert_honest(act, &call).await;
        if waiting.is_finished() {
            first = waiting.await.unwrap().ok();
        }
        if let Plan::Cut(..) = plan {
            store.heal();
        }
        scene.world.restart().await;
        scene.assert_honest(act, &call).await;
        let (again, saved) = scene.act(act, &call).await.unwrap();
        assert_eq!(again, captured, "the same call again, after a start");
        store.heal();
        let ended = saved.await.unwrap();
        assert_eq!(*first.get_or_insert(ended.clone()), ended, "the end after a start");
    } else {
        first = Some(saved.await.unwrap());
    }
    let requests = store.requests();
    let made = requests.gets + requests.puts + requests.lists + requests.deletes
        - (before.gets + before.puts + before.lists + before.deletes);
    scene.assert_honest(act, &call).await;
    let first = first.unwrap();
    assert_eq!(first, captured, "what is saved is what was captured");
    store.heal();
    for start in [false, true] {
        if start {
            scene.world.restart().await;
        }
        let (again, saved) = scene.act(act, &call).await.unwrap();
        assert_eq!(again, first, "the same call again, restarted: {start}");
        assert_eq!(saved.await.unwrap(), first, "the same call again, restarted: {start}");
        let other = Call { request: *b"another!", ..call.clone() };
        match scene.act(act, &other).await {
            Err(VolumeError::OtherRequest) => {}
            Err(error) => panic!("another request under the same id: {error:?}"),
            Ok(_) => panic!("another request under the same id is taken"),
        }
    }
    assert_kept(&scene, act, &call).await;
    made
}

/// Everything is as it was told, here and on a machine that has only the store.
async fn assert_kept(scene: &Scene, act: Act, call: &Call) {
    let live = assert_kept_here(scene, act, call).await;
    scene.world.node.stop().await;
    let other = World::fake("b", &scene.world.store).await;
    assert_kept_there(scene, act, call, live, &other).await;
    other.node.stop().await;
}

/// Everything is as it was told on this machine; gives the files of each volume.
pub(crate) async fn assert_kept_here(
    scene: &Scene,
    act: Act,
    call: &Call,
) -> BTreeMap<VolumeId, Tree> {
    let world = &scene.world;
    let mut live = BTreeMap::new();
    for (volume, wanted) in scene.wanted(act, call) {
        let found = describe(&world.files(&volume).await).unwrap();
        if act == Act::RestorePaths && volume == scene.volume {
            assert_restored_paths(scene, &found);
        } else {
            same("the files", &wanted, &found);
        }
        world.look(&volume).await;
        let verified = world.node.verify(&volume, VerifyLevel::Read { part: 1, of: 1 }).await;
        let problems = verified.unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
        live.insert(volume, found);
    }
    live
}

/// The same on another machine that has only the store, once this one has stopped.
pub(crate) async fn assert_kept_there(
    scene: &Scene,
    act: Act,
    call: &Call,
    live: BTreeMap<VolumeId, Tree>,
    other: &World,
) {
    let recovered = other.node.recover(true, Progress::default()).await.unwrap();
    assert!(recovered.lost.is_empty(), "{:?}", recovered.lost);
    for (volume, wanted) in live {
        let found = describe(&other.files(&volume).await).unwrap();
        same("the files on another machine", &wanted, &found);
    }
    let views = other.node.entries(&scene.volume).await.unwrap();
    let mut found: Vec<EntryId> = views.iter().map(|view| view.record.id).collect();
    found.sort_unstable();
    let entries = scene.entries(act, call);
    let wanted: Vec<EntryId> = entries.keys().copied().collect();
    assert_eq!(found, wanted, "the timeline: {views:#?}");
    for (entry, wanted) in entries {
        other.restore(&scene.volume, &entry).await;
        let found = describe(&other.files(&scene.volume).await).unwrap();
        same("an entry on another machine", &wanted, &found);
    }
}

/// `dir` is as it was at the entry, and the rest as before.
fn assert_restored_paths(scene: &Scene, found: &Tree) {
    let part = |tree: &Tree, inside: bool| -> Tree {
        let is_inside = |path: &[u8]| path.starts_with(b"dir");
        let parts = tree.iter().filter(|(path, _)| !path.is_empty() && is_inside(path) == inside);
        parts.map(|(path, description)| (path.clone(), description.clone())).collect()
    };
    same("what was restored", &part(&scene.then, true), &part(found, true));
    same("what was not restored", &part(&scene.before, false), &part(found, false));
}

/// Runs plans, some at a time; each that fails is named.
async fn run_all(plans: Vec<(Act, Plan)>) {
    let mut running = JoinSet::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(24));
    for (act, plan) in plans {
        let slots = Arc::clone(&slots);
        running.spawn(async move {
            let _slot = slots.acquire_owned().await.unwrap();
            let ended = tokio::spawn(run(act, plan)).await;
            ended.map(drop).map_err(|error| {
                let panic = error.into_panic();
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                format!("{act:?} under {plan:?}: {}", text.unwrap_or_default())
            })
        });
    }
    let mut failed: Vec<String> =
        running.join_all().await.into_iter().filter_map(Result::err).collect();
    failed.sort_unstable();
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
}

async fn plans(plan: impl Fn(usize) -> Vec<Plan>) -> Vec<(Act, Plan)> {
    let mut plans = Vec::new();
    for act in ACTS {
        let requests = usize::try_from(run(act, Plan::Well).await).unwrap();
        plans.extend((0..requests).flat_map(|n| plan(n).into_iter().map(move |plan| (act, plan))));
    }
    plans
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_once_changes_nothing() {
    if !is_root("a_request_that_fails_once_changes_nothing") {
        return;
    }
    let faults = |n| {
        let faults = [Fault::BeforeEffect, Fault::AfterEffect, Fault::Exhausted];
        faults.into_iter().map(|fault| Plan::Once(n, fault)).collect()
    };
    run_all(plans(faults).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_fault_at_any_request_goes_on() {
    if !is_root("a_start_after_a_fault_at_any_request_goes_on") {
        return;
    }
    let faults = |n| {
        let faults = [Fault::BeforeEffect, Fault::AfterEffect];
        faults.into_iter().map(|fault| Plan::Cut(n, fault)).collect()
    };
    run_all(plans(faults).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_while_is_caught_up_with() {
    if !is_root("a_store_that_is_away_for_a_while_is_caught_up_with") {
        return;
    }
    run_all(plans(|n| vec![Plan::Away(n)]).await).await;
}

/// Waits until a node has everything saved, and sees it on a machine that has only the store.
async fn assert_saved(world: &World, volumes: &[(&VolumeId, &Tree)]) {
    for (volume, wanted) in volumes {
        world.node.wait_saved(volume).await.unwrap();
        world.look(volume).await;
        let found = describe(&world.files(volume).await).unwrap();
        same("the files", wanted, &found);
    }
    world.node.stop().await;
    for head in heads(&world.store).values() {
        let head = Head::decode(head).unwrap();
        let foreign = |cause: &Option<String>| cause.as_deref() == Some("another copy");
        let mistaken = head.entries.iter().any(|entry| foreign(&entry.cause));
        assert!(!mistaken, "a lost answer of our own is taken for another copy's save: {head:?}");
    }
    let other = World::fake("b", &world.store).await;
    let recovered = other.node.recover(true, Progress::default()).await.unwrap();
    assert!(recovered.lost.is_empty(), "{:?}", recovered.lost);
    for (volume, wanted) in volumes {
        let found = describe(&other.files(volume).await).unwrap();
        same("the files on another machine", wanted, &found);
    }
    other.node.stop().await;
}

async fn put(world: &World, volume: &VolumeId, path: &str, text: &str) {
    let path = TreePath::from_bytes(path.as_bytes()).unwrap();
    let body = std::io::Cursor::new(text.to_owned().into_bytes());
    world.node.edit(volume, FileEdit::Put(path, Box::new(body))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_a_restore_outlives_a_start_before_it_is_saved() {
    if !is_root("what_is_written_after_a_restore_outlives_a_start_before_it_is_saved") {
        return;
    }
    for paths in [&[][..], &["dir"], &["dir/new"]] {
        let mut scene = Scene::set().await;
        let act = if paths.is_empty() { Act::Restore } else { Act::RestorePaths };
        let store = Arc::clone(&scene.world.store);
        // writes fail, so that nothing is saved; what must be read can be
        store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
        let call = scene.world.call();
        let world = &scene.world;
        let captured = world.restore_as(&call, &scene.volume, &scene.entry, paths).await.unwrap();
        put(world, &scene.volume, "dir/changed", "after the restore").await;
        put(world, &scene.volume, "dir/new", "after the restore").await;
        put(world, &scene.volume, "top", "after the restore").await;
        let wanted = describe(&world.files(&scene.volume).await).unwrap();
        scene.assert_honest(act, &call).await;
        drop(captured);
        store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
        scene.world.restart().await;
        let found = describe(&scene.world.files(&scene.volume).await).unwrap();
        same("after a start", &wanted, &found);
        store.heal();
        assert_saved(&scene.world, &[(&scene.volume, &wanted)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_used_before_it_is_saved() {
    if !is_root("a_fork_is_used_before_it_is_saved") {
        return;
    }
    let mut scene = Scene::set().await;
    let store = Arc::clone(&scene.world.store);
    store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    let world = &scene.world;
    let made = world.fork_as(&world.call(), &scene.volume, Moment::Now, 1).await.unwrap();
    let fork = made.value[0].volume.clone();
    put(world, &fork, "of-the-fork", "one").await;
    let of_snapshot = describe(&world.files(&fork).await).unwrap();
    let call = world.call();
    let snapshot = world.snapshot_as(&call, &fork).await.unwrap();
    let entry = snapshot.value.entry.record.id;
    put(world, &fork, "of-the-fork", "two").await;
    let now = describe(&world.files(&fork).await).unwrap();
    drop((made.saved, snapshot.saved));
    until("the failure is told", || async {
        let status = world.node.status(&scene.volume).await.map_err(|error| error.to_string())?;
        (!status.problems.is_empty()).then_some(()).ok_or("no problem".to_owned())
    })
    .await;
    scene.world.restart().await;
    store.heal();
    let again = scene.world.snapshot_as(&call, &fork).await.unwrap();
    assert_eq!(again.value.entry.record.id, entry);
    assert_eq!(again.saved.await.unwrap().entry.durability, Durability::Saved);
    scene.world.restore(&fork, &entry).await;
    let found = describe(&scene.world.files(&fork).await).unwrap();
    same("the fork's entry", &of_snapshot, &found);
    let views = scene.world.node.entries(&fork).await.unwrap();
    let before = views.iter().find(|view| view.record.id != entry).unwrap().record.id;
    scene.world.restore(&fork, &before).await;
    assert_saved(&scene.world, &[(&scene.volume, &scene.before), (&fork, &now)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_has_one_writer_and_whoever_lost_it_overwrites_nothing() {
    if !is_root("a_store_has_one_writer_and_whoever_lost_it_overwrites_nothing") {
        return;
    }
    let scene = Scene::set().await;
    let first = &scene.world;
    first.look(&scene.volume).await;
    let second = World::fake("b", &first.store).await;
    let holding = second.node.holding();
    assert!(matches!(holding, Holding::HeldByAnother { alive: true, .. }), "{holding:?}");
    let contents = first.store.contents();
    let call = second.call_since(0);
    let own = VolumeId::derive("tester", &call.operation, 0);
    let held_off = second.create_as(&call, &own).await.err().map(|error| error.kind());
    assert_eq!(held_off, Some(ErrorKind::Precondition), "nothing begins that would wait for it");
    let refused = second.node.recover(false, Progress::default()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition, "{refused:?}");
    assert_eq!(first.store.contents(), contents, "who is held off writes nothing");

    second.node.recover(true, Progress::default()).await.unwrap();
    let found = describe(&second.files(&scene.volume).await).unwrap();
    same("what was taken over", &scene.before, &found);
    put(&second, &scene.volume, "of-the-second", "saved").await;
    let entry = second.snapshot(&scene.volume).await;
    let heads: BTreeMap<Key, Bytes> = heads(&first.store);

    // the first one does not know yet
    put(first, &scene.volume, "of-the-first", "too late").await;
    let late = first.snapshot_as(&first.call(), &scene.volume).await.unwrap();
    let lost = tokio::spawn(late.saved);
    until("the first says that it lost the volume", || async {
        let status = first.node.status(&scene.volume).await.map_err(|error| error.to_string())?;
        let told = status.problems.iter().any(|problem| problem.what.contains("another node"));
        told.then_some(()).ok_or(format!("{:?}", status.problems))
    })
    .await;
    let told = tokio::time::timeout(DEADLINE, lost).await;
    let told = told.expect("who waits is told").unwrap().expect_err("not as if it were saved");
    assert_eq!(told.kind(), ErrorKind::Precondition, "{told:?}");
    assert!(told.to_string().contains("not known"), "it may have taken effect: {told}");
    until("the first says that it lost the store", || async {
        let holding = first.node.holding();
        matches!(holding, Holding::HeldByAnother { .. }).then_some(()).ok_or(format!("{holding:?}"))
    })
    .await;
    let refused = first.snapshot_as(&first.call(), &scene.volume).await.err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Precondition, "{refused:?}");
    let unsaved = fs::read(first.files(&scene.volume).await.join("of-the-first")).unwrap();
    assert_eq!(unsaved, b"too late", "what is not saved stays");
    let status = first.node.status(&scene.volume).await.unwrap();
    let hints: Vec<_> = status.problems.iter().filter_map(|one| one.hint.as_deref()).collect();
    assert!(hints.iter().any(|hint| hint.contains("cove path")), "{:?}", status.problems);
    assert_eq!(status.store, "held_by_another");
    assert_eq!(heads, heads_of(&first.store, &heads), "a head of the second is overwritten");
    let head = stored_head(&first.store, &scene.volume).unwrap();
    assert!(head.find_entry(&entry).is_some());
    let views = first.node.entries(&scene.volume).await.unwrap();
    let late = views.iter().find(|view| view.record.id == late.value.entry.record.id).unwrap();
    assert_eq!(late.durability, Durability::OnThisNode, "not saved, and not said to be");
    first.node.stop().await;
    second.node.stop().await;
}

fn heads(store: &MemoryStore) -> BTreeMap<Key, Bytes> {
    let heads = store.contents().into_iter().filter(|(key, _)| key.as_str().ends_with("/head"));
    heads.collect()
}

fn heads_of(store: &MemoryStore, wanted: &BTreeMap<Key, Bytes>) -> BTreeMap<Key, Bytes> {
    heads(store).into_iter().filter(|(key, _)| wanted.contains_key(key)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_never_written_down_is_in_nobodys_way() {
    if !is_root("a_snapshot_that_was_never_written_down_is_in_nobodys_way") {
        return;
    }
    let mut scene = Scene::set().await;
    let live = SubvolumePath::Volume(scene.volume.clone());
    let attempt = |call: &Call| SubvolumePath::Stored(scene.volume.clone(), call.operation);
    let (again, never) = (scene.world.call(), scene.world.call());
    let pool = scene.world.pool.get();
    for call in [&again, &never] {
        pool.snapshot(&live, &attempt(call), Access::ReadOnly, &scene.volume).unwrap();
        let row = StoredRow {
            volume: scene.volume.clone(),
            operation: call.operation,
            entry: Some(EntryId::derive(&call.operation, "snapshot")),
            root: None,
            captured_us: 0,
        };
        scene.world.database().await.put_stored(&row).await.unwrap();
    }
    let made = scene.world.snapshot_as(&again, &scene.volume).await.unwrap();
    made.saved.await.unwrap();
    let places = [attempt(&again), attempt(&never)];
    scene.world.restart().await;
    assert!(pool.find(&places[0]).unwrap().is_some(), "an entry's snapshot is kept");
    assert!(pool.find(&places[1]).unwrap().is_none(), "an attempt is swept");
    scene.world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_captured_behind_a_trash_and_what_was_written_before_it_is_saved() {
    if !is_root("nothing_is_captured_behind_a_trash_and_what_was_written_before_it_is_saved") {
        return;
    }
    let scene = Scene::set().await;
    let (world, store) = (&scene.world, &scene.world.store);
    let entry = world.snapshot(&scene.volume).await;
    put(world, &scene.volume, "last", "written right before").await;
    let now = describe(&world.files(&scene.volume).await).unwrap();
    world.look(&scene.volume).await;
    store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    let (node, volume, call) = (world.node.clone(), scene.volume.clone(), world.call());
    let trashing =
        tokio::spawn(async move { node.set_trashed(call, volume, true).await.map(drop) });
    let kinds = async {
        loop {
            let snapshot = world.snapshot_as(&world.call(), &scene.volume).await.err();
            // captured before the trash was: once more
            let Some(snapshot) = snapshot else { continue };
            let restore = world.restore_as(&world.call(), &scene.volume, &entry, &[]).await.err();
            let fork = world.fork_as(&world.call(), &scene.volume, Moment::Now, 1).await.err();
            let others = [restore, fork].map(|error| error.map(|error| error.kind()));
            break (snapshot.kind(), others);
        }
    };
    let kinds = tokio::time::timeout(DEADLINE, kinds).await;
    let found = describe(&world.files(&scene.volume).await).unwrap();
    // before anything can fail here: a call that waits would keep the test from ending
    store.heal();
    trashing.await.unwrap().unwrap();
    let refused = (ErrorKind::Precondition, [Some(ErrorKind::Precondition); 2]);
    assert_eq!(kinds.expect("the trash is on its way"), refused);
    assert_eq!(found, now, "nothing was swapped");

    let second = World::fake("b", store).await;
    second.node.recover(true, Progress::default()).await.unwrap();
    let found = describe(&second.files(&scene.volume).await).unwrap();
    same("what was written before the trash", &now, &found);
    second.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_that_stopped_at_any_step_is_finished_by_the_next() {
    if !is_root("a_recovery_that_stopped_at_any_step_is_finished_by_the_next") {
        return;
    }
    let scene = Scene::set().await;
    scene.world.look(&scene.volume).await;
    for step in 0.. {
        let mut second = World::fake(&format!("b{step}"), &scene.world.store).await;
        let AnyPool::Fake(pool) = &second.pool else { unreachable!("it is a fake") };
        pool.fail_after(step, std::io::ErrorKind::Other);
        let first = second.node.recover(true, Progress::default()).await.unwrap();
        second.restart().await;
        let again = second.node.recover(true, Progress::default()).await.unwrap();
        assert!(again.lost.is_empty(), "step {step}: {:?}", again.lost);
        let found = describe(&second.files(&scene.volume).await).unwrap();
        same(&format!("step {step}"), &scene.before, &found);
        second.node.stop().await;
        if first.lost.is_empty() {
            assert!(step > 3, "the steps of a recovery were failed");
            return;
        }
    }
}
