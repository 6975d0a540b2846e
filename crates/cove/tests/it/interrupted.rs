//! What is interrupted: a first store by a kill, which goes on from there, and each verb that waits by a
//! signal, which leaves a state that the next command understands.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cove_content::chunks::{Chunks, PackCache};
use cove_content::head::HeadObject;
use cove_content::remote::Remote;
use cove_env::Env;
use cove_objects::{Key, S3Config, S3Store, Store};
use cove_testkit::Gate;
use cove_testkit::proof::{Chance, figure, is_full, rounds, seed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Cove, NOT_KNOWN, Objects, Settings, list, poll, run, s3, text, texts};

/// A Cove whose bucket is behind a gate; it is not started yet.
fn behind_a_gate(pool_bytes: &'static str) -> Option<(Cove, Gate)> {
    let gate = Gate::before(&s3()?.endpoint);
    let mut settings = Settings { pool_bytes, ..Settings::with(Objects::S3) };
    settings.variables.push(("AWS_ENDPOINT_URL", gate.endpoint.clone()));
    Some((Cove::prepare(settings)?, gate))
}

/// The objects of a Cove's bucket, past its gate.
struct Bucket {
    runtime: tokio::runtime::Runtime,
    store: Arc<S3Store>,
}

impl Bucket {
    fn of(cove: &Cove) -> Self {
        let server = s3().expect("its bucket is there");
        let prefix = cove.objects.splitn(4, '/').nth(3).expect("s3://bucket/prefix");
        let config = S3Config {
            bucket: server.bucket.clone(),
            prefix: prefix.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(server.endpoint.clone()),
            access_key: server.access_key.clone(),
            secret_key: server.secret_key.clone(),
            session_token: None,
            silence_max: cove_objects::SILENCE_MAX,
        };
        let store = Arc::new(S3Store::open(config, Env::system()).unwrap());
        Self { runtime: tokio::runtime::Runtime::new().unwrap(), store }
    }

    fn list(&self, prefix: &str) -> BTreeMap<String, u64> {
        let found = self.runtime.block_on(self.store.list(prefix, None, usize::MAX)).unwrap();
        found.into_iter().map(|one| (one.key.to_string(), one.bytes)).collect()
    }

    /// All packs with their lengths.
    fn packs(&self) -> BTreeMap<String, u64> {
        self.list("teams/home/packs/")
    }

    /// The packs that a head names.
    fn named(&self) -> BTreeSet<String> {
        let store: Arc<dyn Store> = self.store.clone();
        let team = "home".parse().unwrap();
        let remote = Remote::new(store, self.runtime.handle().clone(), team);
        let mut named = BTreeSet::new();
        for key in self.list("teams/home/volumes/").keys() {
            let key: Key = key.parse().unwrap();
            let HeadObject::Head(head) =
                HeadObject::decode(&remote.get(&key).unwrap().bytes).unwrap()
            else {
                continue;
            };
            let cache = Arc::new(PackCache::new(None));
            let chunks = Chunks::new(remote.clone(), cache, head.locations.clone());
            let packs = chunks.packs().unwrap();
            assert!(packs.damaged.is_empty());
            named.extend(packs.packs.iter().map(|(pack, _)| remote.pack_key(pack).to_string()));
        }
        named
    }

    /// The bytes of packs that no head names.
    fn unnamed_bytes(&self) -> u64 {
        let named = self.named();
        self.packs().iter().filter(|(pack, _)| !named.contains(*pack)).map(|(_, bytes)| bytes).sum()
    }
}

/// The most that a session may have put and not have listed: seven packs, each full at 16 MiB and a frame.
const UNLISTED_BYTES_MAX: u64 = 7 * (16 << 20) + (2 << 20);

#[test]
fn a_first_store_that_is_killed_again_and_again_goes_on_from_there() {
    let (mib, pool_bytes) = if is_full() { (2100, "4GiB") } else { (288, "1GiB") };
    let Some((mut cove, gate)) = behind_a_gate(pool_bytes) else { return };
    cove.up();
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let mut chance = Chance::new(8);
    for number in 0..mib / 4 {
        fs::write(root.join(format!("{number:04}")), chance.bytes(4 << 20)).unwrap();
    }
    let bytes = mib << 20;
    let bucket = Bucket::of(&cove);
    let stored = || bucket.packs().values().sum::<u64>();
    // 10 % of the small one is less than what need not be listed yet
    let killed_at: &[u64] = if is_full() { &[10, 50, 90] } else { &[50, 90] };
    gate.hold_after_asked(0);
    cove.json(&["snapshot", "shop", "--no-wait", "-m", "first"]);
    let mut lost = Vec::new();
    for percent in killed_at {
        let mut more = (bytes * percent / 100).saturating_sub(stored());
        poll("something is stored that no head names", || {
            gate.hold_after_asked(more as usize);
            more = 4 << 20;
            poll("so much is asked", || {
                if gate.is_holding() { Ok(()) } else { Err("less".to_owned()) }
            });
            match bucket.unnamed_bytes() {
                0 => Err(format!("all of {} bytes are named", stored())),
                _ => Ok(()),
            }
        });
        cove.kill9();
        let (seen, unnamed) = (stored(), bucket.unnamed_bytes());
        lost.push(unnamed);
        figure(
            &format!("First store killed at {percent} %: MiB there, of which no head names"),
            format!("{} of {mib}, {}", seen >> 20, unnamed >> 20),
        );
        let kills = lost.len() as u64;
        assert!(seen < bytes, "{percent} %: {seen} of {bytes}");
        assert!(unnamed <= kills * UNLISTED_BYTES_MAX, "{percent} %: {lost:?}");
        gate.hold_after_asked(8 << 20);
        cove.up();
    }
    gate.open();
    poll("it is saved", || {
        let entry = &cove.timeline("shop")[0];
        if entry["durability"] == "saved" { Ok(()) } else { Err(entry.to_string()) }
    });
    let all: u64 = bucket.packs().values().sum();
    let twice = bucket.unnamed_bytes();
    figure("First store killed again and again: MiB put twice", twice >> 20);
    assert!(twice <= lost.len() as u64 * UNLISTED_BYTES_MAX, "{twice} bytes were put twice");
    // frames, the tree and footers take a little
    assert!(all - twice >= bytes && all - twice <= bytes + bytes / 50, "{all}, {twice}");
    let verified = cove.json(&["verify", "shop", "--level", "2"]);
    assert_eq!(verified["problems"], serde_json::json!([]), "{verified}");
}

/// Signals and what a program exits with that ends by them.
const SIGNALS: [(Signal, i32); 3] = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)];

/// How a call that was interrupted ended.
struct Ended {
    /// Whether it had ended by itself before.
    is_done: bool,
    said: String,
    /// How long after the signal it ended.
    took: Duration,
}

/// A call on its way.
struct Call {
    child: Child,
    what: String,
    /// With what it exits when it is refused before.
    refusal: Option<i32>,
}

impl Call {
    fn start(cove: &Cove, arguments: &[&str]) -> Self {
        let mut command = cove.program_of(arguments);
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        Self { child, what: format!("{arguments:?}"), refusal: None }
    }

    /// Waits until it would not end by a signal by itself.
    fn once_watching(mut self) -> Self {
        let status = format!("/proc/{}/status", self.child.id());
        poll("it watches for signals", || {
            let status = fs::read_to_string(&status).unwrap_or_default();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let mask = u64::from_str_radix(caught.unwrap_or("0").trim(), 16).unwrap();
            let is_there = [1, 2, 15].iter().all(|signal| mask >> (signal - 1) & 1 == 1);
            match is_there || self.child.try_wait().unwrap().is_some() {
                true => Ok(()),
                false => Err(status),
            }
        });
        self
    }

    /// Waits until something is so.
    fn until(self, what: &str, is_so: impl Fn() -> bool) -> Self {
        poll(what, || if is_so() { Ok(()) } else { Err(self.what.clone()) });
        self
    }

    /// Sends the signal and waits for its end.
    fn end(mut self, (signal, status): (Signal, i32)) -> Ended {
        drop(self.child.stdin.take());
        self.end_with_input(signal, status)
    }

    /// The same of one that reads what it was sent, of which more is to come.
    fn end_with_input(mut self, signal: Signal, status: i32) -> Ended {
        let input = self.child.stdin.take();
        // it may have ended meanwhile
        let _ = kill_process(Pid::from_child(&self.child), signal);
        let told = Instant::now();
        poll("it ends", || {
            self.child.try_wait().unwrap().ok_or_else(|| format!("{} runs", self.what))
        });
        let took = told.elapsed();
        let output = self.child.wait_with_output().unwrap();
        drop(input);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let by_signal = output.status.signal() == Some(signal.as_raw());
        match output.status.code() {
            Some(0) => Ended { is_done: true, said, took },
            Some(code) if code == status || Some(code) == self.refusal => {
                Ended { is_done: false, said, took }
            }
            None if by_signal => Ended { is_done: false, said, took },
            other => panic!("{}: {other:?}: {said}", self.what),
        }
    }
}

/// What is in a project, by its paths.
fn listed(cove: &Cove, name: &str) -> Vec<String> {
    texts(&cove.json(&["files", "ls", "-R", &format!("{name}:/")])["files"], "path")
}

/// Nothing lies beside a project's files, where half-made ones would.
#[track_caller]
fn is_tidy(cove: &Cove, name: &str) {
    let root = cove.path(name);
    let hidden = |dir: &Path| -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|one| one.unwrap().file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name.starts_with('.')).collect()
    };
    poll("nothing half-made", || {
        let found = [hidden(&root), hidden(root.parent().unwrap())].concat();
        if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Whether a project is there, as `show` tells.
fn is_there(cove: &Cove, name: &str) -> bool {
    poll("it is made or not", || {
        let output = cove.cove(&["show", name]);
        match output.code {
            0 => Ok(true),
            3 => Ok(false),
            // it is being made, or cleared away
            5 => Err(output.stderr),
            code => panic!("{code}: {}", output.stderr),
        }
    })
}

/// The signals that a verb gets in this run: one in turn, or all.
fn signals(turn: usize) -> impl Iterator<Item = (Signal, i32)> {
    (0..rounds(1, SIGNALS.len())).map(move |more| SIGNALS[(turn + more) % SIGNALS.len()])
}

/// A Cove with a project of one entry, whose store answers nobody while the gate is narrow.
fn with_an_entry() -> Option<(Cove, Gate, String)> {
    let (mut cove, gate) = behind_a_gate("512MiB")?;
    cove.up();
    cove.json(&["new", "shop"]);
    fs::write(cove.path("shop").join("a"), "first").unwrap();
    let entry = cove.snapshot("shop", "first");
    Some((cove, gate, entry))
}

#[test]
fn a_signal_while_a_change_waits_for_the_store_ends_the_waiting_alone() {
    let Some((cove, gate, entry)) = with_an_entry() else { return };
    let file = || cove.path("shop").join("a");

    for (number, signal) in signals(0).enumerate() {
        gate.narrow(0);
        let name = format!("new-{number}");
        let ended = Call::start(&cove, &["new", &name]).once_watching().end(signal);
        gate.open();
        if ended.said.contains("is on this node") {
            cove.json(&["wait", &name]);
        } else if !is_there(&cove, &name) {
            let is_so = ["nothing was changed", "`cove show"];
            assert!(is_so.iter().any(|so| ended.said.contains(so)), "{}", ended.said);
            cove.json(&["new", &name]);
        }
        cove.json(&["wait", &name]);
        cove.refuses(4, &["new", &name]);
    }

    for (number, signal) in signals(1).enumerate() {
        let message = format!("snapshot {number}");
        fs::write(file(), &message).unwrap();
        gate.narrow(0);
        let has_it = || cove.timeline("shop").iter().any(|one| one["message"] == message.as_str());
        let call = Call::start(&cove, &["snapshot", "shop", "-m", &message]).once_watching();
        let ended = call.until("the entry is captured", has_it).end(signal);
        assert!(!ended.is_done && tells(&ended, "shop"), "{}", ended.said);
        assert_eq!(cove.timeline("shop")[0]["durability"], "on_this_node");
        gate.open();
        cove.json(&["wait", "shop"]);
        let newest = &cove.timeline("shop")[0];
        assert_eq!((&newest["message"], &newest["durability"]), (&message.into(), &"saved".into()));
    }

    for (number, signal) in signals(2).enumerate() {
        let name = format!("fork-{number}");
        fs::write(file(), format!("forked {number}")).unwrap();
        gate.narrow(0);
        let call = Call::start(&cove, &["fork", "shop", "--as", &name]).once_watching();
        let ended = call.until("the fork is there", || is_there(&cove, &name)).end(signal);
        assert!(!ended.is_done, "{}", ended.said);
        assert!(tells(&ended, &name), "{}", ended.said);
        gate.open();
        cove.json(&["wait", &name]);
        assert_eq!(cove.text(&["files", "cat", &format!("{name}:/a")]), format!("forked {number}"));
        cove.refuses(4, &["fork", "shop", "--as", &name]);
    }

    for (number, signal) in signals(0).enumerate() {
        let before = format!("before restore {number}");
        fs::write(file(), &before).unwrap();
        gate.narrow(0);
        let call = Call::start(&cove, &["restore", "shop", &entry]).once_watching();
        let is_swapped = || fs::read_to_string(file()).is_ok_and(|found| found == "first");
        let ended = call.until("the files are the entry's", is_swapped).end(signal);
        assert!(!ended.is_done && tells(&ended, "shop"), "{}", ended.said);
        gate.open();
        cove.json(&["wait", "shop"]);
        assert_eq!(fs::read_to_string(file()).unwrap(), "first");
        let kept = text(&cove.timeline("shop")[0]["id"]);
        assert_eq!(cove.text(&["files", "cat", &format!("shop@{kept}:/a")]), before);
        cove.json(&["restore", "shop", &entry]);
    }

    for (number, signal) in signals(1).enumerate() {
        fs::write(file(), format!("waited for {number}")).unwrap();
        gate.narrow(0);
        cove.json(&["snapshot", "shop", "--no-wait", "-m", "waited for"]);
        let ended = Call::start(&cove, &["wait", "shop"]).once_watching().end(signal);
        assert!(!ended.is_done && ended.said.contains("saving goes on"), "{}", ended.said);
        gate.open();
        cove.json(&["wait", "shop"]);
        assert_eq!(cove.timeline("shop")[0]["durability"], "saved");
    }

    for signal in signals(2) {
        gate.narrow(0);
        let ended = Call::start(&cove, &["verify", "--level", "2"]).once_watching().end(signal);
        assert!(!ended.is_done && ended.said.contains("interrupted"), "{}", ended.said);
        gate.open();
        assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], serde_json::json!([]));
    }
    assert!(list(&cove.json(&["ls"])["projects"]).len() >= 3);
}

#[test]
fn a_signal_while_a_project_goes_or_comes_back_leaves_it_in_one_of_both() {
    let Some((mut cove, gate, _)) = with_an_entry() else { return };
    let in_trash = |cove: &Cove| texts(&cove.json(&["trash"])["projects"], "slug") == ["shop"];
    for signal in signals(1) {
        for (verb, is_trashed) in [("rm", true), ("undelete", false)] {
            gate.narrow(0);
            let ended = Call::start(&cove, &[verb, "shop"]).once_watching().end(signal);
            assert!(!ended.is_done, "{}", ended.said);
            assert!(ended.said.contains("interrupted"), "{}", ended.said);
            gate.open();
            // the call may not have been sent, and then the same one does it
            if in_trash(&cove) != is_trashed {
                let again = cove.cove(&[verb, "shop"]);
                assert!([0, 3, 4].contains(&again.code), "{}", again.stderr);
            }
            poll("it is where it was to be", || match in_trash(&cove) == is_trashed {
                true => Ok(()),
                false => Err(cove.text(&["ls"])),
            });
        }
    }
    assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "first");

    for signal in signals(0) {
        cove.lose_home();
        cove.up();
        gate.narrow(0);
        let ended = Call::start(&cove, &["recover", "--take"]).once_watching().end(signal);
        assert!(!ended.is_done && ended.said.contains("interrupted"), "{}", ended.said);
        gate.open();
        // while that one goes on, or after it
        let recovered = cove.json(&["recover", "--take"]);
        assert_eq!(recovered["lost"], serde_json::json!([]), "{recovered}");
        assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "first");
    }
}

/// What a call that was interrupted early says of itself.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Unchanged,
    Refused,
    GoesOn,
    Done,
    NotKnown,
    /// It ended by the signal before it could say anything, and had sent nothing.
    Nothing,
}

/// Whether it is told how to wait for a project, or, where Cove did not answer within the second that it has for
/// that, that nobody knows.
fn tells(ended: &Ended, name: &str) -> bool {
    let is_known = ended.said.contains(&format!("`cove wait {name}`"));
    is_known || ended.said.contains(NOT_KNOWN) && ended.took >= Duration::from_secs(1)
}

impl Said {
    fn of(ended: &Ended) -> Self {
        let said = &ended.said;
        let lines = [
            ("nothing was changed", Self::Unchanged),
            ("it was refused", Self::Refused),
            ("error: no entry of shop is ~9", Self::Refused),
            ("it is not known whether it began; `cove show shop` tells", Self::NotKnown),
            ("it was done by then", Self::Done),
            ("goes on", Self::GoesOn),
            ("it is done when", Self::GoesOn),
        ];
        match lines.into_iter().find(|(line, _)| said.contains(line)) {
            Some((_, what)) => what,
            None if ended.is_done => Self::Done,
            None if said.is_empty() => Self::Nothing,
            None => panic!("{said}"),
        }
    }

    /// Whether what it says may be so where the change took effect, and where it did not.
    fn fits(&self, is_changed: bool) -> bool {
        match self {
            Self::Unchanged | Self::Refused | Self::Nothing => !is_changed,
            Self::GoesOn | Self::Done => is_changed,
            Self::NotKnown => true,
        }
    }
}

#[test]
fn a_signal_at_once_says_of_a_restore_and_a_removal_what_is_so() {
    let Some((cove, gate, entry)) = with_an_entry() else { return };
    cove.json(&["pin", &format!("shop@{entry}")]);
    let mut chance = Chance::new(seed("a_signal_at_once"));
    let file = || cove.path("shop").join("a");
    let mut said = BTreeMap::new();
    let mut interrupt = |chance: &mut Chance, number: usize, arguments: &[&str]| {
        let mut call = Call::start(&cove, arguments).once_watching();
        call.refusal = Some(3);
        let after = Duration::from_micros(chance.below(10_000));
        std::thread::sleep(after);
        let ended = call.end(SIGNALS[number % SIGNALS.len()]);
        let what = Said::of(&ended);
        *said.entry(format!("{} {what:?}", arguments[0])).or_insert(0) += 1;
        (what, format!("{number}, {arguments:?} after {after:?}: {}", ended.said))
    };
    for number in 0..rounds(4, 40) {
        let now = format!("now {number}");
        fs::write(file(), &now).unwrap();

        // of an entry that is not there
        let (what, call) = interrupt(&mut chance, number, &["restore", "shop", "~9"]);
        assert!(what.fits(false) && what != Said::Done, "{call}");
        assert_eq!(fs::read_to_string(file()).unwrap(), now, "{call}");

        let (what, call) = interrupt(&mut chance, number, &["restore", "shop", &entry]);
        // what it asked for comes before this
        cove.json(&["snapshot", "shop", "-m", &now]);
        let is_restored = fs::read_to_string(file()).unwrap() != now;
        assert!(what.fits(is_restored), "{call}");

        // while the store does not answer
        gate.narrow(0);
        let (what, call) = interrupt(&mut chance, number, &["rm", "shop"]);
        gate.open();
        if what.fits(true) && what != Said::NotKnown {
            poll("it is in the trash", || match is_there(&cove, "shop") {
                false => Ok(()),
                true => Err(call.clone()),
            });
        }
        if !is_there(&cove, "shop") {
            assert!(what.fits(true), "{call}");
            cove.json(&["undelete", "shop"]);
        }
    }

    // a Cove that does not answer has perhaps got it
    let pid = Pid::from_raw(cove.pid().cast_signed()).unwrap();
    fs::write(file(), "stopped").unwrap();
    for arguments in [&["restore", "shop", "~9"][..], &["rm", "shop@~9"]] {
        kill_process(pid, Signal::STOP).unwrap();
        let ended = Call::start(&cove, arguments).once_watching().end(SIGNALS[0]);
        kill_process(pid, Signal::CONT).unwrap();
        assert!(Said::of(&ended).fits(false), "{}", ended.said);
    }
    eprintln!("said: {said:?}");
}

#[test]
fn a_signal_while_a_name_or_an_entry_is_changed_leaves_it_done_or_not() {
    let Some((cove, gate, entry)) = with_an_entry() else { return };
    for (number, signal) in signals(2).enumerate() {
        let (from, to) = if number % 2 == 0 { ("shop", "store") } else { ("store", "shop") };
        let (reference, label) = (format!("{from}@{entry}"), format!("v{number}"));
        let is = |member: &str, wanted: Value| {
            let timeline = cove.json(&["timeline", from, "--all"]);
            let entries = list(&timeline["entries"]);
            entries.iter().any(|one| one["id"] == entry.as_str() && one[member] == wanted)
        };
        let reference = reference.as_str();
        let changes: [(&[&str], &dyn Fn() -> bool); 6] = [
            (&["label", reference, &label], &|| is("label", label.as_str().into())),
            (&["pin", reference], &|| is("pinned", true.into())),
            (&["unpin", reference], &|| is("pinned", false.into())),
            (&["rm", reference], &|| is("state", "trashed".into())),
            (&["undelete", reference], &|| is("state", "live".into())),
            (&["rename", from, to], &|| is_there(&cove, to)),
        ];
        for (arguments, is_so) in changes {
            gate.narrow(0);
            let ended = Call::start(&cove, arguments).once_watching().end(signal);
            let is_told = !ended.is_done && ended.said.contains("interrupted");
            assert!(is_told, "{arguments:?}: {}", ended.said);
            gate.open();
            poll("it is done, or can be", || {
                if is_so() {
                    return Ok(());
                }
                // the call may not have been sent, and then the same one does it
                let again = cove.cove(arguments);
                assert!([0, 3, 4, 5].contains(&again.code), "{arguments:?}: {}", again.stderr);
                Err(again.stderr)
            });
        }
    }
}

#[test]
fn a_signal_ends_a_verb_that_waited_and_prints_to_nobody_now() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let entry = cove.snapshot("shop", "before");
    // what is said of them is longer than any pipe
    let root = cove.path("shop");
    for number in 0..4_000 {
        fs::write(root.join(format!("{number:0100}")), "").unwrap();
    }
    let reference = format!("shop@{entry}");
    for signal in SIGNALS {
        let call = Call::start(&cove, &["diff", &reference]);
        let output = call.child.stdout.as_ref().unwrap();
        poll("it prints", || match rustix::io::ioctl_fionread(output).unwrap() {
            0 => Err(call.what.clone()),
            _ => Ok(()),
        });
        assert!(!call.end(signal).is_done, "{signal:?}");
    }
}

#[test]
fn a_signal_while_files_are_copied_leaves_all_of_them_or_none() {
    // as large as what is copied: a small one grows every 2 s only, and is full before that
    let settings = Settings { pool_bytes: "2GiB", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    let source = cove.make_dir("source");
    let mut chance = Chance::new(9);
    for number in 0..24 {
        fs::write(source.join(format!("{number:02}")), chance.bytes(4 << 20)).unwrap();
    }
    let has_socket = |call: &Call| {
        let open = fs::read_dir(format!("/proc/{}/fd", call.child.id()));
        let links = open.into_iter().flatten().flatten();
        links
            .filter_map(|one| fs::read_link(one.path()).ok())
            .any(|to| to.to_string_lossy().starts_with("socket:"))
    };
    let is_at_it = |mut call: Call| {
        poll("it speaks with Cove", || match has_socket(&call) {
            true => Ok(()),
            false if call.child.try_wait().unwrap().is_some() => Ok(()),
            false => Err(call.what.clone()),
        });
        call
    };

    // a project made from a directory
    for (number, signal) in signals(0).enumerate() {
        let name = format!("from-{number}");
        let arguments = ["new", &name, "--from", "source"];
        let ended = Call::start(&cove, &arguments).once_watching().end(signal);
        let is_made = ended.is_done || ended.said.contains("is on this node");
        assert!(is_made || ended.said.contains("nothing was made"), "{}", ended.said);
        if !is_made {
            poll("the same command works", || {
                let again = cove.cove(&arguments);
                // what was interrupted is being cleared away
                assert!([0, 5].contains(&again.code), "{}", again.stderr);
                if again.code == 0 { Ok(()) } else { Err(again.stderr) }
            });
        }
        cove.json(&["wait", &name]);
        assert_eq!(listed(&cove, &name).len(), 24);
        assert_eq!(cove.cove(&["rm", &name]).code, 0);
    }

    // a directory into a project
    cove.json(&["new", "shop"]);
    for (number, signal) in signals(1).enumerate() {
        let target = format!("shop:/in-{number}");
        let ended = is_at_it(Call::start(&cove, &["cp", "source", &target])).end(signal);
        let at = format!("in-{number}");
        let there = listed(&cove, "shop");
        let there = there.iter().filter(|path| path.starts_with(&at)).count();
        // what was sent whole may still be on its way to its place
        assert!([0, 25].contains(&there), "{there} of 25 are there");
        assert!(there == 25 || !ended.is_done);
        let says_nothing = ended.said.contains("interrupted; nothing was written");
        assert_eq!(says_nothing, there == 0, "{}", ended.said);
        cove.cove(&["files", "rm", "-r", "-f", &target]).success();
        is_tidy(&cove, "shop");
        cove.json(&["cp", "source", &target]);
        assert_eq!(fs::read_dir(cove.path("shop").join(at)).unwrap().count(), 24);
    }

    // one out of it
    let beside = |name: &str| {
        let there = fs::read_dir(cove.dir.path()).unwrap();
        there
            .map(|one| one.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|other| other == name || other.starts_with(".cove-"))
            .collect::<Vec<_>>()
    };
    // each signal: what it leaves is on a disk that nobody of Cove's looks at again
    for (number, signal) in SIGNALS.into_iter().enumerate() {
        let name = format!("out-{number}");
        let call = Call::start(&cove, &["cp", "shop:/in-0", &name]);
        let ended = call.until("it has begun", || !beside(&name).is_empty()).end(signal);
        match ended.is_done {
            true => assert_eq!(fs::read_dir(cove.dir.path().join(&name)).unwrap().count(), 24),
            false => {
                assert_eq!(beside(&name), [""; 0], "{signal:?}");
                assert!(ended.said.contains("nothing was written"), "{}", ended.said);
            }
        }
        cove.json(&["cp", "shop:/in-0/.", &name]);
        assert_eq!(beside(&name), [name.as_str()]);
        assert_eq!(fs::read_dir(cove.dir.path().join(&name)).unwrap().count(), 24);
    }

    // a stream that does not end: of a file, and of an archive that stops in the middle of one
    fs::write(cove.path("shop").join("00"), "old").unwrap();
    let tar = run(Command::new("tar").current_dir(&source).args(["-c", "00"]), b"").success().bytes;
    for (signal, status) in signals(2) {
        for arguments in [&["files", "put", "shop:/00"][..], &["cp", "-", "shop:/"]] {
            let mut call = Call::start(&cove, arguments);
            // more than any pipe holds
            call.child.stdin.as_mut().unwrap().write_all(&tar[..tar.len() / 2]).unwrap();
            let ended = call.end_with_input(signal, status);
            assert!(!ended.is_done, "{}", ended.said);
            assert!(ended.said.contains("interrupted; nothing was written"), "{}", ended.said);
            assert_eq!(cove.text(&["files", "cat", "shop:/00"]), "old");
            is_tidy(&cove, "shop");
        }
        cove.cove_with(&["cp", "-", "shop:/"], &tar).success();
        assert_eq!(fs::read(cove.path("shop").join("00")).unwrap().len(), 4 << 20);
        cove.cove_with(&["files", "put", "shop:/00"], b"old").success();
    }
}
