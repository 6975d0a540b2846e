//! A home that lives twice, or of which a part is gone: nothing that was saved is lost, nothing that
//! is on the disk is thrown away, and whoever looks is told.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Cove, Objects, Settings, keep_copy, list, poll, run, text, texts};

fn write(cove: &Cove, name: &str, file: &str, content: &str) {
    fs::write(cove.path(name).join(file), content).unwrap();
}

/// What a file holds at each entry that has it.
fn contents_at(cove: &Cove, name: &str, file: &str) -> Vec<String> {
    let entries = cove.timeline(name);
    let at = |entry: &Value| {
        let place = format!("{name}@{}:/{file}", text(&entry["id"]));
        let output = cove.cove(&["files", "cat", &place]);
        (output.code == 0).then_some(output.stdout)
    };
    entries.iter().filter_map(at).collect()
}

fn problems(cove: &Cove, name: &str) -> Vec<String> {
    texts(&cove.json(&["show", name])["project"]["health"]["problems"], "what")
}

fn save(cove: &Cove, name: &str) {
    poll("it is saved", || {
        let shown = cove.json(&["show", name]);
        let unsaved = &shown["project"]["unsaved_bytes"];
        if *unsaved == 0 { Ok(()) } else { Err(unsaved.to_string()) }
    });
}

/// The home once more, while nothing runs there.
fn copied_home(cove: &Cove, to: &Path) {
    keep_copy(&cove.home, to);
}

fn every_second() -> Settings {
    Settings { store_every: "1s", ..Settings::with(Objects::Directory) }
}

#[test]
fn an_old_copy_of_the_home_saves_over_nothing_newer() {
    let Some(mut cove) = Cove::start_with(every_second()) else { return };
    cove.json(&["new", "shop"]);
    write(&cove, "shop", "version", "v1");
    cove.snapshot("shop", "one");
    assert!(cove.stop().success());
    let old = cove.dir.path().join("old-home");
    copied_home(&cove, &old);
    cove.up();
    write(&cove, "shop", "version", "v2");
    cove.snapshot("shop", "two");
    write(&cove, "shop", "version", "v3");
    let before = cove.json(&["show", "shop"])["project"]["seq"].clone();
    poll("v3 is saved", || {
        let project = cove.json(&["show", "shop"])["project"].clone();
        let is_saved = project["unsaved_bytes"] == 0 && project["seq"] != before;
        if is_saved { Ok(()) } else { Err(project.to_string()) }
    });
    assert!(cove.stop().success());
    fs::remove_dir_all(&cove.home).unwrap();
    fs::rename(&old, &cove.home).unwrap();
    cove.up();
    write(&cove, "shop", "later", "of the old home");
    cove.snapshot("shop", "three");
    let found = contents_at(&cove, "shop", "version");
    for version in ["v1", "v2", "v3"] {
        assert!(found.contains(&version.to_owned()), "{version}: {found:?}");
    }
    let rescues: Vec<Value> =
        cove.timeline("shop").into_iter().filter(|entry| entry["kind"] == "rescue").collect();
    assert_eq!(rescues.len(), 1, "{rescues:?}");
    assert!(text(&rescues[0]["message"]).contains("another copy"), "{rescues:?}");
    let told = problems(&cove, "shop");
    assert!(told.iter().any(|what| what.contains("another copy")), "{told:?}");
    cove.json(&["verify", "shop", "--level", "2"]);
    cove.json(&["pin", &format!("shop@{}", text(&rescues[0]["id"]))]);
    assert_eq!(problems(&cove, "shop"), [""; 0]);
}

#[test]
fn two_copies_of_one_home_keep_what_each_of_them_saves_and_say_so() {
    let Some(mut first) = Cove::start(Objects::Directory) else { return };
    first.json(&["new", "shop"]);
    assert!(first.stop().success());
    let Some(mut second) = Cove::prepare(Settings::with(Objects::Url(first.objects.clone())))
    else {
        return;
    };
    copied_home(&first, &second.home);
    first.up();
    second.up();
    let mut saved = Vec::new();
    for round in 0..3 {
        for (name, cove) in [("first", &first), ("second", &second)] {
            let content = format!("{name} in round {round}");
            write(cove, "shop", "mine", &content);
            cove.snapshot("shop", &content);
            saved.push(content);
        }
    }
    let found = contents_at(&second, "shop", "mine");
    for content in &saved {
        assert!(found.contains(content), "{content} is lost: {found:?}");
    }
    second.json(&["verify", "shop", "--level", "2"]);
    poll("each of them notices the other", || {
        let told = [&first, &second].map(|cove| problems(cove, "shop").join("; "));
        let all = told.iter().all(|told| told.contains("under the same name"));
        if all { Ok(()) } else { Err(format!("{told:?}")) }
    });
    assert!(first.log().contains("another copy of this Cove"), "{}", first.log());
}

/// The files of a store that came since.
fn objects_since(cove: &Cove, before: &[PathBuf]) -> Vec<PathBuf> {
    objects(cove).into_iter().filter(|path| !before.contains(path)).collect()
}

fn objects(cove: &Cove) -> Vec<PathBuf> {
    let found =
        run(std::process::Command::new("find").arg(cove.objects_dir()).args(["-type", "f"]), b"");
    found.stdout.lines().map(PathBuf::from).collect()
}

#[test]
fn what_is_damaged_keeps_nothing_else_from_coming_back() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "whole"]);
    write(&cove, "whole", "file", "of the other");
    cove.snapshot("whole", "kept");
    cove.json(&["new", "cor"]);
    write(&cove, "cor", "small", "kept");
    let one = cove.snapshot("cor", "one");
    let before = objects(&cove);
    let big: Vec<u8> =
        (0..1_000_000_u32).flat_map(|n| n.wrapping_mul(n | 5).to_le_bytes()).collect();
    fs::write(cove.path("cor").join("big2"), big).unwrap();
    cove.snapshot("cor", "two");
    assert!(cove.stop().success());
    let packs: Vec<PathBuf> = objects_since(&cove, &before)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("/packs/"))
        .collect();
    let [pack] = packs.as_slice() else { panic!("{packs:?}") };
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(pack, bytes).unwrap();
    // and heads that lie under other names than their own
    let head = head_of("whole", &before);
    let volumes = head.parent().and_then(Path::parent).unwrap();
    fs::create_dir(volumes.join("vol-stranger")).unwrap();
    fs::copy(&head, volumes.join("vol-stranger/head")).unwrap();

    cove.lose_home();
    cove.up();
    let output = cove.cove(&["recover", "--take", "--json"]);
    assert_eq!(output.code, 8, "{}{}", output.stdout, output.stderr);
    let recovered: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(texts(&recovered["projects"], "slug"), ["cor", "whole"]);
    let lost = texts(&recovered["lost"], "what");
    assert!(lost.contains(&"project cor: /big2".to_owned()), "{lost:?}");
    assert!(lost.contains(&"volume vol-stranger".to_owned()), "{lost:?}");
    assert_eq!(lost.len(), 2, "{lost:?}");
    assert_eq!(cove.text(&["files", "cat", "cor:/small"]), "kept");
    assert_eq!(cove.text(&["files", "cat", &format!("cor@{one}:/small")]), "kept");
    assert_eq!(cove.text(&["files", "cat", "whole:/file"]), "of the other");
    cove.refuses(3, &["files", "cat", "cor:/big2"]);
    cove.refuses(4, &["new", "cor"]);
    let told = problems(&cove, "cor");
    assert!(told.iter().any(|what| what.contains("could be read")), "{told:?}");
}

/// The head of a project, among objects.
fn head_of(slug: &str, objects: &[PathBuf]) -> PathBuf {
    let slug = format!("\"slug\":\"{slug}\"");
    let names = |path: &&PathBuf| {
        path.ends_with("head") && fs::read_to_string(path).is_ok_and(|head| head.contains(&slug))
    };
    objects.iter().find(names).unwrap_or_else(|| panic!("no head: {objects:?}")).clone()
}

#[test]
fn files_that_no_database_knows_any_more_are_kept() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    write(&cove, "shop", "file", "saved");
    cove.snapshot("shop", "saved");
    write(&cove, "shop", "file", "never saved");
    assert!(cove.stop().success());
    // damaged: refused with a word on how to go on
    let database = cove.home.join("state/node.db");
    fs::write(&database, "this is no database at all".repeat(400)).unwrap();
    let refused = run(&mut cove.refused_up(), b"");
    assert_eq!(refused.code, 8, "{}", refused.stderr);
    assert!(refused.stderr.contains("node.db is damaged"), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: ") && refused.stderr.contains("cove recover"));
    for name in ["node.db", "node.db-wal", "node.db-shm"] {
        let _ = fs::remove_file(cove.home.join("state").join(name));
    }
    cove.up();
    let listed = list(&cove.json(&["ls"])["projects"]).remove(0);
    assert_eq!(
        (text(&listed["slug"]), text(&listed["health"]["state"])),
        ("shop".into(), "at_risk".into())
    );
    let shown = problems(&cove, "shop");
    assert_eq!(shown, ["it is not on this machine"]);
    let verified = cove.json_with(&["verify"], 8, b"");
    assert_eq!(verified["problems"][0]["project"], "shop", "{verified}");
    let refused = cove.refuses(4, &["timeline", "shop"]);
    assert!(refused.contains("`cove recover` takes the store over"), "{refused}");
    let doctor = cove.json_with(&["doctor"], 4, b"");
    let ill = list(&doctor["checks"]).into_iter().find(|check| check["name"] == "files here");
    assert_eq!(ill.unwrap()["ok"], false, "{doctor}");
    let recovered = cove.json(&["recover", "--take"]);
    assert_eq!(recovered["lost"], serde_json::json!([]));
    assert_eq!(cove.text(&["files", "cat", "shop:/file"]), "saved");
    let rescue = cove.timeline("shop").into_iter().find(|entry| entry["kind"] == "rescue");
    let rescue = text(&rescue.unwrap()["id"]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{rescue}:/file")]), "never saved");
    cove.json(&["restore", "shop", &rescue]);
    assert_eq!(cove.text(&["files", "cat", "shop:/file"]), "never saved");
}

#[test]
fn a_pool_that_is_gone_is_said_and_recovered() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    write(&cove, "shop", "file", "saved");
    cove.snapshot("shop", "saved");
    assert!(cove.stop().success());
    fs::remove_file(cove.home.join("pool.img")).unwrap();
    cove.up();
    let told = problems(&cove, "shop");
    assert!(told.iter().any(|what| what.contains("not on this machine")), "{told:?}");
    cove.json_with(&["doctor"], 4, b"");
    assert_eq!(cove.json(&["recover"])["lost"], serde_json::json!([]));
    assert_eq!(cove.text(&["files", "cat", "shop:/file"]), "saved");
    assert_eq!(problems(&cove, "shop"), [""; 0]);
    save(&cove, "shop");
    cove.json(&["doctor"]);
}
