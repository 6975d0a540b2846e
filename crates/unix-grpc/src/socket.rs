//! Unix sockets, whose paths may be longer than an address holds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

/// Longer paths do not fit into an address of a unix socket with its NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Listens at `path`, for the user of this process alone.
///
/// The socket is made under another name and renamed, so that whoever finds it finds it listening and closed to
/// other users. One that an earlier server left there gives way. Needs a runtime.
///
/// # Errors
///
/// `AddrInUse` when another process listens there, `AlreadyExists` when what is there is no socket; both leave it.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let (directory, name) = split(path)?;
    give_way(&directory, &name, path)?;
    let mut new = std::ffi::OsString::from(".");
    new.push(&name);
    new.push(".new");
    // what a process that was killed in between left
    match rustix::fs::unlinkat(&directory, &new, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let listener = UnixListener::bind(through(&directory, &new))?;
    let renamed =
        rustix::fs::chmodat(&directory, &new, Mode::from_raw_mode(0o600), AtFlags::empty())
            .and_then(|()| rustix::fs::renameat(&directory, &new, &directory, &name));
    if let Err(error) = renamed {
        let _ = rustix::fs::unlinkat(&directory, &new, AtFlags::empty());
        return Err(error.into());
    }
    Ok(listener)
}

/// Whether what has the name may be replaced.
fn give_way(directory: &OwnedFd, name: &Path, path: &Path) -> io::Result<()> {
    let found = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => FileType::from_raw_mode(found.st_mode),
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if found != FileType::Socket {
        let what = format!("{} is no socket", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = SocketAddrUnix::new(through(directory, name))?;
    match rustix::net::connect(&probe, &address) {
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOENT) => Ok(()),
        // a queue of connections that is full is somebody's
        Ok(()) | Err(rustix::io::Errno::AGAIN) => {
            let what = format!("another process listens on {}", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, what))
        }
        Err(error) => Err(error.into()),
    }
}

/// Connects to the socket at `path`.
pub(crate) async fn connect(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return UnixStream::connect(path).await;
    }
    let (directory, name) = split(path)?;
    UnixStream::connect(through(&directory, &name)).await
}

/// The directory, open, and the name in it.
fn split(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    Ok((directory, PathBuf::from(name)))
}

/// A short path to what is called `name` in an open directory.
fn through(directory: &OwnedFd, name: impl AsRef<Path>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_and_takes_the_place_of_a_stale_one() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("own.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = listen(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        connect(&path).await.unwrap();
        listener.accept().await.unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_is_no_socket_and_who_listens_already_stay() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        let refused = listen(&file).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists, "{refused}");
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");

        let path = home.path().join("own.sock");
        let first = listen(&path).unwrap();
        let refused = listen(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
        // the probe was a connection too
        first.accept().await.unwrap();
        connect(&path).await.unwrap();
        first.accept().await.unwrap();
    }

    #[tokio::test]
    async fn a_path_may_be_longer_than_an_address() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join("own.sock");
        let listener = listen(&path).unwrap();
        connect(&path).await.unwrap();
        listener.accept().await.unwrap();
    }
}
