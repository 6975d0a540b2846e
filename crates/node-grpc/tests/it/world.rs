//! A node on a socket of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cove_content::document::ProjectDocument;
use cove_content::spec::VolumeSpec;
use cove_content::volumes::{
    Call, FileEdit, Moment, NewEntry, NewVolume, Progress, Source, Volumes,
};
use cove_node_grpc::{NodeClient, ServeError, listen, serve};
use cove_types::{EntryKind, OperationId, TreePath, VolumeId};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::pb::node_client::NodeClient as Rpc;
use crate::scripted::Scripted;

/// How long anything may take that takes milliseconds.
pub const SOON: Duration = Duration::from_secs(20);

pub struct World {
    pub volumes: Arc<Scripted>,
    pub socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServeError>>,
    _home: Option<tempfile::TempDir>,
}

impl World {
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let world = Self::start_at(&home.path().join("node.sock"));
        Self { _home: Some(home), ..world }
    }

    pub fn start_at(socket: &Path) -> Self {
        let volumes = Arc::new(Scripted::new());
        let listener = listen(socket).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&volumes);
        let served = tokio::spawn(serve(served, listener, async {
            let _ = stopped.await;
        }));
        Self { volumes, socket: socket.to_owned(), stop: Some(stop), served, _home: None }
    }

    pub fn client(&self) -> NodeClient {
        NodeClient::unix(&self.socket)
    }

    pub fn channel(&self) -> Channel {
        channel(&self.socket)
    }

    pub fn raw(&self) -> Rpc<Channel> {
        Rpc::new(self.channel())
    }

    /// Waits until so many calls that change something have begun.
    pub async fn begun(&self, count: usize) {
        let mut begun = self.volumes.begun.subscribe();
        let begun = begun.wait_for(|begun| *begun >= count);
        tokio::time::timeout(SOON, begun).await.unwrap().unwrap();
    }

    /// Asks it to stop.
    pub fn ask_to_stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub fn has_ended(&self) -> bool {
        self.served.is_finished()
    }

    /// Waits until it has stopped.
    pub async fn ended(mut self) {
        if self.stop.is_some() {
            self.ask_to_stop();
        }
        let ended = tokio::time::timeout(SOON, &mut self.served).await;
        ended.expect("it ends soon").unwrap().unwrap();
    }
}

fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(
        move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        },
    ))
}

pub fn operation(n: u8) -> OperationId {
    OperationId([n; 16])
}

pub fn call(n: u8) -> Call {
    Call {
        operation: operation(n),
        principal: "ada é".into(),
        request: [n; 8],
        progress: Progress::default(),
    }
}

pub fn volume(n: u8) -> VolumeId {
    format!("vol-{n}").parse().unwrap()
}

pub fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

pub fn document(name: &str) -> ProjectDocument {
    ProjectDocument {
        id: "prj-1".parse().unwrap(),
        name: name.into(),
        slug: "shop".parse().unwrap(),
        config: Default::default(),
        graph: Default::default(),
        forked_from: None,
        created_at: "2026-11-25T12:00:00.000000001Z".parse().unwrap(),
        unknown: Default::default(),
    }
}

pub fn new_volume(n: u8) -> NewVolume {
    NewVolume { volume: volume(n), document: document("Shop"), spec: VolumeSpec::default() }
}

pub fn new_entry() -> NewEntry {
    NewEntry {
        kind: EntryKind::Manual,
        author: "ada".into(),
        message: None,
        label: None,
        cause: None,
        keep: 20,
    }
}

/// Makes volume `n` with one file.
pub async fn create(volumes: &dyn Volumes, n: u8, name: &str, content: Vec<u8>) -> VolumeId {
    let made = volumes.create(call(n), new_volume(n), Source::Empty).await.unwrap();
    made.saved.await.unwrap();
    let put = FileEdit::Put(path(name), Box::new(std::io::Cursor::new(content)));
    volumes.edit(&volume(n), put).await.unwrap();
    volume(n)
}

/// Reads a file in a thread that blocks: the bytes that came, and how that ended.
pub async fn read(
    volumes: &dyn Volumes,
    volume: &VolumeId,
    name: &str,
) -> (Vec<u8>, std::io::Result<()>) {
    let (_, reader) = volumes.read(volume, &Moment::Now, &path(name), None).await.unwrap();
    drain(reader).await
}

/// Reads to the end in a thread that blocks.
pub async fn drain(
    mut reader: impl std::io::Read + Send + 'static,
) -> (Vec<u8>, std::io::Result<()>) {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let ended = reader.read_to_end(&mut bytes).map(drop);
        (bytes, ended)
    });
    tokio::time::timeout(SOON, read).await.expect("it ends soon").unwrap()
}

/// Bytes that are nowhere the same.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
