//! A Cove behind a proxy, and one plan run on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cove_content::head::{Head, HeadState};
use cove_testkit::trees::difference;
use cove_testkit::{FaultPlan, FaultProxy, S3Server, Seen};
use cove_types::EntryState;
use serde_json::{Value, json};

use super::act::{Act, After, Before, Call, files, large, text};
use super::reader::{Files, Reader, described};
use crate::harness::{Cove, Objects, Settings, list, poll, text as text_of};

/// As many packs as a head may name before they are gathered.
const PACKS_BEFORE: usize = 63;
/// How long a call may be repeated until it is answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(150);

/// What is in a store for machines that have lost everything.
pub(crate) struct Template {
    reader: Reader,
    shop: Before,
    other: Files,
}

/// A Cove in a prefix of its own.
pub(crate) struct Machine {
    proxy: FaultProxy,
    cove: Cove,
    reader: Reader,
    number: u64,
    base: Option<Files>,
}

/// How a call was answered.
#[derive(Debug, Clone)]
enum Told {
    /// It is done, and saved where that was asked for.
    Saved(Value),
    /// It goes on, or nobody knows.
    Open(String),
    /// It has failed.
    Failed(String),
}

/// A prefix or key that nothing else uses.
fn fresh() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("faults-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn settings(server: &S3Server, proxy: &FaultProxy, prefix: &str) -> Settings {
    Settings {
        pool_bytes: "256MiB",
        flags: vec!["--store-timeout", "3s"],
        variables: vec![
            ("AWS_ENDPOINT_URL", proxy.endpoint.clone()),
            ("COVE_MAX_SNAPSHOTS_PER_PROJECT", "3".to_owned()),
        ],
        ..Settings::with(Objects::Url(format!("s3://{}/{prefix}", server.bucket)))
    }
}

impl Template {
    /// A project with entries and an index, and another one.
    pub(crate) fn make(server: &'static S3Server, saves: usize) -> Option<Self> {
        let mut machine = Machine::start(server)?;
        let mut shop = Before { slug: "shop".to_owned(), entries: Vec::new(), now: Files::new() };
        machine.make_project("shop");
        for state in 1..=3 {
            machine.write("shop", &files(1, state));
            if state < 3 {
                shop.entries.push((machine.snapshot("shop"), files(1, state)));
            }
            shop.now = files(1, state);
        }
        for save in 0..saves {
            let more = Files::from([("more".to_owned(), text(save as u64, 2_000))]);
            machine.write("shop", &more);
            machine.look("shop");
            shop.now.extend(more);
        }
        machine.look("shop");
        machine.make_project("other");
        machine.write("other", &files(2, 1));
        machine.look("other");
        assert!(machine.cove.stop().success());
        Some(Self { reader: machine.reader, shop, other: files(2, 1) })
    }
}

impl Machine {
    /// One on an empty home and an empty prefix; `None` where it cannot run.
    pub(crate) fn start(server: &'static S3Server) -> Option<Self> {
        let (proxy, prefix) = (FaultProxy::before(&server.endpoint), fresh());
        let cove = Cove::start_with(settings(server, &proxy, &prefix))?;
        let reader = Reader::new(server, &prefix);
        let machine = Self { proxy, cove, reader, number: 0, base: None };
        // the store is held from now on
        machine.make_project("first");
        Some(machine)
    }

    /// One on an empty home, before a copy of what the template's machine had stored.
    fn cold(server: &'static S3Server, template: &Template) -> Self {
        let (proxy, prefix) = (FaultProxy::before(&server.endpoint), fresh());
        let reader = Reader::new(server, &prefix);
        for (key, etag, bytes) in template.reader.copy_to(&reader) {
            proxy.remember(&format!("/{}/{prefix}/{key}", server.bucket), &etag, bytes);
        }
        let cove = Cove::start_with(settings(server, &proxy, &prefix)).expect("one ran before");
        Self { proxy, cove, reader, number: 0, base: None }
    }

    /// What was asked of the store from the beginning of the plan to its end.
    pub(crate) fn planned(&self) -> Vec<Seen> {
        self.proxy.seen()
    }

    /// A call while nothing fails; a slow machine's store may be silent all the same.
    fn healthy(&self, method: &'static str, target: &str, body: &Value) -> Value {
        let (target, body) = (target.to_owned(), body.clone());
        let call = Call { method, target, body, words: Vec::new() };
        let until = Instant::now() + ANSWERED_WITHIN;
        // the key of a recovery or a check stands for its first end, whatever that is
        let is_job = ["/v1/recover", "/v1/verify"].iter().any(|job| call.target.starts_with(job));
        let mut key = fresh();
        loop {
            match self.ask(&call, Some(&key)) {
                Told::Saved(value) => return value,
                Told::Open(_) if Instant::now() < until => pause(),
                told => panic!("{method} {}: {told:?}", call.target),
            }
            if is_job {
                key = fresh();
            }
        }
    }

    fn make_project(&self, slug: &str) {
        self.healthy("POST", "/v1/projects?wait_ms=60000", &json!({ "slug": slug }));
    }

    fn snapshot(&self, slug: &str) -> String {
        let target = format!("/v1/projects/{slug}/entries?wait_ms=60000");
        text_of(&self.healthy("POST", &target, &json!({}))["entry"]["id"])
    }

    /// Looks at a project as the background does.
    fn look(&self, slug: &str) {
        let target = format!("/v1/diff?before={slug}@now&after={slug}@now");
        self.healthy("GET", &target, &Value::Null);
    }

    fn write(&self, slug: &str, files: &Files) {
        let root = self.cove.path(slug);
        for (path, bytes) in files {
            let place = root.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, bytes).unwrap();
        }
    }

    /// What the API shows of a project.
    fn show(&self, slug: &str) -> Value {
        self.healthy("GET", &format!("/v1/projects/{slug}"), &Value::Null)["project"].clone()
    }

    /// One call over HTTP, under a key if it has one.
    fn ask(&self, call: &Call, key: Option<&str>) -> Told {
        let key = key.map(|key| format!("Idempotency-Key: {key}"));
        let headers: Vec<&str> =
            std::iter::once("Content-Type: application/json").chain(key.as_deref()).collect();
        let body = match &call.body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let (status, answer) = self.cove.call(call.method, &call.target, &headers, body.as_bytes());
        let value: Value = serde_json::from_str(&answer).unwrap_or(Value::Null);
        let shown = format!("{status} {answer}");
        match status {
            200 | 201 => Told::Saved(value),
            // 0: no answer came as long as the test waits for one
            0 | 202 | 503 | 504 => Told::Open(shown),
            500 if value["kind"] == "internal" => panic!("{call:?}: {shown}"),
            400..=599 => Told::Failed(shown),
            _ => panic!("{call:?}: {shown}"),
        }
    }

    /// One call by the program.
    fn run(&self, call: &Call) -> Told {
        // what stands behind `--` is no flag
        let at = call.words.iter().position(|word| word == "--").unwrap_or(call.words.len());
        let mut words = call.words.clone();
        words.insert(at, "--json".to_owned());
        let output = self.cove.cove(&words);
        let shown = format!("{words:?} exits {}: {}{}", output.code, output.stdout, output.stderr);
        match output.code {
            0 => Told::Saved(serde_json::from_str(&output.stdout).unwrap()),
            7 | 124 => Told::Open(shown),
            2..=9 => Told::Failed(shown),
            _ => panic!("{shown}"),
        }
    }

    /// The state that an act begins from.
    fn set(&mut self, act: Act) -> Before {
        self.number += 1;
        let (seed, slug) = (self.number * 7 + 3, format!("p{}", self.number));
        let mut before = Before { slug: slug.clone(), entries: Vec::new(), now: Files::new() };
        if act == Act::Create {
            return before;
        }
        if act == Act::Gather {
            before.now = self.fork_base(&slug);
            let more = Files::from([("more".to_owned(), text(seed, 2_000))]);
            self.write(&slug, &more);
            before.now.extend(more);
            return before;
        }
        self.make_project(&slug);
        let (entries, is_changed) = match act {
            Act::StoreFirst | Act::StoreSmall => (0, false),
            Act::SnapshotUnchanged | Act::Trash | Act::Undelete | Act::Pin | Act::Rename => {
                (1, false)
            }
            Act::TrashEntry | Act::UndeleteEntry | Act::ForkEntry => (2, false),
            Act::RollOff => (3, true),
            _ => (1, true),
        };
        for state in 1..=entries {
            before.now = files(seed, state);
            self.write(&slug, &before.now);
            before.entries.push((self.snapshot(&slug), before.now.clone()));
        }
        if is_changed {
            before.now = files(seed, entries + 1);
            self.write(&slug, &before.now);
        }
        let project = format!("/v1/projects/{slug}");
        match act {
            Act::StoreFirst => before.now = large(seed),
            Act::StoreSmall => {
                self.write(&slug, &files(seed, 1));
                self.look(&slug);
                before.now = files(seed, 2);
            }
            Act::Undelete => drop(self.healthy("DELETE", &project, &Value::Null)),
            Act::UndeleteEntry => {
                let target = format!("{project}/entries/{}", before.entries[0].0);
                self.healthy("DELETE", &target, &Value::Null);
            }
            _ => {}
        }
        if act.is_look() {
            self.write(&slug, &before.now);
        }
        before
    }

    /// A fork of a project whose next save gathers its packs; its files.
    fn fork_base(&mut self, slug: &str) -> Files {
        let packs = |machine: &Self, slug: &str| {
            let head = machine.reader.head(&text_of(&machine.show(slug)["volume"]));
            head.expect("it is saved").locations.packs.len()
        };
        if self.base.is_none() {
            self.make_project("base");
            let mut all = files(1, 1);
            self.write("base", &all);
            self.look("base");
            let mut number = 0;
            while packs(self, "base") < PACKS_BEFORE {
                number += 1;
                assert!(number < 200, "saves make packs");
                let path = format!("part-{}", number % 10);
                let part = Files::from([(path, text(1_000 + number, 3_000))]);
                self.write("base", &part);
                self.look("base");
                all.extend(part);
            }
            self.base = Some(all);
        }
        let target = "/v1/projects/base/fork?wait_ms=60000";
        self.healthy("POST", target, &json!({ "as": slug }));
        assert_eq!(packs(self, slug), PACKS_BEFORE, "a fork names its source's packs");
        self.base.clone().unwrap_or_default()
    }

    /// Runs an act under a plan on a machine that goes on afterwards.
    pub(crate) fn run_warm(&mut self, act: Act, plan: FaultPlan, by_program: bool) {
        let before = self.set(act);
        self.run_from(act, &before, plan, by_program);
    }

    /// Runs an act under a plan on a machine that has nothing but the store.
    pub(crate) fn run_cold(
        server: &'static S3Server,
        template: &Template,
        act: Act,
        plan: FaultPlan,
        by_program: bool,
    ) -> Self {
        let machine = Self::cold(server, template);
        let before = template.shop.clone();
        if act == Act::Recover {
            machine.recover(&before, plan.of_all(), by_program);
        } else {
            let recovered =
                machine.healthy("POST", "/v1/recover?wait_ms=60000", &json!({ "take": true }));
            assert_eq!(recovered["lost"], json!([]));
            match act {
                Act::ColdRead => machine.read(&before, plan, by_program),
                _ => machine.run_from(act, &before, plan, by_program),
            }
        }
        let after = After {
            projects: vec![("other".to_owned(), template.other.clone())],
            ..After::default()
        };
        let none = Before { slug: "other".to_owned(), entries: Vec::new(), now: Files::new() };
        machine.check(&none, &after, &machine.volumes(&after));
        machine
    }

    fn volumes(&self, after: &After) -> BTreeMap<String, String> {
        let volume =
            |(slug, _): &(String, Files)| (slug.clone(), text_of(&self.show(slug)["volume"]));
        after.projects.iter().map(volume).collect()
    }

    fn run_from(&self, act: Act, before: &Before, plan: FaultPlan, by_program: bool) {
        let call = before.call(act);
        let after = before.after(act);
        let is_there = !matches!(act, Act::Create | Act::Undelete);
        let volume = is_there.then(|| text_of(&self.show(&before.slug)["volume"]));
        let head = volume.as_ref().map(|volume| self.reader.head(volume).expect("it was saved"));
        let key = format!("key-{act:?}-{}-{}", before.slug, self.number);
        self.proxy.arm(plan);
        let told = match by_program {
            true => self.run(&call),
            false => self.ask(&call, Some(&key)),
        };
        let mut first = None;
        match told {
            // the plan still holds: whatever is told now is true now
            Told::Saved(value) => {
                if !act.is_look() {
                    self.check_told(act, before, &after, volume.as_deref(), &value);
                }
                first = Some(value);
            }
            Told::Failed(shown) => {
                eprintln!("{act:?} has failed: {shown}");
                self.proxy.heal();
                if !act.is_look() {
                    self.assert_unchanged(act, before, &after, head.as_ref(), &shown);
                }
            }
            Told::Open(_) => {}
        }
        self.proxy.heal();
        if act.is_look() {
            self.wait_saved(&after);
        } else if by_program {
            if first.is_none() {
                let told = self.run(&call);
                assert!(matches!(told, Told::Saved(_)), "once nothing fails: {told:?}");
            }
        } else {
            let again = self.repeat(&call, &key);
            if let Some(first) = &first {
                assert_eq!(identity(first), identity(&again), "the first result under one key");
            }
        }
        let volumes = match act {
            Act::Trash => BTreeMap::from([(before.slug.clone(), volume.unwrap())]),
            _ => {
                self.wait_saved(&after);
                self.volumes(&after)
            }
        };
        self.check(before, &after, &volumes);
        if let Some(head) = head {
            let now = self.reader.head(&volumes[&after.projects[0].0]).expect("a head stays");
            assert!(now.seq >= head.seq, "a head went back from {} to {}", head.seq, now.seq);
        }
        self.verify(act, &after);
    }

    /// Asks again under one key until it is done.
    fn repeat(&self, call: &Call, key: &str) -> Value {
        let until = Instant::now() + ANSWERED_WITHIN;
        loop {
            match self.ask(call, Some(key)) {
                Told::Saved(value) => return value,
                told @ Told::Failed(_) => {
                    let again = self.ask(call, Some(key));
                    let is_same = match (&told, &again) {
                        (Told::Failed(a), Told::Failed(b)) => without_id(a) == without_id(b),
                        _ => false,
                    };
                    assert!(is_same, "a failure is the result as well: {told:?}, then {again:?}");
                    // another call is not bound by it
                    return match self.ask(call, Some(&format!("{key}-anew"))) {
                        Told::Saved(value) => value,
                        told => panic!("once nothing fails: {told:?}"),
                    };
                }
                Told::Open(shown) => {
                    assert!(Instant::now() < until, "not answered once nothing fails: {shown}");
                    pause();
                }
            }
        }
    }

    /// Whoever was told that it is saved finds it in the store.
    fn check_told(
        &self,
        act: Act,
        before: &Before,
        after: &After,
        volume: Option<&str>,
        value: &Value,
    ) {
        let volumes = match act {
            Act::Trash => BTreeMap::from([(before.slug.clone(), volume.unwrap().to_owned())]),
            _ => self.volumes(after),
        };
        self.check(before, after, &volumes);
        let durability = |of: &Value| of["durability"].as_str().map(str::to_owned);
        for part in [&value["project"], &value["entry"]] {
            assert!(durability(part).is_none_or(|text| text == "saved"), "told so: {value}");
        }
    }

    /// A call that has failed has taken no effect.
    fn assert_unchanged(
        &self,
        act: Act,
        before: &Before,
        after: &After,
        head: Option<&Head>,
        shown: &str,
    ) {
        let names: Vec<String> =
            list(&self.healthy("GET", "/v1/projects", &Value::Null)["projects"])
                .iter()
                .map(|project| text_of(&project["slug"]))
                .collect();
        for (slug, _) in &after.projects {
            let was_there = *slug == before.slug && head.is_some();
            assert_eq!(names.contains(slug), was_there, "{slug} after {shown}");
        }
        let Some(head) = head else { return };
        let now = self.reader.head(head.volume.as_str()).expect("a head stays");
        let told = |head: &Head| {
            let entries = head.entries.iter().map(|entry| (entry.id, entry.state, entry.pinned));
            (head.state, entries.collect::<Vec<_>>())
        };
        assert_eq!(told(&now), told(head), "the timeline of the store after {act:?}: {shown}");
        assert_eq!(self.files(&before.slug), before.now, "the files after {act:?}: {shown}");
    }

    /// The files of a project on this machine.
    fn files(&self, slug: &str) -> Files {
        let root = self.cove.path(slug);
        let files = crate::harness::contents(&root).into_iter().map(|(path, bytes)| {
            (path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), bytes)
        });
        files.collect()
    }

    /// Waits until it has gone on by itself.
    fn wait_saved(&self, after: &After) {
        for (slug, _) in &after.projects {
            let until = Instant::now() + ANSWERED_WITHIN;
            loop {
                let project = self.show(slug);
                let is_well = project["durability"] == "saved"
                    && project["unsaved_bytes"] == 0
                    && project["health"]["problems"] == json!([]);
                if is_well {
                    break;
                }
                assert!(Instant::now() < until, "it is not saved by itself: {project}");
                pause();
            }
        }
    }

    /// The store holds what it must, by the word of nobody but the store.
    fn check(&self, before: &Before, after: &After, volumes: &BTreeMap<String, String>) {
        for (slug, wanted) in &after.projects {
            let head =
                self.reader.head(&volumes[slug]).unwrap_or_else(|| panic!("no head of {slug}"));
            let (found, tree) = self.reader.read(&head, &head.now);
            same(&format!("the present state of {slug} in the store"), wanted, &found);
            let is_trashed = head.state == HeadState::Trashed;
            assert_eq!(is_trashed, after.is_trashed, "{slug} in the trash");
            if !is_trashed {
                let document = head.document.as_ref().expect("a head names its project");
                assert_eq!(document.slug.as_str(), slug);
                let lines = difference(&described(&self.cove.path(slug)), &tree);
                assert!(lines.is_empty(), "{slug} here and in the store:\n{}", lines.join("\n"));
            }
        }
        let (slug, _) = &after.projects[0];
        let head = self.reader.head(&volumes[slug]).expect("it was there a moment ago");
        assert!(head.older.is_none() && head.unread.is_empty(), "few entries are in the head");
        let mut made = after.made.clone();
        for entry in &head.entries {
            let (found, _) = self.reader.read(&head, &entry.root);
            let id = entry.id.to_string();
            let known = before.entries.iter().position(|(known, _)| *known == id);
            let Some(at) = known else {
                let at = made.iter().position(|files| *files == found);
                let at = at.unwrap_or_else(|| panic!("entry {id} ({:?}) is nobody's", entry.kind));
                made.remove(at);
                continue;
            };
            same(&format!("entry {id}"), &before.entries[at].1, &found);
            let is_trashed = entry.state == EntryState::Trashed;
            assert_eq!(is_trashed, after.trashed.contains(&at), "entry {id} in the trash");
            assert!(at > 0 || entry.pinned == after.is_pinned, "entry {id} is pinned");
        }
        assert!(made.is_empty(), "{} entries are missing", made.len());
        for (id, _) in &before.entries {
            let is_there = head.entries.iter().any(|entry| entry.id.to_string() == *id);
            assert!(is_there, "entry {id} is lost");
        }
    }

    fn verify(&self, act: Act, after: &After) {
        if act == Act::Trash {
            return;
        }
        for (slug, _) in &after.projects {
            let body = json!({ "project": slug, "level": 2 });
            let verified = self.healthy("POST", "/v1/verify?wait_ms=60000", &body);
            assert_eq!(verified["problems"], json!([]), "{slug}");
        }
    }

    /// Recovers under a plan: what is back is whole, and in the end all of it is.
    fn recover(&self, before: &Before, plan: FaultPlan, by_program: bool) {
        let call = before.call(Act::Recover);
        self.proxy.arm(plan);
        let told = match by_program {
            true => self.run(&call),
            false => self.ask(&call, Some("key-recover")),
        };
        let after = before.after(Act::Recover);
        let is_all = matches!(&told, Told::Saved(value) if value["lost"] == json!([]));
        if is_all {
            self.check(before, &after, &self.volumes(&after));
        }
        self.proxy.heal();
        if !is_all {
            eprintln!("recovered in part: {told:?}");
            poll("everything is back", || match self.ask(&call, Some(&fresh())) {
                Told::Saved(value) if value["lost"] == json!([]) => Ok(()),
                told => Err(format!("{told:?}")),
            });
        }
        self.wait_saved(&after);
        self.check(before, &after, &self.volumes(&after));
        self.verify(Act::Recover, &after);
        // what was seen of the plan stays
        self.read_files(before, by_program);
    }

    /// Reads the files of the first entry under a plan.
    fn read(&self, before: &Before, plan: FaultPlan, by_program: bool) {
        self.proxy.arm(plan);
        self.read_files(before, by_program);
    }

    /// Reads the files of the first entry twice: right bytes or an error, and once nothing fails right bytes.
    fn read_files(&self, before: &Before, by_program: bool) {
        let (entry, wanted) = &before.entries[0];
        for is_well in [false, true] {
            for (path, bytes) in wanted {
                let place = format!("{}@{entry}:/{path}", before.slug);
                let (is_whole, found, shown) = match by_program {
                    true => {
                        let output = self.cove.cove(&["files", "cat", &place]);
                        (output.code == 0, output.bytes, output.stderr)
                    }
                    false => self.content(&before.slug, path, entry),
                };
                let is_right = if is_whole { found == *bytes } else { bytes.starts_with(&found) };
                assert!(is_right, "wrong bytes of {place}");
                assert!(is_whole || !is_well, "{place} is not read once nothing fails: {shown}");
            }
            self.proxy.heal();
        }
    }

    /// A file of an entry: whether all of it came, what came, and the answer's head.
    fn content(&self, slug: &str, path: &str, entry: &str) -> (bool, Vec<u8>, String) {
        let (address, token) = self.cove.tcp();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
        write!(
            stream,
            "GET /v1/projects/{slug}/files/content?path={path}&at={entry} HTTP/1.1\r\n\
             Host: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let body = answer.split_off(end);
        if !head.starts_with("HTTP/1.1 200") {
            return (false, Vec::new(), head);
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        (length == Some(body.len()), body, head)
    }
}

/// Between two looks.
fn pause() {
    std::thread::sleep(Duration::from_millis(100));
}

/// What of an answer tells which projects and entries it is about.
fn identity(value: &Value) -> Vec<String> {
    let projects = value["projects"].as_array().cloned().unwrap_or_default();
    let parts = [value["project"].clone(), value["entry"].clone()].into_iter().chain(projects);
    parts.flat_map(|part| ["id", "volume"].map(|name| part[name].to_string())).collect()
}

/// An answer without what differs from call to call.
fn without_id(shown: &str) -> String {
    shown.split("\"request_id\"").next().unwrap_or_default().to_owned()
}

#[track_caller]
fn same(what: &str, wanted: &Files, found: &Files) {
    let paths: std::collections::BTreeSet<&String> = wanted.keys().chain(found.keys()).collect();
    let differing: Vec<_> =
        paths.into_iter().filter(|path| wanted.get(*path) != found.get(*path)).collect();
    assert!(differing.is_empty(), "{what} differs in {differing:?}");
}
