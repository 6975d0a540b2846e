//! The kernel interfaces that need `unsafe`: btrfs's and the loop device's ioctls.
//!
//! Each function here is safe: it builds the kernel's structure itself, keeps what the
//! structure points to alive over the call, and copies out what comes back. Sizes are
//! pinned by assertions, numbers come from `linux/btrfs.h` and `linux/loop.h`.
#![expect(unsafe_code, reason = "these ioctls are reachable in no other way")]

use std::mem::{size_of, zeroed};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// A plain structure of the kernel's: any bytes are a valid value of it.
///
/// # Safety
///
/// `repr(C)`, and only integers, arrays of them and raw pointers inside.
unsafe trait Plain: Sized {
    fn zeroed() -> Self {
        // SAFETY: the implementor promises that all-zero bytes are a valid value.
        unsafe { zeroed() }
    }
}

macro_rules! plain {
    ($(#[$doc:meta])* struct $name:ident [$size:literal] { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy)]
        struct $name { $($field: $type,)* }
        // SAFETY: repr(C); all fields below are integers, arrays of them or raw pointers.
        unsafe impl Plain for $name {}
        const _: () = assert!(size_of::<$name>() == $size);
    };
}

const WRITE: u64 = 1;
const READ: u64 = 2;

/// The number of a btrfs ioctl.
const fn number<T>(direction: u64, n: u64) -> u64 {
    direction << 30 | (size_of::<T>() as u64) << 16 | 0x94 << 8 | n
}

/// Calls an ioctl whose argument is a structure; it is what the kernel made of it afterwards.
///
/// # Safety
///
/// `request` takes a `T` and writes no more than one, and every pointer in `argument` is
/// valid for what `request` does with it until the call returns.
unsafe fn call<T: Plain>(fd: impl AsFd, request: u64, argument: &mut T) -> Result<i32, Errno> {
    let pointer: *mut T = argument;
    // SAFETY: the descriptor is open, `pointer` is a valid `T`, and the caller promises the rest.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, pointer) };
    check(result)
}

/// Calls an ioctl whose argument is a number.
fn call_number(fd: impl AsFd, request: u64, argument: u64) -> Result<i32, Errno> {
    // SAFETY: the descriptor is open, and the requests used here take a number, or nothing.
    check(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, argument) })
}

fn check(result: i32) -> Result<i32, Errno> {
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    Ok(result)
}

/// Copies a name, of which the structure keeps a NUL behind it.
fn put_name<const N: usize>(field: &mut [u8; N], name: &[u8]) -> Result<(), Errno> {
    if name.len() >= N || name.contains(&0) {
        return Err(Errno::NAMETOOLONG);
    }
    field[..name.len()].copy_from_slice(name);
    Ok(())
}

/// The bytes before the first NUL.
fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|b| *b == 0).next().unwrap_or_default().to_vec()
}

/// `F_SETSIG` (`asm-generic/fcntl.h`), which `libc` does not name.
const SET_SIGNAL: i32 = 10;

/// Whether a file has another writer, by a read lease that is given back at once (fcntl(2)).
///
/// The signal of a broken lease is one that processes ignore unless they ask for it; with the usual
/// one, an open for writing in just this moment would end this process.
pub(crate) fn has_writers(file: impl AsFd) -> Result<bool, Errno> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and these commands take a number.
    check(unsafe { libc::fcntl(fd, SET_SIGNAL, libc::SIGURG) })?;
    // SAFETY: as above.
    match check(unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) }) {
        Err(Errno::AGAIN) => Ok(true),
        // SAFETY: as above.
        given => given
            .and_then(|_| check(unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) }))
            .map(|_| false),
    }
}

// ---- subvolumes

plain! {
    /// `btrfs_ioctl_vol_args`
    struct VolArgs [4096] { fd: i64, name: [u8; 4088], }
}
plain! {
    /// `btrfs_ioctl_vol_args_v2`
    struct VolArgsV2 [4096] {
        fd: i64, transid: u64, flags: u64, size: u64, inherit: *mut Inherit, unused: [u64; 2],
        name: [u8; 4040],
    }
}
plain! {
    /// `btrfs_qgroup_limit`
    struct Limit [40] {
        flags: u64, referenced: u64, exclusive: u64, rsv_referenced: u64, rsv_exclusive: u64,
    }
}
plain! {
    /// `btrfs_qgroup_inherit` with one group
    struct Inherit [80] {
        flags: u64, groups: u64, ref_copies: u64, excl_copies: u64, limit: Limit, group: u64,
    }
}
plain! {
    /// `btrfs_ioctl_get_subvol_info_args`
    struct SubvolInfo [504] {
        treeid: u64, name: [u8; 256], parent_id: u64, dirid: u64, generation: u64, flags: u64,
        uuid: [u8; 16], parent_uuid: [u8; 16], received_uuid: [u8; 16],
        ctransid: u64, otransid: u64, stransid: u64, rtransid: u64,
        times: [u64; 8], reserved: [u64; 8],
    }
}
plain! {
    /// The flags of a subvolume
    struct Flags [8] { flags: u64, }
}
plain! {
    /// `btrfs_ioctl_ino_lookup_args`
    struct InoLookup [4096] { treeid: u64, objectid: u64, name: [u8; 4080], }
}
const SUBVOL_RDONLY: u64 = 1 << 1;
const SUBVOL_QGROUP_INHERIT: u64 = 1 << 2;

fn make_subvolume(
    parent: impl AsFd,
    n: u64,
    name: &[u8],
    fd: i64,
    flags: u64,
    group: Option<u64>,
) -> Result<(), Errno> {
    let mut inherit = Inherit { groups: 1, group: group.unwrap_or(0), ..Plain::zeroed() };
    let mut args = VolArgsV2 { fd, flags, ..Plain::zeroed() };
    if group.is_some() {
        args.flags |= SUBVOL_QGROUP_INHERIT;
        args.size = size_of::<Inherit>() as u64;
        args.inherit = &raw mut inherit;
    }
    put_name(&mut args.name, name)?;
    // SAFETY: both requests read a VolArgsV2; `inherit` lives over the call and is as large
    // as `size` says.
    unsafe { call(parent, number::<VolArgsV2>(WRITE, n), &mut args) }.map(drop)
}

/// Makes an empty subvolume `name` in the directory `parent`, in a quota group.
pub fn create_subvolume(parent: impl AsFd, name: &[u8], group: Option<u64>) -> Result<(), Errno> {
    make_subvolume(parent, 24, name, 0, 0, group)
}

/// Makes a snapshot of the subvolume `source` as `name` in the directory `parent`.
pub fn create_snapshot(
    parent: impl AsFd,
    name: &[u8],
    source: impl AsFd,
    read_only: bool,
    group: Option<u64>,
) -> Result<(), Errno> {
    let flags = if read_only { SUBVOL_RDONLY } else { 0 };
    make_subvolume(parent, 23, name, i64::from(source.as_fd().as_raw_fd()), flags, group)
}

/// Deletes the subvolume `name` in the directory `parent`.
pub fn destroy_subvolume(parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    let mut args = VolArgsV2::zeroed();
    put_name(&mut args.name, name)?;
    // SAFETY: the request reads a VolArgsV2, which points to nothing.
    unsafe { call(parent, number::<VolArgsV2>(WRITE, 63), &mut args) }.map(drop)
}

/// What the kernel tells of the subvolume in which `fd` is.
pub fn subvolume(fd: impl AsFd) -> Result<crate::Subvolume, Errno> {
    let mut info = SubvolInfo::zeroed();
    // SAFETY: the request writes a SubvolInfo.
    unsafe { call(fd, number::<SubvolInfo>(READ, 60), &mut info)? };
    Ok(crate::Subvolume {
        id: info.treeid,
        uuid: info.uuid,
        parent_uuid: (info.parent_uuid != [0; 16]).then_some(info.parent_uuid),
        generation: info.generation,
        created_generation: info.otransid,
        // The flag on the disk, BTRFS_ROOT_SUBVOL_RDONLY.
        read_only: info.flags & 1 != 0,
    })
}

/// Lets a subvolume take writes, of which `fd` is the top.
pub fn make_writable(fd: impl AsFd) -> Result<(), Errno> {
    let mut flags = Flags { flags: 0 };
    // SAFETY: the request reads a u64.
    unsafe { call(fd, number::<Flags>(WRITE, 26), &mut flags) }.map(drop)
}

/// The path of a directory's inode in the subvolume of `fd`, with a slash behind it unless
/// it is the top.
pub fn path_of_directory(fd: impl AsFd, inode: u64) -> Result<Vec<u8>, Errno> {
    let mut args = InoLookup { objectid: inode, ..Plain::zeroed() };
    // SAFETY: the request reads and writes an InoLookup.
    unsafe { call(fd, number::<InoLookup>(READ | WRITE, 18), &mut args)? };
    Ok(until_nul(&args.name))
}

// ---- tree search

/// The buffer of one search, in bytes.
const SEARCH_BYTES: usize = 64 << 10;

#[repr(C)]
#[derive(Clone, Copy)]
struct SearchKey {
    tree: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    items: u32,
    unused: u32,
    unused_more: [u64; 4],
}

#[repr(C)]
struct Search {
    key: SearchKey,
    buffer_bytes: u64,
    buffer: [u8; SEARCH_BYTES],
}
// SAFETY: repr(C), integers and arrays of them.
unsafe impl Plain for Search {}
const _: () = assert!(size_of::<SearchKey>() == 104);
const _: () = assert!(size_of::<Search>() == 112 + SEARCH_BYTES);

/// An item of a tree: its key and its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// `objectid` of the key.
    pub objectid: u64,
    /// `type` of the key.
    pub kind: u32,
    /// `offset` of the key.
    pub offset: u64,
    /// The item itself.
    pub bytes: Vec<u8>,
}

/// A key: `objectid`, `type`, `offset`.
pub type Key = (u64, u32, u64);

/// The items of a tree in the order of their keys, read 64 KiB at a time. Needs root.
///
/// Ends with the first error.
pub struct Items<F> {
    fd: F,
    tree: u64,
    /// The key from which the next read begins; `None` at the end.
    next: Option<Key>,
    last: Key,
    /// Leaves of a lower generation are passed over.
    since: u64,
    kinds: &'static [u32],
    read: std::vec::IntoIter<Item>,
    args: Box<Search>,
}

impl<F: AsFd> Items<F> {
    /// Those of these kinds whose keys are in a range, in a tree (0: that of `fd`).
    pub fn new(fd: F, tree: u64, keys: RangeInclusive<Key>, kinds: &'static [u32]) -> Self {
        let (first, last) = keys.into_inner();
        Self {
            fd,
            tree,
            next: Some(first),
            last,
            since: 0,
            kinds,
            read: Vec::new().into_iter(),
            args: Box::new(Plain::zeroed()),
        }
    }

    /// Without the items of leaves that were written before this generation, which are not read;
    /// others in a leaf that was written since come nevertheless.
    pub fn since(self, generation: u64) -> Self {
        Self { since: generation, ..self }
    }

    /// Reads on from a key.
    fn read(&mut self, (objectid, kind, offset): Key) -> Result<Vec<Item>, Errno> {
        const HEADER: usize = 32;
        // BTRFS_IOC_TREE_SEARCH_V2 counts the fixed part only.
        const REQUEST: u64 = (READ | WRITE) << 30 | 112 << 16 | 0x94 << 8 | 17;
        self.args.key = SearchKey {
            tree: self.tree,
            min_objectid: objectid,
            max_objectid: self.last.0,
            min_offset: offset,
            max_offset: self.last.2,
            min_transid: self.since,
            max_transid: u64::MAX,
            min_type: kind,
            max_type: self.last.1,
            items: u32::MAX,
            unused: 0,
            unused_more: [0; 4],
        };
        self.args.buffer_bytes = SEARCH_BYTES as u64;
        // SAFETY: the request reads the key, and writes the key and at most `buffer_bytes`
        // into `buffer`, which is that long.
        unsafe { call(&self.fd, REQUEST, &mut *self.args)? };
        let mut found = Vec::new();
        let mut last = None;
        let mut rest = &self.args.buffer[..];
        for _ in 0..self.args.key.items {
            let Some((header, after)) = rest.split_at_checked(HEADER) else { break };
            let field = |at: usize| u64::from_ne_bytes(std::array::from_fn(|n| header[at + n]));
            let half = |at: usize| u32::from_ne_bytes(std::array::from_fn(|n| header[at + n]));
            let (objectid, offset, kind, length) = (field(8), field(16), half(24), half(28));
            let Some((bytes, after)) = after.split_at_checked(length as usize) else { break };
            rest = after;
            last = Some((objectid, kind, offset));
            if self.kinds.contains(&kind) {
                found.push(Item { objectid, kind, offset, bytes: bytes.to_vec() });
            }
        }
        self.next = last.and_then(after).filter(|next| *next <= self.last);
        Ok(found)
    }
}

/// The key that follows another; `None` after the last.
fn after((objectid, kind, offset): Key) -> Option<Key> {
    match (offset.checked_add(1), kind) {
        (Some(offset), kind) => Some((objectid, kind, offset)),
        (None, 0..255) => Some((objectid, kind + 1, 0)),
        (None, _) => Some((objectid.checked_add(1)?, 0, 0)),
    }
}

impl<F: AsFd> Iterator for Items<F> {
    type Item = Result<Item, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.read.next() {
                return Some(Ok(item));
            }
            let next = self.next.take()?;
            match self.read(next) {
                Ok(read) => self.read = read.into_iter(),
                Err(errno) => return Some(Err(errno)),
            }
        }
    }
}

/// The items of these kinds of one object in a tree (0: that of `fd`). Needs root.
pub fn items_of(
    fd: impl AsFd,
    tree: u64,
    objectid: u64,
    kinds: &'static [u32],
) -> Result<Vec<Item>, Errno> {
    Items::new(fd, tree, (objectid, 0, 0)..=(objectid, 255, u64::MAX), kinds).collect()
}

/// One item; `None` when there is none with this key. Needs root.
pub fn find_item(
    fd: impl AsFd,
    tree: u64,
    key: Key,
    kinds: &'static [u32],
) -> Result<Option<Item>, Errno> {
    Items::new(fd, tree, key..=key, kinds).next().transpose()
}

/// Makes everything durable and wakes the kernel's cleaner, which takes deleted subvolumes apart and
/// else begins up to 30 s later (`BTRFS_IOC_SYNC`; `syncfs` does not wake it).
pub fn commit(fd: impl AsFd) -> Result<(), Errno> {
    // it takes no argument
    call_number(fd, 0x94 << 8 | 8, 0).map(drop)
}

// ---- quotas and the file system

plain! {
    /// `btrfs_ioctl_quota_ctl_args`
    struct QuotaCtl [16] { command: u64, status: u64, }
}
plain! {
    /// `btrfs_ioctl_qgroup_create_args`
    struct QgroupCreate [16] { create: u64, id: u64, }
}
plain! {
    /// `btrfs_ioctl_qgroup_limit_args`
    struct QgroupLimit [48] { id: u64, limit: Limit, }
}
plain! {
    /// `btrfs_ioctl_fs_info_args`
    struct FsInfo [1024] { max_id: u64, devices: u64, fsid: [u8; 16], rest: [u64; 124], }
}

plain! {
    /// `btrfs_ioctl_space_info`
    struct SpaceInfo [24] { flags: u64, total: u64, used: u64, }
}
plain! {
    /// `btrfs_ioctl_space_args`, with as many spaces as there are kinds and profiles of them
    struct SpaceArgs [784] { slots: u64, count: u64, spaces: [SpaceInfo; 32], }
}
plain! {
    /// `btrfs_ioctl_dev_info_args`
    struct DevInfo [4096] { id: u64, uuid: [u8; 16], used: u64, total: u64, rest: [u8; 4056], }
}

/// Switches simple quotas on.
pub fn enable_simple_quotas(fd: impl AsFd) -> Result<(), Errno> {
    let mut args = QuotaCtl { command: 4, status: 0 };
    // SAFETY: the request reads and writes a QuotaCtl.
    unsafe { call(fd, number::<QuotaCtl>(READ | WRITE, 40), &mut args) }.map(drop)
}

/// Makes a quota group.
pub fn create_group(fd: impl AsFd, id: u64) -> Result<(), Errno> {
    let mut args = QgroupCreate { create: 1, id };
    // SAFETY: the request reads a QgroupCreate.
    unsafe { call(fd, number::<QgroupCreate>(WRITE, 42), &mut args) }.map(drop)
}

/// Limits what a quota group references, or lifts the limit.
pub fn limit_group(fd: impl AsFd, id: u64, bytes: Option<u64>) -> Result<(), Errno> {
    // -1 clears the limit that the flag (BTRFS_QGROUP_LIMIT_MAX_RFER) names.
    let limit = Limit { flags: 1, referenced: bytes.unwrap_or(u64::MAX), ..Plain::zeroed() };
    let mut args = QgroupLimit { id, limit };
    // SAFETY: the request reads a QgroupLimit.
    unsafe { call(fd, number::<QgroupLimit>(READ, 43), &mut args) }.map(drop)
}

/// The id of the file system, as sysfs names it.
pub fn file_system_id(fd: impl AsFd) -> Result<[u8; 16], Errno> {
    let mut args = FsInfo::zeroed();
    // SAFETY: the request reads and writes an FsInfo.
    unsafe { call(fd, number::<FsInfo>(READ, 31), &mut args)? };
    Ok(args.fsid)
}

/// What the file system has allocated for each kind of content: the flags that tell the kind, how
/// much it is and how much of it is used, in bytes.
pub fn spaces(fd: impl AsFd) -> Result<Vec<(u64, u64, u64)>, Errno> {
    let mut args = SpaceArgs { slots: 32, ..Plain::zeroed() };
    // the number counts the two fields before the spaces alone
    let request = number::<[u64; 2]>(READ | WRITE, 20);
    // SAFETY: the request writes a SpaceArgs, of whose spaces no more than `slots`.
    unsafe { call(fd, request, &mut args)? };
    let count = usize::try_from(args.count).unwrap_or(usize::MAX);
    Ok(args.spaces.iter().take(count).map(|one| (one.flags, one.total, one.used)).collect())
}

/// How much of its devices the file system has allocated for nothing yet, in bytes.
pub fn unallocated(fd: impl AsFd) -> Result<u64, Errno> {
    let mut info = FsInfo::zeroed();
    // SAFETY: the request reads and writes an FsInfo.
    unsafe { call(&fd, number::<FsInfo>(READ, 31), &mut info)? };
    let mut free = 0_u64;
    for id in 1..=info.max_id {
        let mut device = DevInfo { id, ..Plain::zeroed() };
        // SAFETY: the request reads and writes a DevInfo.
        match unsafe { call(&fd, number::<DevInfo>(READ | WRITE, 30), &mut device) } {
            Ok(_) => free = free.saturating_add(device.total.saturating_sub(device.used)),
            // one was taken out
            Err(Errno::NODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(free)
}

/// Makes the file system as large as its device.
pub fn resize_to_device(fd: impl AsFd) -> Result<(), Errno> {
    let mut args = VolArgs::zeroed();
    put_name(&mut args.name, b"max")?;
    // SAFETY: the request reads a VolArgs.
    unsafe { call(fd, number::<VolArgs>(WRITE, 3), &mut args) }.map(drop)
}

// ---- send and encoded I/O

plain! {
    /// `btrfs_ioctl_send_args`
    struct Send [72] {
        fd: i64, clone_sources_count: u64, clone_sources: *mut u64, parent: u64, flags: u64,
        version: u32, reserved: [u8; 28],
    }
}
plain! {
    /// `btrfs_ioctl_encoded_io_args`
    struct EncodedIo [128] {
        iov: *const libc::iovec, iovcnt: u64, offset: i64, flags: u64, len: u64,
        unencoded_len: u64, unencoded_offset: u64, compression: u32, encryption: u32,
        reserved: [u8; 64],
    }
}

/// zstd, in encoded I/O (on the disk it is 3).
const ENCODED_ZSTD: u32 = 2;

/// Writes what changed in the snapshot `fd` since the snapshot with the id `parent` to
/// `pipe`, without file contents. Blocks while the pipe is full.
pub fn send_changes(fd: impl AsFd, parent: u64, pipe: impl AsFd) -> Result<(), Errno> {
    const NO_FILE_DATA: u64 = 1;
    let pipe = i64::from(pipe.as_fd().as_raw_fd());
    let mut args = Send { fd: pipe, parent, flags: NO_FILE_DATA, ..Plain::zeroed() };
    // SAFETY: the request reads a Send; there are no clone sources to point to.
    unsafe { call(fd, number::<Send>(WRITE, 38), &mut args) }.map(drop)
}

/// What an encoded read found.
pub struct EncodedExtent {
    /// Bytes that were put into the buffer.
    pub encoded: usize,
    /// Bytes of the file that they stand for.
    pub len: u64,
    /// Bytes that the extent holds in all.
    pub unencoded_len: u64,
    /// Where in them the file's bytes begin.
    pub unencoded_offset: u64,
    /// Whether the bytes are a zstd frame.
    pub is_zstd: bool,
}

/// Reads the extent at `offset` as it lies on the disk.
pub fn read_encoded(fd: impl AsFd, offset: u64, buffer: &mut [u8]) -> Result<EncodedExtent, Errno> {
    let iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut args = EncodedIo {
        iov: &raw const iov,
        iovcnt: 1,
        offset: i64::try_from(offset).map_err(|_| Errno::INVAL)?,
        ..Plain::zeroed()
    };
    // SAFETY: the request reads and writes an EncodedIo (from `len` on) and writes at most
    // `iov_len` bytes into `buffer`, which is borrowed mutably over the call.
    let encoded = unsafe { call(fd, number::<EncodedIo>(READ, 64), &mut args)? };
    Ok(EncodedExtent {
        encoded: usize::try_from(encoded).unwrap_or(0),
        len: args.len,
        unencoded_len: args.unencoded_len,
        unencoded_offset: args.unencoded_offset,
        is_zstd: args.compression == ENCODED_ZSTD,
    })
}

/// Writes a zstd frame of `plain_len` bytes as an extent.
pub fn write_encoded(
    fd: impl AsFd,
    offset: u64,
    frame: &[u8],
    plain_len: u64,
) -> Result<usize, Errno> {
    let iov = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
    let mut args = EncodedIo {
        iov: &raw const iov,
        iovcnt: 1,
        offset: i64::try_from(offset).map_err(|_| Errno::INVAL)?,
        len: plain_len,
        unencoded_len: plain_len,
        compression: ENCODED_ZSTD,
        ..Plain::zeroed()
    };
    // SAFETY: the request reads an EncodedIo and `iov_len` bytes of `frame`, which is
    // borrowed over the call and never written through this pointer.
    let written = unsafe { call(fd, number::<EncodedIo>(WRITE, 64), &mut args)? };
    Ok(usize::try_from(written).unwrap_or(0))
}

// ---- loop devices

plain! {
    /// `loop_info64`
    struct LoopInfo [232] {
        device: u64, inode: u64, rdevice: u64, offset: u64, size_limit: u64,
        number: u32, encrypt_type: u32, encrypt_key_size: u32, flags: u32,
        file_name: [u8; 64], crypt_name: [u8; 64], encrypt_key: [u8; 32], init: [u64; 2],
    }
}
plain! {
    /// `loop_config`
    struct LoopConfig [304] { fd: u32, block_size: u32, info: LoopInfo, reserved: [u64; 8], }
}

/// The number of a loop device that is free, made if there was none. Another process may
/// take it first.
pub fn free_loop_device(control: impl AsFd) -> Result<u32, Errno> {
    call_number(control, 0x4C82, 0).map(|n| u32::try_from(n).unwrap_or(0))
}

/// Attaches an image to a loop device.
pub fn attach_loop_device(device: impl AsFd, image: impl AsFd) -> Result<(), Errno> {
    let fd = u32::try_from(image.as_fd().as_raw_fd()).map_err(|_| Errno::BADF)?;
    let mut config = LoopConfig { fd, ..Plain::zeroed() };
    // SAFETY: LOOP_CONFIGURE reads a LoopConfig.
    unsafe { call(device, 0x4C0A, &mut config) }.map(drop)
}

/// Device and inode of the image of a loop device; `None` when it has none.
pub fn loop_image(device: impl AsFd) -> Result<Option<(u64, u64)>, Errno> {
    let mut info = LoopInfo::zeroed();
    // SAFETY: LOOP_GET_STATUS64 writes a LoopInfo.
    match unsafe { call(device, 0x4C05, &mut info) } {
        Ok(_) => Ok(Some((info.device, info.inode))),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Makes a loop device as large as its image has become.
pub fn grow_loop_device(device: impl AsFd) -> Result<(), Errno> {
    call_number(device, 0x4C07, 0).map(drop)
}

/// Detaches the image from a loop device, at the latest when its last user closes it.
pub fn detach_loop_device(device: impl AsFd) -> Result<(), Errno> {
    call_number(device, 0x4C01, 0).map(drop)
}
