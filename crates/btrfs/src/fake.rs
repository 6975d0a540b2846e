//! The strict fake of a pool.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cove_types::{TreePath, VolumeId};
use rustix::fs::{CWD, RenameFlags};

use crate::{
    Access, Changes, ChangesError, Content, Dir, FileKind, Metadata, PathError, Pool, PoolError,
    Space, Subvolume, SubvolumePath, Touched, Usage,
};

/// A pool on any directory, for tests: a subvolume is a directory, a snapshot a copy of it.
///
/// It refuses what the real one refuses (except that one can write to what is read-only
/// and over a limit), can fail at any step, and forgets uuids and groups when it is
/// dropped. Its [`changes`](Pool::changes) know of no moves.
#[derive(Debug)]
pub struct FakePool {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    subvolumes: BTreeMap<SubvolumePath, Known>,
    limits: BTreeMap<VolumeId, u64>,
    last_id: u64,
    transaction: u64,
    /// Steps that still succeed, and how the one after them fails.
    failing: Option<(usize, io::ErrorKind)>,
    /// Steps of this name fail so.
    refused: Option<(&'static str, io::ErrorKind)>,
    /// How often each step was begun.
    begun: BTreeMap<&'static str, u64>,
    is_metadata_full: bool,
}

/// What the fake remembers of a subvolume.
#[derive(Debug, Clone)]
struct Known {
    subvolume: Subvolume,
    group: Option<VolumeId>,
    /// What it looked like when its generation was last told.
    looks: Vec<(TreePath, Metadata)>,
}

/// Makes a failure an error about a place.
fn failed(verb: &'static str, place: impl ToString) -> impl Fn(io::Error) -> PoolError {
    let place = place.to_string();
    move |source| PoolError::Io { verb, place: place.clone(), source }
}

/// As [`failed`], for what a [`Dir`] says.
fn refused(verb: &'static str, place: impl ToString) -> impl Fn(PathError) -> PoolError {
    let failed = failed(verb, place);
    move |error| match error {
        PathError::Io { source, .. } => failed(source),
        other => failed(io::Error::other(other.to_string())),
    }
}

fn not_found(place: &SubvolumePath) -> PoolError {
    PoolError::NotFound { place: place.to_string() }
}

impl State {
    /// One step: fails if it is the one that was asked to.
    fn step(&mut self, verb: &'static str, place: impl ToString) -> Result<(), PoolError> {
        *self.begun.entry(verb).or_default() += 1;
        if let Some((_, kind)) = self.refused.filter(|(refused, _)| *refused == verb) {
            return Err(failed(verb, place)(io::Error::from(kind)));
        }
        match &mut self.failing {
            None => Ok(()),
            Some((0, kind)) => {
                let source = io::Error::from(*kind);
                self.failing = None;
                Err(failed(verb, place)(source))
            }
            Some((steps, _)) => {
                *steps -= 1;
                Ok(())
            }
        }
    }

    /// A subvolume that nobody had before.
    fn fresh(&mut self, parent: Option<[u8; 16]>, access: Access) -> Subvolume {
        self.last_id += 1;
        self.transaction += 1;
        let mut uuid = *b"fake subvolume..";
        uuid[8..].copy_from_slice(&self.last_id.to_be_bytes());
        Subvolume {
            id: 255 + self.last_id,
            uuid,
            parent_uuid: parent,
            generation: self.transaction,
            created_generation: self.transaction,
            read_only: access == Access::ReadOnly,
        }
    }

    fn get(&self, place: &SubvolumePath) -> Result<&Known, PoolError> {
        self.subvolumes.get(place).ok_or_else(|| not_found(place))
    }

    fn refuse_taken(&self, place: &SubvolumePath) -> Result<(), PoolError> {
        match self.subvolumes.contains_key(place) {
            true => Err(PoolError::Exists { place: place.to_string() }),
            false => Ok(()),
        }
    }

    fn refuse_read_only_move(
        &self,
        from: &SubvolumePath,
        to: &SubvolumePath,
    ) -> Result<(), PoolError> {
        match self.get(from)?.subvolume.read_only && from.directory() != to.directory() {
            true => Err(PoolError::ReadOnlyMove { place: from.to_string() }),
            false => Ok(()),
        }
    }
}

impl FakePool {
    /// A fake in `dir`, which is made if it is missing. Subvolumes that are there already
    /// get new uuids and belong to no group.
    ///
    /// # Errors
    ///
    /// The directory cannot be made or read.
    pub fn open(dir: &Path) -> Result<Self, PoolError> {
        let shown = dir.display().to_string();
        let mut state = State::default();
        for directory in SubvolumePath::DIRECTORIES {
            let at = dir.join(directory);
            std::fs::create_dir_all(&at).map_err(failed("create", &shown))?;
            for entry in std::fs::read_dir(&at).map_err(failed("list", &shown))? {
                let name = entry.map_err(failed("list", &shown))?.file_name();
                let text = format!("{directory}/{}", name.to_string_lossy());
                let Ok(place) = text.parse() else { continue };
                let subvolume = state.fresh(None, Access::ReadWrite);
                let known = Known { subvolume, group: None, looks: Vec::new() };
                state.subvolumes.insert(place, known);
            }
        }
        Ok(Self { path: dir.to_owned(), state: Mutex::new(state) })
    }

    /// Lets `steps` more calls succeed and the one after them fail, once, before it has
    /// done anything. Each call of a method that returns a `Result` is a step.
    pub fn fail_after(&self, steps: usize, kind: io::ErrorKind) {
        self.state().failing = Some((steps, kind));
    }

    /// Lets every step of a name fail, until this is called again.
    pub fn refuse(&self, step: Option<(&'static str, io::ErrorKind)>) {
        self.state().refused = step;
    }

    /// How often a step of this name was begun.
    #[must_use]
    pub fn begun(&self, step: &str) -> u64 {
        self.state().begun.get(step).copied().unwrap_or(0)
    }

    /// Says of itself whether there is room for metadata, and refuses nothing.
    pub fn set_metadata_full(&self, is_full: bool) {
        self.state().is_metadata_full = is_full;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere has left the state whole: each call changes it last.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir(&self, place: &SubvolumePath) -> Result<Dir, PoolError> {
        Dir::from_path(&self.absolute(place)).map_err(refused("open", place))
    }
}

/// All entries below a directory, and itself, in the order of their paths' bytes.
pub(crate) fn walk(dir: &Dir) -> Result<Vec<(TreePath, Metadata)>, PathError> {
    let top = TreePath::top();
    let mut found = vec![(top.clone(), dir.metadata(&top)?)];
    let mut waiting = vec![top];
    while let Some(at) = waiting.pop() {
        for (name, metadata) in dir.list(&at)? {
            let Ok(path) = at.join(&name) else { continue };
            if metadata.kind == FileKind::Directory {
                waiting.push(path.clone());
            }
            found.push((path, metadata));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// What a subvolume looks like. Moving it is no change of it, so the top's ctime is left out.
fn looks(dir: &Dir) -> Result<Vec<(TreePath, Metadata)>, PathError> {
    let mut looks = walk(dir)?;
    for (_, metadata) in looks.iter_mut().filter(|(path, _)| path.is_top()) {
        metadata.ctime = metadata.mtime;
    }
    Ok(looks)
}

/// Copies everything below `from` into the empty directory `to`; devices are left out.
fn copy(from: &Dir, to: &Dir) -> Result<(), PathError> {
    let entries = walk(from)?;
    let mut first_names = BTreeMap::new();
    for (path, metadata) in &entries {
        if path.is_top() {
            continue;
        }
        if metadata.kind != FileKind::Directory && metadata.links > 1 {
            if let Some(first) = first_names.get(&metadata.inode) {
                to.hard_link(first, path)?;
                continue;
            }
            first_names.insert(metadata.inode, path.clone());
        }
        match metadata.kind {
            FileKind::Directory => to.create_dir(path, 0o700)?,
            FileKind::File => {
                let mut source = from.open_file(path)?;
                let mut target = to.create_file(path, 0o600)?;
                io::copy(&mut source, &mut target).map_err(|source| PathError::Io {
                    verb: "copy",
                    path: path.clone(),
                    source,
                })?;
            }
            FileKind::Symlink => to.symlink(path, &from.read_link(path)?)?,
            FileKind::Fifo => to.mkfifo(path, metadata.mode)?,
            FileKind::Socket => to.mksocket(path, metadata.mode)?,
            FileKind::Device => {}
        }
    }
    // Bottom-up, so that a directory's time is set after its entries are made.
    for (path, metadata) in entries.iter().rev() {
        if metadata.kind == FileKind::Device {
            continue;
        }
        if rustix::process::geteuid().is_root() {
            to.set_owner(path, metadata.uid, metadata.gid)?;
        }
        if metadata.kind != FileKind::Symlink {
            for name in from.list_xattrs(path)? {
                if let Some(value) = from.find_xattr(path, &name)? {
                    to.set_xattr(path, &name, &value)?;
                }
            }
            to.set_mode(path, metadata.mode)?;
        }
        to.set_times(path, metadata.mtime)?;
    }
    Ok(())
}

/// What of a file differs, or of anything else its metadata; `None` when nothing does.
fn difference(
    path: &TreePath,
    (old_dir, old): (&Dir, &Metadata),
    (new_dir, new): (&Dir, &Metadata),
) -> Result<Option<Content>, PathError> {
    let shown = |m: &Metadata| (m.mode, m.uid, m.gid, m.size, m.mtime, m.links);
    if new.kind == FileKind::File && old.size == new.size {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let read = |dir: &Dir, bytes: &mut Vec<u8>| -> Result<(), PathError> {
            let mut file = dir.open_file(path)?;
            io::Read::read_to_end(&mut file, bytes).map(drop).map_err(|source| PathError::Io {
                verb: "compare",
                path: path.clone(),
                source,
            })
        };
        read(old_dir, &mut a)?;
        read(new_dir, &mut b)?;
        if a != b {
            return Ok(Some(Content::Whole));
        }
    } else if new.kind == FileKind::File {
        return Ok(Some(Content::Whole));
    }
    // A directory's size and links are the host's file system's, and follow its entries.
    let same = match new.kind {
        FileKind::Directory => {
            (old.mode, old.uid, old.gid, old.mtime) == (new.mode, new.uid, new.gid, new.mtime)
        }
        _ => shown(old) == shown(new),
    };
    let xattrs = |dir: &Dir| -> Result<Vec<_>, PathError> {
        let names = dir.list_xattrs(path)?;
        names.into_iter().map(|n| dir.find_xattr(path, &n).map(|value| (n, value))).collect()
    };
    let is_same = same && xattrs(old_dir)? == xattrs(new_dir)?;
    Ok((!is_same).then_some(Content::Same))
}

/// Compares two trees entry by entry.
fn compare(old_dir: &Dir, new_dir: &Dir) -> Result<Changes, PathError> {
    let old: BTreeMap<_, _> = walk(old_dir)?.into_iter().collect();
    let new: BTreeMap<_, _> = walk(new_dir)?.into_iter().collect();
    let mut changes = Changes::default();
    // Something else under the same name, or a link to elsewhere, is a new thing.
    let same_thing = |path: &TreePath| -> Result<bool, PathError> {
        Ok(match (old.get(path), new.get(path)) {
            (Some(old), Some(new)) if old.kind == new.kind => {
                old.kind != FileKind::Symlink
                    || old_dir.read_link(path)? == new_dir.read_link(path)?
            }
            _ => false,
        })
    };
    for path in old.keys() {
        if !same_thing(path)? {
            changes.gone.push(path.as_bytes().to_vec());
        }
    }
    for (path, metadata) in &new {
        let (origin, content) = if same_thing(path)? {
            match difference(path, (old_dir, &old[path]), (new_dir, metadata))? {
                Some(content) => (Some(path.as_bytes().to_vec()), content),
                None => continue,
            }
        } else {
            (None, Content::Whole)
        };
        if content == Content::Whole && metadata.kind == FileKind::File {
            changes.plain_bytes += metadata.size;
        }
        changes.touched.push(Touched { path: path.as_bytes().to_vec(), origin, content });
    }
    Ok(changes)
}

impl Pool for FakePool {
    fn create(&self, place: &SubvolumePath, group: &VolumeId) -> Result<(), PoolError> {
        let mut state = self.state();
        state.step("create", place)?;
        state.refuse_taken(place)?;
        std::fs::create_dir(self.absolute(place)).map_err(failed("create", place))?;
        let subvolume = state.fresh(None, Access::ReadWrite);
        let looks = looks(&self.dir(place)?).map_err(refused("create", place))?;
        let known = Known { subvolume, group: Some(group.clone()), looks };
        state.subvolumes.insert(place.clone(), known);
        Ok(())
    }

    fn snapshot(
        &self,
        source: &SubvolumePath,
        target: &SubvolumePath,
        access: Access,
        group: &VolumeId,
    ) -> Result<(), PoolError> {
        const VERB: &str = "snapshot";
        let mut state = self.state();
        state.step(VERB, source)?;
        let parent = state.get(source)?.subvolume.uuid;
        state.refuse_taken(target)?;
        std::fs::create_dir(self.absolute(target)).map_err(failed(VERB, target))?;
        let copied = self.dir(target)?;
        copy(&self.dir(source)?, &copied).map_err(refused(VERB, source))?;
        let subvolume = state.fresh(Some(parent), access);
        let looks_of_copy = looks(&copied).map_err(refused(VERB, target))?;
        // as in btrfs, a snapshot and its source have one generation until one of them changes
        let generation = subvolume.generation;
        let looks_of_source = looks(&self.dir(source)?).map_err(refused(VERB, source))?;
        if let Some(known) = state.subvolumes.get_mut(source) {
            known.looks = looks_of_source;
            known.subvolume.generation = generation;
        }
        let known = Known { subvolume, group: Some(group.clone()), looks: looks_of_copy };
        state.subvolumes.insert(target.clone(), known);
        Ok(())
    }

    fn delete(&self, place: &SubvolumePath) -> Result<bool, PoolError> {
        let mut state = self.state();
        state.step("delete", place)?;
        if !state.subvolumes.contains_key(place) {
            return Ok(false);
        }
        std::fs::remove_dir_all(self.absolute(place)).map_err(failed("delete", place))?;
        state.subvolumes.remove(place);
        Ok(true)
    }

    /// What is deleted is free at once.
    fn delete_and_wait(&self, place: &SubvolumePath) -> Result<bool, PoolError> {
        self.delete(place)
    }

    fn exchange(&self, a: &SubvolumePath, b: &SubvolumePath) -> Result<(), PoolError> {
        let mut state = self.state();
        state.step("exchange", a)?;
        state.refuse_read_only_move(a, b)?;
        state.refuse_read_only_move(b, a)?;
        let (from, to) = (self.absolute(a), self.absolute(b));
        rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE)
            .map_err(|errno| failed("exchange", a)(errno.into()))?;
        if let (Some(first), Some(second)) =
            (state.subvolumes.remove(a), state.subvolumes.remove(b))
        {
            state.subvolumes.insert(a.clone(), second);
            state.subvolumes.insert(b.clone(), first);
        }
        Ok(())
    }

    fn rename(&self, from: &SubvolumePath, to: &SubvolumePath) -> Result<(), PoolError> {
        let mut state = self.state();
        state.step("rename", from)?;
        state.refuse_read_only_move(from, to)?;
        state.refuse_taken(to)?;
        std::fs::rename(self.absolute(from), self.absolute(to)).map_err(failed("rename", from))?;
        if let Some(known) = state.subvolumes.remove(from) {
            state.subvolumes.insert(to.clone(), known);
        }
        Ok(())
    }

    fn find(&self, place: &SubvolumePath) -> Result<Option<Subvolume>, PoolError> {
        let mut state = self.state();
        state.step("look up", place)?;
        if !state.subvolumes.contains_key(place) {
            return Ok(None);
        }
        let looks = looks(&self.dir(place)?).map_err(refused("look up", place))?;
        let next = state.transaction + 1;
        let Some(known) = state.subvolumes.get_mut(place) else { return Ok(None) };
        let has_changed = known.looks != looks;
        if has_changed {
            known.looks = looks;
            known.subvolume.generation = next;
        }
        let subvolume = known.subvolume.clone();
        if has_changed {
            state.transaction = next;
        }
        Ok(Some(subvolume))
    }

    fn list(&self) -> Result<Vec<SubvolumePath>, PoolError> {
        let mut state = self.state();
        state.step("list", "the pool")?;
        Ok(state.subvolumes.keys().cloned().collect())
    }

    fn open(&self, place: &SubvolumePath) -> Result<Dir, PoolError> {
        let mut state = self.state();
        state.step("open", place)?;
        state.get(place)?;
        self.dir(place)
    }

    /// It says nothing of what the kernel has in its memory.
    fn open_cached(&self, _place: &SubvolumePath) -> Option<Dir> {
        None
    }

    fn nested(&self, place: &SubvolumePath) -> Result<Vec<Vec<u8>>, PoolError> {
        let mut state = self.state();
        state.step("look for nested subvolumes in", place)?;
        state.get(place).map(|_| Vec::new())
    }

    fn usage(&self, volume: &VolumeId) -> Result<Usage, PoolError> {
        const VERB: &str = "read the quota of volume";
        let mut state = self.state();
        state.step(VERB, volume)?;
        let mut usage = Usage { charged_bytes: 0, limit_bytes: state.limits.get(volume).copied() };
        for (place, known) in &state.subvolumes {
            if known.group.as_ref() == Some(volume) {
                let entries = walk(&self.dir(place)?).map_err(refused(VERB, volume))?;
                let files = entries.iter().filter(|(_, m)| m.kind == FileKind::File);
                usage.charged_bytes += files.map(|(_, m)| m.size).sum::<u64>();
            }
        }
        Ok(usage)
    }

    fn set_limit(&self, volume: &VolumeId, limit_bytes: Option<u64>) -> Result<(), PoolError> {
        let mut state = self.state();
        state.step("limit the quota of volume", volume)?;
        match limit_bytes {
            Some(bytes) => state.limits.insert(volume.clone(), bytes),
            None => state.limits.remove(volume),
        };
        Ok(())
    }

    fn flush(&self) -> Result<(), PoolError> {
        self.state().step("flush", "the pool")
    }

    fn reclaim(&self) -> Result<(), PoolError> {
        self.state().step("reclaim", "the pool")
    }

    fn space(&self) -> Result<Space, PoolError> {
        self.state().step("look up the room of", "the pool")?;
        let stat = rustix::fs::statvfs(&self.path)
            .map_err(|errno| failed("look up the room of", "the pool")(errno.into()))?;
        Ok(Space {
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            promised: 0,
            is_read_only: false,
            is_metadata_full: self.state().is_metadata_full,
        })
    }

    fn growable_bytes(&self) -> Result<u64, PoolError> {
        Ok(0)
    }

    fn absolute(&self, place: &SubvolumePath) -> PathBuf {
        self.path.join(place.directory()).join(place.name())
    }

    fn mounts(&self, _: &SubvolumePath) -> Result<Vec<PathBuf>, PoolError> {
        Ok(Vec::new())
    }

    fn count_changed(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
        _most: u64,
    ) -> Result<u64, PoolError> {
        let state = self.state();
        state.get(parent).and_then(|_| state.get(child)).map(|_| 0)
    }

    fn changes(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
    ) -> Result<Changes, ChangesError> {
        let mut state = self.state();
        state.step("compare", child)?;
        for place in [parent, child] {
            if !state.get(place)?.subvolume.read_only {
                return Err(ChangesError::Writable { place: place.to_string() });
            }
        }
        compare(&self.dir(parent)?, &self.dir(child)?)
            .map_err(|error| ChangesError::Pool(refused("compare", child)(error)))
    }

    fn names_of_inode(&self, place: &SubvolumePath, inode: u64) -> Result<Vec<Vec<u8>>, PoolError> {
        let mut state = self.state();
        state.step("look up names in", place)?;
        state.get(place)?;
        let entries = walk(&self.dir(place)?).map_err(refused("look up names in", place))?;
        let named = entries.into_iter().filter(|(_, metadata)| metadata.inode == inode);
        Ok(named.map(|(path, _)| path.as_bytes().to_vec()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract;

    #[test]
    fn the_fake_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        contract::all(&FakePool::open(dir.path()).unwrap());
    }

    #[test]
    fn the_fake_fails_once_at_the_step_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let pool = FakePool::open(dir.path()).unwrap();
        pool.fail_after(1, io::ErrorKind::StorageFull);
        pool.flush().unwrap();
        let error = pool.flush().unwrap_err();
        assert_eq!(cove_types::Classify::kind(&error), cove_types::ErrorKind::Exhausted);
        pool.flush().unwrap();
    }
}
