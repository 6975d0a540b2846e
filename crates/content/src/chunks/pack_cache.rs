//! What was read or written here of packs, indexes and trees, in memory and on disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use cove_types::{Digest, IndexId, PackId};

use super::cache_dir::CacheDir;
use super::kept::Kept;
use crate::decode::DecodeError;
use crate::index::{self, IndexTable, PageRef};
use crate::locations::{GATHERED_PACK_BYTES, IndexRef, PackRef};
use crate::pack::PackIndex;

/// Footers, tables and pages on disk, in bytes: the pages of 10 million chunks, more than 1 TB.
const DISK_BYTES_MAX: u64 = 512 << 20;
/// Objects that a gathering takes in, on disk, in bytes: the small packs of a head have at most 252 MiB
/// and most often less than one. Those that were gathered go as all others, when there are more.
const GATHERED_BYTES_MAX: u64 = 256 << 20;
/// What they lie in, below the directory of the cache.
const GATHERED_DIR: &str = "gathered";
/// Footers in memory, in bytes: those of a head with 64 packs of small files, and as much again.
const FOOTERS_BYTES_MAX: usize = 64 << 20;
/// Tables of indexes in memory, in bytes: 64 for 1,260 chunks.
const TABLES_BYTES_MAX: usize = 16 << 20;
/// Pages of indexes in memory, in bytes: they are checked when they come from disk, not each time.
const PAGES_BYTES_MAX: usize = 32 << 20;
/// Nodes of trees in memory, in bytes: those of a few hundred thousand files.
const NODES_BYTES_MAX: usize = 32 << 20;

/// The footers, indexes and nodes of trees that were read or written here: a small change
/// reads none of them again.
///
/// A node of this computer has one for all its volumes. Nodes are in memory only, what is to be
/// gathered on disk only; the rest is on disk too, where a restart finds it. What comes from disk is checked as what comes
/// from the store is.
pub struct PackCache {
    disk: Option<CacheDir>,
    gathered: Option<CacheDir>,
    footers: Mutex<Kept<PackId, Arc<PackIndex>>>,
    tables: Mutex<Kept<IndexId, Arc<IndexTable>>>,
    pages: Mutex<Kept<(IndexId, usize), Bytes>>,
    nodes: Mutex<Kept<Digest, Bytes>>,
    /// How many pages of an index were fetched.
    fetched: Mutex<HashMap<IndexId, usize>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl PackCache {
    /// A cache that keeps files in `dir`, which exists; without one, only in memory.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self::bounded(dir, DISK_BYTES_MAX)
    }

    /// A cache whose files have at most `disk_bytes_max` bytes.
    pub(super) fn bounded(dir: Option<PathBuf>, disk_bytes_max: u64) -> Self {
        let gathered = dir.as_ref().map(|dir| dir.join(GATHERED_DIR));
        // what cannot be kept is read from the store
        let gathered = gathered.filter(|dir| std::fs::create_dir_all(dir).is_ok());
        Self {
            disk: dir.map(|dir| CacheDir::open(dir, disk_bytes_max)),
            gathered: gathered.map(|dir| CacheDir::open(dir, GATHERED_BYTES_MAX)),
            footers: Mutex::new(Kept::new(FOOTERS_BYTES_MAX)),
            tables: Mutex::new(Kept::new(TABLES_BYTES_MAX)),
            pages: Mutex::new(Kept::new(PAGES_BYTES_MAX)),
            nodes: Mutex::new(Kept::new(NODES_BYTES_MAX)),
            fetched: Mutex::default(),
        }
    }

    fn keep_on_disk(&self, name: &str, bytes: &[u8]) {
        if let Some(disk) = &self.disk {
            disk.keep(name, bytes);
        }
    }

    fn find_on_disk(&self, name: &str) -> Option<Vec<u8>> {
        self.disk.as_ref()?.find(name)
    }

    /// Keeps a pack's footer.
    ///
    /// # Errors
    ///
    /// The footer is not one of this pack; nothing is kept then.
    pub fn keep(&self, pack: &PackRef, footer: &[u8]) -> Result<Arc<PackIndex>, DecodeError> {
        let index = self.remember(pack, footer)?;
        self.keep_on_disk(&pack.id.to_string(), footer);
        Ok(index)
    }

    fn remember(&self, pack: &PackRef, footer: &[u8]) -> Result<Arc<PackIndex>, DecodeError> {
        let index = Arc::new(PackIndex::decode_tail(footer, pack.bytes)?);
        if index.id != pack.id {
            return Err(DecodeError::damaged("pack", format!("it is pack {}", index.id)));
        }
        lock(&self.footers).keep(pack.id, Arc::clone(&index), footer.len());
        Ok(index)
    }

    pub(super) fn find(&self, pack: &PackRef) -> Option<Arc<PackIndex>> {
        if let Some(index) = lock(&self.footers).find(&pack.id) {
            return Some(index);
        }
        self.remember(pack, &self.find_on_disk(&pack.id.to_string())?).ok()
    }

    /// Keeps an index of which `tail` is the end, and all pages that are in it.
    ///
    /// # Errors
    ///
    /// The tables are not those of this index; nothing is kept then. Pages that are not what was
    /// written are left to whoever asks for them.
    pub(crate) fn keep_index(
        &self,
        index: &IndexRef,
        tail: &Bytes,
    ) -> Result<Arc<IndexTable>, DecodeError> {
        let from = tail.len().saturating_sub(index.table_bytes as usize);
        let table = self.remember_tables(index, &tail[from..])?;
        self.keep_on_disk(&tables_name(index.id), &tail[from..]);
        let before = index.bytes.saturating_sub(tail.len() as u64);
        for page in (0..table.page_count()).filter_map(|number| table.page(number)) {
            let Some(start) = page.offset.checked_sub(before) else { continue };
            let start = usize::try_from(start).unwrap_or(usize::MAX);
            if let Some(bytes) = tail.get(start..start.saturating_add(page.bytes)) {
                let _ = self.keep_page(index.id, &page, &Bytes::copy_from_slice(bytes));
            }
        }
        Ok(table)
    }

    fn remember_tables(
        &self,
        index: &IndexRef,
        tables: &[u8],
    ) -> Result<Arc<IndexTable>, DecodeError> {
        let table = Arc::new(IndexTable::decode_tail(tables, index.bytes)?);
        if table.id != index.id {
            return Err(DecodeError::damaged("index", format!("it is index {}", table.id)));
        }
        lock(&self.tables).keep(index.id, Arc::clone(&table), tables.len());
        Ok(table)
    }

    pub(super) fn find_table(&self, index: &IndexRef) -> Option<Arc<IndexTable>> {
        if let Some(table) = lock(&self.tables).find(&index.id) {
            return Some(table);
        }
        self.remember_tables(index, &self.find_on_disk(&tables_name(index.id))?).ok()
    }

    /// Keeps a page.
    ///
    /// # Errors
    ///
    /// It is not that page; nothing is kept then.
    pub(super) fn keep_page(
        &self,
        index: IndexId,
        page: &PageRef,
        bytes: &Bytes,
    ) -> Result<(), DecodeError> {
        index::check_page(page, bytes)?;
        lock(&self.pages).keep((index, page.number), bytes.clone(), bytes.len());
        self.keep_on_disk(&page_name(index, page.number), bytes);
        Ok(())
    }

    /// A page, checked.
    pub(super) fn find_page(&self, index: IndexId, page: &PageRef) -> Option<Bytes> {
        if let Some(bytes) = lock(&self.pages).find(&(index, page.number)) {
            return Some(bytes);
        }
        let bytes = Bytes::from(self.find_on_disk(&page_name(index, page.number))?);
        index::check_page(page, &bytes).ok()?;
        lock(&self.pages).keep((index, page.number), bytes.clone(), bytes.len());
        Some(bytes)
    }

    /// Keeps a small pack that this computer has written, for when it is gathered here or by a fork.
    pub(crate) fn keep_small_pack(&self, pack: PackId, bytes: &[u8]) {
        if let Some(gathered) = &self.gathered
            && (bytes.len() as u64) < GATHERED_PACK_BYTES
        {
            gathered.keep(&pack.to_string(), bytes);
        }
    }

    /// What was kept of a pack, which the caller is to check.
    pub(crate) fn find_small_pack(&self, pack: PackId) -> Option<Bytes> {
        self.gathered.as_ref()?.find(&pack.to_string()).map(Bytes::from)
    }

    /// Keeps a small index that this computer has written, for when it is merged.
    pub(crate) fn keep_small_index(&self, index: IndexId, bytes: &[u8]) {
        if let Some(gathered) = &self.gathered
            && (bytes.len() as u64) < GATHERED_PACK_BYTES
        {
            gathered.keep(&index.to_string(), bytes);
        }
    }

    /// What was kept of an index, which the caller is to check.
    pub(crate) fn find_small_index(&self, index: IndexId) -> Option<Bytes> {
        self.gathered.as_ref()?.find(&index.to_string()).map(Bytes::from)
    }

    /// Counts pages of an index that are about to be fetched; gives how many were before.
    pub(super) fn count_fetched(&self, index: IndexId, pages: usize) -> usize {
        let mut fetched = lock(&self.fetched);
        let count = fetched.entry(index).or_default();
        let before = *count;
        *count += pages;
        before
    }

    /// Keeps a node of a tree, whose digest the caller has made or checked.
    pub(crate) fn keep_node(&self, digest: Digest, bytes: &Bytes) {
        lock(&self.nodes).keep(digest, bytes.clone(), bytes.len());
    }

    pub(super) fn find_node(&self, digest: &Digest) -> Option<Bytes> {
        lock(&self.nodes).find(digest)
    }
}

fn tables_name(index: IndexId) -> String {
    format!("{index}.tables")
}

fn page_name(index: IndexId, number: usize) -> String {
    format!("{index}.{number}")
}
