//! A pool on an image file of its own.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use cove_types::VolumeId;
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::{
    Access, BtrfsPool, Changes, ChangesError, Dir, MountTable, Pool, PoolError, Space, Subvolume,
    SubvolumePath, Usage, ioctl,
};

/// The smallest image, in bytes; mkfs.btrfs wants about 110 MiB.
pub const IMAGE_BYTES_MIN: u64 = 256 << 20;
/// What the host keeps free beside a growing pool: this, in bytes, or a twentieth of it all.
const HOST_BYTES_MIN: u64 = 2 << 30;
/// How often a free loop device is asked for; another process may take it first.
const ATTACH_TRIES: u32 = 16;

/// A pool on `<home>/pool.img`, an allocated file with a btrfs in it that is mounted at
/// `<home>/pool` through a loop device. Needs root.
///
/// The image is allocated, not sparse, and never discarded into: on a host that fills up a
/// sparse one made fsync fail after write had succeeded, for good. Dropping the value
/// leaves it mounted, so that the next start finds it; [`close`](Self::close) ends it.
#[derive(Debug)]
pub struct LoopPool {
    pool: BtrfsPool,
    home: PathBuf,
    device: OwnedFd,
    /// Held while the image grows.
    growing: Mutex<()>,
}

/// Makes a failure an error about the pool of this home.
fn failed(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> PoolError {
    let place = path.display().to_string();
    move |source| PoolError::Io { verb, place: place.clone(), source }
}

/// As [`failed`], for a bare error number.
fn refused(verb: &'static str, path: &Path) -> impl Fn(Errno) -> PoolError {
    let failed = failed(verb, path);
    move |errno| failed(errno.into())
}

/// Says what the machine lacks.
fn missing(what: impl Into<String>) -> PoolError {
    PoolError::Missing { what: what.into() }
}

impl LoopPool {
    /// Opens the pool in `home`, and first makes it, `image_bytes` large (256 MiB at
    /// least), when there is none. One that is there keeps its size.
    ///
    /// May be interrupted anywhere and called again: the image is made under another name
    /// and gets its own when it is whole, and an image that is attached or mounted still is
    /// used as it is; one that its disk's failure has made read-only is mounted again.
    ///
    /// # Errors
    ///
    /// [`PoolError::Missing`] when root, btrfs, mkfs.btrfs or loop devices are missing;
    /// [`PoolError::HostFull`] when the image does not fit.
    pub fn open(home: &Path, image_bytes: u64) -> Result<Self, PoolError> {
        if !rustix::process::geteuid().is_root() {
            return Err(missing("a pool on an image file needs root"));
        }
        let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !systems.lines().any(|line| line.trim().ends_with("btrfs")) {
            // Not loaded, perhaps: mounting loads it, and then says so itself.
            tracing::info!("the kernel does not list btrfs yet");
        }
        std::fs::create_dir_all(home).map_err(failed("create", home))?;
        let image = home.join("pool.img");
        let file = match open_image(&image)? {
            Some(file) => file,
            None => make_image(home, &image, image_bytes.max(IMAGE_BYTES_MIN))?,
        };
        let mount = home.join("pool");
        let device = match find_attached(&file, &image)? {
            Some(device) => device,
            None => attach(&file, &image)?,
        };
        ensure_mounted(&device, &mount)?;
        // After an interrupted growth the image is larger than what lies in it.
        ioctl::grow_loop_device(&device.fd).map_err(refused("grow", &image))?;
        let pool = BtrfsPool::open(&mount)?;
        resize(&mount)?;
        Ok(Self { pool, home: home.to_owned(), device: device.fd, growing: Mutex::new(()) })
    }

    /// Makes the image larger while it is in use; returns how large it is then, in bytes.
    /// May be interrupted: [`open`](Self::open) completes it.
    ///
    /// # Errors
    ///
    /// [`PoolError::HostFull`] when the host would not keep a twentieth of its room, and
    /// 2 GiB, free. The pool goes on as it is.
    pub fn grow(&self, by_bytes: u64) -> Result<u64, PoolError> {
        let _growing = self.growing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let image = self.home.join("pool.img");
        let file = open_image(&image)?
            .ok_or_else(|| PoolError::NotFound { place: image.display().to_string() })?;
        let old = file.metadata().map_err(failed("look up", &image))?.len();
        let by_bytes = by_bytes.div_ceil(1 << 20) << 20;
        check_room(&self.home, by_bytes)?;
        rustix::fs::fallocate(&file, FallocateFlags::empty(), old, by_bytes)
            .map_err(refused("grow", &image))?;
        rustix::fs::fsync(&file).map_err(refused("grow", &image))?;
        ioctl::grow_loop_device(&self.device).map_err(refused("grow", &image))?;
        resize(&self.home.join("pool"))?;
        Ok(old + by_bytes)
    }

    /// Unmounts the pool and detaches its image; waits up to 2 s for whoever uses it.
    ///
    /// # Errors
    ///
    /// Somebody uses the pool still; it stays mounted then.
    pub fn close(self) -> Result<(), PoolError> {
        let Self { pool, home, device, .. } = self;
        // what a failed disk has not taken is lost, whether the pool stays mounted or not
        if !pool.space()?.is_read_only {
            pool.flush()?;
        }
        drop(pool);
        let mount = home.join("pool");
        unmount(&mount).map_err(refused("unmount", &mount))?;
        ioctl::detach_loop_device(&device).map_err(refused("detach", &home.join("pool.img")))
    }

    /// The pool inside.
    #[must_use]
    pub fn inner(&self) -> &BtrfsPool {
        &self.pool
    }
}

/// An attached loop device.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
}

/// Opens the image; `None` when there is none.
fn open_image(image: &Path) -> Result<Option<File>, PoolError> {
    match File::options().read(true).write(true).open(image) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("open", image)(error)),
    }
}

/// The room of the host.
struct HostRoom {
    free_bytes: u64,
    /// What it keeps free beside a growing pool.
    kept_bytes: u64,
}

fn host_room(home: &Path) -> Result<HostRoom, PoolError> {
    let stat = rustix::fs::statvfs(home).map_err(refused("look up the room of", home))?;
    let total = stat.f_blocks.saturating_mul(stat.f_frsize);
    Ok(HostRoom {
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        kept_bytes: HOST_BYTES_MIN.max(total / 20),
    })
}

/// Refuses to take `bytes` of the host when too little would remain.
fn check_room(home: &Path, bytes: u64) -> Result<(), PoolError> {
    let HostRoom { free_bytes, kept_bytes } = host_room(home)?;
    if free_bytes.saturating_sub(bytes) < kept_bytes {
        return Err(PoolError::HostFull { asked_bytes: bytes, free_bytes, kept_bytes });
    }
    Ok(())
}

/// Makes the image beside, whole and durable, and then gives it its name.
fn make_image(home: &Path, image: &Path, bytes: u64) -> Result<File, PoolError> {
    let beside = home.join("pool.img.new");
    match std::fs::remove_file(&beside) {
        Ok(()) => tracing::info!("an image that was made half-way is made again"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("remove", &beside)(error)),
    }
    check_room(home, bytes)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, &beside, flags, Mode::from_raw_mode(0o600))
        .map_err(refused("create", &beside))?;
    let file = File::from(fd);
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes)
        .map_err(refused("allocate", &beside))?;
    make_file_system(&beside)?;
    file.sync_all().map_err(failed("sync", &beside))?;
    std::fs::rename(&beside, image).map_err(failed("rename", &beside))?;
    let dir = File::open(home).map_err(failed("open", home))?;
    dir.sync_all().map_err(failed("sync", home))?;
    Ok(file)
}

/// How often a pool in use is tried to be unmounted, and the pause between: a program that is just being
/// started has all descriptors of the one that starts it for a moment, on a busy machine for a longer one.
const UNMOUNT_TRIES: u32 = 200;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(10);

/// Unmounts a pool; one that is in use still after 2 s stays.
fn unmount(mount: &Path) -> Result<(), Errno> {
    let mut tries = 0;
    while let Err(errno) = rustix::mount::unmount(mount, UnmountFlags::NOFOLLOW) {
        tries += 1;
        if errno != Errno::BUSY || tries == UNMOUNT_TRIES {
            return Err(errno);
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells when it is let go of")]
        std::thread::sleep(UNMOUNT_PAUSE);
    }
    Ok(())
}

/// How often it is tried: it looks at all loop devices of the machine first, and fails when one of them
/// is let go of just then ("cannot check mount status").
const MKFS_ATTEMPTS: u32 = 5;

/// Runs `mkfs.btrfs`, the one program that a pool needs.
fn make_file_system(image: &Path) -> Result<(), PoolError> {
    const PROGRAMS: [&str; 4] = [
        "/usr/sbin/mkfs.btrfs",
        "/sbin/mkfs.btrfs",
        "/usr/bin/mkfs.btrfs",
        "/usr/local/sbin/mkfs.btrfs",
    ];
    let program = PROGRAMS
        .into_iter()
        .find(|program| Path::new(program).exists())
        .ok_or_else(|| missing("mkfs.btrfs is not installed (package btrfs-progs)"))?;
    let mut said = String::new();
    for _ in 0..MKFS_ATTEMPTS {
        #[expect(
            clippy::disallowed_methods,
            reason = "making a file system has no other interface"
        )]
        let output = std::process::Command::new(program)
            // Discarding would punch holes into what was just allocated.
            .args(["--quiet", "--nodiscard", "--force", "--label", "cove"])
            .arg(image)
            .output()
            .map_err(failed("make a file system in", image))?;
        if output.status.success() {
            return Ok(());
        }
        said = cove_types::escape_bytes(&output.stderr[..output.stderr.len().min(400)]);
    }
    Err(failed("make a file system in", image)(io::Error::other(said)))
}

/// The loop device to which the image is attached already.
///
/// Two are refused. Each shows a file system of its own on the same bytes, which since Linux 6.7 may both be mounted;
/// who writes through both destroys it.
fn find_attached(image: &File, path: &Path) -> Result<Option<LoopDevice>, PoolError> {
    let metadata = image.metadata().map_err(failed("look up", path))?;
    let entries = match std::fs::read_dir("/sys/block") {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("list", Path::new("/sys/block"))(error)),
    };
    let mut found: Vec<LoopDevice> = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed("list", Path::new("/sys/block")))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok());
        let Some(number) = number else { continue };
        let Ok(file) = std::fs::read(entry.path().join("loop/backing_file")) else { continue };
        let device = Path::new("/dev").join(&name);
        match ensure_node(&device, number).and_then(|()| open_device(&device)) {
            Ok(fd) if ioctl::loop_image(&fd) == Ok(Some((metadata.dev(), metadata.ino()))) => {
                found.push(LoopDevice { fd, path: device });
            }
            // another's, or detached meanwhile
            Ok(_) | Err(Errno::NXIO | Errno::NOENT) => {}
            // another's, which this process may not open: those of the image it must know
            Err(errno) => {
                let own = std::fs::canonicalize(path).map_err(failed("look up", path))?;
                if file.trim_ascii_end() == own.as_os_str().as_encoded_bytes() {
                    return Err(refused("open", &device)(errno));
                }
            }
        }
    }
    if found.len() > 1 {
        let devices: Vec<_> = found.iter().map(|one| one.path.display().to_string()).collect();
        return Err(missing(format!(
            "{} is attached to {}: whoever writes through more than one destroys what is in it. Detach those from \
             which nothing is mounted (`losetup --detach DEVICE`)",
            path.display(),
            devices.join(" and ")
        )));
    }
    Ok(found.pop())
}

fn open_device(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

/// Attaches the image to a free loop device.
pub(crate) fn attach(image: &File, path: &Path) -> Result<LoopDevice, PoolError> {
    let control = open_device(Path::new("/dev/loop-control")).map_err(|errno| {
        missing(format!("loop devices are missing (/dev/loop-control: {errno})"))
    })?;
    let mut tries = 0;
    loop {
        tries += 1;
        let number = ioctl::free_loop_device(&control)
            .map_err(|errno| missing(format!("no loop device is free ({errno})")))?;
        let device = PathBuf::from(format!("/dev/loop{number}"));
        let result = ensure_node(&device, number)
            .and_then(|()| open_device(&device))
            .and_then(|fd| ioctl::attach_loop_device(&fd, image).map(|()| fd));
        match result {
            Ok(fd) => return Ok(LoopDevice { fd, path: device }),
            // Another process was first, or udev has not made the node yet.
            Err(Errno::BUSY | Errno::NOENT | Errno::NXIO) if tries < ATTACH_TRIES => {}
            Err(errno) => return Err(refused("attach", path)(errno)),
        }
    }
}

/// Makes the node of a loop device where no udev does (in a container).
fn ensure_node(device: &Path, number: u32) -> Result<(), Errno> {
    const LOOP_MAJOR: u32 = 7;
    if device.exists() {
        return Ok(());
    }
    let id = rustix::fs::makedev(LOOP_MAJOR, number);
    let mode = Mode::from_raw_mode(0o600);
    match rustix::fs::mknodat(CWD, device, rustix::fs::FileType::BlockDevice, mode, id) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Mounts the device unless it is mounted there.
fn ensure_mounted(device: &LoopDevice, mount: &Path) -> Result<(), PoolError> {
    std::fs::create_dir_all(mount).map_err(failed("create", mount))?;
    let stat = rustix::fs::stat(mount).map_err(refused("look up", mount))?;
    let above = mount.parent().unwrap_or(mount);
    let above = rustix::fs::stat(above).map_err(refused("look up", above))?;
    if stat.st_dev != above.st_dev {
        let table = MountTable::read().map_err(failed("look for the mount of", mount))?;
        let path = std::fs::canonicalize(mount).map_err(failed("look up", mount))?;
        let own = table.find_at(&path).filter(|own| own.from == device.path);
        let Some(own) = own else {
            return Err(missing(format!("{} is a mount of something else", mount.display())));
        };
        let stat = rustix::fs::statvfs(mount).map_err(refused("look up", mount))?;
        if !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        // as long as one mount is left the kernel keeps the file system, read-only for good
        let others = table.showing(own, &own.root).filter(|other| other.id != own.id);
        let others: Vec<_> = others.map(|other| other.point.display().to_string()).collect();
        if let Some(first) = others.first() {
            return Err(missing(format!(
                "{} was made read-only when its disk failed, and {} of its volumes are mounted, as at {first}: end \
                 the pods and programs that use them, and unmount them",
                mount.display(),
                others.len()
            )));
        }
        tracing::warn!("the pool was made read-only when its disk failed, and is mounted again");
        unmount(mount).map_err(|errno| match errno {
            Errno::BUSY => missing(format!(
                "{} was made read-only when its disk failed, and programs use it: end them",
                mount.display()
            )),
            errno => refused("unmount", mount)(errno),
        })?;
    }
    let flags = MountFlags::NOATIME | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(&device.path, mount, "btrfs", flags, c"compress=zstd:1,nodiscard")
        .map_err(|errno| match errno {
            Errno::NODEV => missing("the kernel has no btrfs"),
            Errno::PERM => missing("this process may not mount"),
            // what it says of a file system that it keeps read-only
            Errno::INVAL => missing(format!(
                "the kernel does not mount {} (its log says why). If its disk failed while volumes of it were mounted, \
                 as for pods, it stays read-only until all of them are unmounted, in every container",
                device.path.display()
            )),
            errno => refused("mount", mount)(errno),
        })?;
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(mount, std::fs::Permissions::from_mode(0o711))
        .map_err(failed("set the mode of", mount))
}

/// Makes the file system as large as its device.
fn resize(mount: &Path) -> Result<(), PoolError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd =
        rustix::fs::openat(CWD, mount, flags, Mode::empty()).map_err(refused("open", mount))?;
    ioctl::resize_to_device(&fd).map_err(refused("grow", mount))
}

impl Pool for LoopPool {
    fn create(&self, place: &SubvolumePath, group: &VolumeId) -> Result<(), PoolError> {
        self.pool.create(place, group)
    }

    fn snapshot(
        &self,
        source: &SubvolumePath,
        target: &SubvolumePath,
        access: Access,
        group: &VolumeId,
    ) -> Result<(), PoolError> {
        self.pool.snapshot(source, target, access, group)
    }

    fn delete(&self, place: &SubvolumePath) -> Result<bool, PoolError> {
        self.pool.delete(place)
    }

    fn delete_and_wait(&self, place: &SubvolumePath) -> Result<bool, PoolError> {
        self.pool.delete_and_wait(place)
    }

    fn exchange(&self, a: &SubvolumePath, b: &SubvolumePath) -> Result<(), PoolError> {
        self.pool.exchange(a, b)
    }

    fn rename(&self, from: &SubvolumePath, to: &SubvolumePath) -> Result<(), PoolError> {
        self.pool.rename(from, to)
    }

    fn find(&self, place: &SubvolumePath) -> Result<Option<Subvolume>, PoolError> {
        self.pool.find(place)
    }

    fn list(&self) -> Result<Vec<SubvolumePath>, PoolError> {
        self.pool.list()
    }

    fn open(&self, place: &SubvolumePath) -> Result<Dir, PoolError> {
        self.pool.open(place)
    }

    fn open_cached(&self, place: &SubvolumePath) -> Option<Dir> {
        self.pool.open_cached(place)
    }

    fn nested(&self, place: &SubvolumePath) -> Result<Vec<Vec<u8>>, PoolError> {
        self.pool.nested(place)
    }

    fn usage(&self, volume: &VolumeId) -> Result<Usage, PoolError> {
        self.pool.usage(volume)
    }

    fn set_limit(&self, volume: &VolumeId, limit_bytes: Option<u64>) -> Result<(), PoolError> {
        self.pool.set_limit(volume, limit_bytes)
    }

    fn flush(&self) -> Result<(), PoolError> {
        self.pool.flush()
    }

    fn reclaim(&self) -> Result<(), PoolError> {
        self.pool.reclaim()
    }

    fn space(&self) -> Result<Space, PoolError> {
        self.pool.space()
    }

    fn growable_bytes(&self) -> Result<u64, PoolError> {
        let room = host_room(&self.home)?;
        Ok(room.free_bytes.saturating_sub(room.kept_bytes))
    }

    fn absolute(&self, place: &SubvolumePath) -> PathBuf {
        self.pool.absolute(place)
    }

    fn mounts(&self, place: &SubvolumePath) -> Result<Vec<PathBuf>, PoolError> {
        self.pool.mounts(place)
    }

    fn count_changed(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
        most: u64,
    ) -> Result<u64, PoolError> {
        self.pool.count_changed(parent, child, most)
    }

    fn changes(
        &self,
        parent: &SubvolumePath,
        child: &SubvolumePath,
    ) -> Result<Changes, ChangesError> {
        self.pool.changes(parent, child)
    }

    fn names_of_inode(&self, place: &SubvolumePath, inode: u64) -> Result<Vec<Vec<u8>>, PoolError> {
        self.pool.names_of_inode(place, inode)
    }
}
