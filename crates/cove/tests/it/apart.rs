//! Hub and node in two processes: the same Cove, and either may be killed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cove_testkit::{Keeps, LawlessStore};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Output, answers, is_mounted, poll, run, wait_for};

/// A Hub and a node, in a directory of their own.
struct Apart {
    dir: tempfile::TempDir,
    hub: Option<Child>,
    node: Option<Child>,
}

impl Apart {
    fn start() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: this test mounts a btrfs pool, which needs root");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("cove-apart-").tempdir().unwrap();
        let mut apart = Self { dir, hub: None, node: None };
        apart.start_hub();
        apart.start_node();
        apart.ready();
        Some(apart)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn endpoint(&self, name: &str) -> String {
        format!("unix://{}", self.at(name).display())
    }

    fn program(&self, home: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COVE_") || text.starts_with("AWS_") || text.starts_with("K8S_") {
                command.env_remove(&name);
            }
        }
        command.env("COVE_HOME", self.at(home)).current_dir(self.dir.path());
        command.env("COVE_MAX_SNAPSHOTS_PER_PROJECT", "50");
        command
    }

    fn spawn(&self, mut command: Command, log: &str) -> Child {
        let log = File::options().create(true).append(true).open(self.at(log)).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn hub_command(&self) -> Command {
        let mut command = self.program("hub");
        command.args(["hub", "--http-listen", "127.0.0.1:0", "--listen", &self.endpoint("h.sock")]);
        command
    }

    fn start_hub(&mut self) {
        self.hub = Some(self.spawn(self.hub_command(), "hub.log"));
    }

    fn start_node(&mut self) {
        let objects = format!("file://{}", self.at("objects").display());
        self.node = Some(self.spawn(self.node_command(&objects), "node.log"));
    }

    fn node_command(&self, objects: &str) -> Command {
        let mut command = self.program("node");
        command.args(["node", "--pool-bytes", "512MiB", "--store-every", "1h"]);
        command.args(["--hub", &self.endpoint("h.sock"), "--node-id", "n1"]);
        command.args(["--csi-endpoint", &self.endpoint("csi.sock")]);
        command.args(["--objects", objects]);
        command
    }

    fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.at(name)).unwrap_or_default();
        format!("hub: {}\nnode: {}", read("hub.log"), read("node.log"))
    }

    /// Waits until the API answers and the node behind it does.
    fn ready(&self) {
        let socket = self.at("hub/cove.sock");
        poll("the hub answers", || if answers(&socket) { Ok(()) } else { Err(self.log()) });
        poll("the node answers", || match self.cove(&["ls"]) {
            Output { code: 0, .. } => Ok(()),
            Output { stderr, .. } => Err(format!("{stderr}{}", self.log())),
        });
    }

    fn cove(&self, arguments: &[&str]) -> Output {
        self.cove_with(arguments, b"")
    }

    fn cove_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        run(self.program("hub").args(arguments), input)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.cove(&[arguments, &["--json"]].concat()).success();
        serde_json::from_str(&output.stdout).unwrap()
    }

    fn kill(child: &mut Option<Child>) {
        let mut child = child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn files(&self, project: &str) -> PathBuf {
        PathBuf::from(self.cove(&["path", project]).success().stdout.trim_end())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        for child in [&mut self.hub, &mut self.node] {
            if let Some(mut child) = child.take() {
                let _ = kill_process(Pid::from_child(&child), Signal::TERM);
                wait_for(&mut child);
            }
        }
        let _ = rustix::mount::unmount(self.at("node/pool"), rustix::mount::UnmountFlags::DETACH);
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_same_verbs_work_through_two_processes() {
    let Some(cove) = Apart::start() else { return };
    let source = cove.at("source");
    fs::create_dir_all(source.join("src")).unwrap();
    let large = "line\n".repeat(200_000);
    fs::write(source.join("src/app.ts"), &large).unwrap();
    cove.cove(&["new", "shop", "--from", "source"]).success();
    assert_eq!(text(&cove.files("shop").join("src/app.ts")), large);
    let entry = cove.json(&["snapshot", "shop", "-m", "one"]);
    let entry = entry["entry"]["id"].as_str().unwrap().to_owned();
    cove.cove_with(&["files", "put", "shop:/src/app.ts"], b"two").success();
    assert_eq!(cove.cove(&["files", "cat", "shop:/src/app.ts"]).success().stdout, "two");
    let old = format!("shop@{entry}:/src/app.ts");
    assert_eq!(cove.cove(&["files", "cat", &old]).success().stdout, large);
    let diff = cove.json(&["diff", &format!("shop@{entry}..shop")]);
    assert_eq!(diff["changes"][0]["path"], "src/app.ts");
    cove.cove(&["fork", &format!("shop@{entry}"), "--as", "fork"]).success();
    assert_eq!(text(&cove.files("fork").join("src/app.ts")), large);
    cove.cove(&["restore", &format!("shop@{entry}")]).success();
    assert_eq!(text(&cove.files("shop").join("src/app.ts")), large);
    cove.cove(&["cp", "shop:/src", "out"]).success();
    assert_eq!(text(&cove.at("out/app.ts")), large);
    let found = cove.json(&["files", "grep", "line", "shop:/src"]);
    assert!(found["matches"].as_array().unwrap().len() > 1000);
    let missing = cove.cove(&["files", "cat", "shop:/none"]);
    assert_eq!(missing.code, 3, "{}", missing.stderr);
    cove.cove(&["rm", "fork"]).success();
    cove.cove(&["undelete", "fork"]).success();
    cove.cove(&["verify", "--level", "2"]).success();
    let volumes = cove.json(&["volume", "ls"]);
    assert_eq!(volumes["volumes"][0]["node"], "n1");
    cove.cove(&["doctor"]).success();
}

#[test]
fn either_may_be_killed_and_comes_back_and_nothing_that_was_saved_is_lost() {
    let Some(mut cove) = Apart::start() else { return };
    cove.cove(&["new", "shop"]).success();
    let mut expected = Vec::new();
    for round in 0..6 {
        let name = format!("round-{round}");
        fs::write(cove.files("shop").join("file"), &name).unwrap();
        cove.cove(&["snapshot", "shop", "--label", &name]).success();
        expected.push(name);
        if round % 3 != 1 {
            Apart::kill(&mut cove.hub);
        }
        if round % 3 != 0 {
            Apart::kill(&mut cove.node);
            // what is asked meanwhile is refused and not lost
            if cove.hub.is_some() {
                let refused = cove.cove(&["snapshot", "shop"]);
                assert!([7, 124].contains(&refused.code), "{}: {}", refused.code, refused.stderr);
            }
            cove.start_node();
        }
        if cove.hub.is_none() {
            cove.start_hub();
        }
        cove.ready();
    }
    for name in &expected {
        let at = format!("shop@{name}:/file");
        assert_eq!(cove.cove(&["files", "cat", &at]).success().stdout, *name);
    }
    cove.cove(&["verify", "--level", "2"]).success();
}

#[test]
fn down_ends_a_hub_that_waits_for_a_node_and_a_node_that_waits_for_a_hub() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this test mounts a btrfs pool, which needs root");
        return;
    }
    let dir = tempfile::Builder::new().prefix("cove-apart-").tempdir().unwrap();
    let mut cove = Apart { dir, hub: None, node: None };
    for (home, socket) in [("hub", "h.sock"), ("node", "csi.sock")] {
        match home {
            "hub" => cove.start_hub(),
            _ => cove.start_node(),
        }
        let is_there = || if cove.at(socket).exists() { Ok(()) } else { Err(cove.log()) };
        poll("it serves", is_there);
        if home == "node" {
            let nobody = format!("no hub answers at {}", cove.at("h.sock").display());
            poll("it says that no hub answers", || match cove.log() {
                log if log.contains(&nobody) && log.contains("tries again every 2 s") => Ok(()),
                log => Err(log),
            });
        }
        let asked = run(cove.program(home).arg("ls"), b"");
        assert_eq!(asked.code, 7, "{}", asked.stderr);
        let said = match home {
            "hub" => "waits for a node, and serves no projects yet",
            _ => "a node runs in ",
        };
        assert!(asked.stderr.contains(said), "{}", asked.stderr);
        assert!(!asked.stderr.contains("cove up"), "{}", asked.stderr);
        run(cove.program(home).arg("down"), b"").success();
        let child = if home == "hub" { &mut cove.hub } else { &mut cove.node };
        assert!(wait_for(&mut child.take().unwrap()).success(), "{home}: {}", cove.log());
        assert!(!cove.at(socket).exists(), "{home}");
        let again = run(cove.program(home).arg("down"), b"").success();
        assert!(again.stderr.contains("no Cove is running"), "{}", again.stderr);
    }
}

#[test]
fn both_go_on_and_end_in_order_where_nobody_reads_what_they_say() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this test mounts a btrfs pool, which needs root");
        return;
    }
    let dir = tempfile::Builder::new().prefix("cove-apart-").tempdir().unwrap();
    let mut cove = Apart { dir, hub: None, node: None };
    let unread = |mut command: Command| {
        let (reader, stderr) = std::io::pipe().unwrap();
        drop(reader);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap()
    };
    let objects = format!("file://{}", cove.at("objects").display());
    cove.node = Some(unread(cove.node_command(&objects)));
    cove.hub = Some(unread(cove.hub_command()));
    cove.ready();
    cove.cove(&["new", "shop"]).success();
    for child in [cove.node.take(), cove.hub.take()] {
        let mut child = child.unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(wait_for(&mut child).success());
    }
    assert!(!is_mounted(&cove.at("node/pool")));
}

#[test]
fn projects_say_which_store_their_node_has_now() {
    let Some(mut cove) = Apart::start() else { return };
    cove.cove(&["new", "shop"]).success();
    let saved_to = |cove: &Apart| {
        let shown = cove.json(&["show", "shop"])["project"]["saved_to"].clone();
        let volumes = cove.json(&["volume", "ls"]);
        assert_eq!(volumes["volumes"][0]["saved_to"], shown, "{volumes}");
        shown
    };
    assert_eq!(saved_to(&cove), "this_disk");
    Apart::kill(&mut cove.node);
    let store = LawlessStore::start(Keeps::Both);
    let mut command = cove.node_command("s3://bucket/prefix");
    command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
    command.env("AWS_REGION", "us-east-1").env("AWS_ENDPOINT_URL", &store.endpoint);
    cove.node = Some(cove.spawn(command, "node.log"));
    cove.ready();
    poll("projects say where they are saved now", || match saved_to(&cove) {
        now if now == "s3://bucket/prefix" => Ok(()),
        now => Err(now.to_string()),
    });
}

#[test]
fn a_second_node_is_refused_and_says_so_and_the_first_is_well() {
    let Some(mut cove) = Apart::start() else { return };
    let mut second = cove.program("second");
    second.args(["node", "--pool-bytes", "256MiB", "--node-id", "n2"]);
    second.args(["--hub", &cove.endpoint("h.sock")]);
    let refused = run(&mut second, b"");
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    let first = cove.at("node/node.sock");
    let told = format!("node n1 at {} is the node of this hub", first.display());
    assert!(refused.stderr.contains(&told), "{}", refused.stderr);
    cove.cove(&["volume", "ls"]).success();
    // nor does it come in while the first is gone, which comes back
    Apart::kill(&mut cove.node);
    assert_eq!(run(&mut second, b"").code, 4);
    cove.start_node();
    cove.ready();
    cove.cove(&["volume", "ls"]).success();
}

#[test]
fn the_socket_of_a_hub_stays_while_its_node_comes() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this test mounts a btrfs pool, which needs root");
        return;
    }
    let dir = tempfile::Builder::new().prefix("cove-apart-").tempdir().unwrap();
    let mut cove = Apart { dir, hub: None, node: None };
    cove.start_hub();
    let socket = cove.at("h.sock");
    // another one would have another time, too
    let which = || {
        let about = fs::symlink_metadata(&socket).map_err(|error| error.to_string())?;
        Ok::<_, String>((about.ino(), about.ctime(), about.ctime_nsec()))
    };
    let first = poll("the hub listens", which);
    let mut caller = UnixStream::connect(&socket).unwrap();
    cove.start_node();
    cove.ready();
    assert_eq!(which(), Ok(first));
    // nor is anybody cut off
    caller.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut came = [0; 256];
    loop {
        match caller.read(&mut came) {
            Ok(0) => panic!("it is closed"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn two_sockets_at_one_path_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let (one, own) = (dir.path().join("./one.sock"), home.join("hub.sock"));
    for (endpoint, controller, taken) in [
        (&one, dir.path().join("one.sock"), "--csi-endpoint and --csi-controller-endpoint"),
        (&own, one.clone(), "the Volume Hub and --csi-endpoint"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        command.env("COVE_HOME", &home).args(["up", "--listen", "127.0.0.1:0", "--csi-endpoint"]);
        command.arg(format!("unix://{}", endpoint.display()));
        command.arg(format!("--csi-controller-endpoint=unix://{}", controller.display()));
        let refused = run(&mut command, b"");
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("two things"), "{}", refused.stderr);
        assert!(refused.stderr.contains(taken), "{}", refused.stderr);
    }
    assert!(!home.join("pool").exists(), "nothing is mounted");
    for (name, taken) in [("./cove.sock", "the API"), ("node.sock", "the node")] {
        // one that serves all the same is ended after a while
        let mut command = Command::new("timeout");
        command.arg("60").arg(env!("CARGO_BIN_EXE_cove"));
        command.env("COVE_HOME", &home).args(["hub", "--http-listen", "127.0.0.1:0"]);
        command.arg(format!("--listen=unix://{}", home.join(name).display()));
        let refused = run(&mut command, b"");
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(&format!("{taken} and --listen")), "{}", refused.stderr);
    }
}

#[test]
fn plain_text_is_spoken_over_unix_sockets_alone() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [
        ["hub", "--listen", "tcp://127.0.0.1:7000"],
        ["node", "--hub", "tcp://127.0.0.1:7000"],
        ["node", "--hub", "https://hub.example"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        command.env("COVE_HOME", dir.path().join("home")).args(arguments);
        let refused = run(&mut command, b"");
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains("unix"), "{}", refused.stderr);
    }
    assert!(!dir.path().join("home").exists(), "nothing is made");
}
