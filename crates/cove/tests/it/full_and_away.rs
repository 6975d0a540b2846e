//! A disk that is full or fails and a store that hangs, under the program as users run it.
//!
//! Each time nothing that was saved or captured is lost, health names it soon (in a proof within 5 s), removing works,
//! and once the cause is gone it goes on by itself.

use std::fs;
use std::time::{Duration, Instant};

use cove_testkit::proof::{Chance, figure, is_full};
use cove_testkit::{FaultyDisk, Gate};
use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, list, poll, s3, text};
use crate::loop_disk::LoopDisk;

/// Within what health names what is wrong: 5 s in a proof, which has the machine to itself; elsewhere something may be
/// compiling beside it.
fn named_within() -> Duration {
    Duration::from_secs(if is_full() { 5 } else { 20 })
}

fn that_saves(objects: Objects) -> Settings {
    Settings { store_every: "1s", pool_bytes: "256MiB", ..Settings::with(objects) }
}

fn told(shown: &Value) -> String {
    let problems = list(&shown["project"]["health"]["problems"]);
    let told = problems.iter().map(|one| format!("{} {}", text(&one["what"]), one["hint"]));
    told.collect::<Vec<_>>().join("\n")
}

/// Waits until `show` names a problem in one of these words; no `show` that was begun later than
/// that after the first sign may leave it out. Then `doctor` names something too.
#[track_caller]
pub fn is_named(cove: &Cove, name: &str, words: &[&str]) -> Value {
    let since = Instant::now();
    let mut later = 0;
    let shown = poll("health names what is wrong", || {
        let asked = since.elapsed();
        let shown = cove.json(&["show", name]);
        let told = told(&shown);
        if words.iter().any(|word| told.contains(word)) {
            return Ok(shown);
        }
        later += u32::from(asked > named_within());
        Err(shown["project"]["health"].to_string())
    });
    assert_eq!(later, 0, "it was named {:?} after the first sign: {shown}", since.elapsed());
    figure(
        &format!("health names: {}", words[0]),
        format!("{:.1} s", since.elapsed().as_secs_f32()),
    );
    assert_ne!(shown["project"]["health"]["state"], "ok", "{shown}");
    let doctor = cove.cove(&["doctor", "--json"]);
    assert_ne!(doctor.code, 0, "{}", doctor.stdout);
    shown
}

/// All is saved by itself, nothing is wrong any more, and what is in the store is whole.
#[track_caller]
pub fn goes_on_by_itself(cove: &Cove, name: &str) {
    poll("it is saved by itself", || {
        let shown = cove.json(&["show", name]);
        let project = &shown["project"];
        let is_well = project["durability"] == "saved"
            && project["unsaved_bytes"] == 0
            && project["health"]["problems"] == json!([]);
        if is_well { Ok(()) } else { Err(shown.to_string()) }
    });
    let timeline = cove.timeline(name);
    assert!(timeline.iter().all(|entry| entry["durability"] == "saved"), "{timeline:?}");
    assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], json!([]));
}

/// A project with a file and an entry.
fn project(cove: &Cove, name: &str) -> String {
    cove.json(&["new", name]);
    cove.cove_with(&["files", "put", &format!("{name}:/kept")], b"kept").success();
    cove.snapshot(name, "before")
}

#[test]
fn a_host_that_is_full_is_named_lets_remove_and_is_caught_up_with_once_it_has_room() {
    let Some(cove) = Cove::prepare(that_saves(Objects::Directory)) else { return };
    let disk = LoopDisk::mount(3 << 30);
    // It goes before its disk does.
    let mut cove = cove;
    cove.home = disk.path().join("home");
    cove.objects = format!("file://{}", disk.path().join("objects").display());
    cove.up();
    let entry = project(&cove, "shop");
    cove.json(&["files", "mkdir", "shop:/dir"]);
    for file in ["first", "dir/second"] {
        cove.cove_with(&["files", "put", &format!("shop:/{file}")], b"spare").success();
    }
    let spare = project(&cove, "spare");
    goes_on_by_itself(&cove, "shop");
    let ballast = disk.fill();
    // more than what is kept for removals
    fs::write(cove.path("shop").join("noise"), Chance::new(3).bytes(24 << 20)).unwrap();
    is_named(&cove, "shop", &["No space left", "no room", "full"]);
    assert!(disk.free_bytes() < 64 << 10, "{}", disk.free_bytes());
    for place in ["shop:/first", "shop:/dir"] {
        cove.json(&["files", "rm", "-r", place]);
        cove.refuses(3, &["files", "stat", place]);
    }
    cove.json(&["rm", &format!("spare@{spare}")]);
    cove.json(&["rm", "spare"]);
    cove.refuses(3, &["show", "spare"]);
    poll("what is left of it is kept for the next removal", || match disk.free_bytes() {
        ..65_536 => Ok(()),
        free => Err(format!("{free} bytes are free")),
    });
    // programs go on in the pool, and what was done is told so; calls that must be written down first
    // are refused, say why and do nothing
    fs::write(cove.path("shop").join("meanwhile"), "meanwhile").unwrap();
    fs::remove_file(cove.path("shop").join("kept")).unwrap();
    cove.cove_with(&["files", "put", "shop:/put"], b"put").success();
    let refused = (0..40).find_map(|number| {
        let place = format!("shop:/made-{number}");
        let output = cove.cove(&["files", "mkdir", &place]);
        (output.code != 0).then_some((place, output))
    });
    let (place, output) = refused.expect("there is no room for 40 calls");
    assert_eq!(output.code, 6, "{}", output.stderr);
    assert!(output.stderr.contains("hint: make room on the disk"), "{}", output.stderr);
    cove.refuses(3, &["files", "stat", &place]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/kept")]), "kept");
    let snapshot = cove.cove(&["snapshot", "shop", "--no-wait"]);
    assert!(matches!(snapshot.code, 0 | 6), "{}: {}", snapshot.code, snapshot.stderr);
    fs::remove_file(ballast).unwrap();
    goes_on_by_itself(&cove, "shop");
    cove.refuses(3, &["files", "stat", "shop:/first"]);
    cove.lose_and_recover();
    cove.refuses(3, &["show", "spare"]);
    assert_eq!(cove.text(&["files", "cat", "shop:/meanwhile"]), "meanwhile");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/kept")]), "kept");
}

/// What holds while a store hangs, and afterwards.
fn hangs(cove: &mut Cove, hang: impl FnOnce(), go_on: impl FnOnce()) {
    let entry = project(cove, "shop");
    goes_on_by_itself(cove, "shop");
    hang();
    cove.cove_with(&["files", "put", "shop:/meanwhile"], b"meanwhile").success();
    let captured = cove.json(&["snapshot", "shop", "--no-wait", "-m", "meanwhile"]);
    assert_eq!(captured["entry"]["durability"], "on_this_node");
    is_named(cove, "shop", &["the store does not answer"]);
    let id = text(&captured["entry"]["id"]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{id}:/meanwhile")]), "meanwhile");
    cove.json(&["files", "rm", "shop:/kept"]);
    assert_eq!(cove.timeline("shop")[0]["durability"], "on_this_node");
    go_on();
    goes_on_by_itself(cove, "shop");
    cove.lose_and_recover();
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{id}:/meanwhile")]), "meanwhile");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/kept")]), "kept");
}

#[test]
fn a_bucket_that_never_answers_or_stops_in_an_answer_is_named_and_caught_up_with() {
    let Some(server) = s3() else { return };
    for passes in [0, 100] {
        let gate = Gate::before(&server.endpoint);
        let mut settings = that_saves(Objects::S3);
        settings.variables.push(("AWS_ENDPOINT_URL", gate.endpoint.clone()));
        let Some(mut cove) = Cove::start_with(settings) else { return };
        hangs(&mut cove, || gate.hold_after(passes), || gate.open());
    }
}

#[test]
fn a_directory_that_hangs_is_named_and_caught_up_with() {
    let Some(disk) = FaultyDisk::mount() else { return };
    let url = format!("file://{}", disk.path().join("objects").display());
    let Some(mut cove) = Cove::start_with(that_saves(Objects::Url(url))) else { return };
    hangs(&mut cove, || disk.hang(), || disk.heal());
}

#[test]
fn a_directory_that_turns_read_only_or_full_is_named_and_caught_up_with() {
    use std::io::ErrorKind::{ReadOnlyFilesystem, StorageFull};
    for (error, word) in [(ReadOnlyFilesystem, "Read-only file system"), (StorageFull, "No space")]
    {
        let Some(disk) = FaultyDisk::mount() else { return };
        let url = format!("file://{}", disk.path().join("objects").display());
        let Some(mut cove) = Cove::start_with(that_saves(Objects::Url(url))) else { return };
        let entry = project(&cove, "shop");
        disk.fail_changes(error);
        cove.cove_with(&["files", "put", "shop:/meanwhile"], b"meanwhile").success();
        let captured = cove.json(&["snapshot", "shop", "--no-wait", "-m", "meanwhile"]);
        assert_eq!(captured["entry"]["durability"], "on_this_node");
        is_named(&cove, "shop", &[word]);
        disk.heal();
        goes_on_by_itself(&cove, "shop");
        cove.lose_and_recover();
        assert_eq!(cove.text(&["files", "cat", "shop:/meanwhile"]), "meanwhile");
        assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/kept")]), "kept");
    }
}

#[test]
fn a_home_whose_disk_fails_is_named_and_holds_all_that_was_captured_at_the_next_start() {
    let Some(cove) = Cove::prepare(that_saves(Objects::Directory)) else { return };
    let disk = LoopDisk::mount(3 << 30);
    // It goes before its disk does.
    let mut cove = cove;
    cove.home = disk.path().join("home");
    cove.up();
    let entry = project(&cove, "shop");
    goes_on_by_itself(&cove, "shop");
    let root = cove.path("shop");
    disk.fail();
    // what is written now is in memory at best, and the kernel learns it at the next commit
    let _ = fs::write(root.join("late"), "late");
    is_named(&cove, "shop", &["read-only", "Read-only", "input/output", "Input/output"]);
    let refused = poll("writes are refused", || {
        let output = cove.cove_with(&["files", "put", "shop:/later"], b"later");
        if output.code == 0 { Err(output.stdout) } else { Ok(output) }
    });
    assert_eq!(refused.code, 7, "{}", refused.stderr);
    assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
    let shown = cove.json(&["show", "shop"]);
    assert!(told(&shown).contains("cove up"), "it says what to do: {shown}");
    // what was saved is not said to be lost, and can be read still
    assert_eq!(cove.timeline("shop")[0]["id"], entry.as_str());
    let _ = cove.stop();
    cove.release();
    disk.unmount();
    disk.mount_again();
    cove.up();
    assert_eq!(cove.timeline("shop")[0]["id"], entry.as_str());
    assert_eq!(cove.text(&["files", "cat", "shop:/kept"]), "kept");
    cove.cove_with(&["files", "put", "shop:/later"], b"later").success();
    goes_on_by_itself(&cove, "shop");
}
