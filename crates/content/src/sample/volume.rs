//! A volume in a store in memory, saved as a node saves it, for tests.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use cove_env::Env;
use cove_objects::{Key as ObjectKey, MemoryStore};
use cove_types::{Digest, FileTime, TreePath};

use crate::chunks::{Chunks, PackCache};
use crate::gather::{GatherError, gather};
use crate::head::{Head, RootFrame};
use crate::read::ContentReader;
use crate::remote::Remote;
use crate::root::{NotCaptured, Root};
use crate::session::Session;
use crate::tree::{self, Builder, ChunkList, Content, Entry, Grid, Item, Key, NodeSink};
use crate::volumes::Progress;

/// What each state has as its project's document.
const DOCUMENT: &[u8] = b"a document";

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) struct StoredVolume {
    pub(crate) env: Env,
    _runtime: tokio::runtime::Runtime,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) remote: Remote,
    pub(crate) cache: Arc<PackCache>,
    pub(crate) head: Head,
    pub(crate) files: Files,
    /// Every state that was saved.
    pub(crate) history: Vec<(Root, Files)>,
}

impl StoredVolume {
    pub(crate) fn new() -> Self {
        let env = Env::system();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let store = Arc::new(MemoryStore::new(env.clone()));
        let remote = Remote::new(
            Arc::clone(&store) as Arc<dyn cove_objects::Store>,
            runtime.handle().clone(),
            "t".parse().unwrap(),
        );
        let mut head = super::head();
        head.locations = crate::locations::Locations::default();
        let cache = Arc::new(PackCache::new(None));
        let (files, history) = (Files::new(), Vec::new());
        Self { env, _runtime: runtime, store, remote, cache, head, files, history }
    }

    /// As this computer reads.
    pub(crate) fn chunks(&self) -> Chunks {
        self.chunks_with(&self.cache)
    }

    /// As a computer reads that has never seen the volume.
    pub(crate) fn cold(&self) -> Chunks {
        self.chunks_with(&Arc::new(PackCache::new(None)))
    }

    pub(crate) fn chunks_with(&self, cache: &Arc<PackCache>) -> Chunks {
        Chunks::new(self.remote.clone(), Arc::clone(cache), self.head.locations.clone())
    }

    /// Puts the present files and gives the head that is to be put, not gathered.
    pub(crate) fn store(&self) -> Head {
        self.store_edited(|_| {})
    }

    /// As [`store`](Self::store), of what `edit` makes of the items of the tree.
    pub(crate) fn store_edited(&self, edit: impl FnOnce(&mut Vec<Item>)) -> Head {
        let known = self.chunks();
        let volume = self.head.volume.clone();
        let mut session = Session::new(&known, &self.env, &volume, [7; 8], Progress::default());
        let mut items = vec![Item {
            key: Key::entry(&path("files")),
            value: Entry::new(Content::Directory, 0o755, FileTime::default()).encode().unwrap(),
        }];
        for (name, bytes) in &self.files {
            items.extend(self.items(&path(&format!("files/{name}")), bytes, &mut session));
        }
        items.sort_by(|a, b| a.key.cmp(&b.key));
        edit(&mut items);
        let mut builder = Builder::new(&mut session as &mut dyn NodeSink);
        items.into_iter().for_each(|item| builder.push(item).unwrap());
        let root = builder.finish().unwrap();
        session.put_meta(Digest::of(DOCUMENT), DOCUMENT).unwrap();
        let packed = session.finish(&self.head.record()).unwrap();
        let mut next = self.head.clone();
        next.now = Root::new(&root, NotCaptured::default(), Digest::of(DOCUMENT), Vec::new());
        next.seq += 1;
        next.root_frame = packed.find(&root.digest).map(|(pack, row)| RootFrame {
            pack,
            offset: row.frame_offset,
            bytes: row.frame_bytes,
        });
        next.locations.packs.extend(packed.packs.iter().map(|(pack, _)| *pack));
        next
    }

    fn items(&self, path: &TreePath, bytes: &[u8], session: &mut Session<'_>) -> Vec<Item> {
        let grid = Grid::Large;
        let size = bytes.len() as u64;
        let digests: Vec<Digest> = bytes
            .chunks(grid.bytes() as usize)
            .map(|chunk| {
                let digest = Digest::of(chunk);
                session.put_data(digest, chunk).unwrap();
                digest
            })
            .collect();
        let whole = (digests.len() == 1).then(|| digests[0]);
        let content = Content::File { size, grid, chunk: whole };
        let value = Entry::new(content, 0o644, FileTime::default()).encode().unwrap();
        let mut items = vec![Item { key: Key::entry(path), value }];
        if whole.is_none() {
            for (number, group) in digests.chunks(tree::GROUP_CHUNKS).enumerate() {
                let offset = number as u64 * grid.group_bytes();
                let list = ChunkList::of_group(grid, size, offset, group.to_vec()).unwrap();
                let value = list.unwrap().encode();
                items.push(Item { key: Key::chunks(path, offset), value });
            }
        }
        items
    }

    pub(crate) fn gather(&self, next: Head) -> Result<Head, GatherError> {
        gather(&self.chunks(), next, &self.env, [7; 8])
    }

    /// Saves the present files.
    pub(crate) fn save(&mut self) {
        let next = self.gather(self.store()).unwrap();
        self.set(next);
    }

    pub(crate) fn set(&mut self, head: Head) {
        assert!(head.locations.check().is_ok(), "{:?}", head.locations);
        self.history.push((head.now.clone(), self.files.clone()));
        self.head = head;
    }

    /// Saves `count` times, each time with another small file.
    pub(crate) fn save_often(&mut self, count: usize) {
        for _ in 0..count {
            let n = self.history.len();
            self.files.insert(format!("small-{n}"), format!("content {n} ").repeat(50).into());
            self.save();
        }
    }

    /// The key of each object of a kind.
    pub(crate) fn keys(&self, kind: &str) -> Vec<ObjectKey> {
        let is_kind = |key: &ObjectKey| key.as_str().split('/').nth(2) == Some(kind);
        self.store.contents().into_keys().filter(is_kind).collect()
    }

    /// Flips a bit of a byte of an object.
    pub(crate) fn flip(&self, key: &ObjectKey, at: usize) {
        let mut bytes = self.store.contents()[key].to_vec();
        bytes[at] ^= 0x10;
        self.store.set(key, bytes);
    }
}

pub(crate) fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

/// The files of a state, each with its bytes or why they cannot be read.
pub(crate) fn read_all(
    chunks: Chunks,
    root: &Root,
) -> Result<BTreeMap<String, Result<Vec<u8>, String>>, tree::ReadError> {
    let chunks = Arc::new(chunks);
    let mut found = BTreeMap::new();
    for entry in tree::list_subtree(&*chunks, &root.tree, &path("files")) {
        let (place, entry) = entry?;
        let name = String::from_utf8(place.name().unwrap().to_vec()).unwrap();
        let all = 0..u64::MAX;
        let mut reader = ContentReader::new(Arc::clone(&chunks), root.tree, place, entry, all);
        let mut bytes = Vec::new();
        let read = reader.read_to_end(&mut bytes).map_err(|error| error.to_string());
        found.insert(name, read.map(|_| bytes));
    }
    Ok(found)
}

/// Sees that a state holds these files.
pub(crate) fn assert_holds(chunks: Chunks, root: &Root, files: &Files) {
    let found = read_all(chunks, root).unwrap();
    let wanted: BTreeMap<_, _> =
        files.iter().map(|(name, bytes)| (name.clone(), Ok(bytes.clone()))).collect();
    assert!(found == wanted, "the files of a state are others");
}
