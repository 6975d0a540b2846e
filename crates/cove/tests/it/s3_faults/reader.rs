//! A reader of a store that knows nothing but the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use cove_btrfs::Dir;
use cove_content::chunks::{Chunks, PackCache};
use cove_content::head::{Head, HeadObject};
use cove_content::read::project_root;
use cove_content::remote::Remote;
use cove_content::restore::restore_tree;
use cove_content::root::Root;
use cove_content::volumes::Progress;
use cove_env::Env;
use cove_objects::{Key, Put, ReadError, S3Config, S3Store, SILENCE_MAX, Store};
use cove_testkit::S3Server;
use cove_testkit::trees::{Description, describe};
use cove_types::TreePath;
use tokio::runtime::Runtime;

use crate::harness::contents;

/// The files of a state, by path.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;
/// The same with everything that is kept of them.
pub(crate) type Tree = BTreeMap<Vec<u8>, Description>;

/// The longest head.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// Reads one prefix of the server itself: no proxy, no Cove, no cache that outlives a call.
pub(crate) struct Reader {
    runtime: Runtime,
    store: Arc<S3Store>,
}

impl Reader {
    /// A reader of `s3://bucket/prefix`.
    pub(crate) fn new(server: &S3Server, prefix: &str) -> Self {
        let config = S3Config {
            bucket: server.bucket.clone(),
            prefix: prefix.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(server.endpoint.clone()),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
            session_token: None,
            silence_max: SILENCE_MAX,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let store = Arc::new(S3Store::open(config, Env::system()).unwrap());
        Self { runtime, store }
    }

    /// The head of a volume; `None` when there is none.
    pub(crate) fn head(&self, volume: &str) -> Option<Head> {
        let key = Key::parse(&format!("teams/home/volumes/{volume}/head")).unwrap();
        let object = match self.runtime.block_on(self.store.get(&key, HEAD_BYTES_MAX)) {
            Ok(object) => object,
            Err(ReadError::NotFound { .. }) => return None,
            Err(error) => panic!("{error}: {error:?}"),
        };
        match HeadObject::decode(&object.bytes).unwrap() {
            HeadObject::Head(head) => Some(*head),
            HeadObject::Tombstone(_) => None,
        }
    }

    /// What the store holds of a state that a head names.
    pub(crate) fn read(&self, head: &Head, root: &Root) -> (Files, Tree) {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        let remote = Remote::new(store, self.runtime.handle().clone(), "home".parse().unwrap());
        let chunks = Chunks::new(remote, Arc::new(PackCache::new(None)), head.locations.clone());
        let dir = tempfile::tempdir().unwrap();
        let to = Dir::from_path(dir.path()).unwrap();
        let (from, target) = (project_root(), TreePath::parse("files").unwrap());
        let built = restore_tree(&chunks, &root.tree, &from, &to, &target, &Progress::default());
        built.unwrap_or_else(|error| panic!("a saved state cannot be read: {error}: {error:?}"));
        let top = dir.path().join("files");
        let files = contents(&top).into_iter().map(|(path, bytes)| {
            (path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned(), bytes)
        });
        (files.collect(), described(&top))
    }

    /// Copies every object to another prefix: their keys, etags and bytes.
    pub(crate) fn copy_to(&self, other: &Self) -> Vec<(String, String, Vec<u8>)> {
        let mut copied = Vec::new();
        self.runtime.block_on(async {
            for listed in self.store.list("", None, usize::MAX).await.unwrap() {
                let object = self.store.get(&listed.key, listed.bytes).await.unwrap();
                let bytes = object.bytes.to_vec();
                let put = other.store.put_if_absent(&listed.key, object.bytes).await.unwrap();
                assert!(matches!(put, Put::Done(_)), "a prefix of its own");
                copied.push((listed.key.to_string(), object.version.0, bytes));
            }
        });
        copied
    }
}

/// A directory, without whom it belongs to: a reader makes its files its own.
pub(crate) fn described(dir: &std::path::Path) -> Tree {
    let mut tree = describe(dir).unwrap();
    for one in tree.values_mut() {
        (one.uid, one.gid) = (0, 0);
    }
    tree
}
