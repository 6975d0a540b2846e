//! The release program: a Cove that serves, and calls of its command line.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::connection::Connection;
use crate::http1::Server;
use crate::interrupt;
use crate::shell::{milliseconds, run};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a Cove is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The program.
    pub program: PathBuf,
    /// Its home, on the host's file system.
    pub home: PathBuf,
    /// The directory of the pool that it keeps subvolumes in.
    pub pool: PathBuf,
    /// The URL of its store.
    pub objects: String,
    /// What reaches that store.
    pub variables: Vec<(&'static str, String)>,
    /// How often it looks for changes.
    pub store_every: &'static str,
}

/// A Cove that serves.
pub struct Cove {
    /// How it was started.
    pub settings: Settings,
    child: Child,
}

impl Settings {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COVE_") || text.starts_with("AWS_") {
                command.env_remove(&name);
            }
        }
        command.env("COVE_HOME", &self.home).env("COVE_OBJECTS", &self.objects);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Cove {
    /// Starts one and waits until it answers.
    pub fn start(settings: Settings) -> Result<Self> {
        fs::create_dir_all(&settings.home)?;
        fs::create_dir_all(&settings.pool)?;
        let place = settings.home.join("bench.log");
        let log = File::options().create(true).append(true).open(&place)?;
        let mut command = settings.command();
        command.args(["up", "--listen", "127.0.0.1:0", "--store-every", settings.store_every]);
        command.arg("--pool").arg(&settings.pool);
        command
            .arg("--csi-endpoint")
            .arg(format!("unix://{}", settings.home.join("csi.sock").display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let child =
            child.with_context(|| format!("failed to start {}", settings.program.display()))?;
        let mut cove = Self { settings, child };
        let began = Instant::now();
        while cove.server().and_then(Connection::open).is_err() {
            interrupt::check()?;
            if let Some(status) = cove.child.try_wait()? {
                bail!("cove up ended with {status}: {}", fs::read_to_string(&place)?);
            }
            ensure!(began.elapsed() < PATIENCE, "cove does not serve after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(cove)
    }

    /// Where its API is.
    pub fn server(&self) -> Result<Server> {
        let read = |name| fs::read_to_string(self.settings.home.join(name));
        let address = read("address")?.trim().trim_start_matches("http://").to_owned();
        // An earlier one may have left it behind.
        TcpStream::connect(&address)?;
        Ok(Server { address, token: read("token")?.trim().to_owned() })
    }

    /// A connection to its API.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(self.server()?)
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Calls the command line, which must succeed; how long it took in milliseconds, and the object
    /// that it printed.
    pub fn call<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<(f64, Value)> {
        let mut command = self.settings.command();
        command.arg("--json").args(arguments);
        let began = Instant::now();
        let said = run(&mut command)?;
        let took = milliseconds(began);
        Ok((took, serde_json::from_str(&said).context("the program printed no JSON")?))
    }

    /// Makes a project and returns the directory of its files.
    pub fn create(&self, name: &str) -> Result<PathBuf> {
        let (_, made) = self.call(&["new", name])?;
        let path = made["project"]["path"].as_str().context("a new project has no directory")?;
        Ok(path.into())
    }

    /// Ends it as a service does.
    pub fn stop(mut self) -> Result<Settings> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(began.elapsed() < PATIENCE, "cove does not end after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(self.settings.clone())
    }

    /// Ends it and starts it again with another interval and other variables.
    pub fn restart(
        self,
        store_every: &'static str,
        variables: Vec<(&'static str, String)>,
    ) -> Result<Self> {
        let settings = self.stop()?;
        Self::start(Settings { store_every, variables, ..settings })
    }

    /// Takes the machine away, all but the store.
    pub fn lose(self, clear: impl FnOnce(&Path) -> Result<()>) -> Result<Settings> {
        let settings = self.stop()?;
        clear(&settings.pool)?;
        fs::remove_dir_all(&settings.home).context("failed to remove a home")?;
        Ok(settings)
    }
}

impl Drop for Cove {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
