use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cove_objects::{
    Listed, Location, MemoryStore, Object, Put, Requests, Store, Version, WriteError,
};

use super::*;
use crate::index::IndexWriter;
use crate::locations::{INDEXES_MAX, PACKS_MAX};
use crate::read::ContentReader;
use crate::root::Root;
use crate::sample::volume::{Files, StoredVolume, assert_holds, path, read_all};

/// A store that writes down what is read, and in how many rounds: requests that are under way
/// together are one.
struct Watched {
    store: Arc<MemoryStore>,
    asked: Mutex<Vec<(String, Range<u64>)>>,
    under_way: AtomicUsize,
    rounds: AtomicUsize,
    /// Objects that were not read yet, when the first read of each is to be wrong.
    errs: Mutex<Option<HashSet<String>>>,
}

impl Watched {
    fn new(store: &Arc<MemoryStore>) -> Arc<Self> {
        let store = Arc::clone(store);
        let (under_way, rounds) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (asked, errs) = (Mutex::default(), Mutex::default());
        Arc::new(Self { store, asked, under_way, rounds, errs })
    }

    async fn ask(&self, key: &Key, range: Range<u64>) {
        self.asked.lock().unwrap().push((key.as_str().to_owned(), range));
        if self.under_way.fetch_add(1, Ordering::SeqCst) == 0 {
            self.rounds.fetch_add(1, Ordering::SeqCst);
        }
        // the latency of a store, within which all of a round are sent
        tokio::time::sleep(Duration::from_millis(3)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    /// What was read since the last call.
    fn take(&self) -> Vec<(String, Range<u64>)> {
        self.rounds.store(0, Ordering::SeqCst);
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn rounds(&self) -> usize {
        self.rounds.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for Watched {
    async fn get(&self, key: &Key, bytes_max: u64) -> Result<Object, ReadError> {
        self.ask(key, 0..u64::MAX).await;
        self.store.get(key, bytes_max).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.ask(key, range.clone()).await;
        let is_wrong =
            self.errs.lock().unwrap().as_mut().is_some_and(|left| left.remove(key.as_str()));
        let bytes = self.store.get_range(key, range.clone()).await?;
        match (is_wrong, range.start % 2) {
            (false, _) => Ok(bytes),
            (true, 0) => Err(ReadError::NotFound { key: key.to_string() }),
            (true, _) => {
                let mut flipped = bytes.to_vec();
                let middle = flipped.len() / 2;
                flipped[middle] ^= 1;
                Ok(flipped.into())
            }
        }
    }

    async fn get_tail(&self, key: &Key, bytes: u64) -> Result<(Bytes, u64), ReadError> {
        self.ask(key, 0..bytes).await;
        self.store.get_tail(key, bytes).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Put, WriteError> {
        self.store.put_if_absent(key, bytes).await
    }

    async fn put_if_match(
        &self,
        key: &Key,
        bytes: Bytes,
        version: &Version,
    ) -> Result<Put, WriteError> {
        self.store.put_if_match(key, bytes, version).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<Listed>, ReadError> {
        self.store.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &Key) -> Result<(), WriteError> {
        self.store.delete(key).await
    }

    fn location(&self) -> Location {
        self.store.location()
    }

    fn requests(&self) -> Requests {
        self.store.requests()
    }
}

/// A volume whose chunks lie under eight indexes, each of several pages, and in young packs. Most
/// rows are of no file: they make the indexes as long as those of a large volume.
fn under_eight_indexes() -> (StoredVolume, Arc<Watched>) {
    let mut volume = StoredVolume::new();
    for number in 0..INDEXES_MAX {
        for n in 0..40 {
            let bytes = format!("{number} {n} ").repeat(300);
            volume.files.insert(format!("f{}", number * 40 + n), bytes.into());
        }
        let next = volume.store();
        volume.set(next);
        let pack = volume.head.locations.packs.pop().unwrap();
        index_alone(&mut volume, &pack, 30_000);
    }
    volume.save_often(PACKS_MAX - 1);
    let watched = Watched::new(&volume.store);
    let store = Arc::clone(&watched) as Arc<dyn Store>;
    let runtime = volume.remote.runtime().clone();
    volume.remote = Remote::new(store, runtime, "t".parse().unwrap());
    (volume, watched)
}

/// Puts an index over a pack, with so many rows of chunks that nobody asks for.
fn index_alone(volume: &mut StoredVolume, pack: &PackRef, more: u64) {
    let footer = volume.chunks().footers_of(&[*pack]).unwrap().remove(0).unwrap();
    let entry = index::PackEntry { id: pack.id, bytes: pack.bytes, blake3: footer.blake3 };
    let mut rows = footer.rows.clone();
    let first = rows[0];
    rows.extend((0..more).map(|n| IndexRow {
        digest: Digest::of(&[pack.id.0.as_slice(), &n.to_le_bytes()].concat()),
        ..first
    }));
    rows.sort_by_key(|row| row.digest);
    let id = volume.env.index_id();
    let mut writer = IndexWriter::new(Vec::new(), id, vec![entry]).unwrap();
    for row in rows {
        writer.push(&index::Location { pack: pack.id, row }).unwrap();
    }
    let (bytes, reference) = writer.finish().unwrap();
    assert!(bytes.len() as u64 > WHOLE_INDEX_BYTES, "it is not fetched whole");
    volume.store.set(&volume.remote.index_key(&id), bytes);
    volume.head.locations.indexes.push(reference);
}

fn on_disk(dir: &Path) -> Arc<PackCache> {
    Arc::new(PackCache::new(Some(dir.to_owned())))
}

/// What was asked for more than once.
fn twice(asked: &[(String, Range<u64>)]) -> Vec<(String, Range<u64>)> {
    let mut counts: BTreeMap<(String, u64), usize> = BTreeMap::new();
    for (key, range) in asked {
        // a wider request asks for each page in it
        let pages = (range.end - range.start).div_ceil(1 << 16).min(4096);
        for page in 0..pages {
            *counts.entry((key.clone(), range.start + page * 65_520)).or_default() += 1;
        }
    }
    let often = counts.into_iter().filter(|(_, count)| *count > 1);
    often.map(|((key, start), _)| (key, start..start)).collect()
}

#[test]
fn a_restore_asks_for_no_page_twice_and_the_next_for_none() {
    let (volume, watched) = under_eight_indexes();
    let dir = tempfile::tempdir().unwrap();
    let (root, files) = volume.history.last().unwrap();
    assert_holds(volume.chunks_with(&on_disk(dir.path())), root, files);
    let asked = watched.take();
    let of_indexes: Vec<_> =
        asked.into_iter().filter(|(key, _)| key.contains("/indexes/")).collect();
    assert!(of_indexes.len() >= INDEXES_MAX);
    assert_eq!(twice(&of_indexes), []);

    // a restart: memory is gone, the disk is not
    assert_holds(volume.chunks_with(&on_disk(dir.path())), root, files);
    let asked = watched.take();
    assert!(!asked.is_empty(), "frames are fetched");
    let footer = |key: &str, range: &Range<u64>| {
        let young = &volume.head.locations.packs;
        young.iter().any(|pack| key.ends_with(&pack.id.to_string()) && range.end == pack.bytes)
    };
    let again = asked.iter().find(|(key, range)| key.contains("/indexes/") || footer(key, range));
    assert_eq!(again, None);
}

#[test]
fn a_file_of_an_entry_is_read_in_few_rounds_by_who_knows_nothing() {
    let (volume, watched) = under_eight_indexes();
    let (root, files) = &volume.history[5];
    for name in ["f0", "f170"] {
        watched.take();
        let chunks = Arc::new(volume.cold());
        let place = path(&format!("files/{name}"));
        let entry = tree::find_entry(&*chunks, &root.tree, &place).unwrap().unwrap();
        let mut reader = ContentReader::new(chunks, root.tree, place, entry, 0..u64::MAX);
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
        assert!(bytes == files[name]);
        // footers and tables; pages and node, a level; pages and chunk; the head comes besides
        let levels = usize::from(root.level) + 1;
        assert!(watched.rounds() <= 1 + 2 * levels + 2, "{} rounds", watched.rounds());
        assert!(watched.rounds() < 12, "{} rounds", watched.rounds());
    }
}

#[test]
fn cached_files_that_are_cut_or_damaged_or_gone_are_fetched_again() {
    let (volume, watched) = under_eight_indexes();
    let (root, files) = volume.history.last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert_holds(volume.chunks_with(&on_disk(dir.path())), root, files);
    let whole = watched.take().len();
    type Damage = fn(&Path, &[u8]);
    let damages: [Damage; 4] = [
        |file, bytes| std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap(),
        |file, _| std::fs::write(file, b"").unwrap(),
        |file, bytes| {
            let mut other = bytes.to_vec();
            let middle = other.len() / 2;
            other[middle] ^= 1;
            std::fs::write(file, other).unwrap();
        },
        |file, _| std::fs::remove_file(file).unwrap(),
    ];
    for damage in damages {
        for file in std::fs::read_dir(dir.path()).unwrap() {
            let file = file.unwrap().path();
            // what is kept to be gathered is not asked for
            if file.is_dir() {
                continue;
            }
            damage(&file, &std::fs::read(&file).unwrap());
        }
        assert_holds(volume.chunks_with(&on_disk(dir.path())), root, files);
        assert_eq!(watched.take().len(), whole, "all is fetched again");
        assert_holds(volume.chunks_with(&on_disk(dir.path())), root, files);
        assert!(watched.take().len() < whole, "and kept again");
    }
}

#[test]
fn the_files_of_a_cache_stay_within_their_bound() {
    let (volume, _) = under_eight_indexes();
    let (root, files) = volume.history.last().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bound = 1 << 20;
    let cache = Arc::new(PackCache::bounded(Some(dir.path().to_owned()), bound));
    assert_holds(volume.chunks_with(&cache), root, files);
    let bytes: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!((bound / 2..=bound).contains(&bytes), "{bytes} bytes");
}

#[test]
fn a_swapped_footer_and_a_swapped_index_are_damage() {
    let mut volume = StoredVolume::new();
    volume.save_often(2);
    let [first, second] = volume.head.locations.packs[..] else { panic!() };
    let (root, files) = volume.history[0].clone();
    let object = volume.store.contents()[&volume.remote.pack_key(&second.id)].clone();
    let mut swapped = volume.head.locations.clone();
    swapped.packs[0] = PackRef { id: first.id, ..second };
    volume.head.locations = swapped;
    volume.store.set(&volume.remote.pack_key(&first.id), object);
    let read = read_all(volume.cold(), &root);
    assert!(
        read.is_err()
            || read.unwrap().iter().all(|(name, read)| {
                read.as_ref().is_err() || read.as_ref().unwrap() == &files[name]
            })
    );
    let error = volume.cold().locate(&Digest::of(b"nothing")).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains(&first.id.to_string()));
}

#[test]
fn a_store_that_does_not_answer_is_no_damage_and_content_that_is_lost_is_stored_again() {
    let mut volume = StoredVolume::new();
    volume.save_often(3);
    volume.store.fail_next(1, cove_objects::Fault::BeforeEffect);
    let error = volume.cold().has(&Digest::of(b"nothing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);

    let lost = volume.head.locations.packs[0];
    volume.store.remove(&volume.remote.pack_key(&lost.id));
    volume.cache = Arc::new(PackCache::new(None));
    let (root, files): (Root, Files) = volume.history[0].clone();
    assert!(read_all(volume.cold(), &root).is_err());
    // the same content is written again
    volume.files = files.clone();
    volume.save();
    let now = volume.head.now.clone();
    assert_holds(volume.cold(), &now, &files);
}

#[test]
fn content_that_was_put_anew_is_read_as_long_as_one_of_its_places_is_whole() {
    let mut volume = StoredVolume::new();
    volume.save_often(2);
    let first = volume.head.locations.packs.clone();
    let packs: Vec<Key> = first.iter().map(|pack| volume.remote.pack_key(&pack.id)).collect();
    let before = volume.store.contents();
    packs.iter().for_each(|key| assert!(volume.store.remove(key)));
    volume.cache = Arc::new(PackCache::new(None));
    let (root, files): (Root, Files) = volume.history[0].clone();
    volume.files = files.clone();
    volume.save();
    packs.iter().for_each(|key| volume.store.set(key, before[key].clone()));
    let anew: Vec<Key> =
        volume.keys("packs").into_iter().filter(|key| !packs.contains(key)).collect();
    assert!(!anew.is_empty());
    // this node knows the places in the younger packs, and then those are lost
    let cache = Arc::new(PackCache::new(None));
    assert_holds(volume.chunks_with(&cache), &root, &files);
    anew.iter().for_each(|key| assert!(volume.store.remove(key)));
    assert_holds(volume.chunks_with(&cache), &root, &files);
    let checked = |chunks: &Chunks| {
        let footers = chunks.footers_of(&first).unwrap();
        let rows = footers.iter().flat_map(|pack| &pack.as_ref().unwrap().rows);
        let digests: Vec<Digest> = rows.map(|row| row.digest).collect();
        chunks.checked(&digests).into_iter().all(|chunk| chunk.is_ok())
    };
    assert!(checked(&volume.chunks_with(&cache)));
    // of one that is lost everywhere it is said
    volume.store.remove(&packs[0]);
    assert!(!checked(&volume.chunks_with(&cache)));
}

#[test]
fn what_one_read_says_of_an_object_is_not_believed() {
    let (volume, watched) = under_eight_indexes();
    let all = || {
        let keys = volume.store.contents().into_keys();
        keys.map(|key| key.as_str().to_owned()).collect::<HashSet<_>>()
    };
    let (root, files) = volume.history.last().unwrap();
    let cache = Arc::new(PackCache::new(None));
    *watched.errs.lock().unwrap() = Some(all());
    let tables = volume.chunks_with(&cache).packs().unwrap();
    assert_eq!(tables.damaged.len(), 0, "tables of indexes");
    // what tells where chunks lie is known by now, and each pack's frames are wrong once
    *watched.errs.lock().unwrap() = None;
    assert_holds(volume.chunks_with(&cache), root, files);
    *watched.errs.lock().unwrap() = Some(all());
    let chunks = volume.chunks_with(&cache);
    let digests: Vec<Digest> = files.values().map(|bytes| Digest::of(bytes)).collect();
    assert!(chunks.checked(&digests).into_iter().all(|chunk| chunk.is_ok()));
    let left = watched.errs.lock().unwrap().take().unwrap();
    assert!(left.len() < all().len(), "none was wrong");
}

#[test]
fn when_the_store_does_not_answer_the_rest_is_not_asked_for() {
    let (volume, watched) = under_eight_indexes();
    let chunks = volume.cold();
    let footers = chunks.footers_of(&volume.head.locations.packs).unwrap();
    let digests: Vec<Digest> = footers
        .iter()
        .flat_map(|pack| &pack.as_ref().unwrap().rows)
        .map(|row| row.digest)
        .collect();
    assert!(chunks.locate_all(&digests).unwrap().iter().all(|place| matches!(place, Ok(Some(_)))));
    assert!(digests.len() > 100);
    watched.take();
    volume.store.fail_when(|_| Some(cove_objects::Fault::BeforeEffect));
    let checked = chunks.checked(&digests);
    assert_eq!(checked.len(), digests.len());
    for chunk in checked {
        let error = chunk.err().expect("nothing answers");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    let asked = watched.take().len();
    assert!(asked <= 2 * PARALLEL, "{asked} requests for {} chunks", digests.len());
}
