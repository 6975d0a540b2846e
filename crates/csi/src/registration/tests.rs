use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::fs::inotify;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::proto::registration::registration_client::RegistrationClient;

/// A registration that is served.
pub(crate) struct Served {
    pub(crate) home: TempDir,
    pub(crate) state: RegistrationState,
    pub(crate) client: RegistrationClient<Channel>,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<io::Result<()>>,
}

impl Served {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let registration =
            Registration::listen(home.path(), Path::new("/plugins/cove/csi.sock")).unwrap();
        let state = registration.state();
        let (stop, stopped) = oneshot::channel();
        let until = async {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve_registration(registration, until));
        let client = connect(home.path()).await;
        Self { home, state, client, stop, ended }
    }

    pub(crate) async fn notify(&mut self, plugin_registered: bool, error: &str) {
        let status = pb::RegistrationStatus { plugin_registered, error: error.to_owned() };
        self.client.notify_registration_status(status).await.unwrap();
    }

    /// Waits until the socket is made anew and calls that from now on, as kubelet does. Tells how long it took, in
    /// seconds.
    async fn anew(&mut self) -> u64 {
        let (path, begun) = (registration_socket(self.home.path()), Instant::now());
        let before = id_at(&path).unwrap();
        while id_at(&path).expect("the name is never without a socket") == before {
            assert!(begun.elapsed() < Duration::from_mins(10), "there is no new one");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let took = begun.elapsed().as_secs();
        self.client = connect(self.home.path()).await;
        took
    }
}

/// Which file is there.
fn id_at(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

async fn connect(directory: &Path) -> RegistrationClient<Channel> {
    let path = registration_socket(directory);
    let endpoint = Endpoint::try_from(format!("unix://{}", path.display())).unwrap();
    RegistrationClient::new(endpoint.connect().await.unwrap())
}

#[tokio::test]
async fn kubelet_learns_what_the_driver_is_and_where() {
    let mut served = Served::start().await;
    assert!(served.home.path().join("cove.csi.storage-reg.sock").exists());
    let told = served.client.get_info(pb::InfoRequest {}).await.unwrap().into_inner();
    let expected = pb::PluginInfo {
        r#type: "CSIPlugin".to_owned(),
        name: "cove.csi.storage".to_owned(),
        endpoint: "/plugins/cove/csi.sock".to_owned(),
        supported_versions: vec!["1.0.0".to_owned()],
    };
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_kubelet_said_last_holds() {
    let mut served = Served::start().await;
    assert_eq!(served.state.get(), Registered::NotYet);
    served.notify(false, "no such node").await;
    assert_eq!(served.state.get(), Registered::Failed("no such node".to_owned()));
    served.notify(true, "").await;
    assert_eq!(served.state.get(), Registered::Done);
}

#[tokio::test]
async fn the_socket_is_gone_at_the_end_and_the_calls_are_answered() {
    let mut served = Served::start().await;
    served.client.get_info(pb::InfoRequest {}).await.unwrap();
    served.stop.send(()).unwrap();
    served.ended.await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(served.home.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn kubelet_finds_a_new_socket_after_each_failure_and_later_each_time_until_it_is_done() {
    let mut served = Served::start().await;
    for expected in [5, 10, 20, 40, 80, 120, 120] {
        served.notify(false, "the API server is away").await;
        assert_eq!(served.anew().await, expected);
        served.client.get_info(pb::InfoRequest {}).await.unwrap();
    }
    served.notify(true, "").await;
    assert_eq!(served.state.get(), Registered::Done);
    served.notify(false, "away again").await;
    assert_eq!(served.anew().await, 5);
    served.stop.send(()).unwrap();
    served.ended.await.unwrap().unwrap();
    assert_eq!(std::fs::read_dir(served.home.path()).unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_socket_stays_as_it_is_when_kubelet_comes_by_itself_and_registers_the_driver() {
    let mut served = Served::start().await;
    let before = id_at(&registration_socket(served.home.path())).unwrap();
    for _ in 0..3 {
        served.notify(false, "a busy node").await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        served.notify(true, "").await;
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(id_at(&registration_socket(served.home.path())), Some(before));
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_cannot_be_made_anew_is_tried_again() {
    let mut served = Served::start().await;
    let (path, kept) = (registration_socket(served.home.path()), served.home.path().join("kept"));
    // another program has taken the place, and goes later
    std::fs::rename(&path, &kept).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let others = id_at(&path).unwrap();
    served.notify(false, "the API server is away").await;
    tokio::time::sleep(Duration::from_secs(14)).await;
    assert_eq!(id_at(&path), Some(others), "one that listens stays");
    drop(other);
    assert_eq!(served.anew().await, 1);
    served.client.get_info(pb::InfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_runs_keeps_its_registration_and_one_that_was_killed_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let socket = registration_socket(home.path());
    let listen = || Registration::listen(home.path(), Path::new("/csi.sock"));
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let first = listen().unwrap();
    let refused = listen().unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse, "{refused}");
    UnixStream::connect(&socket).await.unwrap();
    drop(first);
    assert!(!socket.exists());
}

#[tokio::test]
async fn whoever_watches_the_directory_finds_one_socket_without_a_dot_and_it_listens() {
    let home = tempfile::tempdir().unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, home.path(), inotify::WatchFlags::ALL_EVENTS).unwrap();
    let _registration = Registration::listen(home.path(), Path::new("/csi.sock")).unwrap();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut buffer);
    let mut seen = Vec::new();
    while let Ok(event) = events.next() {
        let name = event.file_name().map(|name| name.to_str().unwrap().to_owned());
        if let Some(name) = name.filter(|name| !name.starts_with('.')) {
            seen.push((name, event.events()));
        }
    }
    let appeared = ("cove.csi.storage-reg.sock".to_owned(), inotify::ReadFlags::MOVED_TO);
    assert_eq!(seen, [appeared]);
    UnixStream::connect(registration_socket(home.path())).await.unwrap();
}

#[tokio::test]
async fn paths_that_kubelet_cannot_reach_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let csi = Path::new("/csi.sock");
    let long = PathBuf::from(format!("/{}", "x".repeat(SOCKET_PATH_BYTES_MAX)));
    let bytes = Path::new(std::ffi::OsStr::from_bytes(b"/\xff.sock"));
    for (directory, endpoint) in
        [(home.path(), long.as_path()), (home.path(), bytes), (long.as_path(), csi)]
    {
        let refused = Registration::listen(directory, endpoint).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
    }
    let missing = Registration::listen(&home.path().join("none"), csi).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    assert!(Path::new(&reachable(Path::new("csi.sock")).unwrap()).is_absolute());
}

#[tokio::test]
async fn kubelets_own_client_is_answered_although_its_authority_is_a_path() {
    let served = Served::start().await;
    let path = registration_socket(served.home.path());
    let mut connection = UnixStream::connect(path).await.unwrap();
    let sent = include_str!("../../../unix-grpc/src/authority/kubelet.hex");
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let digits: Vec<u8> = sent.bytes().filter(u8::is_ascii_hexdigit).map(digit).collect();
    let sent: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    connection.write_all(&sent).await.unwrap();
    let tells = |came: &[u8]| came.windows(DRIVER.len()).any(|part| part == DRIVER.as_bytes());
    let mut came = Vec::new();
    let read =
        async { while !tells(&came) && connection.read_buf(&mut came).await.unwrap() > 0 {} };
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await;
    assert!(tells(&came), "{}", came.escape_ascii());
}
