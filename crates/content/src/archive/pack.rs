//! Writing a tree as a tar stream.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use cove_btrfs::{Attributes, Dir, FileKind, Metadata, PathError};
use cove_types::{Classify, ErrorKind, TreePath, escape_bytes};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::header::{BLOCK, Header, NAME_BYTES_MAX, OCTAL_MAX, OWNER_MAX, Type};
use super::pax::{self, Records};
use super::place::{KEPT_MODE, failed};
use super::remarks::Remarks;
use crate::read::is_damage;

/// What is not packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// Directories to leave out with everything below, as device and inode: Cove's own
    /// home or store.
    pub leave_out: Vec<(u64, u64)>,
    /// Whether sockets are kept, as a marker that only [`extract`](super::extract()) knows.
    pub sockets: bool,
}

/// Why a tree was not packed to its end.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The names in the archive cannot begin so; escaped.
    #[error("\"{name}\" cannot be the first name in an archive")]
    Name { name: String },
    /// The tree did not let itself be read.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Whoever takes the stream went away.
    #[error("failed to write the archive")]
    Stream { source: io::Error },
}

impl Classify for PackError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Name { .. } => ErrorKind::Invalid,
            // The disk does not give back what it holds; waiting does not mend that.
            Self::Path(PathError::Io { source, .. }) if is_damage(source) => ErrorKind::Corrupt,
            Self::Path(source) => source.kind(),
            Self::Stream { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Content passes through one buffer of this many bytes.
const BUFFER_BYTES: usize = 128 << 10;
/// The most bytes of attributes that an entry has in an archive. An extended header is read up to
/// 1 MiB; this leaves room for a path and a target in it.
const ATTRIBUTES_BYTES_MAX: usize = (1 << 20) - (32 << 10);

/// Writes the path `at` below `dir` with everything below it as a pax archive, and says how
/// it goes (entries, bytes of content). Names in the archive begin with `name`; with `.`
/// they are those of the contents.
///
/// Names, bytes, modes, owners, times in ns, `user.*` attributes, ACLs and hard links
/// inside the tree are kept. The result says in a line each what is not: devices, set-uid
/// and set-gid bits, attributes over 992 KiB and all of an entry that has over 64 KiB of their
/// names, other mounts and nested subvolumes, paths over the limits of a [`TreePath`], and what
/// `options` leave out. A file that changes meanwhile is whole at
/// the size that it had first, padded with zeros or cut, and named. Directories are read
/// in the order of their names, so an unchanged tree gives the same archive.
///
/// # Errors
///
/// [`PackError`]. The archive then lacks its end, by which every reader sees that it is not
/// whole.
pub fn pack(
    dir: &Dir,
    at: &TreePath,
    name: &[u8],
    to: &mut dyn Write,
    options: &PackOptions,
    progress: &dyn Fn(u64, u64),
) -> Result<Vec<String>, PackError> {
    let is_contents = name == b".";
    let top = if is_contents { Ok(TreePath::top()) } else { TreePath::from_bytes(name) };
    let top = top.ok().filter(|top| is_contents || !top.is_top());
    let top = top.ok_or_else(|| PackError::Name { name: escape_bytes(name) })?;
    let mut packing = Packing {
        to: BufWriter::with_capacity(BUFFER_BYTES, to),
        buffer: vec![0; BUFFER_BYTES],
        options,
        progress,
        is_contents,
        linked: HashMap::new(),
        remarks: Remarks::default(),
        entries: 0,
        bytes: 0,
    };
    let metadata = dir.metadata(at)?;
    packing.entry(dir, at, &top, at, &metadata, dir.device())?;
    packing.end()?;
    Ok(packing.remarks.finish())
}

/// Finds the value of an attribute by its name.
type Find<'f> = dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, PathError> + 'f;

struct Packing<'a> {
    to: BufWriter<&'a mut dyn Write>,
    buffer: Vec<u8>,
    options: &'a PackOptions,
    progress: &'a dyn Fn(u64, u64),
    /// Whether names begin with `./`.
    is_contents: bool,
    /// By device and inode the first name in the archive of what has several.
    linked: HashMap<(u64, u64), Vec<u8>>,
    remarks: Remarks,
    entries: u64,
    bytes: u64,
}

impl Packing<'_> {
    /// Packs what is at `local` below `dir`: as `name` in the archive, called `path` to people.
    fn entry(
        &mut self,
        dir: &Dir,
        local: &TreePath,
        name: &TreePath,
        path: &TreePath,
        metadata: &Metadata,
        device: u64,
    ) -> Result<(), PackError> {
        match self.try_entry(dir, local, name, path, metadata, device) {
            Err(PackError::Path(error)) if !path.is_top() && error.is_absent() => {
                self.remarks.push(|| format!("{path}: it was removed while it was read"));
                Ok(())
            }
            Err(PackError::Path(PathError::Kind { .. })) => {
                self.remarks
                    .push(|| format!("{path}: it was replaced while it was read, left out"));
                Ok(())
            }
            Err(PackError::Path(PathError::OtherDevice { .. })) => {
                self.remarks.push(|| {
                    format!("{path}: it is another file system or a nested subvolume, left out")
                });
                Ok(())
            }
            other => other,
        }
    }

    fn try_entry(
        &mut self,
        dir: &Dir,
        local: &TreePath,
        name: &TreePath,
        path: &TreePath,
        metadata: &Metadata,
        device: u64,
    ) -> Result<(), PackError> {
        let inode = (metadata.device, metadata.inode);
        let left_out = match metadata.kind {
            FileKind::Device => Some("it is a device, left out"),
            FileKind::Socket if !self.options.sockets => Some("it is a socket, left out"),
            FileKind::Directory if self.options.leave_out.contains(&inode) => {
                Some("it belongs to Cove itself, left out")
            }
            _ if metadata.device != device => {
                Some("it is another file system or a nested subvolume, left out")
            }
            _ => None,
        };
        if let Some(why) = left_out {
            self.remarks.push(|| format!("{path}: {why}"));
            return Ok(());
        }
        let has_names = metadata.links > 1 && metadata.kind != FileKind::Directory;
        if has_names && let Some(first) = self.linked.get(&inode) {
            let first = first.clone();
            let header = self.header(Type::HardLink, name, &first, metadata, 0);
            return self.start(&header, Records::default(), metadata);
        }
        if metadata.mode & 0o6000 != 0 && metadata.kind != FileKind::Symlink {
            self.remarks.push(|| format!("{path}: its set-uid and set-gid bits are not kept"));
        }
        let mut records = Records::default();
        match metadata.kind {
            FileKind::File => {
                let file = dir.open_file(local)?;
                self.file(&file, name, path)?;
            }
            FileKind::Directory => {
                let inside = dir.open_dir(local)?;
                self.attributes(&inside, &TreePath::top(), path, &mut records)?;
                let header = self.header(Type::Directory, name, b"", metadata, 0);
                self.start(&header, records, metadata)?;
                self.children(&inside, name, path)?;
            }
            FileKind::Symlink => {
                let target = dir.read_link(local)?;
                let header = self.header(Type::Symlink, name, &target, metadata, 0);
                self.start(&header, records, metadata)?;
            }
            FileKind::Fifo | FileKind::Socket => {
                let kind = if metadata.kind == FileKind::Fifo { Type::Fifo } else { Type::File };
                if kind == Type::File {
                    records.push(pax::KIND, b"socket");
                }
                self.attributes(dir, local, path, &mut records)?;
                let header = self.header(kind, name, b"", metadata, 0);
                self.start(&header, records, metadata)?;
            }
            FileKind::Device => {}
        }
        if has_names {
            self.linked.insert(inode, self.written(name, false));
        }
        Ok(())
    }

    fn children(&mut self, dir: &Dir, name: &TreePath, path: &TreePath) -> Result<(), PackError> {
        for (child, metadata) in dir.list(&TreePath::top())? {
            // the limits hold in the archive and in the tree
            let paths = (TreePath::from_bytes(&child), name.join(&child), path.join(&child));
            let (Ok(local), Ok(name), Ok(path)) = paths else {
                let child = escape_bytes(&child);
                self.remarks.push(|| format!("{path}: the path of {child} is too long, left out"));
                continue;
            };
            self.entry(dir, &local, &name, &path, &metadata, dir.device())?;
        }
        Ok(())
    }

    fn file(&mut self, file: &File, name: &TreePath, path: &TreePath) -> Result<(), PackError> {
        let stat = rustix::fs::fstat(file).map_err(|e| failed("look up", path, e))?;
        let metadata = Metadata::from(&stat);
        let mut records = Records::default();
        let attributes = Attributes::of(file);
        let names = attributes.names().map_err(|e| failed("list the attributes of", path, e))?;
        let value = |name: &[u8]| {
            attributes.find(name).map_err(|e| failed("read an attribute of", path, e))
        };
        self.keep(names, &value, path, &mut records)?;
        let size = metadata.size;
        let header = self.header(Type::File, name, b"", &metadata, size);
        self.start(&header, records, &metadata)?;

        let read = |source| failed("read", path, source);
        let is_sparse = metadata.blocks.saturating_mul(512) < size;
        let (mut offset, mut ended_at) = (0, None);
        while offset < size {
            let data = if is_sparse { next_data(file, offset, size) } else { Ok(offset..size) };
            let data = data.map_err(|errno| failed("read", path, errno))?;
            self.zeros(data.start - offset)?;
            offset = data.start;
            while offset < data.end {
                let wanted = usize::try_from(data.end - offset).unwrap_or(usize::MAX);
                let wanted = wanted.min(BUFFER_BYTES);
                let length = match file.read_at(&mut self.buffer[..wanted], offset) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    other => other.map_err(read)?,
                };
                if length == 0 {
                    break;
                }
                self.to
                    .write_all(&self.buffer[..length])
                    .map_err(|source| PackError::Stream { source })?;
                offset += length as u64;
                (self.progress)(self.entries, self.bytes + offset);
            }
            if offset < data.end {
                ended_at = Some(offset);
                self.zeros(size - offset)?;
                offset = size;
            }
        }
        self.zeros((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64)?;
        let now = rustix::fs::fstat(file).map_err(|e| failed("look up", path, e))?;
        let now = Metadata::from(&now).size;
        // a hole that is read may be where the file ended meanwhile
        if let Some(end) = ended_at.or((now < size).then_some(now)) {
            self.remarks.push(|| {
                format!("{path}: it became shorter while it was read: zeros from {end} to {size}")
            });
        } else if now > size {
            self.remarks.push(|| {
                format!("{path}: it became longer while it was read: cut at {size} bytes")
            });
        }
        self.bytes += size;
        (self.progress)(self.entries, self.bytes);
        Ok(())
    }

    /// Adds the attributes of an entry below `dir` that are kept.
    fn attributes(
        &mut self,
        dir: &Dir,
        local: &TreePath,
        path: &TreePath,
        records: &mut Records,
    ) -> Result<(), PackError> {
        let names = unless_too_long(dir.list_xattrs(local))?;
        self.keep(names, &|name| dir.find_xattr(local, name), path, records)
    }

    /// Adds those of the attributes that are kept and fit, and says when some do not; `None` for
    /// names that the kernel does not list.
    fn keep(
        &mut self,
        names: Option<Vec<Vec<u8>>>,
        value: &Find<'_>,
        path: &TreePath,
        records: &mut Records,
    ) -> Result<(), PackError> {
        let mut do_fit = names.is_some();
        for name in names.into_iter().flatten().filter(|name| is_kept(name)) {
            match unless_too_long(value(&name))? {
                Some(None) => {}
                Some(Some(value))
                    if records.0.len() + 3 * name.len() + value.len() < ATTRIBUTES_BYTES_MAX =>
                {
                    records.push_xattr(&name, &value);
                }
                _ => do_fit = false,
            }
        }
        if !do_fit {
            self.remarks.push(|| {
                format!("{path}: extended attributes over 992 KiB, or over 64 KiB of names, are not kept")
            });
        }
        Ok(())
    }

    /// A name as it is written.
    fn written(&self, name: &TreePath, is_directory: bool) -> Vec<u8> {
        let mut written = if self.is_contents { b"./".to_vec() } else { Vec::new() };
        written.extend_from_slice(name.as_bytes());
        if is_directory && !written.ends_with(b"/") {
            written.push(b'/');
        }
        written
    }

    fn header(
        &self,
        kind: Type,
        name: &TreePath,
        target: &[u8],
        metadata: &Metadata,
        size: u64,
    ) -> Header {
        Header {
            kind,
            name: self.written(name, kind == Type::Directory),
            target: target.to_vec(),
            mode: metadata.mode & KEPT_MODE,
            uid: metadata.uid,
            gid: metadata.gid,
            size,
            mtime: metadata.mtime.seconds,
        }
    }

    /// Writes a header, after an extended one with `records` and what a header cannot hold.
    fn start(
        &mut self,
        header: &Header,
        mut records: Records,
        metadata: &Metadata,
    ) -> Result<(), PackError> {
        if header.name.len() > NAME_BYTES_MAX {
            records.push(b"path", &header.name);
        }
        if header.target.len() > NAME_BYTES_MAX {
            records.push(b"linkpath", &header.target);
        }
        if header.size > OCTAL_MAX {
            records.push(b"size", header.size.to_string().as_bytes());
        }
        for (key, id) in [(b"uid", header.uid), (b"gid", header.gid)] {
            if id > OWNER_MAX {
                records.push(key, id.to_string().as_bytes());
            }
        }
        let mtime = metadata.mtime;
        let is_plain = u64::try_from(mtime.seconds).is_ok_and(|seconds| seconds <= OCTAL_MAX);
        if mtime.nanoseconds != 0 || !is_plain {
            records.push(b"mtime", pax::time_text(mtime).as_bytes());
        }
        let Records(records) = records;
        let length = records.len();
        let mut bytes = Vec::with_capacity(length + 3 * BLOCK);
        if length > 0 {
            let extended = Header {
                kind: Type::Pax,
                name: b"PaxHeaders/next".to_vec(),
                target: Vec::new(),
                mode: 0o644,
                size: length as u64,
                ..*header
            };
            bytes.extend_from_slice(&extended.encode());
            bytes.extend_from_slice(&records);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend_from_slice(&header.encode());
        self.to.write_all(&bytes).map_err(|source| PackError::Stream { source })?;
        self.entries += 1;
        (self.progress)(self.entries, self.bytes);
        Ok(())
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), PackError> {
        const ZEROS: [u8; 16 << 10] = [0; 16 << 10];
        while count > 0 {
            let length = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
            self.to.write_all(&ZEROS[..length]).map_err(|source| PackError::Stream { source })?;
            count -= length as u64;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), PackError> {
        self.zeros(2 * BLOCK as u64)?;
        self.to.flush().map_err(|source| PackError::Stream { source })
    }
}

/// Whether an attribute is kept.
fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}

/// `None` for what the kernel has, and does not give because it is over 64 KiB.
fn unless_too_long<T>(given: Result<T, PathError>) -> Result<Option<T>, PathError> {
    match given {
        Err(PathError::Io { source, .. })
            if Errno::from_io_error(&source) == Some(Errno::TOOBIG) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// The next range at or after `offset` that is no hole; empty at `size` when there is none.
fn next_data(file: &File, offset: u64, size: u64) -> Result<std::ops::Range<u64>, Errno> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => start.min(size),
        Err(Errno::NXIO) => size,
        // a file system without holes
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(offset..size),
        Err(errno) => return Err(errno),
    };
    if start == size {
        return Ok(size..size);
    }
    match rustix::fs::seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(start..end.clamp(start, size)),
        // it was cut meanwhile
        Err(Errno::NXIO) => Ok(start..size),
        Err(errno) => Err(errno),
    }
}
