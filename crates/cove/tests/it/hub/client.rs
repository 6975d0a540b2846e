//! The program in Python, and what it asks for.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cove_btrfs::{BtrfsPool, Pool, SubvolumePath};
use cove_testkit::proof::{figure, is_full};

use crate::harness::{Cove, Settings, poll, run};

/// What the stubs are made of.
pub const PROTO: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/proto/cove/hub/v1/hub.proto");

/// A tool of another language that a variable names.
///
/// # Panics
///
/// It is not there, and that was not decided with `COVE_TEST_SKIP_GRPC=1`.
fn tool(variable: &str, what: &str) -> Option<OsString> {
    if let Some(tool) = std::env::var_os(variable) {
        return Some(tool);
    }
    let may_skip = std::env::var_os("COVE_TEST_SKIP_GRPC").is_some_and(|value| value == "1");
    assert!(
        may_skip,
        "this test needs {what}, and {variable} is not set; `make test` installs it, or \
         COVE_TEST_SKIP_GRPC=1 skips the test"
    );
    eprintln!("SKIPPED, COVE_TEST_SKIP_GRPC=1: this test needs {what}, and {variable} is not set");
    None
}

/// `grpcurl`; `None` when skipping it was decided.
pub fn grpcurl() -> Option<OsString> {
    tool("COVE_TEST_GRPCURL", "grpcurl")
}

/// A Cove, and a program in Python that calls its Hub.
pub struct Client {
    pub cove: Cove,
    python: OsString,
}

impl Client {
    /// Both; `None` where one of them cannot run, which is said.
    pub fn start(settings: Settings) -> Option<Self> {
        let python = tool("COVE_TEST_PYTHON", "a Python with grpcio and grpcio-tools")?;
        Some(Self { cove: Cove::start_with(settings)?, python })
    }

    /// Runs a suite to its end, which has to be a good one.
    pub fn run(&mut self, suite: &str, seed: u64, rounds: usize) {
        self.run_with(suite, seed, rounds, |_, _| None);
    }

    /// The same; `more` does what only this test can be asked for.
    pub fn run_with(
        &mut self,
        suite: &str,
        seed: u64,
        rounds: usize,
        mut more: impl FnMut(&mut Cove, &str) -> Option<String>,
    ) {
        let stubs = self.stubs();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/hub.py");
        let mut child = Command::new("timeout")
            .args([OsStr::new(if is_full() { "1800" } else { "900" }), &self.python])
            .arg(program)
            .args([OsStr::new(suite), self.cove.home.join("hub.sock").as_os_str()])
            .args([seed.to_string(), rounds.to_string()])
            .env("PYTHONPATH", stubs)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(self.cove.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let mut answers = child.stdin.take().expect("it is piped");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut ended_well = false;
        for line in lines.map_while(Result::ok) {
            ended_well = line == "done";
            if let Some(words) = line.strip_prefix("ask ") {
                let answer = more(&mut self.cove, words).unwrap_or_else(|| self.answer(words));
                writeln!(answers, "{answer}").unwrap();
            } else if !ended_well {
                eprintln!("{suite}: {line}");
            }
        }
        let status = child.wait().unwrap();
        assert!(status.success() && ended_well, "{suite} under seed {seed} ended with {status}");
    }

    /// The stubs, generated from what is served.
    fn stubs(&self) -> PathBuf {
        let stubs = self.cove.make_dir("stubs");
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/proto");
        let mut protoc = Command::new(&self.python);
        protoc.args(["-m", "grpc_tools.protoc", "-I", root]);
        for flag in ["--python_out", "--grpc_python_out"] {
            protoc.arg(format!("{flag}={}", stubs.display()));
        }
        run(protoc.arg("cove/hub/v1/hub.proto"), b"").success();
        stubs
    }

    /// Does what callers of the Hub cannot.
    fn answer(&mut self, words: &str) -> String {
        let cove = &mut self.cove;
        let (verb, rest) = words.split_once(' ').unwrap_or((words, ""));
        match (verb, rest) {
            ("kill", "and start") => {
                cove.kill9();
                cove.up();
            }
            ("stop", "and start") => {
                assert!(cove.stop().success());
                cove.up();
            }
            ("cove", arguments) => {
                cove.cove(&arguments.split(' ').collect::<Vec<_>>()).success();
            }
            ("open", "sockets") => {
                let open = fs::read_dir(format!("/proc/{}/fd", cove.pid())).unwrap();
                // one that is closed meanwhile leads nowhere
                let targets = open.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
                let is_socket = |target: &PathBuf| target.to_string_lossy().starts_with("socket:");
                return targets.filter(is_socket).count().to_string();
            }
            ("log", "") => {
                let log = cove.log();
                let errors = log.lines().filter(|line| line.contains(" ERROR ")).count();
                return format!("{errors} errors");
            }
            ("let", "others reach the socket") => {
                let open = |path: &Path, mode| {
                    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                };
                open(cove.dir.path(), 0o755);
                open(&cove.home, 0o755);
                open(&cove.home.join("hub.sock"), 0o777);
            }
            ("lose", "the machine") => cove.lose_and_recover(),
            ("lose", "the packs") => {
                let packs = cove.stored_objects();
                let packs = packs.iter().map(|(path, _)| path);
                for pack in packs.filter(|path| path.to_string_lossy().contains("/packs/")) {
                    fs::remove_file(pack).unwrap();
                }
            }
            ("only", rest) => only_subvolumes(cove, rest),
            _ => panic!("nobody can do: {words}"),
        }
        "done".to_owned()
    }
}

/// The pool comes to hold subvolumes of these volumes and no others.
fn only_subvolumes(cove: &Cove, words: &str) {
    let words = words.strip_prefix("subvolumes of ").unwrap();
    let (volumes, entries) = words.split_once(" and entries of ").unwrap();
    let [volumes, entries] =
        [volumes, entries].map(|ids| ids.split(' ').collect::<BTreeSet<&str>>());
    let of_gone = |place: &SubvolumePath| match place {
        SubvolumePath::Stored(id, _) => !entries.contains(id.as_str()),
        _ => false,
    };
    let found = poll("no subvolume is left over", || {
        let pool = BtrfsPool::open(&cove.home.join("pool")).unwrap();
        let found = pool.list().unwrap();
        let is_left = |place: &&SubvolumePath| match place {
            SubvolumePath::Volume(id) => !volumes.contains(id.as_str()),
            SubvolumePath::Incoming(_) => true,
            // what a restore swapped out is kept for days
            SubvolumePath::Stored(..) | SubvolumePath::Trash(_) => false,
        };
        let left: Vec<String> = found.iter().filter(is_left).map(ToString::to_string).collect();
        if left.is_empty() { Ok(found) } else { Err(left.join("\n")) }
    });
    let left: Vec<String> =
        found.iter().filter(|one| of_gone(one)).map(ToString::to_string).collect();
    figure("stored snapshots of deleted volumes that a kill left behind", left.len());
    assert!(left.is_empty(), "{}", left.join("\n"));
}
