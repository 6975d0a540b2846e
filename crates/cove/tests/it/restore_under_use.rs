//! Restores of a project in which programs are at work: a shell, a process with an open descriptor, one
//! with a mapping, and one that watches.
//!
//! Whatever they wrote and fsynced is in the files or in an entry of the timeline, and what the program
//! tells the user is true.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use cove_testkit::proof::{Chance, figure, rounds, seed};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use serde_json::json;

use crate::harness::{Cove, Objects, Settings, list, poll, run, text};

/// Appends by a relative path, each line fsynced by the program that wrote it.
const SHELL: &str = r#"cd "$1" || exit 1
while read -r line; do
    case $line in
    again) cd "$1" || exit 1 ;;
    *) printf 'shell-%010d\n' "$line" |
        dd of=shell oflag=append conv=notrunc,fsync status=none || exit 1 ;;
    esac
    echo "$line"
done"#;

/// Appends to a descriptor and fsyncs it, or writes into a shared mapping and msyncs it.
const PYTHON: &str = r#"
import mmap, os, sys
kind, path, bytes = sys.argv[1], sys.argv[2], 1 << 20
def opened():
    if kind == "descriptor":
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    os.ftruncate(file, bytes)
    mapped = mmap.mmap(file, bytes)
    os.close(file)
    return mapped
held = opened()
for line in sys.stdin:
    if line == "again\n":
        held.close() if kind == "mapping" else os.close(held)
        held = opened()
    else:
        token = b"%s-%010d\n" % (kind.encode(), int(line))
        if kind == "descriptor":
            os.write(held, token)
            os.fsync(held)
        else:
            at = int(line) * 32 % bytes
            held[at:at + len(token)] = token
            held.flush()
    sys.stdout.write(line)
    sys.stdout.flush()
"#;

/// A program in the workspace that writes one number after another, each into the file that is called
/// like it, and says which are durable.
struct Writer {
    kind: &'static str,
    child: Child,
    streams: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    /// The last number that is durable; the next may be.
    last: AtomicU64,
    stop: AtomicBool,
    /// Whether it works in the files of now, as far as the test knows, and from which number on.
    current: Mutex<Option<u64>>,
}

impl Writer {
    fn start(kind: &'static str, dir: &Path) -> Self {
        let mut command = match kind {
            "shell" => Command::new("sh"),
            _ => Command::new("python3"),
        };
        match kind {
            "shell" => command.args(["-c", SHELL, "sh"]).arg(dir),
            _ => command.args(["-c", PYTHON, kind]).arg(dir.join(kind)),
        };
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let writer = Self {
            kind,
            child,
            streams: Mutex::new((input, BufReader::new(output))),
            last: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            current: Mutex::new(None),
        };
        writer.open_again();
        writer
    }

    fn ask(&self, streams: &mut (ChildStdin, BufReader<ChildStdout>), line: &str) {
        writeln!(streams.0, "{line}").unwrap();
        let mut answer = String::new();
        streams.1.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), line, "the {} has ended", self.kind);
    }

    /// Has it enter the files of now.
    fn open_again(&self) {
        let mut streams = self.streams.lock().unwrap();
        self.ask(&mut streams, "again");
        *self.current.lock().unwrap() = Some(self.last.load(Ordering::SeqCst));
    }

    fn write_until_stopped(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let mut streams = self.streams.lock().unwrap();
            let next = self.last.load(Ordering::SeqCst) + 1;
            self.ask(&mut streams, &next.to_string());
            self.last.store(next, Ordering::SeqCst);
            drop(streams);
            // a lock is not fair, and the test wants it now and then
            std::thread::yield_now();
        }
    }

    fn token(&self, number: u64) -> String {
        format!("{}-{number:010}\n", self.kind)
    }

    /// Has it wait, as long as the guard lives.
    fn pause(&self) -> MutexGuard<'_, (ChildStdin, BufReader<ChildStdout>)> {
        self.streams.lock().unwrap()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who watches the top of the files with inotify(7), and the directory above, which is exchanged by a
/// whole restore.
struct Watcher {
    inotify: OwnedFd,
}

impl Watcher {
    fn new() -> Self {
        Self { inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap() }
    }

    fn watch(&self, root: &Path) {
        inotify::add_watch(&self.inotify, root, WatchFlags::CREATE).unwrap();
        let above = root.parent().unwrap();
        inotify::add_watch(&self.inotify, above, WatchFlags::MOVE_SELF).unwrap();
    }

    /// What has happened since the last call: that it moved, or what was made.
    fn take(&self) -> Vec<String> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        let mut seen = Vec::new();
        loop {
            match reader.next() {
                Ok(event) if event.events().contains(ReadFlags::MOVE_SELF) => {
                    seen.push("moved".to_owned());
                }
                Ok(event) => {
                    let name = event.file_name();
                    seen.extend(name.map(|name| name.to_string_lossy().into_owned()));
                }
                Err(Errno::AGAIN) => return seen,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[track_caller]
    fn sees(&self, wanted: &str) {
        let mut all = Vec::new();
        poll(&format!("the watcher sees {wanted}"), || {
            all.extend(self.take());
            if all.iter().any(|one| one == wanted) { Ok(()) } else { Err(format!("{all:?}")) }
        });
    }
}

/// A file of the project at a moment; nothing where it is not there.
fn read_at(cove: &Cove, moment: &str, path: &str) -> String {
    let output = cove.cove(&["files", "cat", &format!("{moment}:/{path}")]);
    assert!(output.code == 0 || output.code == 3, "{moment}:/{path}: {}", output.stderr);
    String::from_utf8_lossy(&output.bytes).into_owned()
}

/// The numbers of a writer in what it wrote.
fn numbers(kind: &str, content: &str) -> HashSet<u64> {
    let start = format!("{kind}-");
    content.split(['\n', '\0']).filter_map(|line| line.strip_prefix(&start)?.parse().ok()).collect()
}

/// What the entries hold that do not change any more.
type Read = HashMap<(String, &'static str), HashSet<u64>>;

/// Waits until each number that is durable, from those in `first` on, is in the files or in an entry.
fn nothing_is_lost(cove: &Cove, writers: &[Writer], first: &BTreeMap<&str, u64>, read: &mut Read) {
    let paused: Vec<_> = writers.iter().map(Writer::pause).collect();
    // what has been fsynced is seen by the next commit of the file system, within 30 s by itself
    rustix::fs::syncfs(fs::File::open(cove.path("shop")).unwrap()).unwrap();
    poll("every write that was fsynced", || {
        let entries = list(&cove.json(&["timeline", "shop", "--all"])["entries"]);
        let mut lost = Vec::new();
        for writer in writers {
            let path = format!("work/{}", writer.kind);
            let last = writer.last.load(Ordering::SeqCst);
            let mut missing: HashSet<u64> = (first[writer.kind]..=last).collect();
            let mut take = |found: &HashSet<u64>| missing.retain(|one| !found.contains(one));
            take(&numbers(writer.kind, &read_at(cove, "shop", &path)));
            for entry in &entries {
                let id = text(&entry["id"]);
                let moment = format!("shop@{id}");
                // a rescue is brought up to date
                if entry["kind"] == "rescue" {
                    take(&numbers(writer.kind, &read_at(cove, &moment, &path)));
                    continue;
                }
                let found = read
                    .entry((id, writer.kind))
                    .or_insert_with(|| numbers(writer.kind, &read_at(cove, &moment, &path)));
                take(found);
            }
            let mut missing: Vec<u64> = missing.into_iter().collect();
            missing.sort_unstable();
            if !missing.is_empty() {
                lost.push(format!(
                    "{} of {last} of the {}: {missing:?}",
                    missing.len(),
                    writer.kind
                ));
            }
        }
        if lost.is_empty() { Ok(()) } else { Err(lost.join("; ")) }
    });
    drop(paused);
}

/// A restore without `--force` while programs write: it is refused, naming one of them, and changes
/// nothing. Where none holds a file of now it is not tried.
fn refuses_while_in_use(cove: &Cove, writers: &[Writer], arguments: &[&str]) {
    let before = cove.timeline("shop");
    let holds =
        |writer: &Writer| writer.kind != "shell" && writer.current.lock().unwrap().is_some();
    if !writers.iter().any(holds) {
        return;
    }
    let said = cove.refuses(4, arguments);
    let names =
        |writer: &Writer| said.contains(&writer.child.id().to_string()) && said.contains("python3");
    // one that holds what a restore of its path replaced is named as well, and what the shell runs holds
    // its file for a moment
    assert!(writers.iter().any(names) || said.contains("dd"), "{said}");
    assert!(said.contains("--force"), "{said}");
    let kept = |timeline: &[serde_json::Value]| -> Vec<String> {
        timeline.iter().filter(|one| one["kind"] != "rescue").map(|one| text(&one["id"])).collect()
    };
    assert_eq!(kept(&cove.timeline("shop")), kept(&before), "a refused restore makes no entry");
}

#[test]
fn restores_among_programs_at_work_lose_no_fsynced_write_and_tell_the_truth() {
    let seed = seed("restores among programs at work");
    if run(Command::new("python3").arg("-c").arg("import mmap"), b"").code != 0 {
        eprintln!("SKIPPED: there is no python3, which maps files for this test");
        return;
    }
    let mut settings =
        Settings { store_every: "200ms", pool_bytes: "1GiB", ..Settings::with(Objects::Directory) };
    settings.variables.push(("COVE_MAX_SNAPSHOTS_PER_PROJECT", "200".to_owned()));
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::create_dir(root.join("work")).unwrap();
    fs::create_dir(root.join("still")).unwrap();
    for number in 0..20 {
        fs::write(root.join(format!("still/{number}")), format!("{number}")).unwrap();
    }
    let writers =
        ["shell", "descriptor", "mapping"].map(|kind| Writer::start(kind, &root.join("work")));
    let restores = std::thread::scope(|scope| {
        for writer in &writers {
            scope.spawn(|| writer.write_until_stopped());
        }
        // also when it fails: the scope waits for the writers
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            restore_again_and_again(&cove, &writers, &mut Chance::new(seed))
        }));
        for writer in &writers {
            writer.stop.store(true, Ordering::SeqCst);
        }
        ended
    });
    let restores = restores.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let written: u64 = writers.iter().map(|writer| writer.last.load(Ordering::SeqCst)).sum();
    figure("Restores among programs at work", restores);
    figure("Restores among programs at work: fsynced writes, each found afterwards", written);
}

fn restore_again_and_again(cove: &Cove, writers: &[Writer], chance: &mut Chance) -> usize {
    let root = cove.path("shop");
    let mark = || fs::read_to_string(root.join("still/mark")).unwrap();
    let watcher = Watcher::new();
    watcher.watch(&root);
    // the entries that are gone back to, and what marks their state
    let mut targets: Vec<(String, String)> = Vec::new();
    let mut first: BTreeMap<&str, u64> = writers.iter().map(|one| (one.kind, 1)).collect();
    let mut read = Read::new();
    let number = rounds(20, 100);
    for round in 1..=number {
        let marked = format!("round {round}");
        fs::write(root.join("still/mark"), &marked).unwrap();
        if round % 3 == 1 {
            let entry = cove.snapshot("shop", &marked);
            targets.push((entry, marked));
        }
        for writer in writers {
            if round == 1 || chance.below(2) == 0 {
                writer.open_again();
            }
        }
        let marked = format!("before restore {round}");
        fs::write(root.join("still/mark"), &marked).unwrap();
        // each writes once more where it is
        let before = writers.iter().map(|one| one.last.load(Ordering::SeqCst));
        let before: Vec<u64> = before.collect();
        poll("all of them write", || {
            let now = writers.iter().map(|one| one.last.load(Ordering::SeqCst));
            match now.zip(&before).all(|(now, before)| now > *before + 1) {
                true => Ok(()),
                false => Err(format!("{before:?}")),
            }
        });
        let (entry, entry_mark) = &targets[chance.index(targets.len().min(8))];
        let is_whole = chance.below(4) > 0;
        let paths: &[&str] = if is_whole { &[] } else { &["--", "work"] };
        let plain = [&["restore", "shop", entry], paths].concat();
        refuses_while_in_use(cove, writers, &plain);
        assert_eq!(mark(), marked, "a refused restore changes nothing");
        let durable: Vec<u64> = writers.iter().map(|one| one.last.load(Ordering::SeqCst)).collect();
        watcher.take();

        let forced = [&["restore", "shop", entry, "--force"], paths].concat();
        let restored = cove.json(&forced);
        let is_now = if is_whole { entry_mark } else { &marked };
        assert_eq!(mark(), *is_now, "round {round}");
        // nobody has entered the files of now
        let differs = cove.json(&["diff", &format!("shop@{entry}..shop")]);
        let differs = list(&differs["changes"]);
        let is_restored = |path: &str| is_whole || path == "work" || path.starts_with("work/");
        let differs: Vec<_> =
            differs.iter().filter(|one| is_restored(&text(&one["path"]))).collect();
        assert!(differs.is_empty(), "round {round}, whole {is_whole}: {differs:?}");
        // what was there before is in the entry that it names
        assert_ne!(restored["entry"], json!(null), "{restored}");
        let kept = format!("shop@{}", text(&restored["entry"]["id"]));
        assert_eq!(read_at(cove, &kept, "still/mark"), marked, "round {round}");
        for (writer, durable) in writers.iter().zip(durable) {
            let since = writer.current.lock().unwrap().take();
            if since.is_some_and(|since| durable > since) {
                let found = read_at(cove, &kept, &format!("work/{}", writer.kind));
                assert!(
                    found.contains(&writer.token(durable)),
                    "round {round}: {} is not in {kept}",
                    writer.token(durable)
                );
            }
        }
        // who watches hears that the files are others now, and can watch those
        if is_whole {
            watcher.sees("moved");
            watcher.watch(&root);
        } else {
            assert!(!watcher.take().contains(&"moved".to_owned()));
        }
        let made = format!("made-{round}");
        fs::write(root.join(&made), b"").unwrap();
        watcher.sees(&made);
        if round % 10 == 0 || round == number {
            nothing_is_lost(cove, writers, &first, &mut read);
            for writer in writers {
                first.insert(writer.kind, writer.last.load(Ordering::SeqCst) + 1);
            }
        }
    }
    // a rescue that was brought up to date is one snapshot, however often it was
    let stored = cove.home.join("pool/stored");
    poll("no more snapshots than entries and what is on its way", || {
        let snapshots = fs::read_dir(&stored).unwrap().count();
        let entries = list(&cove.json(&["timeline", "shop", "--all"])["entries"]).len();
        match snapshots <= entries + 10 {
            true => Ok(()),
            false => Err(format!("{snapshots} snapshots of {entries} entries")),
        }
    });
    number
}
