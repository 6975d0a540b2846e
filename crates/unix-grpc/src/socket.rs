//! Unix sockets, whose paths may be longer than an address holds.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

use crate::connections::may_call;

/// The longest path of a socket that programs reach by its name, in bytes (`sun_path` in unix(7), less the NUL).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How often the lock of a directory is tried for, and what is waited in between: it is held for milliseconds.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// How many connections wait to be accepted.
const BACKLOG: i32 = 1024;

/// What becomes of a server that listens at a path already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Predecessor {
    /// It stays, and whoever comes is refused.
    Stays,
    /// Its socket is replaced in one step; what it has accepted goes on. For a place of which something else says that
    /// nobody has it.
    GivesWay,
}

/// A socket that is listened at.
///
/// The file goes first. As long as it is there somebody listens, so that nobody takes the place while it is looked
/// whose it is.
#[derive(Debug)]
pub struct Listening {
    /// The file, as long as it is to be there.
    pub file: SocketFile,
    /// Who connects.
    pub listener: UnixListener,
}

impl Listening {
    /// The next connection, whoever it is of.
    ///
    /// # Errors
    ///
    /// Those of accept(2).
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

/// The file of a socket, which is removed when this is dropped, unless another is in its place by then.
#[derive(Debug)]
pub struct SocketFile {
    directory: OwnedFd,
    name: OsString,
    id: Id,
}

/// A device and an inode.
type Id = (u64, u64);

/// Listens at `path`, for the user of this process alone; as [`listen_as`], whose predecessor stays.
///
/// # Errors
///
/// As of [`listen_as`].
pub fn listen(path: &Path) -> io::Result<Listening> {
    listen_as(path, Predecessor::Stays, None)
}

/// Listens at `path`. The file belongs to `owner`, a user and a group, or to the user of this process, and is for
/// its owner alone.
///
/// The socket gets its mode before it has a name, and listens before it is found: it is made under another name in
/// the same directory and renamed. What a server left there that listens no more is replaced. Those that come to one
/// directory at once do so one after the other; the thread waits for that, 5 s at most. Whoever is killed in between
/// leaves a socket that nobody can connect to, `.NAME.PID`, which the next of that id takes away and nobody else. Needs
/// a runtime.
///
/// # Errors
///
/// `AddrInUse` when a server listens there that [stays](Predecessor::Stays), `AlreadyExists` when what is there is no
/// socket; both leave it. `ResourceBusy` when another program keeps the directory locked. The directory is missing, or
/// refuses.
pub fn listen_as(
    path: &Path,
    predecessor: Predecessor,
    owner: Option<(u32, u32)>,
) -> io::Result<Listening> {
    let (directory, name) = split(path)?;
    lock(&directory, path)?;
    let placed = place(&directory, &name, path, predecessor, owner);
    rustix::fs::flock(&directory, FlockOperation::Unlock)?;
    let (id, listener) = placed?;
    Ok(Listening { file: SocketFile { directory, name, id }, listener })
}

/// Locks the directory of a socket, for as long as one is made there. Whoever can open the directory can hold its lock
/// for as long as they like: then the socket is not made.
fn lock(directory: &OwnedFd, path: &Path) -> io::Result<()> {
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => pause(),
            locked => return locked.map_err(io::Error::from),
        }
    }
    let shown = path.parent().unwrap_or(path).display();
    let what = format!(
        "another program keeps directory {shown} locked, and no socket is made there meanwhile: end that program"
    );
    Err(io::Error::new(io::ErrorKind::ResourceBusy, what))
}

#[expect(clippy::disallowed_methods, reason = "nobody tells when a lock is free")]
fn pause() {
    std::thread::sleep(LOCK_PAUSE);
}

/// Makes a socket that listens and gives it its name. Nobody else does so in the directory meanwhile.
fn place(
    directory: &OwnedFd,
    name: &OsString,
    path: &Path,
    predecessor: Predecessor,
    owner: Option<(u32, u32)>,
) -> io::Result<(Id, UnixListener)> {
    refuse_other(directory, name, path)?;
    if predecessor == Predecessor::Stays {
        refuse_living(directory, name, path)?;
    }
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{}", rustix::process::getpid().as_raw_nonzero()));
    // what a process of this id left that was killed in between
    remove(directory, &new)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // bind(2) takes the mode from here: nobody can have the name mean something else meanwhile
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(through(directory, &new))?)?;
    let placed = give(directory, &new, owner).and_then(|id| {
        rustix::net::listen(&socket, BACKLOG)?;
        let listener = UnixListener::from_std(socket.into())?;
        rustix::fs::renameat(directory, &new, directory, name)?;
        Ok((id, listener))
    });
    if placed.is_err() {
        remove(directory, &new)?;
    }
    placed
}

/// Gives a new socket to its owner, and tells what it is.
fn give(directory: &OwnedFd, new: &OsString, owner: Option<(u32, u32)>) -> io::Result<Id> {
    let found = rustix::fs::openat(
        directory,
        new,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let about = rustix::fs::fstat(&found)?;
    if !is_socket(&about) || about.st_uid != rustix::process::geteuid().as_raw() {
        let what = "somebody else has changed the directory meanwhile";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if let Some((user, group)) = owner {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        rustix::fs::chownat(&found, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
    }
    Ok(id_of(&about))
}

/// Refuses what is no socket.
fn refuse_other(directory: &OwnedFd, name: &OsString, path: &Path) -> io::Result<()> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(about) if !is_socket(&about) => {
            let what = format!("{} is no socket", path.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
        }
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a socket at which somebody listens.
fn refuse_living(directory: &OwnedFd, name: &OsString, path: &Path) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(through(directory, name))?;
    match rustix::net::connect(&probe, &address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // a queue of connections that is full is somebody's, and so is a socket of another type
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => {
            let what = format!("another program listens on {} already", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, what))
        }
        Err(error) => Err(error.into()),
    }
}

fn remove(directory: &OwnedFd, name: &OsString) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_socket(about: &Stat) -> bool {
    FileType::from_raw_mode(about.st_mode) == FileType::Socket
}

fn id_of(about: &Stat) -> Id {
    (about.st_dev, about.st_ino)
}

impl SocketFile {
    /// Whether it is in its place still: it may have been taken away, or another one made there. Costs one look at the
    /// directory.
    ///
    /// # Errors
    ///
    /// The directory cannot be looked at.
    pub fn is_in_place(&self) -> io::Result<bool> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => Ok(id_of(&about) == self.id),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let removed = match self.is_in_place() {
            // that of the server that came after this one, or none
            Ok(false) => return,
            Ok(true) => remove(&self.directory, &self.name),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            let name = self.name.display();
            tracing::warn!(%error, %name, "a socket is not taken away");
        }
    }
}

/// Connects to the socket at `path`, at which the user of this process or root has to listen.
///
/// # Errors
///
/// Nobody listens there, or somebody else (`PermissionDenied`).
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        UnixStream::connect(path).await?
    } else {
        let (directory, name) = split(path)?;
        UnixStream::connect(through(&directory, &name)).await?
    };
    let server = stream.peer_cred()?.uid();
    if !may_call(server, rustix::process::geteuid().as_raw()) {
        let what = format!("user {server} listens on {}", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    Ok(stream)
}

/// The directory, open, and the name in it.
fn split(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    Ok((directory, name.to_owned()))
}

/// A short path to what is called `name` in an open directory.
fn through(directory: &OwnedFd, name: &OsString) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<OsString> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_takes_the_place_of_a_stale_one_and_goes() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("own.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let Listening { listener, file } = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        connect(&path).await.unwrap();
        listener.accept().await.unwrap();
        assert_eq!(names(home.path()), ["own.sock"]);
        drop(file);
        assert_eq!(names(home.path()), [""; 0]);
    }

    #[tokio::test]
    async fn what_is_no_socket_and_who_listens_already_stay() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("own.sock");
        for place in [
            |path: &Path| std::fs::write(path, "mine"),
            |path: &Path| std::os::unix::fs::symlink("elsewhere", path),
        ] {
            place(&path).unwrap();
            for predecessor in [Predecessor::Stays, Predecessor::GivesWay] {
                let refused = listen_as(&path, predecessor, None).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{refused}");
            }
            assert_eq!(names(home.path()), ["own.sock"]);
            std::fs::remove_file(&path).unwrap();
        }
        let first = listen(&path).unwrap();
        let refused = listen(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
        assert_eq!(names(home.path()), ["own.sock"]);
        // the probe was a connection too
        first.accept().await.unwrap();
        connect(&path).await.unwrap();
        first.accept().await.unwrap();
        drop(first);
        let datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let refused = listen(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
        drop(datagrams);
        listen(&path).unwrap();
    }

    #[tokio::test]
    async fn whoever_comes_while_another_goes_is_refused_or_keeps_its_socket() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("own.sock");
        let mut placed = 0;
        for _ in 0..500 {
            let first = listen(&path).unwrap();
            let going = std::thread::spawn(move || drop(first));
            let second = listen(&path);
            going.join().unwrap();
            match second {
                Ok(second) => {
                    connect(&path).await.unwrap();
                    second.accept().await.unwrap();
                    placed += 1;
                }
                Err(refused) => {
                    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
                    assert_eq!(names(home.path()), [""; 0]);
                }
            }
        }
        println!("{placed} of 500 came after the first had gone");
    }

    #[tokio::test]
    async fn one_that_comes_after_another_that_goes_keeps_its_socket() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("own.sock");
        let first = listen(&path).unwrap();
        let second = listen_as(&path, Predecessor::GivesWay, None).unwrap();
        assert_eq!(names(home.path()), ["own.sock"]);
        drop(first);
        connect(&path).await.unwrap();
        second.accept().await.unwrap();
    }

    #[tokio::test]
    async fn of_several_that_come_at_once_one_listens_and_the_others_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("own.sock");
        for _ in 0..50 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let runtime = tokio::runtime::Handle::current();
            let all = std::sync::Barrier::new(8);
            let placed: Vec<io::Result<Listening>> = std::thread::scope(|scope| {
                let placing = (0..8).map(|_| {
                    let (path, runtime, all) = (&path, &runtime, &all);
                    scope.spawn(move || {
                        let _within = runtime.enter();
                        all.wait();
                        listen(path)
                    })
                });
                placing.collect::<Vec<_>>().into_iter().map(|one| one.join().unwrap()).collect()
            });
            let (first, refused): (Vec<_>, Vec<_>) = placed.into_iter().partition(Result::is_ok);
            assert_eq!(first.len(), 1, "{refused:?}");
            assert_eq!(names(home.path()), ["own.sock"]);
            connect(&path).await.unwrap();
            drop(first);
            assert_eq!(names(home.path()), [""; 0]);
        }
    }

    #[tokio::test]
    async fn whoever_keeps_the_directory_locked_is_told_of_and_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("own.sock");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let locked = rustix::fs::open(home.path(), flags, Mode::empty()).unwrap();
        rustix::fs::flock(&locked, FlockOperation::LockExclusive).unwrap();
        let refused = listen(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy, "{refused}");
        let place = home.path().to_str().unwrap();
        assert!(refused.to_string().contains(&format!("directory {place} locked")), "{refused}");
        assert_eq!(names(home.path()), [""; 0]);
        drop(locked);
        listen(&path).unwrap();
    }

    #[tokio::test]
    async fn a_path_may_be_longer_than_an_address() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("own.sock");
        let listening = listen(&path).unwrap();
        connect(&path).await.unwrap();
        listening.accept().await.unwrap();
    }
}
