//! What the program takes from its environment.

use std::ffi::OsString;
use std::fs::Metadata;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cove_client::Client;
use cove_types::ErrorKind;
use rustix::process::Pid;

use crate::args::{
    CsiFlags, DiskFlags, HubArgs, HubFlags, NodeFlags, UpArgs, UpFlags, parse_bytes,
};
use crate::failure::Failure;

/// How many counted entries stay when nobody says otherwise.
const KEEP_DEFAULT: u32 = 5;
/// The most that may stay.
const KEEP_MAX: u32 = 200;

/// Where the API listens when nobody says otherwise.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7070));

/// The smallest pool that btrfs works well in, in bytes.
const POOL_BYTES_MIN: u64 = 256 << 20;

/// What an environment variable holds; an empty one counts as absent.
#[expect(clippy::disallowed_methods, reason = "programs read the environment, here and only here")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// What an environment variable holds that must be text.
fn text(name: &str) -> Result<Option<String>, Failure> {
    let refused = |_| Failure::new(ErrorKind::Invalid, format!("{name} is not UTF-8"));
    variable(name).map(|value| value.into_string().map_err(refused)).transpose()
}

/// Where everything of this user's Cove lies: `COVE_HOME`, else `~/.local/share/cove` of
/// the user, under sudo of the one who called it.
pub fn home() -> Result<PathBuf, Failure> {
    if let Some(home) = variable("COVE_HOME") {
        return absolute(PathBuf::from(home));
    }
    let caller = text("SUDO_UID")?
        .filter(|_| rustix::process::geteuid().is_root())
        .and_then(|uid| uid.parse::<u32>().ok())
        .and_then(|uid| home_of(uid, &std::fs::read_to_string("/etc/passwd").unwrap_or_default()));
    match caller.or_else(|| variable("HOME").map(PathBuf::from)) {
        Some(user) => absolute(user.join(".local/share/cove")),
        None => Err(Failure::new(ErrorKind::Invalid, "neither COVE_HOME nor HOME is set")
            .hint("say where Cove's home is with COVE_HOME")),
    }
}

/// A user and their group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User(pub u32, pub u32);

/// Who called sudo, when root runs this for another user.
pub fn caller() -> Result<Option<User>, Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    Ok(caller_of(text("SUDO_UID")?.as_deref(), text("SUDO_GID")?.as_deref()))
}

fn caller_of(uid: Option<&str>, gid: Option<&str>) -> Option<User> {
    let uid = uid?.parse().ok().filter(|uid| *uid != 0)?;
    // sudo sets both; a user's own group is mostly named by the same number
    Some(User(uid, gid.and_then(|gid| gid.parse().ok()).unwrap_or(uid)))
}

/// The home directory of a user, as the passwd file has it.
fn home_of(uid: u32, passwd: &str) -> Option<PathBuf> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let is_theirs = fields.get(2)?.parse() == Ok(uid);
        is_theirs
            .then(|| fields.get(5).copied())?
            .filter(|home| !home.is_empty())
            .map(PathBuf::from)
    })
}

fn absolute(path: PathBuf) -> Result<PathBuf, Failure> {
    std::path::absolute(&path)
        .map_err(|error| Failure::io(format!("failed to find {}", path.display()), &error))
}

/// The Cove that the verbs speak to: `COVE_URL` with `COVE_TOKEN`, else the socket in the home.
pub fn client() -> Result<Client, Failure> {
    match text("COVE_URL")? {
        Some(url) => {
            let token = text("COVE_TOKEN")?.ok_or_else(|| {
                Failure::new(ErrorKind::Denied, "COVE_URL is set and COVE_TOKEN is not")
                    .hint("the token is in the file `token` in Cove's home")
            })?;
            Ok(Client::tcp(&url, token.trim())?)
        }
        None => Ok(Client::unix(home()?.join("cove.sock"))),
    }
}

/// Whether the verbs speak to the Cove of this user's home, and not to one by URL.
pub fn is_local() -> bool {
    variable("COVE_URL").is_none()
}

/// The log of the Cove in this user's home, when there is one.
pub fn log() -> Option<PathBuf> {
    let home = home().ok().filter(|_| is_local())?;
    Some(home.join("cove.log")).filter(|log| log.exists())
}

/// The file in a home that is locked while Hub and projects are served there.
pub const LOCK: &str = "lock";
/// The file in a home that is locked while its node runs.
pub const NODE_LOCK: &str = "lock-node";

/// Whether anything of Cove runs in this user's home.
pub fn is_running() -> bool {
    home().is_ok_and(|home| is_running_in(&home))
}

/// Whether anything of Cove runs in a home.
pub fn is_running_in(home: &Path) -> bool {
    [LOCK, NODE_LOCK].iter().any(|lock| is_locked(home, lock))
}

/// What runs in a home although nobody answers there, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Silent {
    pub what: String,
    pub hint: String,
}

/// What runs in this user's home, when nobody answers at a socket and that is its.
pub fn silent(at: &str) -> Option<Silent> {
    let home = home().ok().filter(|home| home.join("cove.sock").display().to_string() == at)?;
    let socket = home.join("hub.sock");
    let locks = [is_locked(&home, LOCK), is_locked(&home, NODE_LOCK)];
    silent_in(&home, locks, socket.exists().then_some(&*socket))
}

/// What runs in a home of which these locks are held, that of the Hub and that of the node.
fn silent_in(home: &Path, locks: [bool; 2], hub_socket: Option<&Path>) -> Option<Silent> {
    let home = home.display();
    let (what, hint) = match locks {
        [true, true] => (
            format!("the Cove in {home} does not answer yet: it is starting or ending"),
            "repeat this in a moment; its log tells how far it is".to_owned(),
        ),
        [true, false] => {
            let socket = hub_socket.map_or("the socket of that Hub".to_owned(), |path| {
                format!("unix://{}", path.display())
            });
            (
                format!("the Volume Hub in {home} waits for a node, and serves no projects yet"),
                format!("start one in a home of its own: `cove node --home DIR --hub {socket}`"),
            )
        }
        [false, true] => (
            format!("a node runs in {home}, and its Volume Hub serves the projects"),
            "set COVE_HOME to the home of that Hub, which `cove hub` runs in".to_owned(),
        ),
        [false, false] => return None,
    };
    Some(Silent { what, hint })
}

/// Whether a lock of a home is held.
pub fn is_locked(home: &Path, lock: &str) -> bool {
    std::fs::File::open(home.join(lock)).is_ok_and(|lock| {
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
    })
}

/// The processes that hold a lock of a home, as far as this user may look at them.
pub fn holders(home: &Path, lock: &str) -> Vec<Pid> {
    let Ok(lock) = std::fs::metadata(home.join(lock)) else { return Vec::new() };
    // who only looks at it has it open for reading
    let is_held = |open: &Path| {
        let is_writable =
            std::fs::symlink_metadata(open).is_ok_and(|link| link.mode() & 0o200 != 0);
        let is_it = |found: Metadata| (found.dev(), found.ino()) == (lock.dev(), lock.ino());
        is_writable && std::fs::metadata(open).is_ok_and(is_it)
    };
    let holds = |process: &Path| {
        let mut open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.any(|open| is_held(&open.path()))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            holds(&entry.path()).then_some(pid)
        })
        .filter(|pid| *pid != rustix::process::getpid())
        .collect()
}

/// The file in the home that tells the URL of the store that the Cove of this home was given.
pub const STORE_FILE: &str = "store";

/// What `new` and `cp` leave out of what they copy in: Cove's own home, and its store when
/// that is a directory.
pub fn own_directories() -> Vec<PathBuf> {
    let home = home().ok();
    let told = home.as_ref().and_then(|home| std::fs::read_to_string(home.join(STORE_FILE)).ok());
    let stores = [told, text("COVE_OBJECTS").ok().flatten()].into_iter().flatten();
    let directory = |url: String| url.trim_end().strip_prefix("file://").map(PathBuf::from);
    home.into_iter().chain(stores.filter_map(directory)).collect()
}

/// What `up` is to do, whole: what no flag says, the environment may.
pub fn up(flags: UpFlags) -> Result<UpArgs, Failure> {
    let UpFlags { detach, home, listen, disk, csi } = flags;
    let listen = http_listen(listen)?;
    Ok(UpArgs { detach, listen, ..on_disk(home, disk, csi)? })
}

/// What `node` is to do, whole; it serves no API.
pub fn node(flags: NodeFlags) -> Result<(UpArgs, PathBuf), Failure> {
    let NodeFlags { home, hub, disk, csi } = flags;
    Ok((on_disk(home, disk, csi)?, absolute(hub)?))
}

/// What `hub` is to do, whole.
pub fn hub(flags: HubFlags) -> Result<HubArgs, Failure> {
    let home = chosen_home(flags.home)?;
    let socket = flags.listen.map_or_else(|| Ok(home.join("hub.sock")), absolute)?;
    Ok(HubArgs { socket, http_listen: http_listen(flags.http_listen)?, keep: kept()?, home })
}

fn named(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn chosen_home(flag: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match named(flag) {
        Some(home) => absolute(home),
        None => home(),
    }
}

fn http_listen(flag: Option<SocketAddr>) -> Result<SocketAddr, Failure> {
    match flag {
        Some(listen) => Ok(listen),
        None => listen_of(text("COVE_LISTEN")?.as_deref()),
    }
}

fn kept() -> Result<u32, Failure> {
    keep(text("COVE_MAX_SNAPSHOTS_PER_PROJECT")?, text("K8S_MAX_SNAPSHOTS_PER_PROJECT")?)
}

fn on_disk(home: Option<PathBuf>, disk: DiskFlags, csi: CsiFlags) -> Result<UpArgs, Failure> {
    let DiskFlags { pool_bytes, pool, objects, store_every, store_timeout } = disk;
    let home = chosen_home(home)?;
    let pool = named(pool).or_else(|| variable("COVE_POOL").map(PathBuf::from));
    let pool = pool.map(absolute).transpose()?;
    let (given_as, pool_bytes) = match pool_bytes {
        None => {
            let bytes = text("COVE_POOL_BYTES")?.map(|text| pool_bytes_of(&text)).transpose()?;
            ("COVE_POOL_BYTES", bytes)
        }
        bytes => ("--pool-bytes", bytes),
    };
    if let Some(bytes) = pool_bytes.filter(|bytes| *bytes < POOL_BYTES_MIN) {
        let least = POOL_BYTES_MIN >> 20;
        return Err(Failure::new(
            ErrorKind::Invalid,
            format!("{given_as} is at least {least} MiB, found {bytes} bytes"),
        ));
    }
    let objects = match objects.filter(|url| !url.is_empty()) {
        None => text("COVE_OBJECTS")?,
        url => url,
    };
    Ok(UpArgs {
        home,
        listen: LISTEN_DEFAULT,
        pool_bytes,
        pool,
        objects,
        store_every,
        store_timeout,
        detach: false,
        keep: kept()?,
        csi,
    })
}

/// Where the API listens, as the environment has it.
fn listen_of(written: Option<&str>) -> Result<SocketAddr, Failure> {
    let Some(written) = written else { return Ok(LISTEN_DEFAULT) };
    written.parse().map_err(|_| {
        let found = cove_types::escape_bytes(written.as_bytes());
        Failure::new(ErrorKind::Invalid, format!("COVE_LISTEN is ADDR:PORT, found \"{found}\""))
            .hint("such as 127.0.0.1:7070")
    })
}

/// The size of the pool, as the environment has it.
fn pool_bytes_of(written: &str) -> Result<u64, Failure> {
    parse_bytes(written).map_err(|why| {
        let found = cove_types::escape_bytes(written.as_bytes());
        Failure::new(ErrorKind::Invalid, format!("COVE_POOL_BYTES is \"{found}\": {why}"))
    })
}

/// What reaches an S3 service.
#[derive(Clone)]
pub struct AwsKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: String,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
    /// `AWS_REGION`, else `us-east-1`.
    pub region: String,
    /// `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
}

/// The keys of an S3 service, as its own tools read them.
pub fn aws() -> Result<AwsKeys, Failure> {
    let needed = |name: &str| {
        text(name)?.ok_or_else(|| {
            Failure::new(ErrorKind::Invalid, format!("{name} is not set"))
                .hint("an s3:// store needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        })
    };
    Ok(AwsKeys {
        access_key: needed("AWS_ACCESS_KEY_ID")?,
        secret_key: needed("AWS_SECRET_ACCESS_KEY")?,
        session_token: text("AWS_SESSION_TOKEN")?,
        region: text("AWS_REGION")?.unwrap_or_else(|| "us-east-1".into()),
        endpoint: text("AWS_ENDPOINT_URL")?,
    })
}

/// What is logged: `COVE_LOG`, in the form of `tracing-subscriber`'s filters.
pub fn log_filter() -> String {
    text("COVE_LOG").ok().flatten().unwrap_or_else(|| "info,sqlx=warn,hyper=warn".into())
}

/// How many counted entries stay: Cove's own variable goes before Kubernetes' one.
fn keep(own: Option<String>, kubernetes: Option<String>) -> Result<u32, Failure> {
    let named = own.map(|text| ("COVE_MAX_SNAPSHOTS_PER_PROJECT", text));
    let named = named.or(kubernetes.map(|text| ("K8S_MAX_SNAPSHOTS_PER_PROJECT", text)));
    let Some((name, text)) = named else { return Ok(KEEP_DEFAULT) };
    text.trim().parse().ok().filter(|keep| (1..=KEEP_MAX).contains(keep)).ok_or_else(|| {
        let found = cove_types::escape_bytes(text.as_bytes());
        Failure::new(ErrorKind::Invalid, format!("{name} is 1 to {KEEP_MAX}, found \"{found}\""))
    })
}

/// Device and inode of the directories that are there.
pub fn identities(paths: &[PathBuf]) -> Vec<(u64, u64)> {
    let identity = |path: &Path| {
        let stat = rustix::fs::stat(path).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    paths.iter().filter_map(|path| identity(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_of_who_called_sudo_comes_from_the_passwd_file() {
        let passwd = "root:x:0:0:root:/r:/bin/sh\nann:x:1000:1000:,,,:/home/ann:/bin/bash\n";
        assert_eq!(home_of(1000, passwd), Some("/home/ann".into()));
        assert_eq!(home_of(1001, passwd), None);
    }

    #[test]
    fn where_something_runs_that_does_not_answer_nobody_is_told_to_start_a_cove() {
        let silent = |locks| silent_in(Path::new("/h"), locks, Some(Path::new("/h/hub.sock")));
        let hub = silent([true, false]).unwrap();
        assert_eq!(hub.what, "the Volume Hub in /h waits for a node, and serves no projects yet");
        assert!(
            hub.hint.contains("`cove node --home DIR --hub unix:///h/hub.sock`"),
            "{}",
            hub.hint
        );
        let elsewhere = silent_in(Path::new("/h"), [true, false], None).unwrap();
        assert!(elsewhere.hint.contains("--hub the socket of that Hub"), "{}", elsewhere.hint);
        let node = silent([false, true]).unwrap();
        assert_eq!(node.what, "a node runs in /h, and its Volume Hub serves the projects");
        assert!(silent([true, true]).unwrap().what.contains("is starting or ending"));
        assert_eq!(silent([false, false]), None);
    }

    #[test]
    fn who_called_sudo_is_told_by_its_variables() {
        assert_eq!(caller_of(Some("1000"), Some("100")), Some(User(1000, 100)));
        assert_eq!(caller_of(Some("1000"), None), Some(User(1000, 1000)));
        assert_eq!(caller_of(Some("0"), Some("0")), None);
        assert_eq!(caller_of(None, Some("100")), None);
        assert_eq!(caller_of(Some("ann"), None), None);
    }

    #[test]
    fn what_up_takes_from_the_environment_is_read_as_its_flags_are() {
        assert_eq!(listen_of(None).unwrap().to_string(), "127.0.0.1:7070");
        assert_eq!(listen_of(Some("[::1]:0")).unwrap().port(), 0);
        let refused = listen_of(Some("7070")).unwrap_err().to_string();
        assert_eq!(refused, "COVE_LISTEN is ADDR:PORT, found \"7070\"");
        assert_eq!(pool_bytes_of("1GiB").unwrap(), 1 << 30);
        assert!(pool_bytes_of("much").unwrap_err().to_string().starts_with("COVE_POOL_BYTES is"));
    }

    #[test]
    fn coves_own_number_goes_before_that_of_kubernetes() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(keep(None, None).unwrap(), 5);
        assert_eq!(keep(None, text("7")).unwrap(), 7);
        assert_eq!(keep(text("9"), text("7")).unwrap(), 9);
        let refused = keep(text("201"), None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "COVE_MAX_SNAPSHOTS_PER_PROJECT is 1 to 200, found \"201\""
        );
    }
}
