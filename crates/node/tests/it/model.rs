//! Random histories of several volumes against a model that only remembers what the trees looked like.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cove_btrfs::SubvolumePath;
use cove_content::chunks::{Chunks, PackCache};
use cove_content::head::Head;
use cove_content::locations::Locations;
use cove_content::remote::Remote;
use cove_content::session::Session;
use cove_content::store::store_tree;
use cove_content::volumes::{EntryEdit, Moment, Progress, VerifyLevel, Volumes};
use cove_objects::{Key, MemoryStore, Store};
use cove_testkit::proof::{Chance, figure, rounds, seed};
use cove_testkit::trees::{Description, Kind, describe, difference};
use cove_types::{Digest, EntryId, Label, VolumeId};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::world::{DEADLINE, World, is_root, memory};

type Tree = BTreeMap<Vec<u8>, Description>;

/// What every state looked like.
#[derive(Default)]
struct Model {
    /// In the order in which they were made, so that a seed chooses the same again.
    volumes: Vec<VolumeId>,
    entries: BTreeMap<VolumeId, Vec<(EntryId, Tree)>>,
}

impl Model {
    fn add_volume(&mut self, volume: VolumeId) {
        self.volumes.push(volume.clone());
        self.entries.insert(volume, Vec::new());
    }

    fn add(&mut self, volume: &VolumeId, entry: EntryId, tree: &Tree) {
        self.entries.get_mut(volume).unwrap().push((entry, tree.clone()));
    }

    fn tree(&self, volume: &VolumeId, entry: &EntryId) -> &Tree {
        &self.entries[volume].iter().find(|(other, _)| other == entry).unwrap().1
    }
}

#[track_caller]
fn same(what: &str, wanted: &Tree, found: &Tree) {
    let lines = difference(wanted, found);
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

/// Everything below a directory, relative to it.
fn walk(top: &Path, at: &Path, found: &mut Vec<PathBuf>) {
    for one in fs::read_dir(top.join(at)).unwrap() {
        let one = one.unwrap();
        let path = at.join(one.file_name());
        found.push(path.clone());
        if one.file_type().unwrap().is_dir() {
            walk(top, &path, found);
        }
    }
}

/// Removes whatever is at a path.
fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Sizes at the borders of pages, inline data and chunks.
const BORDERS: [usize; 7] = [0, 700, 4 << 10, 16 << 10, 128 << 10, 256 << 10, 300_000];

fn size(chance: &mut Chance) -> usize {
    (BORDERS[chance.index(BORDERS.len())] + chance.index(3)).saturating_sub(1)
}

fn content(chance: &mut Chance) -> Vec<u8> {
    let size = size(chance);
    match chance.index(4) {
        0 => vec![0; size],
        1 => b"the same line again\n".repeat(size / 20 + 1)[..size].to_vec(),
        2 => [b"SQLite format 3\0", &chance.bytes(size)[..]].concat(),
        _ => chance.bytes(size),
    }
}

/// A place for something new: in a random directory, under one of a few names.
fn place(files: &Path, chance: &mut Chance) -> PathBuf {
    let mut found = Vec::new();
    walk(files, Path::new(""), &mut found);
    let is_home = |path: &&PathBuf| {
        path.components().count() < 4
            && fs::symlink_metadata(files.join(path)).is_ok_and(|found| found.is_dir())
    };
    let mut homes: Vec<&PathBuf> = found.iter().filter(is_home).collect();
    let top = PathBuf::new();
    homes.push(&top);
    let home = chance.pick(&homes).map_or(&top, |home| *home);
    files.join(home).join(format!("n{}", chance.index(9)))
}

/// One random edit; what cannot be done at that place is left.
fn edit(files: &Path, chance: &mut Chance) {
    let mut all = Vec::new();
    walk(files, Path::new(""), &mut all);
    all.sort_unstable();
    let kind_of = |path: &PathBuf| fs::symlink_metadata(files.join(path)).unwrap().file_type();
    let regular: Vec<&PathBuf> = all.iter().filter(|path| kind_of(path).is_file()).collect();
    let some = chance.pick(&all).map(|path: &PathBuf| files.join(path));
    let file = chance.pick(&regular).map(|path: &&PathBuf| files.join(path));
    let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
    match (chance.index(18), some, file) {
        (0, ..) => {
            let new = place(files, chance);
            remove(&new);
            fs::create_dir(new).unwrap();
        }
        (1, _, Some(file)) => {
            let length = fs::metadata(&file).unwrap().len();
            let mut file = open(&file);
            let at = chance.index(usize::try_from(length).unwrap() + 1) as u64;
            file.seek(SeekFrom::Start(at)).unwrap();
            let length = chance.index(20_000);
            file.write_all(&chance.bytes(length)).unwrap();
        }
        (2, _, Some(file)) => open(&file).set_len(size(chance) as u64).unwrap(),
        (3, _, Some(file)) => {
            let at = chance.index(100_000) as u64;
            let length = 1 + chance.index(200_000) as u64;
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(open(&file), flags, at, length);
        }
        (4, _, Some(file)) => {
            let new = place(files, chance);
            if new != file {
                remove(&new);
                let target = File::create(&new).unwrap();
                let source = File::open(&file);
                // a clone where the file system has them
                let cloned = source
                    .as_ref()
                    .is_ok_and(|source| rustix::fs::ioctl_ficlone(&target, source).is_ok());
                if !cloned && file.exists() {
                    fs::copy(&file, &new).unwrap();
                }
            }
        }
        (5 | 6, Some(from), _) => {
            let to = place(files, chance);
            if !to.starts_with(&from) && !from.starts_with(&to) {
                remove(&to);
                fs::rename(from, to).unwrap();
            }
        }
        (7, _, Some(file)) => {
            let new = place(files, chance);
            if new != file && !file.starts_with(&new) {
                remove(&new);
                fs::hard_link(file, new).unwrap();
            }
        }
        (8, ..) => {
            let new = place(files, chance);
            remove(&new);
            symlink(format!("../to/{}", chance.index(100)), new).unwrap();
        }
        (9, ..) => {
            let new = place(files, chance);
            remove(&new);
            let kind = [FileType::Fifo, FileType::Socket][chance.index(2)];
            rustix::fs::mknodat(CWD, new, kind, Mode::from_raw_mode(0o640), 0).unwrap();
        }
        (10, Some(some), _) => remove(&some),
        (11, Some(some), _) if !some.is_symlink() => {
            let mode = [0o644, 0o755, 0o600, 0o400, 0o777, 0o000][chance.index(6)];
            fs::set_permissions(some, fs::Permissions::from_mode(mode)).unwrap();
        }
        (12, Some(some), _) => {
            let tv_sec = [-1, 0, 1_600_000_000, 16_725_225_600][chance.index(4)];
            let time = Timespec { tv_sec, tv_nsec: chance.index(1_000_000_000) as i64 };
            let times = Timestamps { last_access: time, last_modification: time };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(CWD, some, &times, flags).unwrap();
        }
        (13, Some(some), _) if some.is_file() || some.is_dir() => {
            let name = ["user.one", "user.two"][chance.index(2)];
            let length = [0, 10, 1_500][chance.index(3)];
            let value = chance.bytes(length);
            let _ = rustix::fs::lsetxattr(some, name, &value, XattrFlags::empty());
        }
        (14, Some(some), _) if some.is_file() || some.is_dir() => {
            let _ = rustix::fs::lremovexattr(some, "user.one");
        }
        (15, Some(some), _) => {
            // another kind under the same name
            let is_dir = some.is_dir() && !some.is_symlink();
            remove(&some);
            match is_dir {
                true => fs::write(some, content(chance)).unwrap(),
                false => fs::create_dir(some).unwrap(),
            }
        }
        _ => {
            let new = place(files, chance);
            if fs::symlink_metadata(&new).is_ok_and(|found| !found.is_file()) {
                remove(&new);
            }
            fs::write(new, content(chance)).unwrap();
        }
    }
}

fn head(store: &MemoryStore, volume: &VolumeId) -> Head {
    let key = Key::parse(&format!("teams/home/volumes/{volume}/head")).unwrap();
    Head::decode(&store.contents()[&key]).unwrap()
}

/// The digest of a volume's present tree when all of it is read and nothing is known.
async fn digest_in_full(world: &World, volume: &VolumeId) -> Digest {
    let pool = world.pool.get();
    let (env, volume) = (world.env.clone(), volume.clone());
    let runtime = tokio::runtime::Handle::current();
    let storing = tokio::task::spawn_blocking(move || {
        pool.flush().unwrap();
        let dir = pool.open(&SubvolumePath::Volume(volume.clone())).unwrap();
        let store = memory() as Arc<dyn Store>;
        let remote = Remote::new(store, runtime, "home".parse().unwrap());
        let cache = Arc::new(PackCache::new(None));
        let chunks = Chunks::new(remote, cache, Locations::default());
        let pin = *b"full-pin";
        let mut session = Session::new(&chunks, &env, &volume, pin, Progress::default());
        store_tree(&dir, &mut session, &Progress::default()).unwrap().root.digest
    });
    storing.await.unwrap()
}

/// The tree after a path of another was put into it, links and the times of directories above left out.
fn with_path(now: &Tree, then: &Tree, path: &[u8]) -> Tree {
    let is_inside = |other: &[u8]| {
        other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    };
    let outside = now.iter().filter(|(other, _)| !is_inside(other));
    let inside = then.iter().filter(|(other, _)| is_inside(other));
    outside.chain(inside).map(|(path, one)| (path.clone(), one.clone())).collect()
}

fn is_above(other: &[u8], path: &[u8]) -> bool {
    other.is_empty() || path.strip_prefix(other).is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn loosely(tree: &Tree, path: &[u8]) -> Tree {
    let mut tree = tree.clone();
    for (other, one) in &mut tree {
        one.linked = None;
        if is_above(other, path) {
            one.mtime = (0, 0);
        }
    }
    tree
}

async fn state_of(world: &World, volume: &VolumeId) -> Tree {
    describe(&world.files(volume).await).unwrap()
}

/// One step of a history, in words.
async fn step(world: &mut World, model: &mut Model, chance: &mut Chance) -> String {
    let volume = chance.pick(&model.volumes).unwrap().clone();
    let files = world.files(&volume).await;
    let edits = chance.index(13);
    for _ in 0..edits {
        edit(&files, chance);
    }
    let now = describe(&files).unwrap();
    let entries = model.entries[&volume].clone();
    let known: Vec<EntryId> = entries.iter().map(|(entry, _)| *entry).collect();
    let entry = chance.pick(&known).copied();
    let what = match (chance.index(16), entry) {
        (0..=3, _) => {
            let entry = world.snapshot(&volume).await;
            model.add(&volume, entry, &now);
            same("a snapshot leaves the files alone", &now, &state_of(world, &volume).await);
            let digest = digest_in_full(world, &volume).await;
            let head = head(&world.store, &volume);
            assert_eq!(head.now.tree, digest, "what changed, stored, is all of it, stored");
            assert_eq!(head.find_entry(&entry).unwrap().root.tree, digest);
            "snapshot".to_owned()
        }
        (4..=6, Some(entry)) => {
            let restored = world.restore(&volume, &entry).await;
            same("a restore", model.tree(&volume, &entry), &state_of(world, &volume).await);
            match restored.before {
                // an entry that is that state already, or one of its own
                Some(before) if known.contains(&before.record.id) => {
                    let kept = model.tree(&volume, &before.record.id);
                    same("the entry that holds the state before", &now, kept);
                }
                Some(before) => model.add(&volume, before.record.id, &now),
                None => panic!("the state before is not kept"),
            }
            let head = head(&world.store, &volume);
            assert_eq!(head.now.tree, head_tree(world, &volume, &entry).await, "restore");
            format!("restore {entry}")
        }
        (7, Some(entry)) => {
            let then = model.tree(&volume, &entry).clone();
            let then = &then;
            let paths: Vec<&Vec<u8>> =
                now.keys().chain(then.keys()).filter(|path| !path.is_empty()).collect();
            let Some(path) = chance.pick(&paths) else { return "nothing".into() };
            let text = std::str::from_utf8(path).unwrap();
            let call = world.call();
            let restored = world.restore_as(&call, &volume, &entry, &[text]).await;
            let path = path.as_slice();
            let mut wanted = with_path(&now, then, path);
            let is_possible = is_below_directories(&now, path);
            match restored {
                Ok(restored) => {
                    let before = restored.saved.await.unwrap().before;
                    let id = before.map(|before| before.record.id);
                    assert_eq!(id, Some(EntryId::derive(&call.operation, "before")));
                    let found = state_of(world, &volume).await;
                    // directories above that were gone are made
                    if then.contains_key(path) {
                        let above = found.iter().filter(|(other, _)| is_above(other, path));
                        for (other, one) in above {
                            wanted.entry(other.clone()).or_insert_with(|| one.clone());
                        }
                    }
                    if is_possible {
                        let (wanted, found) = (loosely(&wanted, path), loosely(&found, path));
                        same("a restore of a path", &wanted, &found);
                    }
                    model.add(&volume, id.unwrap(), &now);
                }
                Err(error) => {
                    assert!(!is_possible, "restore of {text} from {entry}: {error:?}");
                    same("a refused restore", &now, &state_of(world, &volume).await);
                }
            }
            format!("restore {text} of {entry}")
        }
        (8, entry) if model.volumes.len() < 5 => {
            let (moment, wanted) = match entry {
                Some(entry) if chance.index(2) == 0 => {
                    (Moment::Entry(entry), model.tree(&volume, &entry))
                }
                _ => (Moment::Now, &now),
            };
            let wanted = wanted.clone();
            let fork = world.fork(&volume, moment.clone()).await;
            same("a fork", &wanted, &state_of(world, &fork).await);
            same("the source of a fork", &now, &state_of(world, &volume).await);
            model.add_volume(fork);
            format!("fork {moment:?}")
        }
        (9, Some(entry)) => {
            let label: Label = format!("l{}", chance.bits() % 1_000_000).parse().unwrap();
            let edit = match chance.index(3) {
                0 => EntryEdit::Label(None),
                1 => EntryEdit::Label(Some(label)),
                _ => EntryEdit::Pin(chance.index(2) == 0),
            };
            let call = world.call();
            world.node.edit_entry(call, volume.clone(), entry, edit.clone()).await.unwrap();
            let views = world.node.entries(&volume).await.unwrap();
            let view = views.iter().find(|view| view.record.id == entry).unwrap();
            match &edit {
                EntryEdit::Label(label) => assert_eq!(view.record.label, *label),
                EntryEdit::Pin(pinned) => assert_eq!(view.record.pinned, *pinned),
                EntryEdit::Trash | EntryEdit::Undelete { .. } => {}
            }
            format!("{edit:?}")
        }
        (10, _) => {
            for trashed in [true, false] {
                let call = world.call();
                let status = world.node.set_trashed(call, volume.clone(), trashed).await.unwrap();
                assert_eq!(status.trashed_at.is_some(), trashed);
            }
            same("what came back from the trash", &now, &state_of(world, &volume).await);
            "trash and back".to_owned()
        }
        (11, _) => {
            world.restart().await;
            same("after a start", &now, &state_of(world, &volume).await);
            "start again".to_owned()
        }
        _ => {
            world.look(&volume).await;
            let digest = digest_in_full(world, &volume).await;
            let stored = head(&world.store, &volume).now.tree;
            assert_eq!(stored, digest, "what changed, stored, is all of it, stored");
            "look".to_owned()
        }
    };
    format!("{edits} edits, {what}")
}

/// Whether all above a path are directories, so that something can be put there.
fn is_below_directories(tree: &Tree, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut above = slashes.map(|(at, _)| &path[..at]);
    above.all(|above| tree.get(above).is_none_or(|one| one.kind == Kind::Directory))
}

async fn head_tree(world: &World, volume: &VolumeId, entry: &EntryId) -> Digest {
    let views = world.node.entries(volume).await.unwrap();
    views.iter().find(|view| view.record.id == *entry).unwrap().record.root.tree
}

/// All states are as they were, on a machine that has only the store.
async fn lose_and_recover(world: &World, other: &World, model: &Model) {
    let mut states = BTreeMap::new();
    for volume in model.entries.keys() {
        world.look(volume).await;
        states.insert(volume.clone(), state_of(world, volume).await);
        let level = VerifyLevel::Read { part: 1, of: 1 };
        let problems = world.node.verify(volume, level).await.unwrap().problems;
        assert!(problems.is_empty(), "{problems:?}");
    }
    world.node.stop().await;
    let recovered = other.node.recover(true, Progress::default()).await.unwrap();
    assert!(recovered.lost.is_empty(), "{:?}", recovered.lost);
    assert_eq!(recovered.volumes.len(), states.len());
    for (volume, wanted) in states {
        same("a recovered volume", &wanted, &state_of(other, &volume).await);
        let views = other.node.entries(&volume).await.unwrap();
        let entries = &model.entries[&volume];
        assert_eq!(views.len(), entries.len(), "the timeline of {volume}");
        for view in views {
            other.restore(&volume, &view.record.id).await;
            let found = state_of(other, &volume).await;
            same("a recovered entry", model.tree(&volume, &view.record.id), &found);
        }
    }
    other.node.stop().await;
}

async fn history(mut world: World, other: World, test: &str) {
    let seed = seed(test);
    let mut chance = Chance::new(seed);
    let mut model = Model::default();
    model.add_volume(world.create().await);
    let rounds = rounds(40, 150);
    for round in 0..rounds {
        let node = world.node.clone();
        let stepping = step(&mut world, &mut model, &mut chance);
        let what = match tokio::time::timeout(DEADLINE, stepping).await {
            Ok(what) => what,
            Err(_) => {
                let all = node.list().await.unwrap();
                let problems: Vec<_> = all.iter().flat_map(|status| &status.problems).collect();
                panic!("round {round} does not end: {problems:#?}");
            }
        };
        eprintln!("round {round}: {what}");
    }
    lose_and_recover(&world, &other, &model).await;
    let entries: usize = model.entries.values().map(Vec::len).sum();
    let volumes = model.volumes.len();
    figure(
        test,
        format!("{rounds} rounds, {volumes} volumes, {entries} entries compared, seed {seed}"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_history_on_the_fake_pool_is_kept() {
    if is_root("a_random_history_on_the_fake_pool_is_kept") {
        let store = memory();
        let (world, other) = (World::fake("a", &store).await, World::fake("b", &store).await);
        history(world, other, "a_random_history_on_the_fake_pool_is_kept").await;
    }
}

mod live {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_random_history_on_btrfs_is_kept() {
        if is_root("a_random_history_on_btrfs_is_kept") {
            let store = memory();
            let world = World::on_loop("a", &store).await;
            let other = World::on_loop("b", &store).await;
            history(world, other, "a_random_history_on_btrfs_is_kept").await;
        }
    }
}
