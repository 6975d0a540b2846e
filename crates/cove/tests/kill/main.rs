//! kill -9 of `cove up` at random moments: the next start is clean, nothing that was
//! acknowledged is lost, and the same call again gives the first result.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cove_testkit::S3Server;
use cove_testkit::proof::{self, Chance, figure};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a start may take on a busy machine: 0.1 s on an idle one, and up to 8 s where SeaweedFS lets conditional
/// writes wait.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How long one call may take.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// The longest that a worker goes on before Cove is killed.
const KILL_WITHIN_US: u64 = 400_000;
/// A project is left alone after so many kills: it has at most 256 entries.
const KILLS_A_PROJECT: usize = 8;

/// An operation id of a caller that has seen everything.
fn operation(chance: &mut Chance) -> String {
    format!("ffffffff{:016x}{:08x}", chance.bits(), chance.bits() >> 32)
}

#[expect(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the moments of kills, and polls of a real process")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

#[expect(clippy::disallowed_methods, reason = "this test starts and kills the program")]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// Polls until a condition holds; what it last said is in the panic.
fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(said) => assert!(begun.elapsed() < within, "{what}: not within {within:?}: {said}"),
        }
        pause(Duration::from_millis(5));
    }
}

/// One answer of the API.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

/// A call that may be repeated.
#[derive(Debug, Clone)]
struct Call {
    method: &'static str,
    target: String,
    key: Option<String>,
    body: Vec<u8>,
}

impl Call {
    fn get(target: String) -> Self {
        Self { method: "GET", target, key: None, body: Vec::new() }
    }

    /// Sends it to a socket; an error when there is no whole answer.
    fn send(&self, socket: &Path) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(CALL_WITHIN))?;
        let key =
            self.key.as_ref().map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
        let kind = if self.target.contains("/files/") { "octet-stream" } else { "json" };
        write!(
            stream,
            "{} {} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Type: application/{kind}\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.method,
            self.target,
            self.body.len()
        )?;
        stream.write_all(&self.body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        parse(&bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// An answer, if it is whole.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let mut rest = &bytes[end + 4..];
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| {
        head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    if field("transfer-encoding:").is_none() {
        let length: usize = field("content-length:").unwrap_or_default().parse().unwrap_or(0);
        return (rest.len() == length).then(|| Answer { status, body: rest.to_vec() });
    }
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        rest = rest.get(line + 2..)?;
        if length == 0 {
            return Some(Answer { status, body });
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// What a call does to what is known.
#[derive(Debug, Clone)]
enum Effect {
    Create(String),
    Put { project: String, marker: String },
    Snapshot { project: String, marker: String },
    Restore { project: String, marker: String },
    Fork { name: String, marker: String },
    Pin,
    Rename { from: String, to: String },
}

/// What was acknowledged.
#[derive(Debug, Default)]
struct Known {
    /// What `/marker` of each project says.
    markers: BTreeMap<String, String>,
    /// The entries of each project that are saved, with what `/marker` says in them.
    entries: BTreeMap<String, BTreeMap<String, String>>,
    /// The last call with a key, and what it was answered with.
    last: Option<(Call, Value)>,
}

impl Known {
    fn take(&mut self, call: &Call, effect: &Effect, answer: &Value) {
        match effect.clone() {
            Effect::Create(name) => {
                self.markers.insert(name.clone(), String::new());
                self.entries.insert(name, BTreeMap::new());
            }
            Effect::Put { project, marker } | Effect::Restore { project, marker } => {
                self.markers.insert(project, marker);
            }
            Effect::Snapshot { project, marker } => {
                let entry = &answer["entry"];
                assert_eq!(entry["durability"], "saved", "an awaited snapshot is saved: {answer}");
                let id = entry["id"].as_str().expect("an entry has an id").to_owned();
                self.entries.entry(project).or_default().insert(id, marker);
            }
            Effect::Fork { name, marker } => {
                self.markers.insert(name.clone(), marker);
                self.entries.insert(name, BTreeMap::new());
            }
            Effect::Pin => {}
            Effect::Rename { from, to } => {
                let marker = self.markers.remove(&from).expect("a project that is known");
                self.markers.insert(to.clone(), marker);
                let entries = self.entries.remove(&from).unwrap_or_default();
                self.entries.insert(to, entries);
            }
        }
        if call.key.is_some() {
            self.last = Some((call.clone(), result_of(answer)));
        }
    }
}

/// The part of an answer that never changes.
fn result_of(answer: &Value) -> Value {
    let project = |project: &Value| project["id"].clone();
    match answer {
        _ if answer["entry"].is_object() => answer["entry"]["id"].clone(),
        _ if answer["projects"].is_array() => {
            answer["projects"].as_array().into_iter().flatten().map(project).collect()
        }
        _ => project(&answer["project"]),
    }
}

/// A Cove on a home of its own that is killed and started again.
struct Victim {
    dir: TempDir,
    objects: String,
    variables: Vec<(&'static str, String)>,
    child: Option<Child>,
    known: Known,
    names: u32,
    starts: Vec<Duration>,
}

impl Victim {
    fn new(objects: Option<&S3Server>) -> Self {
        let dir = tempfile::Builder::new().prefix("cove-kill-").tempdir().unwrap();
        let mut variables = Vec::new();
        let url = match objects {
            None => format!("file://{}", dir.path().join("objects").display()),
            Some(server) => {
                variables = vec![
                    ("AWS_ACCESS_KEY_ID", server.access_key.clone()),
                    ("AWS_SECRET_ACCESS_KEY", server.secret_key.clone()),
                    ("AWS_REGION", "us-east-1".to_owned()),
                    ("AWS_ENDPOINT_URL", server.endpoint.clone()),
                ];
                format!("s3://{}/kill", server.bucket)
            }
        };
        let (known, starts) = (Known::default(), Vec::new());
        Self { dir, objects: url, variables, child: None, known, names: 0, starts }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn socket(&self) -> PathBuf {
        self.home().join("cove.sock")
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_cove"));
        command.args(arguments).env("COVE_HOME", self.home()).stdin(Stdio::null());
        command.env("COVE_OBJECTS", &self.objects).envs(self.variables.iter().cloned());
        command.env("COVE_MAX_SNAPSHOTS_PER_PROJECT", "200").env_remove("COVE_URL");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program(arguments).output().expect("the program was built")
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(40).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn up(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.path().join("log"));
        let flags =
            ["up", "--listen", "127.0.0.1:0", "--pool-bytes", "1GiB", "--store-every", "200ms"];
        let begun = now();
        let mut child = self.program(&flags).stderr(log.unwrap()).spawn().unwrap();
        let health = Call::get("/v1/health".into());
        until("Cove serves", START_WITHIN, || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("`cove up` ended with {status}:\n{}", self.log());
            }
            match health.send(&self.socket()) {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}\n{}", self.log())),
            }
        });
        self.starts.push(begun.elapsed());
        self.child = Some(child);
    }

    fn ask(&self, call: &Call) -> Answer {
        call.send(&self.socket()).unwrap_or_else(|error| {
            panic!("{} {}: {error}\n{}", call.method, call.target, self.log())
        })
    }

    /// Asks for what must succeed.
    fn get(&self, target: String) -> Answer {
        let call = Call::get(target);
        let answer = self.ask(&call);
        assert_eq!(answer.status, 200, "{}: {answer}\n{}", call.target, self.log());
        answer
    }

    fn marker(&self, project: &str, at: &str) -> String {
        let answer = self.get(format!("/v1/projects/{project}/files/content?path=marker&at={at}"));
        String::from_utf8(answer.body).unwrap()
    }

    /// What is asked next.
    fn next(&mut self, chance: &mut Chance, project: &str) -> (Call, Effect) {
        let marker = self.known.markers.get(project).cloned().unwrap_or_default();
        let key = Some(operation(chance));
        let post = |method, target, key, body: Value| Call {
            method,
            target,
            key,
            body: body.to_string().into_bytes(),
        };
        let at = format!("/v1/projects/{project}");
        if !self.known.markers.contains_key(project) {
            let call =
                post("POST", "/v1/projects?wait_ms=60000".into(), key, json!({ "slug": project }));
            return (call, Effect::Create(project.to_owned()));
        }
        let entries = self.known.entries.get(project).cloned().unwrap_or_default();
        let entry = entries.iter().nth(chance.below(entries.len() as u64) as usize);
        let kind = if marker.is_empty() { 0 } else { chance.below(10) };
        match (kind, entry) {
            (3..=5, _) => {
                let call = post("POST", format!("{at}/entries?wait_ms=60000"), key, json!({}));
                (call, Effect::Snapshot { project: project.to_owned(), marker })
            }
            (6, Some((entry, marker))) => {
                let target = format!("{at}/restore?wait_ms=60000");
                let call = post("POST", target, key, json!({ "entry": entry, "force": true }));
                let marker = marker.clone();
                (call, Effect::Restore { project: project.to_owned(), marker })
            }
            (7, entry) => {
                self.names += 1;
                let name = format!("fork-{}", self.names);
                let mut body = json!({ "as": name });
                let mut of = marker;
                if let Some((entry, marker)) = entry
                    && chance.below(2) == 0
                {
                    body["at"] = json!(entry);
                    of.clone_from(marker);
                }
                let call = post("POST", format!("{at}/fork?wait_ms=60000"), key, body);
                (call, Effect::Fork { name, marker: of })
            }
            (8, Some((entry, _))) => {
                let pinned = chance.below(2) == 0;
                let target = format!("{at}/entries/{entry}");
                (post("PATCH", target, key, json!({ "pinned": pinned })), Effect::Pin)
            }
            (9, _) if self.known.markers.keys().any(|name| name.starts_with("fork-")) => {
                let mut names = self.known.markers.keys().filter(|name| name.starts_with("fork-"));
                let from = names.next_back().expect("there is one").clone();
                self.names += 1;
                let to = format!("store-{}", self.names);
                let call =
                    post("PATCH", format!("/v1/projects/{from}"), key, json!({ "slug": to }));
                (call, Effect::Rename { from, to })
            }
            _ => {
                let marker = format!("{:016x}", chance.bits());
                let call = Call {
                    method: "PUT",
                    target: format!("{at}/files/content?path=marker"),
                    key: None,
                    body: marker.clone().into_bytes(),
                };
                (call, Effect::Put { project: project.to_owned(), marker })
            }
        }
    }

    /// Works until Cove is killed at the moment given; gives the call that was not answered.
    fn work(
        &mut self,
        chance: &mut Chance,
        project: &str,
        moment: Duration,
    ) -> Option<(Call, Effect)> {
        let is_killed = Arc::new(AtomicBool::new(false));
        let (killed, mut child) = (Arc::clone(&is_killed), self.child.take().expect("it runs"));
        let killer = std::thread::spawn(move || {
            pause(moment);
            killed.store(true, Ordering::SeqCst);
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let unanswered = loop {
            if is_killed.load(Ordering::SeqCst) {
                break None;
            }
            let (call, effect) = self.next(chance, project);
            match call.send(&self.socket()) {
                Ok(answer) if matches!(answer.status, 200 | 201) => {
                    self.known.take(&call, &effect, &answer.json());
                }
                Ok(answer) => panic!("{effect:?}: {answer}\n{}", self.log()),
                Err(_) => break Some((call, effect)),
            }
        };
        killer.join().unwrap();
        unanswered
    }

    /// Sees that all that was acknowledged is there, and that calls can be repeated.
    fn check(&mut self, unanswered: Option<(Call, Effect)>, chance: &mut Chance) {
        if let Some((call, first)) = self.known.last.clone() {
            let answer = self.ask(&call);
            assert!(matches!(answer.status, 200 | 201), "the same call again: {call:?}: {answer}");
            assert_eq!(result_of(&answer.json()), first, "the same call again: {call:?}");
        }
        let maybe = match &unanswered {
            Some((_, Effect::Put { project, marker } | Effect::Restore { project, marker })) => {
                Some((project.clone(), marker.clone()))
            }
            _ => None,
        };
        let renamed = match &unanswered {
            Some((_, Effect::Rename { from, .. })) => Some(from.clone()),
            _ => None,
        };
        for (project, wanted) in &self.known.markers {
            if wanted.is_empty() || renamed.as_ref() == Some(project) {
                continue;
            }
            let found = self.marker(project, "now");
            let may_be =
                maybe.as_ref().is_some_and(|(other, marker)| other == project && *marker == found);
            assert!(may_be || found == *wanted, "{project}: {found} where {wanted} was put");
        }
        if let Some((call, effect)) = unanswered {
            let answer = self.ask(&call);
            assert!(
                matches!(answer.status, 200 | 201),
                "what was not answered, again: {call:?}: {answer}\n{}",
                self.log()
            );
            self.known.take(&call, &effect, &answer.json());
            if call.key.is_some() {
                let again = self.ask(&call);
                let first = self.known.last.as_ref().map(|(_, first)| first.clone());
                assert_eq!(Some(result_of(&again.json())), first, "a third time: {call:?}");
            }
        }
        for (project, wanted) in self.known.markers.iter().filter(|(_, one)| !one.is_empty()) {
            assert_eq!(self.marker(project, "now"), *wanted, "{project} after the calls again");
        }
        for (project, entries) in self.known.entries.iter().filter(|(_, all)| !all.is_empty()) {
            let timeline = self.get(format!("/v1/projects/{project}/entries")).json();
            let listed: Vec<&str> = timeline["entries"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|entry| entry["id"].as_str())
                .collect();
            for entry in entries.keys() {
                assert!(listed.contains(&entry.as_str()), "{project} has lost entry {entry}");
            }
            // those of projects that are left alone were looked at often enough
            let number = chance.below(entries.len() as u64) as usize;
            let some = entries.iter().rev().take(3).chain(entries.iter().nth(number));
            for (entry, wanted) in some {
                assert_eq!(self.marker(project, entry), *wanted, "{project}@{entry}");
            }
        }
        for project in self.known.markers.keys() {
            self.get(format!("/v1/projects/{project}/wait?wait_ms=60000"));
        }
        let incoming = self.home().join("pool/incoming");
        until("incoming is swept", START_WITHIN, || {
            let found = fs::read_dir(&incoming).unwrap().map(|one| one.unwrap().file_name());
            let found: Vec<_> = found.collect();
            if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
        });
        let verified = self.run(&["verify", "--level", "1"]);
        assert_eq!(
            verified.status.code(),
            Some(0),
            "{}{}\n{}",
            String::from_utf8_lossy(&verified.stdout),
            String::from_utf8_lossy(&verified.stderr),
            self.log()
        );
    }

    /// Every entry of a project by the program, and back to each.
    fn restore_all(&mut self, project: &str) {
        for (entry, wanted) in self.known.entries.get(project).cloned().unwrap_or_default() {
            let read = self.run(&["files", "cat", &format!("{project}@{entry}:/marker")]);
            assert_eq!(String::from_utf8_lossy(&read.stdout), wanted, "{project}@{entry}");
            let restored = self.run(&["restore", project, &entry, "--force"]);
            let said = String::from_utf8_lossy(&restored.stderr);
            assert!(restored.status.success(), "restore {project} {entry}: {said}");
            assert_eq!(self.marker(project, "now"), wanted, "restore {project} {entry}");
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let lazily = "umount -l \"$1/pool\" 2>/dev/null; losetup -n -O NAME -j \"$1/pool.img\" | xargs -r losetup -d";
        let _ = command("sh").args(["-c", lazily, "sh"]).arg(self.home()).status();
        if std::thread::panicking() {
            eprintln!("the log ends:\n{}", self.log());
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: kills of `cove up` need root for its pool");
        return;
    }
    let seed = proof::seed("nothing_acknowledged_is_lost_by_a_kill");
    let moments = proof::rounds(40, 200);
    let mut chance = Chance::new(seed);
    let server = S3Server::start();
    let mut victims = vec![Victim::new(None)];
    victims.extend(server.as_ref().map(|server| Victim::new(Some(server))));
    for victim in &mut victims {
        victim.up();
    }
    let begun = now();
    for number in 0..moments {
        let which = if number % 4 == 3 { victims.len() - 1 } else { 0 };
        let victim = &mut victims[which];
        let project = format!("shop-{}", number / KILLS_A_PROJECT);
        let moment = Duration::from_micros(chance.below(KILL_WITHIN_US));
        let unanswered = victim.work(&mut chance, &project, moment);
        eprintln!(
            "{number}: killed after {moment:?} in {:?}",
            unanswered.as_ref().map(|(_, effect)| effect)
        );
        victim.up();
        victim.check(unanswered, &mut chance);
    }
    for victim in &mut victims {
        victim.restore_all("shop-0");
        let entries: usize = victim.known.entries.values().map(BTreeMap::len).sum();
        let slowest = victim.starts.iter().max().copied().unwrap_or_default();
        let projects = victim.known.markers.len();
        let store = victim.objects.split("://").next().unwrap_or_default();
        figure(
            &format!("after kills, on {store}"),
            format!("{projects} projects, {entries} entries compared, slowest start {slowest:?}"),
        );
        let stopped = victim.run(&["down"]);
        assert!(stopped.status.success(), "{}", String::from_utf8_lossy(&stopped.stderr));
        victim.child.take().expect("it runs").wait().unwrap();
    }
    figure("kill -9 moments", format!("{moments} in {:?}, seed {seed}", begun.elapsed()));
}
