//! Cove's home: its directories, its lock, its token, and whose they are.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cove_env::Env;
use cove_types::ErrorKind;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::environment::{self, LOCK, NODE_LOCK, User};
use crate::failure::Failure;

/// Cove's home: its directories and the lock that keeps a second Cove out.
pub(super) struct Home {
    pub(super) dir: PathBuf,
    /// Who called sudo, to whom what is made here belongs.
    pub(super) caller: Option<User>,
    _locks: Vec<File>,
}

/// What of Cove runs in a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Hub, projects and node.
    All,
    /// Hub and projects.
    Hub,
    /// A node.
    Node,
}

impl Part {
    /// The files that are locked while it runs: no part runs twice in a home.
    fn locks(self) -> &'static [&'static str] {
        match self {
            Self::All => &[LOCK, NODE_LOCK],
            Self::Hub => &[LOCK],
            Self::Node => &[NODE_LOCK],
        }
    }
}

impl Home {
    pub(super) fn open(dir: &Path, part: Part) -> Result<Self, Failure> {
        let caller = environment::caller()?;
        make_home(dir, caller)?;
        for below in ["state", "state/cache"] {
            let below = dir.join(below);
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&below)
                .map_err(|error| cannot_be_made(&below, &error))?;
        }
        let mut locks = Vec::new();
        for name in part.locks() {
            let place = dir.join(name);
            let lock = open_own(&place, caller, std::fs::OpenOptions::new().write(true))
                .map_err(|error| cannot_be_made(&place, &error))?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => locks.push(lock),
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(runs_already(dir)),
                Err(error) => return Err(cannot_be_made(&place, &error.into())),
            }
        }
        Ok(Self { dir: dir.to_owned(), caller, _locks: locks })
    }

    /// The users that may call through the socket: root, who runs this, the owner of the home and
    /// who called sudo.
    pub(super) fn users(&self) -> Result<Vec<u32>, Failure> {
        let own = rustix::process::geteuid().as_raw();
        let mut users = vec![0, own, self.owner()?.0];
        users.extend(self.caller.map(|caller| caller.0));
        Ok(users)
    }

    /// To whom the socket belongs: who called sudo, else the owner of the home.
    pub(super) fn owner(&self) -> Result<User, Failure> {
        if let Some(caller) = self.caller {
            return Ok(caller);
        }
        let metadata = std::fs::metadata(&self.dir).map_err(|error| {
            Failure::io(format!("failed to look at {}", self.dir.display()), &error)
        })?;
        Ok(User(metadata.uid(), metadata.gid()))
    }

    /// The token that callers over TCP send; made once.
    pub(super) fn token(&self, env: &Env) -> Result<String, Failure> {
        let place = self.dir.join("token");
        let failed = |error: &std::io::Error| Failure::io("failed to make the token", error);
        match std::fs::read_to_string(&place) {
            Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error)),
        }
        let secret: [u8; 32] = env.random();
        let digits: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = format!("cove_{digits}");
        let fresh = self.dir.join("token.tmp");
        // What an earlier start left half-made.
        let _ = std::fs::remove_file(&fresh);
        let mut file = open_own(&fresh, self.caller, std::fs::OpenOptions::new().write(true))
            .map_err(|error| failed(&error))?;
        file.write_all(token.as_bytes()).map_err(|error| failed(&error))?;
        file.write_all(b"\n").map_err(|error| failed(&error))?;
        file.sync_all().map_err(|error| failed(&error))?;
        std::fs::rename(&fresh, &place).map_err(|error| failed(&error))?;
        Ok(token)
    }
}

pub(super) fn runs_already(dir: &Path) -> Failure {
    Failure::new(ErrorKind::Precondition, format!("a Cove is running in {} already", dir.display()))
        .hint("use it, stop it with `cove down`, or give this one another --home")
}

/// Makes the home, 0711, and the directories above it as far as they are missing, 0755; all of them
/// the caller's under sudo.
pub(super) fn make_home(dir: &Path, caller: Option<User>) -> Result<(), Failure> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|above| !above.exists()).collect();
    for above in missing.into_iter().rev() {
        let mode = if above == dir { 0o711 } else { 0o755 };
        let made = make_directory(above, mode, caller);
        made.map_err(|error| cannot_be_made(above, &error))?;
    }
    match dir.is_dir() {
        true => Ok(()),
        false => Err(Failure::new(
            ErrorKind::Precondition,
            format!("Cove's home {} is a file, not a directory", dir.display()),
        )
        .hint("give another home with --home or COVE_HOME")),
    }
}

fn make_directory(dir: &Path, mode: u32, caller: Option<User>) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(mode).create(dir) {
        // Somebody else made it meanwhile, and it is theirs.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => match caller {
            Some(caller) => give(&rustix::fs::open(dir, DIRECTORY, Mode::empty())?, caller),
            None => Ok(()),
        },
    }
}

/// How a directory is opened that was just made, and nothing that was put in its place.
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Gives what was just made to a user.
fn give(made: &impl AsFd, User(uid, gid): User) -> std::io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(made, Some(uid), Some(gid))?)
}

/// Opens a file of the home, 0600; one that is made here is the caller's under sudo. A link is not
/// followed: the home is its user's, who is not always the one who runs this.
pub(super) fn open_own(
    place: &Path,
    caller: Option<User>,
    options: &mut std::fs::OpenOptions,
) -> std::io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or(0);
    options.mode(0o600).custom_flags(flags);
    match options.clone().create_new(true).open(place) {
        Ok(file) => {
            caller.map_or(Ok(()), |caller| give(&file, caller))?;
            Ok(file)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => options.open(place),
        Err(error) => Err(error),
    }
}

/// Why a place of the home is not there, without the number of the error.
pub(super) fn cannot_be_made(place: &Path, error: &std::io::Error) -> Failure {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::Denied
        }
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Exhausted,
        _ => ErrorKind::Precondition,
    };
    let text = error.to_string();
    let why = text.split(" (os error").next().unwrap_or_default().to_ascii_lowercase();
    Failure::new(kind, format!("{} cannot be made: {why}", place.display()))
        .hint("give another home with --home or COVE_HOME")
}
