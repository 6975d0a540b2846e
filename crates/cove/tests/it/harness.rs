//! A Cove in a home of its own, and what its user can do with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cove_testkit::S3Server;
use cove_testkit::trees::{describe, difference};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long a start, a stop or one call may take before a test gives up on it, on a machine that is busy with
/// other tests and may be compiling.
const PATIENCE: Duration = Duration::from_secs(180);

/// What an interrupted call says to whom Cove has not told what became of it.
pub const NOT_KNOWN: &str = "it is not known whether it began";

/// Where the objects of a test lie.
#[derive(Debug, Clone)]
pub enum Objects {
    /// A directory beside the home, so that it outlives the machine.
    Directory,
    /// A prefix of this test's own on the SeaweedFS that the tests share.
    S3,
    /// Anything else.
    Url(String),
}

/// How a Cove is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where its objects lie.
    pub objects: Objects,
    /// `--pool-bytes`.
    pub pool_bytes: &'static str,
    /// `--store-every`.
    pub store_every: &'static str,
    /// Variables besides those that are needed.
    pub variables: Vec<(&'static str, String)>,
    /// Flags of `up` besides those that are needed; `{dir}` in one is the test's own directory.
    pub flags: Vec<&'static str>,
    /// How long a call of the program may take.
    pub patience: Duration,
    /// Whether Hub and node are two processes.
    pub is_apart: bool,
}

impl Settings {
    /// A small pool, and nothing saved by itself while a test looks. In one process, unless `COVE_TEST_APART` says
    /// otherwise for all tests that leave it open.
    pub fn with(objects: Objects) -> Self {
        Self {
            objects,
            pool_bytes: "512MiB",
            store_every: "1h",
            variables: Vec::new(),
            flags: Vec::new(),
            patience: PATIENCE,
            is_apart: std::env::var_os("COVE_TEST_APART").is_some_and(|value| value == "1"),
        }
    }
}

/// The server that all tests of this binary share; `None` when skipping it was decided.
pub fn s3() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
    SERVER.get_or_init(S3Server::start).as_ref()
}

/// A Cove, its home and its store.
pub struct Cove {
    /// Where the test may put its own things; gone with the value.
    pub dir: TempDir,
    /// Cove's home.
    pub home: PathBuf,
    /// The URL of its store.
    pub objects: String,
    settings: Settings,
    environment: Vec<(String, String)>,
    child: Option<Child>,
    /// The node, where it is another process than the Hub.
    node: Option<Child>,
}

/// What a call of the program said.
#[derive(Debug)]
pub struct Output {
    /// Its exit status.
    pub code: i32,
    /// Standard output as it came.
    pub bytes: Vec<u8>,
    /// Standard output as text.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The same after it succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self
    }
}

impl Cove {
    /// A running Cove on an empty home; `None` where one cannot run, which is said.
    pub fn start(objects: Objects) -> Option<Self> {
        Self::start_with(Settings::with(objects))
    }

    /// The same as the test wishes it.
    pub fn start_with(settings: Settings) -> Option<Self> {
        let mut cove = Self::prepare(settings)?;
        cove.up();
        Some(cove)
    }

    /// Everything but the start.
    pub fn prepare(settings: Settings) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: this test mounts a btrfs pool, which needs root");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("cove-it-").tempdir().unwrap();
        let mut environment = Vec::new();
        let objects = match &settings.objects {
            Objects::Directory => format!("file://{}", dir.path().join("objects").display()),
            Objects::Url(url) => url.clone(),
            Objects::S3 => {
                let server = s3()?;
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                format!("s3://{}/it-{}-{number}", server.bucket, std::process::id())
            }
        };
        if objects.starts_with("s3://") {
            let server = s3()?;
            environment = vec![
                ("AWS_ACCESS_KEY_ID".to_owned(), server.access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY".to_owned(), server.secret_key.clone()),
                ("AWS_REGION".to_owned(), "us-east-1".to_owned()),
                ("AWS_ENDPOINT_URL".to_owned(), server.endpoint.clone()),
            ];
        }
        let home = dir.path().join("home");
        Some(Self { dir, home, objects, settings, environment, child: None, node: None })
    }

    /// The program in this Cove's environment and no other.
    pub fn program(&self) -> Command {
        let mut command = Command::new("timeout");
        let patience = self.settings.patience.as_secs().to_string();
        command.arg(patience).arg(env!("CARGO_BIN_EXE_cove"));
        self.environment_of(&mut command);
        command
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// A call of the program for a test that runs it itself: its child is the program.
    pub fn program_of(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        self.environment_of(&mut command);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn environment_of(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text == "COVE_LOG" {
                continue;
            }
            if text.starts_with("COVE_") || text.starts_with("AWS_") || text.starts_with("K8S_") {
                command.env_remove(&name);
            }
        }
        command.current_dir(self.dir.path());
        command.env("COVE_HOME", &self.home);
        command.env("COVE_OBJECTS", &self.objects);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.envs(self.settings.variables.iter().map(|(name, value)| (name, value)));
    }

    /// `up` with the test's flags, in the foreground.
    pub fn up_command(&self) -> Command {
        self.up_of(Command::new(env!("CARGO_BIN_EXE_cove")))
    }

    /// The same where it is to be refused: one that serves all the same is ended after a while.
    pub fn refused_up(&self) -> Command {
        let mut command = Command::new("timeout");
        command.arg("40").arg(env!("CARGO_BIN_EXE_cove"));
        self.up_of(command)
    }

    fn up_of(&self, mut command: Command) -> Command {
        self.environment_of(&mut command);
        command.args(["up", "--listen", "127.0.0.1:0"]);
        self.stands_on(command)
    }

    /// The Hub of a Cove in two processes.
    fn hub_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        self.environment_of(&mut command);
        command.args(["hub", "--http-listen", "127.0.0.1:0", "--listen", &self.hub_endpoint()]);
        command
    }

    /// Its node.
    fn node_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        self.environment_of(&mut command);
        command.args(["node", "--hub", &self.hub_endpoint()]);
        self.stands_on(command)
    }

    fn hub_endpoint(&self) -> String {
        format!("unix://{}", self.home.join("hub.sock").display())
    }

    /// With what a node stands on.
    fn stands_on(&self, mut command: Command) -> Command {
        command.args(["--pool-bytes", self.settings.pool_bytes]);
        command.args(["--store-every", self.settings.store_every]);
        let dir = self.dir.path().to_str().expect("it is text");
        command.args(self.settings.flags.iter().map(|flag| flag.replace("{dir}", dir)));
        command
    }

    /// Starts it on its home and waits until it answers.
    pub fn up(&mut self) {
        if let Err(log) = self.try_up() {
            panic!("`cove up` ended:\n{log}");
        }
    }

    /// Starts it on its home and waits until it answers, or ends: then what it said since.
    pub fn try_up(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "it runs already");
        let before = self.log().len();
        let log = File::options().create(true).append(true).open(self.log_place()).unwrap();
        let is_apart = self.settings.is_apart;
        if is_apart && self.node.is_none() {
            let log = log.try_clone().unwrap();
            let mut node = self.node_command();
            let node = node.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
            self.node = Some(node.expect("the program was built"));
        }
        let mut command = if is_apart { self.hub_command() } else { self.up_command() };
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program was built");
        let socket = self.home.join("cove.sock");
        let ended = poll("Cove answers", || {
            for child in [Some(&mut child), self.node.as_mut()].into_iter().flatten() {
                if let Some(status) = child.try_wait().unwrap() {
                    return Ok(Some(status));
                }
            }
            match answers(&socket) {
                true => Ok(None),
                false => Err(self.log()),
            }
        });
        match ended {
            Some(status) => {
                if is_apart {
                    self.child = Some(child);
                    self.end_both();
                }
                Err(format!("{status}: {}", self.log().split_off(before)))
            }
            None => {
                self.child = Some(child);
                Ok(())
            }
        }
    }

    /// Starts it in one process and waits until it answers. What it says goes to `stderr` and not into its log.
    pub fn up_saying(&mut self, stderr: impl Into<Stdio>) {
        assert!(self.child.is_none(), "it runs already");
        let mut command = self.up_command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        self.child = Some(command.spawn().expect("the program was built"));
        let socket = self.home.join("cove.sock");
        poll("Cove answers", || if answers(&socket) { Ok(()) } else { Err("it does not".into()) });
    }

    fn log_place(&self) -> PathBuf {
        self.dir.path().join("up.log")
    }

    /// What it has said so far, over all of its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_place()).unwrap_or_default()
    }

    /// Stops it as a service manager does.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let ended = wait_for(&mut child);
        if let Some(mut node) = self.node.take() {
            kill_process(Pid::from_child(&node), Signal::TERM).unwrap();
            wait_for(&mut node);
        }
        ended
    }

    /// Ends what is left of a Cove in two processes.
    fn end_both(&mut self) {
        for mut child in self.child.take().into_iter().chain(self.node.take()) {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            wait_for(&mut child);
        }
    }

    /// Ends it at once, as a crash does.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(mut node) = self.node.take() {
            node.kill().unwrap();
            node.wait().unwrap();
        }
    }

    /// Ends the Hub of a Cove in two processes as a crash does, and starts another.
    pub fn kill9_hub(&mut self) {
        assert!(self.node.is_some(), "it has a node of its own");
        let mut hub = self.child.take().expect("it runs");
        hub.kill().unwrap();
        hub.wait().unwrap();
        self.up();
    }

    /// Ends the node of a Cove in two processes as a crash does, and starts another. It may not have come to the Hub
    /// yet on return.
    pub fn kill9_node(&mut self) {
        let mut node = self.node.take().expect("it has a node of its own");
        node.kill().unwrap();
        node.wait().unwrap();
        let log = File::options().append(true).open(self.log_place()).unwrap();
        let mut command = self.node_command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.node = Some(command.spawn().expect("the program was built"));
    }

    /// Waits for a Cove that was told to stop.
    pub fn ended(&mut self) -> ExitStatus {
        wait_for(&mut self.child.take().expect("it runs"))
    }

    /// Takes the machine away: whatever is in the home is lost.
    pub fn lose_home(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        self.release();
        fs::remove_dir_all(&self.home).unwrap();
    }

    /// Takes the machine away and brings back what was saved, on an empty home.
    #[track_caller]
    pub fn lose_and_recover(&mut self) {
        self.lose_home();
        self.up();
        let recovered = self.json(&["recover", "--take"]);
        assert_eq!(recovered["lost"], serde_json::json!([]));
    }

    /// A variable for every later start and call.
    pub fn set_variable(&mut self, name: &'static str, value: &str) {
        self.settings.variables.retain(|(known, _)| *known != name);
        self.settings.variables.push((name, value.to_owned()));
    }

    /// Lets go of a pool that was left mounted.
    pub fn release(&self) {
        let pool = self.home.join("pool");
        // Fails when it is not mounted, which is well.
        let _ = rustix::mount::unmount(&pool, rustix::mount::UnmountFlags::DETACH);
        for device in loop_devices_of(&self.home.join("pool.img")) {
            let _ = Command::new("losetup").arg("-d").arg(device).status();
        }
    }

    /// Calls the program.
    pub fn cove<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.cove_with(arguments, b"")
    }

    /// What a terminal of so many columns is sent while the program runs on it.
    pub fn on_terminal(&self, columns: u16, arguments: &str) -> String {
        let program = env!("CARGO_BIN_EXE_cove");
        let line = format!("stty cols {columns} && exec {program} {arguments}");
        let mut command = Command::new("timeout");
        command.arg(PATIENCE.as_secs().to_string());
        command.args(["script", "-qec", &line, "/dev/null"]);
        self.environment_of(&mut command);
        let output = run(command.env("TERM", "xterm-256color"), b"");
        assert_eq!(output.code, 0, "{arguments}: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Calls the program with something on its standard input.
    pub fn cove_with<S: AsRef<OsStr>>(&self, arguments: &[S], input: &[u8]) -> Output {
        run(self.program().args(arguments), input)
    }

    /// Calls the program, which must succeed, for its text.
    #[track_caller]
    pub fn text<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        self.cove(arguments).success().stdout
    }

    /// Calls the program with `--json`, which must succeed, for its object.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.json_with(arguments, 0, b"")
    }

    /// Calls the program with `--json` for its object and an exit status.
    #[track_caller]
    pub fn json_with(&self, arguments: &[&str], code: i32, input: &[u8]) -> Value {
        // What stands behind `--` is no flag.
        let at = arguments.iter().position(|one| *one == "--").unwrap_or(arguments.len());
        let all: Vec<&str> = [&arguments[..at], &["--json"], &arguments[at..]]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let output = self.cove_with(&all, input);
        assert_eq!(output.code, code, "{all:?}: {}{}", output.stdout, output.stderr);
        serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{all:?} is no JSON ({error}): {}", output.stdout))
    }

    /// Calls the program, which must refuse with this status and say why in the house's form.
    #[track_caller]
    pub fn refuses<S: AsRef<OsStr> + std::fmt::Debug>(&self, code: i32, arguments: &[S]) -> String {
        let output = self.cove(arguments);
        let said = output.stderr;
        assert_eq!(output.code, code, "{arguments:?}: {}{said}", output.stdout);
        let lines: Vec<&str> = said.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("error: "));
        let at = at.unwrap_or_else(|| panic!("{arguments:?} says no error: {said}"));
        if let Some(second) = lines.get(at + 1) {
            assert_eq!(*second, "", "{arguments:?}: one line, then a blank one: {said}");
        }
        said
    }

    /// The directory of a project's files.
    #[track_caller]
    pub fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(self.text(&["path", name]).trim_end_matches('\n'))
    }

    /// Makes a directory of the test's own.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let dir = self.dir.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The id of a new snapshot.
    #[track_caller]
    pub fn snapshot(&self, name: &str, message: &str) -> String {
        text(&self.json(&["snapshot", name, "-m", message])["entry"]["id"])
    }

    /// The entries of a timeline, newest first.
    #[track_caller]
    pub fn timeline(&self, name: &str) -> Vec<Value> {
        list(&self.json(&["timeline", name])["entries"])
    }

    /// Reads bytes from the API over TCP: the status and the bytes of the answer, as far as they came.
    pub fn read(&self, target: &str) -> (u16, Vec<u8>) {
        let (address, token) = self.tcp();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // It may break off.
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = end.map_or(Vec::new(), |end| answer[end + 4..].to_vec());
        let status = String::from_utf8_lossy(&answer[..answer.len().min(20)]).into_owned();
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or(0), body)
    }

    /// Calls the API over TCP with its token; the status and the body of the answer.
    pub fn call(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
        let (address, token) = self.tcp();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             {headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // It may refuse before it has read all of it.
        let _ = stream.write_all(body);
        let (status, answer) = send(stream, "");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// The address and the token of the API over TCP.
    pub fn tcp(&self) -> (String, String) {
        // Its address may be written a moment after its socket answers.
        let address = poll("the API listens on TCP", || {
            let address = fs::read_to_string(self.home.join("address")).unwrap_or_default();
            let address = address.trim().trim_start_matches("http://").to_owned();
            TcpStream::connect(&address).map_err(|error| format!("{address}: {error}"))?;
            Ok(address)
        });
        let token = fs::read_to_string(self.home.join("token")).unwrap();
        (address, token.trim().to_owned())
    }

    /// The directory of a store that is one.
    pub fn objects_dir(&self) -> PathBuf {
        PathBuf::from(self.objects.strip_prefix("file://").expect("a directory store"))
    }

    /// The objects that lie in a directory store, with their content. What is being put lies beside them and goes
    /// while it is read.
    pub fn stored_objects(&self) -> Vec<(PathBuf, Vec<u8>)> {
        contents(&self.objects_dir().join("objects"))
    }
}

impl Drop for Cove {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("the end of what Cove said:\n{}", tail.join("\n"));
        }
        for mut child in self.child.take().into_iter().chain(self.node.take()) {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let until = Instant::now() + Duration::from_secs(30);
            while child.try_wait().is_ok_and(|ended| ended.is_none()) {
                if Instant::now() > until {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.release();
    }
}

pub fn wait_for(child: &mut Child) -> ExitStatus {
    poll("Cove ends", || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()))
}

/// Runs a program to its end.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be run");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    // A program that reads none of it closes the pipe.
    let feeding = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        bytes: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Copies the program, by another process: while this one has the copy open for writing, so has each child that
/// another test forks, and until that has become another program nobody can run the copy.
pub fn copy_program(to: &Path) {
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_cove")).arg(to), b"").success();
}

/// Looks again and again until there is an answer; in the end says what was seen last.
#[track_caller]
pub fn poll<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if Instant::now() > until => panic!("waited for: {what}; last seen: {last}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Sends one request as it stands and gives the status and the whole answer.
pub fn send(mut stream: impl Read + Write, request: &str) -> (u16, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or(0), answer)
}

/// Sends a GET with these headers to an address.
pub fn get(address: &str, path: &str, headers: &[&str]) -> (u16, String) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    send(stream, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"))
}

pub fn answers(socket: &Path) -> bool {
    // The path may be too long for an address; the descriptor's is not.
    let Some(Ok(home)) = socket.parent().map(File::open) else { return false };
    let short = format!("/proc/self/fd/{}/cove.sock", home.as_raw_fd());
    let Ok(stream) = UnixStream::connect(short) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    send(stream, request).0 == 200
}

/// The loop devices that are attached to an image.
pub fn loop_devices_of(image: &Path) -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    devices
        .filter(|device| {
            let backing = fs::read_to_string(device.path().join("loop/backing_file"));
            backing.is_ok_and(|backing| {
                let backing = backing.trim_end_matches('\n').trim_end_matches(" (deleted)");
                Path::new(backing) == image
            })
        })
        .map(|device| Path::new("/dev").join(device.file_name()))
        .collect()
}

/// Whether something is mounted there.
pub fn is_mounted(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == dir.to_str())
}

/// A member that must be text.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// A member that must be a list.
#[track_caller]
pub fn list(value: &Value) -> Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}")).clone()
}

/// The texts of one member of each of a list.
#[track_caller]
pub fn texts(of: &Value, member: &str) -> Vec<String> {
    list(of).iter().map(|one| text(&one[member])).collect()
}

/// All members are there, whatever they hold.
#[track_caller]
pub fn has_members(value: &Value, members: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for member in members {
        assert!(object.contains_key(*member), "{member} is missing in {value}");
    }
}

/// A moment as RFC 3339 has it, in UTC.
#[track_caller]
pub fn is_a_time(value: &Value) {
    let time = text(value);
    assert!(time.ends_with('Z') && time.contains('T'), "not in UTC: {time}");
    time.parse::<jiff::Timestamp>().unwrap_or_else(|error| panic!("{time}: {error}"));
}

/// Two trees are the same, or the test says in what they are not.
#[track_caller]
pub fn same_trees(what: &str, expected: &Path, found: &Path) {
    let differences = difference(&describe(expected).unwrap(), &describe(found).unwrap());
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
}

/// Copies a tree as it is, so that it can be compared later.
#[track_caller]
pub fn keep_copy(from: &Path, to: &Path) {
    let output = run(Command::new("cp").arg("-a").arg("--").arg(from).arg(to), b"");
    assert_eq!(output.code, 0, "{}", output.stderr);
}

/// Every file below a directory with its content.
pub fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for one in fs::read_dir(&dir).unwrap() {
            let path = one.unwrap().path();
            match path.symlink_metadata().unwrap().is_dir() {
                true => dirs.push(path),
                false => found.push((path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    found.sort();
    found
}
