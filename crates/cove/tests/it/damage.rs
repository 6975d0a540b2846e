//! Objects of the store that are missing, cut or flipped: what is hit is named, what is read is
//! right or is an error, and the rest goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use cove_testkit::proof::{Chance, figure};
use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, contents, list, run, text};

/// Enough saves that an index is written over the first packs.
const SAVES: usize = 70;
/// One of the last saves, whose pack stays as it was and holds no older entries.
const YOUNG: usize = SAVES - 2;
/// Bytes of each part; each is in one pack alone.
const PART_BYTES: usize = 40_000;

/// Bytes that do not compress, different for each number.
fn part(number: usize) -> Vec<u8> {
    Chance::new(number as u64 + 1).bytes(PART_BYTES)
}

fn name(number: usize) -> String {
    format!("part-{number:02}")
}

/// A project of many saves, and another one, on a machine that has just recovered them: what it
/// reads of their entries comes from the store.
struct Stored {
    cove: Cove,
    /// The entry of each save, which holds the parts up to its own.
    entries: Vec<String>,
    /// The pack that the first saves' small ones were gathered into.
    gathered: PathBuf,
    /// The pack of the save [`YOUNG`].
    young: PathBuf,
    /// The index over the gathered pack.
    index: PathBuf,
    head: PathBuf,
}

fn objects(cove: &Cove) -> Vec<PathBuf> {
    let all = cove.stored_objects();
    all.into_iter().map(|(path, _)| path).collect()
}

fn is_below(path: &Path, dir: &str) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with(dir))
}

impl Stored {
    fn make() -> Option<Self> {
        let variables = vec![("COVE_MAX_SNAPSHOTS_PER_PROJECT", "200".to_owned())];
        let settings = Settings { variables, ..Settings::with(Objects::Directory) };
        let mut cove = Cove::start_with(settings)?;
        cove.json(&["new", "other"]);
        cove.cove_with(&["files", "put", "other:/part"], &part(999)).success();
        cove.snapshot("other", "other");
        cove.json(&["new", "shop"]);
        let root = cove.path("shop");
        let (mut entries, mut before) = (Vec::new(), Vec::new());
        for number in 0..SAVES {
            if number == YOUNG {
                before = objects(&cove);
            }
            fs::write(root.join(name(number)), part(number)).unwrap();
            entries.push(cove.snapshot("shop", &name(number)));
            if number == YOUNG {
                before = objects(&cove).into_iter().filter(|path| !before.contains(path)).collect();
                before.retain(|path| is_below(path, "packs"));
            }
        }
        let young = before.remove(0);
        let packs: Vec<PathBuf> =
            objects(&cove).into_iter().filter(|path| is_below(path, "packs")).collect();
        let bytes = |path: &&PathBuf| fs::metadata(path).unwrap().len();
        let gathered = packs.iter().max_by_key(bytes).unwrap().clone();
        assert!(bytes(&&gathered) > 50 * PART_BYTES as u64, "small packs were gathered");
        cove.lose_and_recover();
        let volume = text(&cove.json(&["show", "shop"])["project"]["volume"]);
        let all = objects(&cove);
        let find = |is: &dyn Fn(&Path) -> bool| all.iter().find(|path| is(path)).unwrap().clone();
        let index = find(&|path| is_below(path, "indexes"));
        let head = find(&|path| path.ends_with(format!("{volume}/head")));
        Some(Self { cove, entries, gathered, young, index, head })
    }

    fn cat(&self, entry: usize, number: usize) -> crate::harness::Output {
        let place = format!("shop@{}:/{}", self.entries[entry], name(number));
        self.cove.cove(&["files", "cat", &place])
    }

    /// `verify` of a project; its exit status and its problems.
    fn verify(&self, project: &str, level: &str) -> (i32, Vec<Value>) {
        let output = self.cove.cove(&["verify", project, "--level", level, "--json"]);
        let verified: Value = serde_json::from_str(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr));
        (output.code, list(&verified["problems"]))
    }

    /// Starts again on the same home, with nothing in memory and no footer of a pack on disk.
    fn start_again(&mut self) {
        assert!(self.cove.stop().success());
        fs::remove_dir_all(self.cove.home.join("state/cache")).unwrap();
        self.cove.up();
    }

    /// The files of an entry that cannot be read; the others are right.
    fn unreadable(&self, entry: usize) -> Vec<String> {
        let (address, token) = self.cove.tcp();
        let mut unreadable = Vec::new();
        for number in 0..=entry {
            let mut stream = TcpStream::connect(&address).unwrap();
            write!(
                stream,
                "GET /v1/projects/shop/files/content?path={}&at={} HTTP/1.1\r\nHost: {address}\r\n\
                 Authorization: Bearer {token}\r\nConnection: close\r\n\r\n",
                name(number),
                self.entries[entry],
            )
            .unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            // One that cannot be read at all says why, in place of its bytes.
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
            let body = end.map_or(&[][..], |end| &answer[end + 4..]);
            let is_ok = answer.starts_with(b"HTTP/1.1 200");
            if is_ok && *body == part(number) {
                continue;
            }
            assert!(!is_ok || part(number).starts_with(body), "wrong bytes");
            unreadable.push(name(number));
        }
        unreadable
    }
}

/// What may happen to an object.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Missing,
    Cut,
    Flipped,
}

const HARMS: [Harm; 3] = [Harm::Missing, Harm::Cut, Harm::Flipped];

/// Harms an object until it is dropped.
struct Harmed<'a> {
    place: &'a Path,
    bytes: Vec<u8>,
}

impl<'a> Harmed<'a> {
    fn new(place: &'a Path, harm: Harm) -> Self {
        let bytes = fs::read(place).unwrap();
        match harm {
            Harm::Missing => fs::remove_file(place).unwrap(),
            Harm::Cut => fs::write(place, &bytes[..bytes.len() / 3]).unwrap(),
            Harm::Flipped => {
                let mut flipped = bytes.clone();
                flipped[bytes.len() / 2] ^= 0x10;
                fs::write(place, flipped).unwrap();
            }
        }
        Self { place, bytes }
    }
}

impl Drop for Harmed<'_> {
    fn drop(&mut self) {
        fs::write(self.place, &self.bytes).unwrap();
    }
}

/// The object of a place, as `verify` names it.
fn key(stored: &Stored, place: &Path) -> String {
    let root = stored.cove.objects_dir().join("objects");
    place.strip_prefix(root).unwrap().to_str().unwrap().to_owned()
}

/// Whether `verify --level 2` exits with 8, names the object, and names of the files those that
/// cannot be read and no others; what is not so is in the answer.
fn found(stored: &Stored, what: &str, place: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    let (code, problems) = stored.verify("shop", "2");
    if code != 8 {
        wrong.push(format!("{what}: verify exits with {code}"));
    }
    let key = key(stored, place);
    if !problems.iter().any(|problem| problem["object"] == key.as_str()) {
        let first: String = problems.first().map_or("nothing".to_owned(), Value::to_string);
        let first: String = first.chars().take(300).collect();
        wrong.push(format!("{what}: {key} is named nowhere; first is {first}"));
    }
    let mut paths: Vec<String> = problems
        .iter()
        .flat_map(|problem| list(&problem["paths"]))
        .map(|path| text(&path))
        .collect();
    paths.sort();
    paths.dedup();
    let hit = stored.unreadable(SAVES - 1);
    if paths != hit {
        wrong.push(format!("{what}: {paths:?} are named, {hit:?} are hit"));
    }
    let (code, problems) = stored.verify("other", "2");
    if code != 0 || !problems.is_empty() {
        wrong.push(format!("{what}: the other project is said to be hit: {problems:?}"));
    }
    wrong
}

#[test]
fn an_object_that_is_damaged_is_found_and_what_it_costs_is_named() {
    let Some(mut stored) = Stored::make() else { return };
    let mut wrong = Vec::new();
    for (what, place) in [
        ("a gathered pack", stored.gathered.clone()),
        ("a young pack", stored.young.clone()),
        ("an index", stored.index.clone()),
        ("the head", stored.head.clone()),
    ] {
        for harm in HARMS {
            stored.start_again();
            let harmed = Harmed::new(&place, harm);
            wrong.extend(found(&stored, &format!("{what}, {harm:?}"), &place));
            drop(harmed);
        }
        stored.start_again();
        let (code, problems) = stored.verify("shop", "2");
        assert_eq!((code, problems), (0, Vec::new()), "{what} is healed");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    figure("objects missing, cut or flipped", format!("4 kinds, {} harms", HARMS.len()));
}

#[test]
fn what_is_read_from_damaged_objects_is_right_or_an_error() {
    let Some(mut stored) = Stored::make() else { return };
    let last = SAVES - 1;
    let young = stored.young.clone();
    for harm in HARMS {
        stored.start_again();
        let harmed = Harmed::new(&young, harm);
        let hit = stored.cat(last, YOUNG);
        assert!(part(YOUNG).starts_with(&hit.bytes), "{harm:?}: {}", hit.stderr);
        assert_eq!(hit.code, 8, "{harm:?}: {}", hit.stderr);
        let told = format!("error: failed to read {}: ", name(YOUNG));
        assert!(hit.stderr.starts_with(&told), "{harm:?}: {}", hit.stderr);
        for (entry, number) in [(5, 0), (5, 5), (YOUNG - 1, 9), (last, last)] {
            let output = stored.cat(entry, number).success();
            assert!(output.bytes == part(number), "{harm:?}: another file is readable");
        }
        // A copy out is whole or is not called so.
        let place = format!("shop@{}:/", stored.entries[last]);
        let out = format!("out-{harm:?}");
        let output = stored.cove.cove(&["cp", &place, &out]);
        assert_ne!(output.code, 0, "{harm:?}");
        let copied = stored.cove.dir.path().join(&out);
        if copied.is_dir() {
            for (path, bytes) in contents(&copied) {
                let number = path.file_name().unwrap().to_str().unwrap()[5..].parse().unwrap();
                assert!(bytes == part(number), "{harm:?}: {} is wrong", path.display());
            }
        }
        // A restore is whole or does not happen.
        stored.cove.json(&["restore", "shop", &stored.entries[5], "--no-wait"]);
        let before = contents(&stored.cove.path("shop"));
        assert_eq!(before.len(), 6);
        let output = stored.cove.cove(&["restore", "shop", &stored.entries[last], "--no-wait"]);
        assert_eq!(output.code, 8, "{harm:?}: {}", output.stderr);
        assert!(contents(&stored.cove.path("shop")) == before, "{harm:?}: nothing has changed");
        drop(harmed);
        stored.cove.json(&["restore", "shop", &stored.entries[last]]);
    }
    for place in [stored.gathered.clone(), stored.index.clone()] {
        for harm in HARMS {
            stored.start_again();
            let harmed = Harmed::new(&place, harm);
            stored.unreadable(SAVES / 2);
            let output = stored.cove.cove(&["files", "cat", "other:/part"]).success();
            assert!(output.bytes == part(999), "{harm:?}");
            drop(harmed);
        }
    }
    stored.start_again();
    assert_eq!(stored.unreadable(SAVES / 2), [""; 0], "healed");
}

#[test]
fn parts_of_the_packs_are_together_all_of_them() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    for number in 0..12 {
        fs::write(root.join(name(number)), part(number)).unwrap();
        cove.snapshot("shop", "part");
    }
    let packs: Vec<PathBuf> =
        objects(&cove).into_iter().filter(|path| is_below(path, "packs")).collect();
    let read = |share: &str, code: i32| {
        cove.json_with(&["verify", "shop", "--level", "2", "--read", share], code, b"")
    };
    let count = |verified: &Value| verified["checked"]["packs_read"].as_u64().unwrap();
    assert_eq!(count(&read("1/1", 0)), packs.len() as u64);
    let shares = ["1/3", "2/3", "3/3"];
    let counts: Vec<u64> = shares.iter().map(|share| count(&read(share, 0))).collect();
    assert_eq!(counts.iter().sum::<u64>(), packs.len() as u64, "{counts:?}");
    assert_eq!(counts, shares.map(|share| count(&read(share, 0))), "the same ones each time");
    // What is wrong with a pack is found by the one share that reads it.
    let harmed = Harmed::new(&packs[0], Harm::Flipped);
    let codes: Vec<i32> = shares
        .iter()
        .map(|share| cove.cove(&["verify", "shop", "--level", "2", "--read", share]).code)
        .collect();
    assert_eq!(codes.iter().filter(|code| **code == 8).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 2, "{codes:?}");
    drop(harmed);
    cove.refuses(2, &["verify", "shop", "--level", "2", "--read", "0/3"]);
}

#[test]
fn a_head_that_is_damaged_is_not_written_over() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    for name in ["shop", "other"] {
        cove.json(&["new", name]);
        cove.cove_with(&["files", "put", &format!("{name}:/a")], b"a").success();
        cove.snapshot(name, "kept");
    }
    let volume = text(&cove.json(&["show", "shop"])["project"]["volume"]);
    let all = objects(&cove);
    let head = all.iter().find(|path| path.ends_with(format!("{volume}/head"))).unwrap().clone();
    for harm in HARMS {
        let harmed = Harmed::new(&head, harm);
        let after = fs::read(&head).ok();
        cove.cove_with(&["files", "put", "shop:/a"], format!("{harm:?}").as_bytes()).success();
        let output = cove.cove(&["snapshot", "shop", "--no-wait", "--json"]);
        if output.code == 0 {
            let entry: Value = serde_json::from_str(&output.stdout).unwrap();
            assert_eq!(entry["entry"]["durability"], "on_this_node", "{harm:?}");
        }
        let shown = crate::harness::poll("health says what is wrong", || {
            let shown = cove.json(&["show", "shop"]);
            let problems = list(&shown["project"]["health"]["problems"]);
            if problems.is_empty() { Err(shown.to_string()) } else { Ok(shown) }
        });
        assert_ne!(shown["project"]["durability"], "saved", "{harm:?}: {shown}");
        assert_eq!(fs::read(&head).ok(), after, "{harm:?}: nothing is written over it");
        cove.cove_with(&["files", "put", "other:/a"], format!("{harm:?}").as_bytes()).success();
        cove.snapshot("other", "goes on");
        drop(harmed);
        // It says that the head is ours after all.
        assert_eq!(cove.json(&["recover"])["lost"], json!([]), "{harm:?}");
        let waited = cove.json(&["wait", "shop"]);
        assert_eq!(waited["project"]["durability"], "saved", "{harm:?}");
    }
    let harmed = Harmed::new(&head, Harm::Flipped);
    cove.lose_home();
    cove.up();
    let recovered = cove.json_with(&["recover", "--take"], 8, b"");
    let lost = list(&recovered["lost"]);
    assert!(lost.len() == 1 && text(&lost[0]["what"]).contains(&volume), "{recovered}");
    assert_eq!(cove.text(&["files", "cat", "other:/a"]), "Flipped");
    // What the packs tell is another project, which gives way when the head is back.
    assert_eq!(recovered["rebuilt"][0]["lost_volume"], volume.as_str(), "{recovered}");
    assert_eq!(recovered["rebuilt"][0]["project"], "shop");
    assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "Flipped");
    drop(harmed);
    let lost = list(&cove.json_with(&["recover"], 8, b"")["lost"]);
    assert_eq!(lost[0]["what"], "the name of a project shop, which is shop-2 now", "{lost:?}");
    assert_eq!(lost.len(), 1, "{lost:?}");
    for name in ["shop", "shop-2"] {
        assert_eq!(cove.text(&["files", "cat", &format!("{name}:/a")]), "Flipped");
    }
    assert_eq!(text(&cove.json(&["show", "shop"])["project"]["volume"]), volume);
}

#[test]
fn a_record_of_the_holder_that_is_damaged_is_no_ones_hold() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    cove.cove_with(&["files", "put", "shop:/a"], b"a").success();
    cove.snapshot("shop", "kept");
    let record = cove.objects_dir().join("objects/store");
    for harm in [Harm::Cut, Harm::Flipped] {
        assert!(cove.stop().success());
        let harmed = Harmed::new(&record, harm);
        let after = fs::read(&record).unwrap();
        let output = run(&mut cove.refused_up(), b"");
        // It may serve and say so, or refuse; it takes nothing.
        assert!(matches!(output.code, 4 | 8 | 124), "{harm:?} {}: {}", output.code, output.stderr);
        assert!(output.stderr.contains("store"), "{harm:?}: {}", output.stderr);
        assert_eq!(fs::read(&record).unwrap(), after, "{harm:?}: nothing is written over it");
        drop(harmed);
        cove.up();
        cove.snapshot("shop", "healed");
        assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "a");
    }
}

#[test]
fn a_record_of_the_holder_that_is_damaged_is_found_by_verify() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let record = cove.objects_dir().join("objects/store");
    for harm in HARMS {
        let harmed = Harmed::new(&record, harm);
        let verified = cove.json_with(&["verify", "--level", "2"], 8, b"");
        assert!(verified["problems"].to_string().contains("store"), "{harm:?}: {verified}");
        drop(harmed);
    }
}

#[test]
fn a_head_that_was_away_for_a_moment_is_ours_when_it_is_back() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    cove.snapshot("shop", "kept");
    let volume = text(&cove.json(&["show", "shop"])["project"]["volume"]);
    let all = objects(&cove);
    let head = all.iter().find(|path| path.ends_with(format!("{volume}/head"))).unwrap().clone();
    for harm in HARMS {
        let harmed = Harmed::new(&head, harm);
        cove.cove_with(&["files", "put", "shop:/a"], format!("{harm:?}").as_bytes()).success();
        cove.json(&["snapshot", "shop", "--no-wait"]);
        crate::harness::poll("health says what is wrong", || {
            let shown = cove.json(&["show", "shop"]);
            let problems = list(&shown["project"]["health"]["problems"]);
            if problems.is_empty() { Err(shown.to_string()) } else { Ok(()) }
        });
        drop(harmed);
        assert_eq!(cove.json(&["wait", "shop"])["project"]["durability"], "saved", "{harm:?}");
    }
}

#[test]
fn a_file_that_is_hit_is_named_as_damaged() {
    let Some(mut stored) = Stored::make() else { return };
    let young = stored.young.clone();
    for harm in HARMS {
        stored.start_again();
        let harmed = Harmed::new(&young, harm);
        let hit = stored.cat(SAVES - 1, YOUNG);
        assert_eq!(hit.code, 8, "{harm:?}: {}", hit.stderr);
        assert!(hit.stderr.contains(&name(YOUNG)), "{harm:?}: {}", hit.stderr);
        let place = format!("shop@{}:/", stored.entries[SAVES - 1]);
        for target in ["out", "-"] {
            let output = stored.cove.cove(&["cp", &place, target]);
            assert_eq!(output.code, 8, "{harm:?}: {}", output.stderr);
            assert!(output.stderr.contains(&name(YOUNG)), "{harm:?}: {}", output.stderr);
            assert!(output.bytes.is_empty(), "{harm:?}: it is refused before its first byte");
        }
        assert!(!stored.cove.dir.path().join("out").exists(), "{harm:?}");
        drop(harmed);
    }
}
