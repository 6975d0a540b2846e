//! What differs between two snapshots, by the items of their trees.
//!
//! Both trees are read side by side in the order of their keys, inode by inode. An inode of the
//! same number and kind on both sides is taken for the same one: between forks it need not be,
//! and that does no harm, because nothing is concluded from the number. What is said to be as
//! it was has the same inode item but for the time of access (the time and transaction of its
//! last change included, which nobody can set), the same attributes and the same extents;
//! everything else is said to be touched, which costs no more than to read it again.
//!
//! **Extents are compared by where they lie, not by what is there.** That is safe for files
//! without copy-on-write too (`chattr +C`), which are overwritten in place: both snapshots are
//! there at this moment and read-only, and the same place on the disk holds one content only. It
//! held the same when the older one was stored, because the kernel copies before it writes to a
//! place that a snapshot has (`can_nocow_extent`), preallocated ones as well, and makes no
//! snapshot of what is swapped to. A balance moves extents meanwhile at most to other places,
//! which are taken for changes.
//!
//! Memory: the directories of both sides, what differs, and one inode's names and attributes.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::AsFd;

use cove_types::TreePath;
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::changes::{merged, plain_bytes, resized};
use crate::ioctl::{self, Item};
use crate::{Changes, Content, Touched};

/// The kinds of items of an inode, in the order in which they come.
const INODE_ITEM: u32 = 1;
pub(crate) const INODE_REF: u32 = 12;
pub(crate) const INODE_EXTREF: u32 = 13;
const XATTR_ITEM: u32 = 24;
const EXTENT_DATA: u32 = 108;
/// The first and last number that an inode has (`BTRFS_FIRST_FREE_OBJECTID`); the first is the
/// top.
const TOP: u64 = 256;
const LAST: u64 = u64::MAX - 256;
/// How deep a directory lies at most, so that a circle ends.
const DEPTH_MAX: usize = 1 << 20;

/// Why two snapshots were not compared.
#[derive(Debug)]
pub(crate) enum SearchError {
    /// The kernel did not give an item.
    Read(Errno),
    /// An item is not as we know them.
    Form(String),
}

impl From<Errno> for SearchError {
    fn from(errno: Errno) -> Self {
        Self::Read(errno)
    }
}

/// The items of all inodes of the subvolume of `fd`.
pub(crate) fn items(fd: impl AsFd) -> impl Iterator<Item = Result<Item, Errno>> {
    const KINDS: &[u32] = &[INODE_ITEM, INODE_REF, INODE_EXTREF, XATTR_ITEM, EXTENT_DATA];
    ioctl::Items::new(fd, 0, (TOP, 0, 0)..=(LAST, u32::from(u8::MAX), u64::MAX), KINDS)
}

/// One for each inode of the subvolume of `fd` that was made or changed after `generation`.
pub(crate) fn changed_since(
    fd: impl AsFd,
    generation: u64,
) -> impl Iterator<Item = Result<(), Errno>> {
    let keys = (TOP, 0, 0)..=(LAST, u32::from(u8::MAX), u64::MAX);
    let items = ioctl::Items::new(fd, 0, keys, &[INODE_ITEM]).since(generation + 1);
    items.filter_map(move |item| match item {
        // an inode item has at 8 the transaction of its last change
        Ok(item) => number(&item.bytes, 8).map_or(true, |last| last > generation).then_some(Ok(())),
        Err(errno) => Some(Err(errno)),
    })
}

/// The directories and names in an item that names an inode.
///
/// ```text
/// INODE_REF     key offset: directory;  index u64, length u16, name; again until the end
/// INODE_EXTREF  directory u64, index u64, length u16, name; again until the end
/// ```
pub(crate) fn refs(item: &Item) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    let mut rest = item.bytes.as_slice();
    loop {
        let directory = if item.kind == INODE_EXTREF {
            let Some((directory, after)) = rest.split_first_chunk::<8>() else { break };
            rest = after;
            u64::from_le_bytes(*directory)
        } else {
            item.offset
        };
        let Some((_, after)) = rest.split_first_chunk::<8>() else { break };
        let Some((length, after)) = after.split_first_chunk::<2>() else { break };
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((name, after)) = after.split_at_checked(length) else { break };
        found.push((directory, name));
        rest = after;
    }
    found
}

/// A little-endian number in an item.
fn number(bytes: &[u8], at: usize) -> Result<u64, SearchError> {
    let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
    field.map(u64::from_le_bytes).ok_or_else(|| SearchError::Form("an item is too short".into()))
}

/// A directory's inode and a name in it.
type Name = (u64, Vec<u8>);

/// An inode without its extents.
struct Inode {
    number: u64,
    /// The item; the time of access as zeros.
    item: Vec<u8>,
    /// In order.
    names: Vec<Name>,
    xattrs: Vec<(u64, Vec<u8>)>,
}

impl Inode {
    /// As an inode item says it:
    ///
    /// ```text
    ///  0  generation, transaction u64
    /// 16  size        u64
    /// 52  mode        u32
    /// 112 atime       seconds u64, nanoseconds u32
    /// ```
    fn new(number: u64, mut item: Vec<u8>) -> Result<Self, SearchError> {
        match item.get_mut(112..124) {
            Some(time) => time.fill(0),
            None => return Err(SearchError::Form(format!("inode {number} is cut off"))),
        }
        Ok(Self { number, item, names: Vec::new(), xattrs: Vec::new() })
    }

    fn size(&self) -> Result<u64, SearchError> {
        number(&self.item, 16)
    }

    fn kind(&self) -> Result<FileType, SearchError> {
        let mode = number(&self.item, 52)? as u32;
        Ok(FileType::from_raw_mode(mode))
    }
}

/// What a piece of a file's content is, so that the same is known again. Holes and preallocated
/// extents, which read as zeros, are none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// In the item itself, with how it is compressed.
    Inline(Vec<u8>),
    /// On the disk: what the item says but for where in the file it begins; and that, counted
    /// from where the extent does, so that two cuts of one extent agree.
    Disk([u8; 37], u64),
}

#[derive(Debug, Clone)]
struct Extent {
    range: Range<u64>,
    piece: Piece,
}

impl Extent {
    /// ```text
    ///  0  generation, plain length u64
    /// 16  compression, encryption u8, other u16, type u8: 0 inline, 1 regular, 2 preallocated
    /// 21  inline: the bytes; else where on the disk and how much there u64,
    /// 37  offset in the plain bytes, length u64
    /// ```
    fn of(item: &Item) -> Result<Option<Self>, SearchError> {
        let bytes = item.bytes.as_slice();
        match bytes.get(20) {
            Some(0) => {
                let range = item.offset..item.offset.saturating_add(number(bytes, 8)?.max(1));
                Ok(Some(Self { range, piece: Piece::Inline(bytes[8..].to_vec()) }))
            }
            Some(1) if number(bytes, 21)? == 0 => Ok(None),
            Some(1) => {
                let (skipped, length) = (number(bytes, 37)?, number(bytes, 45)?);
                let mut said = [0; 37];
                said.copy_from_slice(&bytes[..37]);
                Ok(Some(Self {
                    range: item.offset..item.offset.saturating_add(length),
                    piece: Piece::Disk(said, skipped.wrapping_sub(item.offset)),
                }))
            }
            Some(2) => Ok(None),
            _ => Err(SearchError::Form(format!(
                "an extent of inode {} is of a new kind",
                item.objectid
            ))),
        }
    }
}

/// One side's items, from which those of one inode are taken after another.
struct Side<I> {
    items: I,
    ahead: Option<Item>,
}

impl<I: Iterator<Item = Result<Item, Errno>>> Side<I> {
    fn new(mut items: I) -> Result<Self, SearchError> {
        let ahead = items.next().transpose()?;
        Ok(Self { items, ahead })
    }

    /// The next item, if it is one of this inode and of a kind up to this one.
    fn take(&mut self, inode: u64, kind_max: u32) -> Result<Option<Item>, SearchError> {
        match &self.ahead {
            Some(item) if item.objectid == inode && item.kind <= kind_max => {
                let next = self.items.next().transpose()?;
                Ok(std::mem::replace(&mut self.ahead, next))
            }
            _ => Ok(None),
        }
    }

    /// All of an inode but its extents; `None` when it is not there.
    fn inode(&mut self, inode: u64) -> Result<Option<Inode>, SearchError> {
        let mut found: Option<Inode> = None;
        while let Some(item) = self.take(inode, XATTR_ITEM)? {
            match (item.kind, &mut found) {
                (INODE_ITEM, _) => found = Some(Inode::new(inode, item.bytes)?),
                (_, None) => {}
                (XATTR_ITEM, Some(found)) => found.xattrs.push((item.offset, item.bytes)),
                (_, Some(found)) => {
                    let names = refs(&item).into_iter().map(|(at, name)| (at, name.to_vec()));
                    found.names.extend(names);
                }
            }
        }
        if let Some(found) = &mut found {
            found.names.sort_unstable();
            if inode == TOP {
                // What names the top in its own tree ("..") is no name.
                found.names = vec![(TOP, Vec::new())];
            }
        }
        Ok(found)
    }

    /// The next extent of an inode that is not all zeros.
    fn extent(&mut self, inode: u64) -> Result<Option<Extent>, SearchError> {
        while let Some(item) = self.take(inode, EXTENT_DATA)? {
            if let Some(extent) = Extent::of(&item)? {
                return Ok(Some(extent));
            }
        }
        Ok(None)
    }
}

/// Where the content of one inode differs: parts of extents that only one side has.
fn differing<A, B>(
    inode: u64,
    old: &mut Side<A>,
    new: &mut Side<B>,
) -> Result<Vec<Range<u64>>, SearchError>
where
    A: Iterator<Item = Result<Item, Errno>>,
    B: Iterator<Item = Result<Item, Errno>>,
{
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut add = |range: Range<u64>| match ranges.last_mut() {
        Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
        _ => ranges.push(range),
    };
    let (mut a, mut b) = (old.extent(inode)?, new.extent(inode)?);
    loop {
        let is_same = a.as_ref().map(|x| &x.piece) == b.as_ref().map(|y| &y.piece);
        match (&mut a, &mut b) {
            (None, None) => return Ok(ranges),
            (Some(x), None) => {
                add(x.range.clone());
                a = old.extent(inode)?;
            }
            (None, Some(y)) => {
                add(y.range.clone());
                b = new.extent(inode)?;
            }
            (Some(x), Some(y)) => {
                let (x, y) = (&mut x.range, &mut y.range);
                if x.start < y.start {
                    let end = x.end.min(y.start);
                    add(x.start..end);
                    x.start = end;
                } else if y.start < x.start {
                    let end = y.end.min(x.start);
                    add(y.start..end);
                    y.start = end;
                } else {
                    let end = x.end.min(y.end);
                    if !is_same {
                        add(x.start..end);
                    }
                    (x.start, y.start) = (end, end);
                }
                if x.is_empty() {
                    a = old.extent(inode)?;
                }
                if y.is_empty() {
                    b = new.extent(inode)?;
                }
            }
        }
    }
}

/// An entry that is to be read again, under all its names.
struct Found {
    names: Vec<Name>,
    /// Where it was.
    origin: Option<Name>,
    content: Content,
    kind: FileType,
    size: u64,
}

/// Where the directories of one side are.
type Directories = HashMap<u64, Name>;

/// The path of a name; the top's is empty.
fn path_of(directories: &Directories, (directory, name): &Name) -> Result<Vec<u8>, SearchError> {
    let mut names: Vec<&[u8]> = vec![name];
    let mut at = *directory;
    while at != TOP {
        let Some((above, name)) = directories.get(&at).filter(|_| names.len() < DEPTH_MAX) else {
            return Err(SearchError::Form(format!("directory {at} has no place")));
        };
        names.push(name);
        at = *above;
    }
    names.reverse();
    Ok(names.join(&b'/'))
}

/// What was found to differ, before the directories of both sides are known.
#[derive(Default)]
struct Comparison {
    old: Directories,
    new: Directories,
    gone: Vec<Name>,
    moved: Vec<u64>,
    touched: Vec<Found>,
}

impl Comparison {
    fn gone(&mut self, old: Inode) -> Result<(), SearchError> {
        if old.kind()? == FileType::Directory
            && let Some(name) = old.names.first()
        {
            self.old.insert(old.number, name.clone());
        }
        self.gone.extend(old.names);
        Ok(())
    }

    fn came(&mut self, new: Inode) -> Result<(), SearchError> {
        let kind = new.kind()?;
        if kind == FileType::Directory
            && let Some(name) = new.names.first()
        {
            self.new.insert(new.number, name.clone());
        }
        let size = new.size()?;
        let (names, content) = (new.names, Content::Whole);
        self.touched.push(Found { names, origin: None, content, kind, size });
        Ok(())
    }

    /// An inode that is on both sides and of one kind; `ranges` are those of its content.
    fn stayed(
        &mut self,
        old: Inode,
        new: Inode,
        ranges: Vec<Range<u64>>,
    ) -> Result<(), SearchError> {
        let kind = new.kind()?;
        let (old_size, size) = (old.size()?, new.size()?);
        let is_touched = old.item != new.item
            || old.xattrs != new.xattrs
            || old.names != new.names
            || !ranges.is_empty();
        if kind == FileType::Directory {
            let (Some(from), Some(to)) = (old.names.first(), new.names.first()) else {
                return Ok(());
            };
            self.old.insert(old.number, from.clone());
            self.new.insert(new.number, to.clone());
            if from != to {
                self.moved.push(new.number);
            }
        } else {
            let gone = old.names.iter().filter(|name| new.names.binary_search(name).is_err());
            self.gone.extend(gone.cloned());
        }
        if !is_touched {
            return Ok(());
        }
        let mut ranges = ranges;
        ranges.extend(resized(old_size, size));
        let content = match merged(ranges) {
            ranges if kind != FileType::RegularFile || ranges.is_empty() => Content::Same,
            ranges => Content::Ranges(ranges),
        };
        // One that it still has, before one that it had.
        let kept = old.names.iter().find(|name| new.names.binary_search(name).is_ok());
        let origin = kept.or(old.names.first()).cloned();
        let content = if origin.is_some() { content } else { Content::Whole };
        self.touched.push(Found { names: new.names, origin, content, kind, size });
        Ok(())
    }

    /// The differences with their paths.
    fn finish(self) -> Result<Changes, SearchError> {
        let mut changes = Changes::default();
        let is_there = |number: u64| {
            number == TOP || (self.old.contains_key(&number) && self.new.contains_key(&number))
        };
        for name in self.gone.iter().filter(|(directory, _)| is_there(*directory)) {
            // What was in a directory that went, went with it.
            changes.gone.push(path_of(&self.old, name)?);
        }
        for number in &self.moved {
            let from = path_of(&self.old, &self.old[number])?;
            let to = path_of(&self.new, &self.new[number])?;
            changes.gone.push(from.clone());
            changes.moved.push((from, to));
        }
        for found in self.touched {
            let origin = match &found.origin {
                None => None,
                // Of what was too long or deep for a tree, nothing is known.
                Some(name) => Some(path_of(&self.old, name)?)
                    .filter(|path| TreePath::from_bytes(path).is_ok()),
            };
            let content = if origin.is_some() { found.content } else { Content::Whole };
            if found.kind == FileType::RegularFile && !found.names.is_empty() {
                changes.plain_bytes += plain_bytes(&content, found.size);
            }
            for name in &found.names {
                let (origin, content) = (origin.clone(), content.clone());
                changes.touched.push(Touched { path: path_of(&self.new, name)?, origin, content });
            }
        }
        changes.gone.sort_unstable();
        changes.moved.sort_unstable();
        changes.touched.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(changes)
    }
}

/// Compares the items of two snapshots, each in the order of their keys.
///
/// # Errors
///
/// [`SearchError`].
pub(crate) fn compare(
    old: impl Iterator<Item = Result<Item, Errno>>,
    new: impl Iterator<Item = Result<Item, Errno>>,
) -> Result<Changes, SearchError> {
    let (mut old, mut new) = (Side::new(old)?, Side::new(new)?);
    let mut comparison = Comparison::default();
    loop {
        let numbers = [&old.ahead, &new.ahead].map(|item| item.as_ref().map(|item| item.objectid));
        let Some(number) = numbers.into_iter().flatten().min() else {
            return comparison.finish();
        };
        let (before, after) = (old.inode(number)?, new.inode(number)?);
        let ranges = differing(number, &mut old, &mut new)?;
        match (before, after) {
            (Some(before), Some(after)) if before.kind()? == after.kind()? => {
                comparison.stayed(before, after, ranges)?;
            }
            (before, after) => {
                before.map_or(Ok(()), |before| comparison.gone(before))?;
                after.map_or(Ok(()), |after| comparison.came(after))?;
            }
        }
    }
}

#[cfg(test)]
mod tests;
