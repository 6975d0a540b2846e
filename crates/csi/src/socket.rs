//! The socket that the driver is called through.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cove_types::ParseError;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::net::UnixListener;

/// Reads where to listen: `unix:///run/csi.sock`, `unix:run/csi.sock` or a path alone.
///
/// # Errors
///
/// It is another kind of address, or none.
pub fn parse_endpoint(text: &str) -> Result<PathBuf, ParseError> {
    let refused = |why: &str| {
        let shown: String = text.chars().take(120).collect();
        Err(ParseError(format!("\"{}\": {why}", shown.escape_default())))
    };
    let path = match text.split_once(':') {
        Some(("unix", rest)) => rest.strip_prefix("//").unwrap_or(rest),
        Some(("tcp", _)) => {
            return refused("the interface is served on a unix socket, whose callers are known");
        }
        Some((scheme, _)) if !scheme.contains('/') => {
            return refused("an endpoint is unix:///PATH");
        }
        _ => text,
    };
    if path.is_empty() || path.ends_with('/') || path.contains('\0') {
        return refused("an endpoint names the path of a socket");
    }
    Ok(PathBuf::from(path))
}

/// Opens the directory of a path and gives the last name in it.
fn open_directory(path: &Path) -> io::Result<(OwnedFd, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open(directory, flags, Mode::empty())?, name))
}

/// Makes the socket, for its owner alone, in the place of one that an earlier driver left there, or still serves: where
/// a driver is replaced, the next one comes before the last one has gone. Whoever finds it
/// finds it listening: it is made under another name in the same directory and gets its own when it is ready.
/// Takes paths that are longer than an address holds. Must be called within a runtime.
///
/// # Errors
///
/// What is there is no socket (`AlreadyExists`); the directory is missing, or refuses.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let (directory, name) = open_directory(path)?;
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode) != FileType::Socket => {
            let what = format!("{} is not a socket and is left as it is", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        Ok(_) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let own = format!(".cove-csi-{}", rustix::process::getpid().as_raw_nonzero());
    let removed = || match rustix::fs::unlinkat(&directory, &own, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(io::Error::from(error)),
    };
    removed()?;
    let short = format!("/proc/self/fd/{}/{own}", directory.as_raw_fd());
    let listener = UnixListener::bind(short)?;
    let mode = Mode::RUSR | Mode::WUSR;
    let placed = rustix::fs::chmodat(&directory, &own, mode, AtFlags::empty())
        .and_then(|()| rustix::fs::renameat(&directory, &own, &directory, name));
    if let Err(error) = placed {
        removed()?;
        return Err(error.into());
    }
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    use tokio::net::UnixStream;

    use super::*;

    #[test]
    fn an_endpoint_is_a_unix_socket() {
        for (text, path) in [
            ("unix:///run/csi.sock", "/run/csi.sock"),
            ("unix://run/csi.sock", "run/csi.sock"),
            ("unix:/run/csi.sock", "/run/csi.sock"),
            ("unix:csi.sock", "csi.sock"),
            ("/run/csi.sock", "/run/csi.sock"),
            ("/run/a:b/csi.sock", "/run/a:b/csi.sock"),
        ] {
            assert_eq!(parse_endpoint(text).unwrap(), Path::new(path), "{text}");
        }
        for text in ["", "unix://", "unix:", "unix:///run/", "http://a", "unix:///a\0b"] {
            assert!(parse_endpoint(text).is_err(), "{text:?}");
        }
        let refused = parse_endpoint("tcp://127.0.0.1:10000").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "\"tcp://127.0.0.1:10000\": the interface is served on a unix socket, whose callers are known"
        );
    }

    #[tokio::test]
    async fn a_socket_is_for_its_owner_alone_and_replaces_a_stale_one() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("csi.sock");
        drop(listen(&path).unwrap());
        let stale = UnixStream::connect(&path).await.unwrap_err();
        assert_eq!(stale.kind(), io::ErrorKind::ConnectionRefused);
        let listener = listen(&path).unwrap();
        let about = std::fs::symlink_metadata(&path).unwrap();
        assert!(about.file_type().is_socket());
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&path).await.unwrap();
        drop(listener);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("csi.sock");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_path_may_be_longer_than_an_address() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&deep).unwrap();
        let _listener = listen(&deep.join("csi.sock")).unwrap();
        assert!(deep.join("csi.sock").exists());
    }
}
