//! A sequence of commands: each is done by a real Cove and by the model, and then the two are
//! compared.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cove_testkit::proof::Chance;
use serde_json::{Value, json};

use super::caller::{Connection, Outcome, call_program, outcome_of_answer};
use super::choice::Choice;
use super::command::{Command, Request, in_query, percent, written};
use super::difference::difference;
use super::look::read_tree;
use super::tree::{Kind, Refusal, Tree};
use super::world::{Effect, World};
use crate::harness::{Cove, list, poll, text, texts};

/// How many entries that somebody asked for stay: few, so that they roll off.
pub const KEEP: usize = 3;
/// One in so many commands is done by the program.
const BY_PROGRAM: usize = 8;
/// One in so many commands is repeated under its key.
const REPEATED: usize = 6;
/// One in so many steps stops or kills the Cove that all sequences share.
const RESTARTED: usize = 200;

/// What a sequence did, in numbers.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub commands: usize,
    pub by_program: usize,
    pub refused: usize,
    pub restarts: usize,
    pub read_back: usize,
}

/// A sequence under way.
pub struct Sequence {
    pub number: usize,
    chance: Chance,
    world: World,
    /// Where what is brought in is made.
    sources: PathBuf,
    /// What was done, for whoever looks for what went wrong.
    pub log: Vec<String>,
    pub tally: Tally,
    keys: usize,
}

fn shared(cove: &RwLock<Cove>) -> RwLockReadGuard<'_, Cove> {
    cove.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn alone(cove: &RwLock<Cove>) -> RwLockWriteGuard<'_, Cove> {
    cove.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Gets what must be there.
#[track_caller]
fn get(connection: &mut Connection, target: String) -> Value {
    let answer = connection.send(&Request::get(target.clone()), None);
    assert_eq!(answer.status, 200, "{target}: {}", answer.json());
    answer.json()
}

fn project(slug: &str) -> String {
    format!("/v1/projects/{}", percent(slug))
}

impl Sequence {
    pub fn new(seed: u64, number: usize, sources: PathBuf) -> Self {
        std::fs::create_dir_all(&sources).unwrap();
        Self {
            number,
            chance: Chance::new(seed.wrapping_add((number as u64) << 32)),
            world: World::new(KEEP),
            sources,
            log: Vec::new(),
            tally: Tally::default(),
            keys: 0,
        }
    }

    fn choice(&mut self) -> Choice<'_> {
        Choice { chance: &mut self.chance, world: &self.world, number: self.number }
    }

    /// Does one thing.
    pub fn step(&mut self, cove: &RwLock<Cove>) {
        if self.chance.index(RESTARTED) == 0 {
            return self.restart(&mut alone(cove));
        }
        let cove = &shared(cove);
        match self.chance.index(10) {
            0..=5 => {
                let sources = self.sources.clone();
                if let Some(command) = self.choice().command(&sources) {
                    let effect = self.carry_out(cove, &command, "saved");
                    self.look(cove, effect.as_ref());
                }
            }
            6 | 7 => self.write(cove),
            _ => self.read(cove),
        }
    }

    /// Has a Cove and the model do a command; what it does, when it is not refused.
    fn carry_out(&mut self, cove: &Cove, command: &Command, until: &str) -> Option<Effect> {
        self.log.push(command.line());
        self.tally.commands += 1;
        let wanted = self.world.apply(command);
        let is_chosen = self.chance.index(BY_PROGRAM) == 0 && !command.is_apis();
        let by_program = command.is_programs() || is_chosen;
        self.keys += 1;
        let key = format!("sequence-{}-{}", self.number, self.keys);
        let perform = |again: bool| -> Outcome {
            if by_program && !again {
                let call = command.call(until == "captured");
                return call_program(cove, &call, wanted.as_ref().err().copied());
            }
            let request = command.request(until);
            let connection = &mut Connection::open(cove);
            loop {
                let answer = connection.send(&request, Some(&key));
                // Not yet: asked again under its key, it is waited for again.
                if answer.status != 202 {
                    break outcome_of_answer(&answer);
                }
            }
        };
        let outcome = poll("no other program holds files open", || match perform(false) {
            // A program that another thread starts holds all files for a moment.
            Outcome::Refused(_, told) if told.contains("open for writing") => Err(told),
            outcome => Ok(outcome),
        });
        self.tally.by_program += usize::from(by_program);
        let is_again = self.chance.index(REPEATED) == 0 && !by_program && until == "saved";
        match (&wanted, &outcome) {
            (Ok(effect), Outcome::Done(reply)) => {
                self.note(effect, reply, until == "saved");
                if is_again {
                    let again = perform(true);
                    let Outcome::Done(again) = &again else { panic!("repeated: {again}") };
                    assert_eq!(again["entry"]["id"], reply["entry"]["id"], "repeated");
                }
            }
            (Err(wanted), Outcome::Refused(refusal, told)) if wanted == refusal => {
                self.tally.refused += 1;
                self.log.push(format!("  refused: {told}"));
                if is_again {
                    let again = perform(true);
                    let is_same = matches!(&again, Outcome::Refused(again, _) if again == wanted);
                    assert!(is_same, "repeated: {again}");
                }
            }
            _ => panic!("{}: wanted {wanted:?}, found {outcome}", command.line()),
        }
        wanted.ok()
    }

    /// Takes the ids that a reply tells, and compares those that are known.
    fn note(&mut self, effect: &Effect, reply: &Value, is_saved: bool) {
        if !effect.made.is_empty() {
            let made = match reply.get("projects") {
                Some(projects) => list(projects),
                None => vec![reply["project"].clone()],
            };
            assert_eq!(made.len(), effect.made.len(), "{reply}");
            for (at, made) in effect.made.iter().zip(made) {
                let project = &mut self.world.projects[*at];
                project.id = text(&made["id"]);
                assert_eq!(made["slug"], project.slug, "{reply}");
            }
        }
        let Some(at) = effect.touched.first().filter(|_| is_saved) else { return };
        let timeline = &mut self.world.projects[*at].timeline;
        if let Some(first) = effect.held_by.first() {
            let id = text(&reply["entry"]["id"]);
            let is_held = effect.held_by.iter().any(|at| timeline.0[*at].id == id);
            if !is_held {
                let tree = Arc::clone(&timeline.0[*first].tree);
                assert!(timeline.0.iter().all(|entry| entry.id != id), "another state: {reply}");
                timeline.add_before(id, tree);
            }
            return;
        }
        let entries = &mut timeline.0;
        match effect.entry {
            Some(entry) => {
                let id = text(&reply["entry"]["id"]);
                let known = &mut entries[entry].id;
                assert!(known.is_empty() || *known == id, "{known} in {reply}");
                *known = id;
            }
            None => assert!(reply["entry"].is_null(), "no entry was to be told of: {reply}"),
        }
        if let Some(rolled_off) = reply.get("rolled_off") {
            let wanted: BTreeSet<String> =
                effect.rolled_off.iter().map(|at| entries[*at].id.clone()).collect();
            let found: BTreeSet<String> = texts(rolled_off, "id").into_iter().collect();
            assert_eq!(wanted, found, "what rolled off");
        }
    }

    /// Compares what a command has touched; after a refusal, and one that took something away, all.
    fn look(&mut self, cove: &Cove, effect: Option<&Effect>) {
        let touched = match effect {
            Some(effect) if !effect.touched.is_empty() => effect.touched.clone(),
            _ => self.world.live(),
        };
        for at in touched {
            self.compare(cove, at);
        }
    }

    fn path(connection: &mut Connection, slug: &str) -> PathBuf {
        let shown = get(connection, project(slug));
        PathBuf::from(text(&shown["project"]["path"]))
    }

    /// Compares a live project: its files, its timeline, and what is shown of it.
    #[track_caller]
    fn compare(&mut self, cove: &Cove, at: usize) {
        let connection = &mut Connection::open(cove);
        let known = &mut self.world.projects[at];
        let slug = &known.slug;
        let shown = get(connection, project(slug));
        let shown = &shown["project"];
        let forked_from = known.forked_from.as_ref();
        let (source, entry) = (&shown["forked_from"]["project"], &shown["forked_from"]["entry"]);
        assert_eq!(source.as_str(), forked_from.map(|(source, _)| source.as_str()), "{shown}");
        let wanted = forked_from.and_then(|(_, entry)| entry.as_deref());
        assert_eq!(entry.as_str(), wanted, "{shown}");
        assert_eq!(shown["id"], known.id, "{shown}");
        assert_eq!((&shown["slug"], &shown["name"]), (&json!(slug), &json!(slug)), "{shown}");
        let problems = &shown["health"]["problems"];
        assert_eq!(*problems, json!([]), "the health of {slug}");

        let found = read_tree(&PathBuf::from(text(&shown["path"])));
        let lines = known.tree.settle(&found);
        assert!(lines.is_empty(), "the files of {slug}:\n{}", lines.join("\n"));

        let told = get(connection, format!("{}/entries?all=true", project(slug)));
        let told = list(&told["entries"]);
        let entries = &mut known.timeline.0;
        let ids: Vec<&str> = told.iter().filter_map(|entry| entry["id"].as_str()).collect();
        let wanted: Vec<&str> = entries.iter().rev().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids.len(), wanted.len(), "the timeline of {slug}: {ids:?}, wanted {wanted:?}");
        for (entry, told) in entries.iter_mut().rev().zip(&told) {
            if entry.id.is_empty() {
                entry.id = text(&told["id"]);
            }
            let bytes: u64 = entry.tree.0.values().filter_map(|node| node.size()).sum();
            let wanted = json!({
                "id": entry.id,
                "kind": if entry.is_manual { "manual" } else { "before-restore" },
                "message": entry.message,
                "label": entry.label,
                "pinned": entry.is_pinned,
                "state": if entry.is_live { "live" } else { "trashed" },
                "logical_bytes": bytes,
                "durability": "saved",
                "author": "owner",
            });
            for (name, wanted) in wanted.as_object().unwrap() {
                assert_eq!(told[name], *wanted, "{name} of {slug}: {told}");
            }
        }
        let live = entries.iter().filter(|entry| entry.is_live).count();
        assert_eq!(shown["entries"], live, "entries of {slug}");
    }

    /// Writes straight into a project's files, as any program does.
    fn write(&mut self, cove: &Cove) {
        let Some(at) = self.chance.pick(&self.world.live()).copied() else { return };
        let root = Self::path(&mut Connection::open(cove), &self.world.projects[at].slug);
        for _ in 0..=self.chance.index(3) {
            let slug = self.world.projects[at].slug.clone();
            let tree = &mut self.world.projects[at].tree;
            if let Some(line) = super::choice::write(&mut self.chance, tree, &root) {
                self.log.push(format!("written to {slug}: {line}"));
            }
        }
        self.compare(cove, at);
    }

    /// Stops or kills a Cove, after a command perhaps that is captured only, and starts it.
    fn restart(&mut self, cove: &mut Cove) {
        self.tally.restarts += 1;
        match self.chance.index(3) {
            0 => {
                self.log.push("stop".to_owned());
                assert!(cove.stop().success());
            }
            1 => {
                self.log.push("kill -9".to_owned());
                cove.kill9();
            }
            _ => {
                let sources = self.sources.clone();
                let command = self.choice().command(&sources).filter(Command::is_captured);
                if let Some(command) = command.filter(|command| !command.is_programs()) {
                    self.carry_out(cove, &command, "captured");
                }
                self.log.push("kill -9, at once".to_owned());
                cove.kill9();
            }
        }
        cove.up();
        let connection = &mut Connection::open(cove);
        for at in self.world.live() {
            get(connection, format!("{}/wait", project(&self.world.projects[at].slug)));
        }
        self.look(cove, None);
    }

    /// Reads something, which changes nothing.
    fn read(&mut self, cove: &Cove) {
        let connection = &mut Connection::open(cove);
        match self.chance.index(8) {
            0 => self.compare_lists(connection),
            1 | 2 => self.compare_difference(cove, connection),
            3 => {
                let live = self.world.live();
                let Some(at) = self.chance.pick(&live).copied() else { return };
                let known = &self.world.projects[at];
                let told = get(connection, format!("{}/entries", project(&known.slug)));
                let wanted = known.timeline.0.iter().rev().filter(|entry| entry.is_live);
                let wanted: Vec<&str> = wanted.map(|entry| entry.id.as_str()).collect();
                assert_eq!(texts(&told["entries"], "id"), wanted, "{}", known.slug);
            }
            _ => self.compare_files(cove, connection),
        }
    }

    /// `ls` and `trash`, as far as they are this sequence's.
    fn compare_lists(&self, connection: &mut Connection) {
        let own = format!("m{}-", self.number);
        let told = |connection: &mut Connection, state: &str| {
            let told = get(connection, format!("/v1/projects?state={state}"));
            let mut slugs = texts(&told["projects"], "slug");
            slugs.retain(|slug| slug.starts_with(&own));
            slugs
        };
        let mut live: Vec<String> =
            self.world.live().iter().map(|at| self.world.projects[*at].slug.clone()).collect();
        live.sort();
        assert_eq!(told(connection, "live"), live, "the projects");
        assert_eq!(told(connection, "trashed"), self.world.trash(), "the trash");
    }

    /// What differs between two moments, of one project mostly.
    fn compare_difference(&mut self, cove: &Cove, connection: &mut Connection) {
        let Some((a, at_a, before)) = self.choice().moment() else { return };
        let Some((b, at_b, after)) = self.choice().moment() else { return };
        if before.is_err() && after.is_err() {
            // which of the two is told is nobody's concern
            return;
        }
        let (a, b) = (format!("{a}@{at_a}"), format!("{b}@{at_b}"));
        self.log.push(format!("diff {a}..{b}"));
        let wanted = before.and_then(|before| Ok((before, after?)));
        let wanted = wanted.map(|(before, after)| json!(difference(&before, &after)));
        let outcome = match self.chance.index(BY_PROGRAM) {
            0 => {
                let call = super::command::Call {
                    arguments: ["diff", &a, &b, "--json"].map(ToOwned::to_owned).to_vec(),
                    input: Vec::new(),
                };
                call_program(cove, &call, wanted.as_ref().err().copied())
            }
            _ => {
                let target = format!("/v1/diff?before={}&after={}", percent(&a), percent(&b));
                outcome_of_answer(&connection.send(&Request::get(target), None))
            }
        };
        match (wanted, outcome) {
            (Ok(wanted), Outcome::Done(told)) => {
                let shown = |value: &Value| serde_json::to_string_pretty(value).unwrap();
                assert_eq!(shown(&told["changes"]), shown(&wanted), "{a}..{b}");
            }
            (Err(wanted), Outcome::Refused(refusal, _)) if wanted == refusal => {}
            (wanted, outcome) => panic!("{a}..{b}: wanted {wanted:?}, found {outcome}"),
        }
    }

    /// A listing, a look or the bytes of a path, at some moment.
    fn compare_files(&mut self, cove: &Cove, connection: &mut Connection) {
        let Some((slug, at, tree)) = self.choice().moment() else { return };
        let path = match &tree {
            Ok(tree) => self.choice().path(tree),
            Err(_) => String::new(),
        };
        let node = tree
            .as_ref()
            .map_err(|refusal| *refusal)
            .and_then(|tree| tree.get(&path).map(|node| (tree, node)).ok_or(Refusal::NotFound));
        let place = format!("path={}&at={}", in_query(&path), percent(&at));
        let base = format!("{}/files", project(&slug));
        let shown = format!("{slug}@{at}:/{}", written(&path));
        self.log.push(format!("read {shown}"));
        let (target, wanted) = match self.chance.index(3) {
            0 => {
                let all = node.map(|(tree, node)| match node.is_directory() {
                    true => listing(tree, &path),
                    false => vec![shown_file(&path, tree)],
                });
                (format!("{base}?{place}&recursive=true"), all)
            }
            1 => {
                let one = node.map(|(tree, _)| vec![shown_file(&path, tree)]);
                (format!("{base}/stat?{place}"), one)
            }
            _ => {
                let bytes = node.and_then(|(_, node)| match &node.kind {
                    Kind::File(bytes) => Ok(bytes.clone()),
                    Kind::Directory | Kind::Link(_) => Err(Refusal::Precondition),
                });
                return match bytes {
                    Ok(bytes) if self.chance.index(BY_PROGRAM) == 0 => {
                        let read = cove.cove(&["files", "cat", &shown]).success();
                        assert_eq!(read.bytes, *bytes, "{shown}");
                    }
                    bytes => {
                        let target = format!("{base}/content?{place}");
                        let answer = connection.send(&Request::get(target), None);
                        match bytes {
                            Ok(bytes) => assert_eq!(answer.body, *bytes, "{shown}"),
                            Err(wanted) => refused(&shown, wanted, &outcome_of_answer(&answer)),
                        }
                    }
                };
            }
        };
        let outcome = outcome_of_answer(&connection.send(&Request::get(target), None));
        match (wanted, outcome) {
            (Ok(wanted), Outcome::Done(told)) => compare_listing(&shown, &wanted, &told["files"]),
            (Err(wanted), outcome) => refused(&shown, wanted, &outcome),
            (wanted, outcome) => panic!("{shown}: wanted {wanted:?}, found {outcome}"),
        }
    }

    /// Makes sure that all of it is in the store.
    pub fn save(&self, cove: &RwLock<Cove>) {
        let cove = &shared(cove);
        let connection = &mut Connection::open(cove);
        for at in self.world.live() {
            let now = percent(&format!("{}@now", self.world.projects[at].slug));
            get(connection, format!("/v1/diff?before={now}&after={now}"));
        }
    }

    /// Compares everything.
    pub fn compare_all(&mut self, cove: &RwLock<Cove>) {
        let cove = &shared(cove);
        self.look(cove, None);
        self.compare_lists(&mut Connection::open(cove));
    }

    /// Reads every entry back, and has the store checked.
    pub fn end(&mut self, cove: &RwLock<Cove>, level: u8) {
        self.compare_all(cove);
        let cove = &shared(cove);
        let connection = &mut Connection::open(cove);
        for at in self.world.live() {
            let known = &self.world.projects[at];
            for entry in known.timeline.0.iter().filter(|entry| entry.is_live) {
                let base = format!("{}/files", project(&known.slug));
                let shown = format!("{}@{}", known.slug, entry.id);
                let told = get(connection, format!("{base}?at={}&recursive=true", entry.id));
                compare_listing(&shown, &listing(&entry.tree, ""), &told["files"]);
                for (path, node) in &entry.tree.0 {
                    let Kind::File(bytes) = &node.kind else { continue };
                    let place = format!("path={}&at={}", in_query(path), entry.id);
                    let target = format!("{base}/content?{place}");
                    let answer = connection.send(&Request::get(target), None);
                    assert_eq!(answer.status, 200, "{shown}:/{path}");
                    assert!(answer.body == **bytes, "{shown}:/{path} has other bytes");
                }
                self.tally.read_back += 1;
            }
            let body = json!({ "project": known.slug, "level": level });
            let request = Request::post("/v1/verify?wait_ms=60000".to_owned(), &body);
            let answer = connection.send(&request, None);
            assert_eq!(answer.status, 200, "{}", answer.json());
            assert_eq!(answer.json()["problems"], json!([]), "verify of {}", known.slug);
        }
    }
}

#[track_caller]
fn refused(what: &str, wanted: Refusal, outcome: &Outcome) {
    let is_so = matches!(outcome, Outcome::Refused(refusal, _) if *refusal == wanted);
    assert!(is_so, "{what}: wanted {wanted:?}, found {outcome}");
}

/// What is below a directory, as a listing has it.
fn listing(tree: &Tree, path: &str) -> Vec<Value> {
    let below = tree.0.keys().filter(|other| *other != path);
    let below = below.filter(|other| super::tree::is_within(other, path));
    below.map(|path| shown_file(path, tree)).collect()
}

/// A path, as a listing has it, without its time.
fn shown_file(path: &str, tree: &Tree) -> Value {
    let Some(node) = tree.get(path) else { return Value::Null };
    let mut shown = json!({
        "path": if path.is_empty() { ".".to_owned() } else { written(path) },
        "kind": node.kind.word(),
        "bytes": node.size().unwrap_or(0),
        "mode": format!("{:04o}", node.mode),
    });
    if let Kind::Link(target) = &node.kind {
        shown["target"] = written(target).into();
    }
    shown
}

#[track_caller]
fn compare_listing(what: &str, wanted: &[Value], told: &Value) {
    let mut told = list(told);
    for file in &mut told {
        if let Some(members) = file.as_object_mut() {
            members.remove("modified");
        }
    }
    assert_eq!(told, wanted, "{what}");
}
