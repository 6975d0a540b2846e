//! A caller who sends what it likes, and what it must be told.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, contents, text};

/// How long an answer may take: longer than the longest wait of a call.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// A request, before it is bytes.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The path and the query, as they are sent.
    pub target: String,
    /// Lines of the head, besides those that every call has.
    pub headers: Vec<Vec<u8>>,
    /// The body; `None` sends no length.
    pub body: Option<Vec<u8>>,
}

impl Call {
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), ..Self::default() }
    }

    pub fn header(mut self, line: impl AsRef<[u8]>) -> Self {
        self.headers.push(line.as_ref().to_owned());
        self
    }

    pub fn body(mut self, media_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        match media_type {
            "" => self,
            kind => self.header(format!("Content-Type: {kind}")),
        }
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status; 0 when there was none.
    pub status: u16,
    head: String,
    /// Its body.
    pub body: Vec<u8>,
    /// What came behind it: answers to what was taken for further calls.
    pub rest: Vec<u8>,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.strip_prefix("HTTP/1.").and_then(|head| head.get(2..5));
        let status = status.and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = bytes.get(end + 4..).unwrap_or_default().to_owned();
        let mut answer = Self { status, head, body, rest: Vec::new() };
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let length = length.unwrap_or(answer.body.len()).min(answer.body.len());
        answer.rest = answer.body.split_off(length);
        answer
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// A Cove with something to lose, and its store.
pub struct Victim {
    pub cove: Cove,
    address: String,
    token: String,
    /// An entry of `shop`.
    pub entry: String,
    /// What was said in refusals, each once.
    details: Mutex<BTreeSet<String>>,
}

/// When a caller says that nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It keeps its side open.
    Never,
    /// Behind the last byte.
    AtOnce,
    /// When no answer comes for a while: what is not whole is waited for otherwise.
    Silent,
    /// As `Silent`, after 3 s: an answer is due, and who ends its side before it gets none.
    Late,
}

/// How long an answer is waited for until nothing more is said to come.
const SILENCE: Duration = Duration::from_millis(400);
/// How long one is waited for that is due.
const SILENCE_LATE: Duration = Duration::from_secs(3);

/// Sends bytes and gives what comes back. `set` sets how long reading waits, or ends writing.
fn talk<S: Read + Write>(
    mut stream: S,
    bytes: &[u8],
    end: End,
    set: impl Fn(&S, Option<Duration>) -> std::io::Result<()>,
) -> Vec<u8> {
    // It may refuse before it has read all of it.
    let _ = stream.write_all(bytes);
    let mut is_open = end != End::AtOnce;
    if !is_open {
        let _ = set(&stream, None);
    } else if end != End::Never {
        let silence = if end == End::Late { SILENCE_LATE } else { SILENCE };
        set(&stream, Some(silence)).unwrap();
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if end != End::Never && is_open {
                    is_open = false;
                    let _ = set(&stream, None);
                    set(&stream, Some(ANSWER_WITHIN)).unwrap();
                    continue;
                }
                let said = String::from_utf8_lossy(&answer);
                let sent = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]);
                panic!("no end of the answer {said:?} to {sent:?}");
            }
            Err(_) => break,
        }
    }
    answer
}

/// Over what a call comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Socket,
}

impl Victim {
    /// `None` where none can run, which is said.
    pub fn start() -> Option<Self> {
        Self::start_with("1h")
    }

    /// The same, saving as often as is said.
    pub fn start_with(store_every: &'static str) -> Option<Self> {
        let settings = Settings { store_every, ..Settings::with(Objects::Directory) };
        let cove = Cove::start_with(settings)?;
        cove.json(&["new", "shop"]);
        cove.cove_with(&["files", "put", "shop:/a.txt"], b"alpha\n").success();
        cove.text(&["files", "mkdir", "shop:/dir"]);
        cove.cove_with(&["files", "put", "shop:/dir/b.txt"], b"beta\n").success();
        let entry = cove.snapshot("shop", "kept");
        cove.cove_with(&["files", "put", "shop:/a.txt"], b"alpha, again\n").success();
        cove.json(&["new", "gone"]);
        cove.json(&["rm", "gone"]);
        cove.json(&["wait", "shop"]);
        let (address, token) = cove.tcp();
        Some(Self { cove, address, token, entry, details: Mutex::default() })
    }

    /// After a restart, which takes another port.
    pub fn look_again(&mut self) {
        (self.address, self.token) = self.cove.tcp();
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap_or_default()
    }

    /// The head's lines that a lawful call over TCP has.
    pub fn lawful(&self) -> String {
        format!("Host: {}\r\nAuthorization: Bearer {}\r\n", self.address, self.token)
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        stream.set_write_timeout(Some(ANSWER_WITHIN)).unwrap();
        stream
    }

    pub fn socket(&self) -> UnixStream {
        // The path may be too long for an address; the descriptor's is not.
        let home = File::open(&self.cove.home).unwrap();
        let place = format!("/proc/self/fd/{}/cove.sock", home.as_raw_fd());
        let stream = UnixStream::connect(place).unwrap();
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the other side closes.
    pub fn raw(&self, over: Over, bytes: &[u8], end: End) -> Answer {
        let answer = match over {
            Over::Tcp => talk(self.tcp(), bytes, end, |stream, within| match within {
                Some(within) => stream.set_read_timeout(Some(within)),
                None => stream.shutdown(Shutdown::Write),
            }),
            Over::Socket => talk(self.socket(), bytes, end, |stream, within| match within {
                Some(within) => stream.set_read_timeout(Some(within)),
                None => stream.shutdown(Shutdown::Write),
            }),
        };
        Answer::parse(&answer)
    }

    /// A call as bytes.
    pub fn bytes(&self, call: &Call) -> Vec<u8> {
        self.request(call, "close")
    }

    /// A call as bytes, with what is to become of the connection: `close` or `keep-alive`.
    pub fn request(&self, call: &Call, connection: &str) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", call.method, call.target).into_bytes();
        bytes.extend_from_slice(self.lawful().as_bytes());
        bytes.extend_from_slice(format!("Connection: {connection}\r\n").as_bytes());
        for line in &call.headers {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        if let Some(body) = &call.body {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(call.body.as_deref().unwrap_or_default());
        bytes
    }

    pub fn send(&self, over: Over, call: &Call) -> Answer {
        self.raw(over, &self.bytes(call), End::Never)
    }

    /// Sends a call over TCP, which must succeed, for its object.
    #[track_caller]
    pub fn succeeds(&self, call: &Call) -> Value {
        let answer = self.send(Over::Tcp, call);
        assert!(
            (200..300).contains(&answer.status),
            "{call:?}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        answer.json()
    }

    /// Checks a refusal: its status, and that a person can read it.
    pub fn refused(&self, what: &str, statuses: &[u16], answer: &Answer) {
        let said = String::from_utf8_lossy(&answer.body);
        assert!(statuses.contains(&answer.status), "{what}: {} {said}", answer.status);
        self.is_problem(what, answer);
    }

    /// Checks that an answer is a problem as the pages say it.
    pub fn is_problem(&self, what: &str, answer: &Answer) {
        let said = String::from_utf8_lossy(&answer.body);
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{what}: {said}");
        let problem = answer.json();
        let page = text(&problem["type"]);
        let page = page.strip_prefix("https://cove.dev/errors/").expect("it names its page");
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let shown = fs::read_to_string(pages.join(format!("{page}.md")));
        let shown = shown.unwrap_or_else(|error| panic!("{what}: {page}: {error}"));
        let status = answer.status.to_string();
        assert!(shown.contains(&status), "{what}: the page {page} does not name {status}");
        assert_eq!(problem["status"], answer.status, "{what}");
        assert_eq!(text(&problem["kind"]).replace('_', "-"), page, "{what}");
        assert!(!text(&problem["title"]).is_empty(), "{what}");
        assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{what}");
        let detail = text(&problem["detail"]);
        is_readable(what, &detail);
        if let Some(hint) = problem["hint"].as_str() {
            // Commands stand in it as they are typed.
            is_readable(what, &hint.replace('`', ""));
        }
        self.details.lock().unwrap().insert(without_values(&detail));
    }

    /// What the refusals said, for whoever looks at them: `--nocapture` shows it.
    pub fn print_details(&self) {
        for detail in self.details.lock().unwrap().iter() {
            eprintln!("  {detail}");
        }
    }

    /// All that a call could have changed.
    pub fn state(&self) -> Value {
        let get = |target: &str| {
            let answer = self.send(Over::Socket, &Call::new("GET", target));
            assert_eq!(answer.status, 200, "{target}: {}", String::from_utf8_lossy(&answer.body));
            answer.json()
        };
        let mut projects = Vec::new();
        for state in ["live", "trashed"] {
            let mut listed = get(&format!("/v1/projects?state={state}"));
            for project in listed["projects"].as_array_mut().unwrap() {
                let members = project.as_object_mut().unwrap();
                // What changes by itself: what is saved, and what is measured.
                for member in ["bytes", "health", "saved_at", "durability", "seq", "unsaved_bytes"]
                {
                    members.remove(member);
                }
                // Which state it began at is known once that is captured.
                if let Some(source) = members["forked_from"].as_object_mut() {
                    source.remove("tree");
                }
                if state == "live" {
                    let slug = text(&project["slug"]);
                    let mut timeline = get(&format!("/v1/projects/{slug}/entries?all=true"));
                    for entry in timeline["entries"].as_array_mut().unwrap() {
                        let entry = entry.as_object_mut().unwrap();
                        for member in
                            ["saved_ms", "durability", "logical_bytes", "tree", "tree_entries"]
                        {
                            entry.remove(member);
                        }
                    }
                    let files = get(&format!("/v1/projects/{slug}/files?recursive=true"));
                    let root = PathBuf::from(text(&project["path"]));
                    let held: Vec<_> = contents(&root)
                        .into_iter()
                        .map(|(path, bytes)| format!("{path:?} {bytes:?}"))
                        .collect();
                    project["timeline"] = timeline;
                    project["files"] = files;
                    project["held"] = json!(held);
                }
                projects.push(project.clone());
            }
        }
        json!(projects)
    }

    /// The objects of the store, by their names.
    pub fn objects(&self) -> Vec<PathBuf> {
        self.cove.stored_objects().into_iter().map(|(path, _)| path).collect()
    }
}

/// A text is one plain line, and tells nothing of how the program is written.
fn is_readable(what: &str, text: &str) {
    assert!(!text.is_empty() && text.len() <= 700, "{what}: {} bytes: {text}", text.len());
    let is_plain = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    assert!(text.chars().all(is_plain), "{what}: {text:?}");
    for word in [
        "struct ",
        "enum ",
        "variant",
        "serde",
        "deserializ",
        "invalid type",
        "u8",
        "u16",
        "u32",
        "u64",
        "i64",
        "usize",
        "Option<",
        "Some(",
        "None",
        "::",
        "sequence",
        "`",
        "panicked",
        "expected a string",
        "boolean",
        "os error",
        "Kind(",
    ] {
        // A value of the caller's may say so, in quotes or as the path that is not there.
        let is_said = without_values(text).contains(word) && !what.contains(word);
        assert!(!is_said, "{what}: {word:?} in {text:?}");
    }
}

/// A text without what the caller said: what stands in quotes, or behind "found".
fn without_values(text: &str) -> String {
    let said = match text.find("found ") {
        Some(at) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    };
    let ours = said.split('"').enumerate().filter(|(number, _)| number % 2 == 0);
    ours.map(|(_, part)| part).collect::<Vec<_>>().join("\"…\"")
}
