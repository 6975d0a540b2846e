//! Homes that live twice: an old copy put back, two copies at once, databases or pools that are gone.
//! Nothing that any of them saved is lost, and nothing that was on the disk is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cove_content::document::ProjectDocument;
use cove_content::head::Head;
use cove_content::volumes::{
    Call, Moment, NewEntry, Progress, Restore, Source, VerifyLevel, VolumeError, VolumeStatus,
    Volumes,
};
use cove_database::NodeDatabase;
use cove_env::Env;
use cove_node::{Node, NodeOptions};
use cove_objects::{Fault, Key, MemoryStore, Request, Store};
use cove_testkit::trees::{Description, describe};
use cove_types::{EntryId, EntryKind, ProjectId, TreePath, VolumeId};
use tempfile::TempDir;

use crate::world::{AnyPool, is_root, memory, until};

/// A home on a disk, which may be copied while nothing runs there.
struct Home {
    dir: TempDir,
    is_real: bool,
    store: Arc<MemoryStore>,
    env: Env,
    running: Option<(Node, AnyPool)>,
}

impl Home {
    fn new(store: &Arc<MemoryStore>, is_real: bool) -> Self {
        let (dir, store) = (tempfile::tempdir().unwrap(), Arc::clone(store));
        Self { dir, is_real, store, env: Env::system(), running: None }
    }

    /// A home and everything in it once more.
    fn copy(&self) -> Self {
        assert!(self.running.is_none(), "a home is copied while nothing runs there");
        let copy = Self::new(&self.store, self.is_real);
        copied(self.dir.path(), copy.dir.path());
        copy
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a node there, under the names that its database keeps.
    async fn up(&mut self) {
        std::fs::create_dir_all(self.path("cache")).unwrap();
        let pool = match self.is_real {
            true => AnyPool::on_loop(self.dir.path()),
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
            look_every: std::time::Duration::from_secs(24 * 3600),
            store_every: std::time::Duration::from_secs(24 * 3600),
            pin: *b"test-pin",
            cache: self.path("cache"),
        };
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let node =
            Node::start(pool.get(), store, database, self.env.clone(), options).await.unwrap();
        self.running = Some((node, pool));
    }

    async fn down(&mut self) {
        let (node, pool) = self.running.take().unwrap();
        node.stop().await;
        drop(node);
        drop(pool);
    }

    fn node(&self) -> &Node {
        &self.running.as_ref().unwrap().0
    }

    fn call(&self, seq: u32) -> Call {
        Call {
            operation: self.env.operation_id(seq),
            principal: "tester".into(),
            request: *b"request.",
            progress: Progress::default(),
        }
    }

    async fn create(&self, slug: &str) -> VolumeId {
        let call = self.call(0);
        let volume = VolumeId::derive("tester", &call.operation, 0);
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
        let made = self.node().create(call, volume.clone(), document, Source::Empty);
        made.await.unwrap().saved.await.unwrap();
        volume
    }

    async fn status(&self, volume: &VolumeId) -> VolumeStatus {
        self.node().status(volume).await.unwrap()
    }

    async fn files(&self, volume: &VolumeId) -> PathBuf {
        self.status(volume).await.path.unwrap()
    }

    async fn write(&self, volume: &VolumeId, name: &str, text: &str) {
        std::fs::write(self.files(volume).await.join(name), text).unwrap();
    }

    /// Saves the present state as the background does.
    async fn look(&self, volume: &VolumeId) {
        let now = (volume.clone(), Moment::Now);
        self.node().diff(now.clone(), now).await.unwrap();
    }

    async fn snapshot(&self, volume: &VolumeId) -> EntryId {
        let entry = NewEntry {
            kind: EntryKind::Manual,
            author: "tester".into(),
            message: None,
            label: None,
            keep: 3,
        };
        let made = self.node().snapshot(self.call(u32::MAX), volume.clone(), entry).await.unwrap();
        made.saved.await.unwrap().entry.record.id
    }

    async fn text(
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
    async fn texts(&self, volume: &VolumeId, name: &str) -> Vec<String> {
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

    async fn rescues(&self, volume: &VolumeId) -> usize {
        let entries = self.node().entries(volume).await.unwrap();
        let is_rescue = |record: &cove_content::entry::EntryRecord| {
            record.is_live() && record.kind == EntryKind::Rescue
        };
        entries.iter().filter(|view| is_rescue(&view.record)).count()
    }

    async fn assert_whole(&self, volume: &VolumeId) {
        let level = VerifyLevel::Read { part: 1, of: 1 };
        let verified = self.node().verify(volume, level).await.unwrap();
        assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    }

    async fn problems(&self, volume: &VolumeId) -> Vec<String> {
        let status = self.status(volume).await;
        status.problems.into_iter().map(|problem| problem.what).collect()
    }

    fn head(&self, volume: &VolumeId) -> Head {
        Head::decode(&self.store.contents()[&head_key(volume)]).unwrap()
    }

    async fn recover(&self) -> (Vec<VolumeId>, Vec<String>) {
        let recovered = self.node().recover(true, Progress::default()).await.unwrap();
        let lost = recovered.lost.into_iter().map(|lost| format!("{}: {}", lost.what, lost.why));
        (recovered.volumes.into_iter().map(|status| status.volume).collect(), lost.collect())
    }

    /// What the doctor finds wrong.
    async fn ills(&self) -> Vec<String> {
        let checks = self.node().doctor().await;
        checks.into_iter().filter(|check| !check.ok).map(|check| check.what).collect()
    }

    async fn rescued(&self, volume: &VolumeId, cause: &str) -> Vec<EntryId> {
        let entries = self.node().entries(volume).await.unwrap();
        let of_cause =
            entries.into_iter().filter(|view| view.record.cause.as_deref() == Some(cause));
        of_cause.map(|view| view.record.id).collect()
    }

    async fn restore(&self, volume: &VolumeId, entry: EntryId) {
        let restore =
            Restore { entry, paths: Vec::new(), force: true, author: "tester".into(), keep: 3 };
        let made = self.node().restore(self.call(u32::MAX), volume.clone(), restore).await.unwrap();
        made.saved.await.unwrap();
    }
}

/// Packs that came since, and their bytes.
fn packs_since(store: &MemoryStore, before: &BTreeMap<Key, Bytes>) -> Vec<(Key, Bytes)> {
    let packs = store.contents().into_iter().filter(|(key, _)| key.as_str().contains("/packs/"));
    packs.filter(|(key, _)| !before.contains_key(key)).collect()
}

fn noise(seed: u32, words: u32) -> Vec<u8> {
    (0..words)
        .flat_map(|n| n.wrapping_mul(n ^ seed).wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect()
}

fn head_key(volume: &VolumeId) -> Key {
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

type Tree = BTreeMap<Vec<u8>, Description>;

fn tree(files: &Path) -> Tree {
    describe(files).unwrap()
}

async fn an_old_copy_of_the_home_loses_nothing(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "v1").await;
    let one = home.snapshot(&volume).await;
    home.down().await;
    let mut old = home.copy();

    home.up().await;
    home.write(&volume, "version", "v2").await;
    let two = home.snapshot(&volume).await;
    home.write(&volume, "version", "v3").await;
    home.look(&volume).await;
    home.down().await;

    old.up().await;
    old.write(&volume, "other", "of the old home").await;
    let files = tree(&old.files(&volume).await);
    let three = old.snapshot(&volume).await;
    assert_eq!(old.text(&volume, &Moment::Entry(three), "version").await.unwrap(), "v1");
    assert_eq!(old.text(&volume, &Moment::Entry(two), "version").await.unwrap(), "v2");
    assert_eq!(old.text(&volume, &Moment::Entry(one), "version").await.unwrap(), "v1");
    let texts = old.texts(&volume, "version").await;
    assert!(texts.contains(&"v3".to_owned()), "{texts:?}");
    assert_eq!(old.rescues(&volume).await, 1);
    let problems = old.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("another copy")), "{problems:?}");

    // what comes after it is stored from the right base
    old.write(&volume, "version", "v4").await;
    old.look(&volume).await;
    old.assert_whole(&volume).await;
    assert_eq!(old.rescues(&volume).await, 1, "one state, one rescue");
    let rescue = old.node().entries(&volume).await.unwrap();
    let rescue = rescue.into_iter().find(|view| view.record.kind == EntryKind::Rescue).unwrap();
    let pinned = cove_content::volumes::EntryEdit::Pin(true);
    let call = old.call(u32::MAX);
    old.node().edit_entry(call, volume.clone(), rescue.record.id, pinned).await.unwrap();
    assert_eq!(old.problems(&volume).await, [""; 0], "a rescue that somebody has seen");

    let mut other = Home::new(&store, false);
    other.up().await;
    let recovered = other.node().recover(true, Progress::default()).await.unwrap();
    assert!(recovered.lost.is_empty(), "{:?}", recovered.lost);
    let mut found = tree(&other.files(&volume).await);
    assert_eq!(other.text(&volume, &Moment::Now, "version").await.unwrap(), "v4");
    let mut files = files;
    for tree in [&mut files, &mut found] {
        tree.retain(|path, _| path == b"other");
    }
    assert_eq!(found, files);
    old.down().await;
    other.down().await;
}

async fn two_copies_that_save_in_turn_lose_nothing(is_real: bool) {
    let store = memory();
    let mut a = Home::new(&store, is_real);
    a.up().await;
    let volume = a.create("shop").await;
    a.write(&volume, "mine", "both").await;
    a.look(&volume).await;
    a.down().await;
    let mut b = a.copy();
    a.up().await;
    b.up().await;
    let mut saved = vec!["both".to_owned()];
    for round in 0..5 {
        for (name, home) in [("a", &a), ("b", &b)] {
            let text = format!("{name} in round {round}");
            home.write(&volume, "mine", &text).await;
            home.write(&volume, &format!("{name}-{round}"), &text.repeat(5_000)).await;
            match round % 2 {
                0 => drop(home.snapshot(&volume).await),
                _ => home.look(&volume).await,
            }
            assert_eq!(home.text(&volume, &Moment::Now, "mine").await.unwrap(), text);
            // a further save without another one in between rescues nothing
            let rescues = home.rescues(&volume).await;
            home.write(&volume, "again", &text).await;
            home.look(&volume).await;
            assert_eq!(home.rescues(&volume).await, rescues, "{text}");
            saved.push(text);
        }
    }
    b.assert_whole(&volume).await;
    let texts = b.texts(&volume, "again").await;
    for text in &saved[1..] {
        assert!(texts.contains(text), "{text} is lost: {texts:?}");
    }
    // the files of both are those that each of them has
    for (name, home) in [("a", &a), ("b", &b)] {
        let files = tree(&home.files(&volume).await);
        let own = |path: &Vec<u8>| path.starts_with(format!("{name}-").as_bytes());
        assert_eq!(files.keys().filter(|path| own(path)).count(), 5);
    }
    a.down().await;
    b.down().await;
}

async fn a_damaged_file_is_named_and_all_the_rest_comes_back(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let other = home.create("other").await;
    home.write(&other, "kept", "of the other").await;
    home.look(&other).await;
    let volume = home.create("cor").await;
    for n in 0..50 {
        home.write(&volume, &format!("file-{n}"), &format!("content {n}")).await;
    }
    let one = home.snapshot(&volume).await;
    let before = store.contents();
    let files = home.files(&volume).await;
    std::fs::write(files.join("big2"), noise(7, 1 << 20)).unwrap();
    home.look(&volume).await;
    let whole = tree(&files);
    home.down().await;
    let packs = packs_since(&store, &before);
    let [(key, bytes)] = packs.as_slice() else { panic!("{} packs", packs.len()) };
    let mut damaged = bytes.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    store.set(key, damaged);

    let mut second = Home::new(&store, is_real);
    second.up().await;
    let (found, lost) = second.recover().await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(lost.iter().any(|lost| lost.starts_with("project cor: /big2: ")), "{lost:?}");
    assert_eq!(lost.len(), 1, "{lost:?}");
    let mut wanted = whole.clone();
    wanted.remove(b"big2".as_slice());
    assert_eq!(tree(&second.files(&volume).await), wanted);
    let rescued = second.rescued(&volume, "damage").await;
    assert_eq!(rescued.len(), 1);
    let problems = second.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("could be read")), "{problems:?}");
    assert_eq!(second.problems(&other).await, [""; 0]);
    // what is there now is saved as it is, and the damaged state stays
    second.look(&volume).await;
    assert!(second.text(&volume, &Moment::Now, "file-7").await.is_ok());
    assert_ne!(second.head(&volume).now.tree, home.head(&volume).entries[0].root.tree);
    let (_, lost) = second.recover().await;
    assert_eq!(lost, [""; 0], "again");
    second.restore(&volume, one).await;
    second.down().await;

    // repaired, it comes back
    store.set(key, bytes.clone());
    second.up().await;
    second.assert_whole(&volume).await;
    assert_eq!(second.problems(&volume).await, [""; 0], "found whole");
    second.restore(&volume, rescued[0]).await;
    assert_eq!(tree(&second.files(&volume).await), whole);
    second.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_a_damaged_file_is_named_and_all_the_rest_comes_back() {
    if is_root("on_the_fake_pool_a_damaged_file_is_named_and_all_the_rest_comes_back") {
        a_damaged_file_is_named_and_all_the_rest_comes_back(false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_present_state_that_is_lost_leaves_the_newest_entry_that_is_not() {
    if !is_root("a_present_state_that_is_lost_leaves_the_newest_entry_that_is_not") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("cor").await;
    let empty = store.contents();
    home.write(&volume, "version", "v1").await;
    home.snapshot(&volume).await;
    home.write(&volume, "version", "v2").await;
    let two = home.snapshot(&volume).await;
    let before = store.contents();
    home.write(&volume, "version", "v3").await;
    home.look(&volume).await;
    home.down().await;
    let packs = packs_since(&store, &before);
    packs.iter().for_each(|(key, _)| assert!(store.remove(key)));

    let mut second = Home::new(&store, false);
    second.up().await;
    let (found, lost) = second.recover().await;
    assert_eq!(found, std::slice::from_ref(&volume));
    assert!(lost[0].starts_with("project cor: its present state: "), "{lost:?}");
    assert!(lost[0].contains(two.as_str()), "{lost:?}");
    assert_eq!(second.text(&volume, &Moment::Now, "version").await.unwrap(), "v2");
    second.look(&volume).await;
    second.down().await;

    // nothing at all can be read: the project is there, without files
    let all = packs_since(&store, &empty);
    all.iter().for_each(|(key, _)| assert!(store.remove(key)));
    let mut third = Home::new(&store, false);
    third.up().await;
    let (found, lost) = third.recover().await;
    assert_eq!(found, std::slice::from_ref(&volume));
    assert!(lost[0].starts_with("project cor: its files: "), "{lost:?}");
    let status = third.status(&volume).await;
    assert_eq!(status.path, None);
    let problems = third.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("not on this machine")), "{problems:?}");
    for (key, bytes) in all.iter().chain(&packs) {
        store.set(key, bytes.clone());
    }
    let damaged = third.rescued(&volume, "damage").await;
    assert_eq!(damaged.len(), 2, "one of each recovery");
    third.restore(&volume, two).await;
    assert_eq!(third.text(&volume, &Moment::Now, "version").await.unwrap(), "v2");
    let texts = third.texts(&volume, "version").await;
    assert!(texts.contains(&"v3".to_owned()), "{texts:?}");
    third.assert_whole(&volume).await;
    third.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_anothers_are_named_and_the_rest_comes_back() {
    if !is_root("heads_that_are_anothers_are_named_and_the_rest_comes_back") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "file", "kept").await;
    home.look(&volume).await;
    let moved = VolumeId::derive("tester", &home.env.operation_id(0), 0);
    let twin = VolumeId::derive("tester", &home.env.operation_id(0), 0);
    let broken = VolumeId::derive("tester", &home.env.operation_id(0), 0);
    let head = home.head(&volume);
    store.set(&head_key(&moved), head.encode().unwrap());
    store.set(&head_key(&twin), Head { volume: twin.clone(), ..head }.encode().unwrap());
    store.set(&head_key(&broken), "no head at all");
    let (found, lost) = home.recover().await;
    assert_eq!(found, std::slice::from_ref(&volume), "what is in use here keeps its project");
    assert_eq!(lost.len(), 3, "{lost:?}");
    for id in [&moved, &twin, &broken] {
        assert!(lost.iter().any(|lost| lost.contains(id.as_str())), "{id}: {lost:?}");
    }
    let names_both =
        |lost: &&String| lost.contains("project shop") && lost.contains(volume.as_str());
    assert_eq!(lost.iter().filter(names_both).count(), 2, "{lost:?}");
    home.down().await;

    let mut second = Home::new(&store, false);
    second.up().await;
    let (found, lost) = second.recover().await;
    assert_eq!((found.len(), lost.len()), (1, 3), "{lost:?}");
    assert_eq!(second.text(&found[0], &Moment::Now, "file").await.unwrap(), "kept");
    second.down().await;
}

fn forget_node(home: &Home) {
    for name in ["node.db", "node.db-wal", "node.db-shm"] {
        let _ = std::fs::remove_file(home.path(name));
    }
}

async fn files_that_no_database_knows_are_kept(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    home.look(&volume).await;
    home.down().await;
    forget_node(&home);

    // the head's state: simply adopted
    home.up().await;
    let ills = home.ills().await;
    assert!(ills.iter().any(|what| what.contains(volume.as_str())), "{ills:?}");
    let (found, lost) = home.recover().await;
    assert_eq!((found, lost.len()), (vec![volume.clone()], 0), "{lost:?}");
    assert_eq!(home.rescues(&volume).await, 0);
    assert_eq!(home.status(&volume).await.unsaved_bytes, Some(0));
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "saved");
    home.write(&volume, "version", "never saved").await;
    home.down().await;
    forget_node(&home);

    // another state: an entry beside the store's
    home.up().await;
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0]);
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "saved");
    let rescued = home.rescued(&volume, "found here").await;
    assert_eq!(rescued.len(), 1);
    let found = home.text(&volume, &Moment::Entry(rescued[0]), "version").await.unwrap();
    assert_eq!(found, "never saved");
    let problems = home.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("on this machine")), "{problems:?}");
    home.restore(&volume, rescued[0]).await;
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "never saved");
    home.assert_whole(&volume).await;
    home.write(&volume, "version", "after").await;
    home.down().await;

    // the record of the copy alone is gone: the head was ours, and what is here comes after it
    let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
    database.delete_copy(&volume).await.unwrap();
    database.close().await;
    home.up().await;
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0]);
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "after");
    home.look(&volume).await;
    home.assert_whole(&volume).await;
    home.down().await;
    let mut second = Home::new(&store, false);
    second.up().await;
    second.recover().await;
    assert_eq!(second.text(&volume, &Moment::Now, "version").await.unwrap(), "after");
    second.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_files_that_no_database_knows_are_kept() {
    if is_root("on_the_fake_pool_files_that_no_database_knows_are_kept") {
        files_that_no_database_knows_are_kept(false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_head_that_cannot_be_read_comes_from_the_store_again() {
    if !is_root("a_kept_head_that_cannot_be_read_comes_from_the_store_again") {
        return;
    }
    let store = memory();
    let mut home = Home::new(&store, false);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    home.look(&volume).await;
    home.write(&volume, "version", "not saved yet").await;
    home.down().await;
    for is_away in [false, true] {
        let database = NodeDatabase::open(&home.path("node.db")).await.unwrap();
        let row = database.find_head(&volume).await.unwrap().unwrap();
        let row = cove_database::HeadRow { body: b"{}".to_vec(), ..row };
        database.put_head(&row).await.unwrap();
        database.close().await;
        if is_away {
            store.fail_when(|_| Some(Fault::BeforeEffect));
        }
        home.up().await;
        if is_away {
            let ills = home.ills().await;
            assert!(ills.iter().any(|what| what.contains(volume.as_str())), "{ills:?}");
            assert!(home.node().list().await.unwrap().is_empty());
            store.heal();
            until("the head is read again", || async {
                home.node().status(&volume).await.map_err(|error| error.to_string())
            })
            .await;
        }
        let problems = home.problems(&volume).await;
        assert!(problems.iter().any(|what| what.contains("read from the store")), "{problems:?}");
        let text = format!("saved after {is_away}");
        home.write(&volume, "version", &text).await;
        home.look(&volume).await;
        assert_eq!(home.rescues(&volume).await, 0, "the head was this copy's own");
        home.assert_whole(&volume).await;
        home.down().await;
    }
}

async fn a_pool_that_is_gone_is_said_and_mended(is_real: bool) {
    let store = memory();
    let mut home = Home::new(&store, is_real);
    home.up().await;
    let volume = home.create("shop").await;
    home.write(&volume, "version", "saved").await;
    home.look(&volume).await;
    // captured, and its snapshot goes with the pool
    store.fail_when(|request: &Request| request.is_write().then_some(Fault::BeforeEffect));
    home.write(&volume, "version", "captured").await;
    let entry = NewEntry {
        kind: EntryKind::Manual,
        author: "tester".into(),
        message: None,
        label: None,
        keep: 3,
    };
    let captured = home.node().snapshot(home.call(u32::MAX), volume.clone(), entry).await;
    drop(captured.unwrap().saved);
    home.down().await;
    store.heal();
    match is_real {
        true => std::fs::remove_file(home.path("pool.img")).unwrap(),
        false => std::fs::remove_dir_all(home.path("pool")).unwrap(),
    }
    home.up().await;
    let (_, lost) = home.recover().await;
    assert_eq!(lost, [""; 0]);
    until("what was captured is said to be lost", || async {
        let told = home.problems(&volume).await;
        let is_told = told.iter().any(|what| what.contains("gone from this node"));
        if is_told { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(home.text(&volume, &Moment::Now, "version").await.unwrap(), "saved");
    home.snapshot(&volume).await;
    home.down().await;
    match is_real {
        true => std::fs::remove_file(home.path("pool.img")).unwrap(),
        false => std::fs::remove_dir_all(home.path("pool")).unwrap(),
    }
    home.up().await;
    let problems = home.problems(&volume).await;
    assert!(problems.iter().any(|what| what.contains("not on this machine")), "{problems:?}");
    let ills = home.ills().await;
    assert!(ills.iter().any(|what| what.contains("shop")), "{ills:?}");
    let (found, lost) = home.recover().await;
    assert_eq!((found, lost), (vec![volume.clone()], Vec::new()));
    assert_eq!(home.problems(&volume).await, [""; 0]);
    assert_eq!(home.ills().await, [""; 0]);
    home.write(&volume, "version", "goes on").await;
    home.look(&volume).await;
    home.assert_whole(&volume).await;
    home.down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_a_pool_that_is_gone_is_said_and_mended() {
    if is_root("on_the_fake_pool_a_pool_that_is_gone_is_said_and_mended") {
        a_pool_that_is_gone_is_said_and_mended(false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_an_old_copy_of_the_home_loses_nothing() {
    if is_root("on_the_fake_pool_an_old_copy_of_the_home_loses_nothing") {
        an_old_copy_of_the_home_loses_nothing(false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_fake_pool_two_copies_that_save_in_turn_lose_nothing() {
    if is_root("on_the_fake_pool_two_copies_that_save_in_turn_lose_nothing") {
        two_copies_that_save_in_turn_lose_nothing(false).await;
    }
}

mod live {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_old_copy_of_the_home_loses_nothing() {
        if is_root("an_old_copy_of_the_home_loses_nothing") {
            super::an_old_copy_of_the_home_loses_nothing(true).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_copies_that_save_in_turn_lose_nothing() {
        if is_root("two_copies_that_save_in_turn_lose_nothing") {
            super::two_copies_that_save_in_turn_lose_nothing(true).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_file_is_named_and_all_the_rest_comes_back() {
        if is_root("a_damaged_file_is_named_and_all_the_rest_comes_back") {
            super::a_damaged_file_is_named_and_all_the_rest_comes_back(true).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_that_no_database_knows_are_kept() {
        if is_root("files_that_no_database_knows_are_kept") {
            super::files_that_no_database_knows_are_kept(true).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_pool_that_is_gone_is_said_and_mended() {
        if is_root("a_pool_that_is_gone_is_said_and_mended") {
            super::a_pool_that_is_gone_is_said_and_mended(true).await;
        }
    }
}
