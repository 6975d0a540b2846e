//! What the rows work in: a scratch directory with a pool, the corpus in it, the Coves that hold it
//! and the others' repositories.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cove_testkit::S3Server;
use serde_json::Value;

use crate::corpus::Corpus;
use crate::door::Door;
use crate::measure::Measure;
use crate::peers::{Pipeline, Restic};
use crate::pool::Pool;
use crate::program::{Cove, Settings};
use crate::sample::Sample;

/// The name of the project that holds the corpus.
pub const CORPUS: &str = "corpus";

/// How much is measured.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Files of the corpus, at least.
    pub files: usize,
    /// Bytes of the corpus, at least.
    pub bytes: u64,
    /// Repetitions of what takes long.
    pub reps: usize,
    /// Repetitions of what takes milliseconds.
    pub short_reps: usize,
    /// Whether a volume of 1,000,000 files is measured too.
    pub full: bool,
}

/// A Cove with the corpus in it.
pub struct Holder {
    /// The Cove.
    pub cove: Cove,
    /// The files of the project [`CORPUS`].
    pub files: PathBuf,
}

/// An S3 server, and a door before it.
pub struct Bucket {
    /// Where requests are counted.
    pub door: Door,
    server: S3Server,
}

impl Bucket {
    /// Starts a server.
    pub fn start() -> Result<Self> {
        let server = S3Server::start().context("no S3 server, as COVE_TEST_SKIP_S3 decided")?;
        Ok(Self { door: Door::before(&server.endpoint)?, server })
    }

    /// What reaches it, through the door or not.
    pub fn variables(&self, counted: bool) -> Vec<(&'static str, String)> {
        let endpoint = if counted { &self.door.endpoint } else { &self.server.endpoint };
        vec![
            ("AWS_ACCESS_KEY_ID", self.server.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", self.server.secret_key.clone()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", endpoint.clone()),
        ]
    }
}

/// Removed with the value.
pub struct Scratch(pub PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Everything. What stands first goes first.
pub struct World {
    /// A Cove with a store in a directory.
    pub local: Option<Holder>,
    /// A Cove with a store in a bucket.
    pub remote: Option<Holder>,
    /// The bucket.
    pub bucket: Option<Bucket>,
    /// The pool.
    pub pool: Pool,
    /// On the host's file system, beside the pool's image.
    pub scratch: Scratch,
    /// The files to store.
    pub corpus: Corpus,
    /// How much is measured.
    pub extent: Extent,
    /// The pipeline's files.
    pub pipeline: Pipeline,
    /// restic's repository with the corpus in it.
    pub restic: Option<Restic>,
    /// What was measured so far.
    pub measures: Vec<Measure>,
    program: PathBuf,
}

impl World {
    /// Makes the pool and copies the corpus into it.
    pub fn make(program: PathBuf, parent: &Path, extent: Extent) -> Result<Self> {
        let scratch = Scratch(parent.join(format!("cove-bench-{}", std::process::id())));
        fs::create_dir_all(&scratch.0)?;
        // Cove's files are reached by their owner too.
        let pool = Pool::make(&scratch.0, 24 << 30)?;
        let settings = Settings {
            program: program.clone(),
            home: scratch.0.join("first"),
            pool: pool.mount.clone(),
            objects: format!("file://{}", scratch.0.join("first-objects").display()),
            variables: Vec::new(),
            store_every: "1h",
        };
        // Whoever holds a whole file system switches its quotas on, which hold below it too.
        Cove::start(settings)?.stop()?;
        let own = pool.mount.join("bench");
        fs::create_dir_all(&own)?;
        pool.create(&own.join("corpus"))?;
        say("copying the corpus");
        let corpus = Corpus::copy(&own.join("corpus"), extent.files, extent.bytes, &scratch.0)?;
        say(&format!("{} files, {} bytes", corpus.files.len(), corpus.bytes()));
        let pipeline = Pipeline::new(scratch.0.join("pipeline"))?;
        Ok(Self {
            local: None,
            remote: None,
            bucket: None,
            pool,
            scratch,
            corpus,
            extent,
            pipeline,
            restic: None,
            measures: Vec::new(),
            program,
        })
    }

    /// A directory of our own in the pool.
    pub fn own(&self, name: &str) -> PathBuf {
        self.pool.mount.join("bench").join(name)
    }

    /// A place on the host's file system.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.scratch.0.join(name)
    }

    /// The objects of the Cove with a store in a directory.
    pub fn local_objects(&self) -> PathBuf {
        self.beside("local-objects")
    }

    /// Starts a Cove on nothing.
    pub fn start(
        &self,
        name: &str,
        objects: String,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Cove> {
        Cove::start(Settings {
            program: self.program.clone(),
            home: self.beside(name),
            pool: self.pool.mount.join("pools").join(name),
            objects,
            variables,
            store_every: "1h",
        })
    }

    /// Starts a Cove on nothing with the project [`CORPUS`]: its entry `empty` is saved, and the
    /// files in it are not.
    fn fill(
        &self,
        name: &str,
        objects: String,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Holder> {
        let cove = self.start(name, objects, variables)?;
        let files = cove.create(CORPUS)?;
        cove.call(&["snapshot", CORPUS, "--label", "empty"])?;
        cove.call(&["pin", "corpus@empty"])?;
        self.corpus.clone_into(&files, self.corpus.files.len(), &self.scratch.0)?;
        Ok(Holder { cove, files })
    }

    /// The same with a store in a directory, in place of the one before.
    pub fn fill_local(&mut self) -> Result<()> {
        if let Some(before) = self.local.take() {
            let settings = before.cove.lose(|pool| self.pool.clear(pool))?;
            drop(settings);
            fs::remove_dir_all(self.local_objects())?;
            self.pool.trim()?;
        }
        let objects = format!("file://{}", self.local_objects().display());
        self.local = Some(self.fill("local", objects, Vec::new())?);
        Ok(())
    }

    /// The same with a store in a new bucket.
    pub fn fill_remote(&mut self) -> Result<()> {
        if let Some(before) = self.remote.take() {
            before.cove.lose(|pool| self.pool.clear(pool))?;
            self.pool.trim()?;
        }
        self.bucket = None;
        let bucket = Bucket::start()?;
        let variables = bucket.variables(false);
        self.bucket = Some(bucket);
        self.remote = Some(self.fill("remote", "s3://cove/bench".to_owned(), variables)?);
        Ok(())
    }

    /// The Cove with a store in a directory, with the corpus saved as `full`.
    pub fn local(&mut self) -> Result<&Holder> {
        if self.local.is_none() {
            say("storing the corpus in a directory");
            self.fill_local()?;
            store(self.local.as_ref())?;
            self.snapshot_source()?;
        }
        self.local.as_ref().context("it was just made")
    }

    /// The Cove with a store in a bucket, with the corpus saved as `full`.
    pub fn remote(&mut self) -> Result<&Holder> {
        if self.remote.is_none() {
            say("storing the corpus in a bucket");
            self.fill_remote()?;
            store(self.remote.as_ref())?;
        }
        self.remote.as_ref().context("it was just made")
    }

    /// Makes `source` a read-only snapshot of the files as they are in the local Cove, for others to
    /// read, and `previous` what it was before.
    pub fn snapshot_source(&mut self) -> Result<()> {
        let Some(holder) = &self.local else { bail!("there is no volume yet") };
        // The files of a volume lie in a directory of its subvolume.
        let volume = holder.files.parent().context("a volume is in a directory")?;
        let (source, previous) = (self.own("source"), self.own("previous"));
        self.pool.delete(std::slice::from_ref(&previous))?;
        if source.exists() {
            fs::rename(&source, &previous)?;
        }
        self.pool.snapshot(volume, &source)
    }

    /// restic's repository with the corpus in it.
    pub fn restic(&mut self) -> Result<&Restic> {
        if self.restic.is_none() {
            self.local()?;
            say("storing the corpus with restic");
            let restic = Restic::init(&self.beside("restic"))?;
            restic.store(&self.own("source").join("files"))?;
            self.restic = Some(restic);
        }
        self.restic.as_ref().context("it was just made")
    }

    /// Adds a line, and says it.
    pub fn add(&mut self, measure: Measure) {
        let [name, ours, spread, peers, ..] = measure.cells();
        say(&format!("  {name}: {ours} [{spread}] {peers}"));
        self.measures.push(measure);
    }

    /// A line that was measured earlier in this run.
    pub fn line(&self, name: &str) -> Option<&Measure> {
        self.measures.iter().find(|measure| measure.name == name)
    }

    /// What another took in a line that was measured earlier in this run.
    pub fn peer(&self, line: &str, peer: &str) -> Sample {
        let line = self.line(line);
        let peer = line.and_then(|line| line.peers.iter().find(|other| other.name == peer));
        peer.map(|peer| peer.sample.clone()).unwrap_or_default()
    }
}

/// Saves the corpus of a Cove as `full`; how long that took.
pub fn store(holder: Option<&Holder>) -> Result<f64> {
    let holder = holder.context("there is no Cove")?;
    let (took, said) = holder.cove.call(&["snapshot", CORPUS, "--label", "full"])?;
    holder.cove.call(&["pin", "corpus@full"])?;
    if said["entry"]["durability"] == Value::Null {
        bail!("a snapshot says nothing of where it is: {said}");
    }
    Ok(took)
}

/// Says what goes on, on standard error.
pub fn say(text: &str) {
    eprintln!("{text}");
}
