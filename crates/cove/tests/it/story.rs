//! What a user does, line by line.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;

use crate::harness::{
    Cove, Objects, contents, has_members, is_a_time, is_mounted, list, loop_devices_of, same_trees,
    text, texts,
};

/// A project as people have them: dependencies, a git history, a database.
pub fn make_project(dir: &Path) {
    let write = |path: &str, bytes: &[u8]| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("package.json", b"{\n  \"name\": \"shop\"\n}\n");
    write("src/app.ts", b"import { cart } from './cart'; // TODO: taxes\n");
    write("src/cart.ts", b"export const cart = [];\n");
    write("dist/app.js", b"console.log('shop');\n");
    write("dist/assets/logo.svg", b"<svg/>\n");
    for n in 0..200 {
        let package = format!("node_modules/package-{}", n / 8);
        write(&format!("{package}/file-{n}.js"), format!("module.exports = {n};\n").as_bytes());
    }
    symlink("../package-0/file-0.js", dir.join("node_modules/package-1/linked.js")).unwrap();
    write(".git/HEAD", b"ref: refs/heads/main\n");
    write(".git/refs/heads/main", b"0123456789012345678901234567890123456789\n");
    for n in 0..100_u32 {
        let name = format!(".git/objects/{:02x}/{:038x}", n % 16, n);
        write(&name, &n.to_le_bytes().repeat(100));
    }
    let mut database = b"SQLite format 3\0".to_vec();
    database.extend((0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()));
    write("data/shop.sqlite", &database);
    write("data/shop.sqlite-wal", &[7; 4_152]);
    write("run.sh", b"#!/bin/sh\n");
    fs::set_permissions(dir.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    for (path, bytes) in contents(dir) {
        // Owned as everything in a project is, so that trees can be compared whole.
        drop(bytes);
        own(&path);
    }
    for dir in directories(dir) {
        own(&dir);
    }
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(1000), Some(1000)).unwrap();
}

fn directories(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![dir.to_owned()];
    let mut at = 0;
    while let Some(dir) = found.get(at).cloned() {
        at += 1;
        let below = fs::read_dir(dir).unwrap().map(|one| one.unwrap().path());
        found.extend(below.filter(|path| path.symlink_metadata().unwrap().is_dir()));
    }
    found
}

const PROJECT: [&str; 13] = [
    "name",
    "slug",
    "id",
    "volume",
    "path",
    "forked_from",
    "durability",
    "saved_at",
    "saved_to",
    "unsaved_bytes",
    "bytes",
    "health",
    "state",
];
const ENTRY: [&str; 15] = [
    "id",
    "kind",
    "message",
    "label",
    "author",
    "time",
    "pinned",
    "consistency",
    "durability",
    "captured_ms",
    "saved_ms",
    "tree",
    "tree_entries",
    "logical_bytes",
    "volume_snapshot",
];

#[track_caller]
fn is_a_project(value: &Value) {
    has_members(value, &PROJECT);
    has_members(&value["bytes"], &["logical", "unique", "shared"]);
    has_members(&value["health"], &["state", "problems"]);
    list(&value["health"]["problems"]);
    is_a_time(&value["saved_at"]);
    assert!(Path::new(&text(&value["path"])).is_dir(), "{value}");
    if !value["forked_from"].is_null() {
        has_members(&value["forked_from"], &["project", "entry", "tree"]);
    }
}

#[track_caller]
fn is_a_saved_entry(value: &Value) {
    has_members(value, &ENTRY);
    is_a_time(&value["time"]);
    let id = text(&value["id"]);
    let is_base32 = id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    assert!(id.len() == 12 && is_base32, "{id}");
    assert_eq!(value["durability"], "saved");
    assert!(value["captured_ms"].is_u64() && value["saved_ms"].is_u64(), "{value}");
    assert!(value["tree"].is_string() && value["tree_entries"].is_u64(), "{value}");
    assert!(value["volume_snapshot"].is_null(), "{value}");
}

#[track_caller]
fn is_a_file(value: &Value) {
    has_members(value, &["path", "kind", "bytes", "mode", "modified"]);
    is_a_time(&value["modified"]);
    let mode = text(&value["mode"]);
    assert!(mode.len() == 4 && mode.bytes().all(|digit| (b'0'..b'8').contains(&digit)), "{mode}");
}

#[test]
fn the_story_is_true_with_objects_in_a_directory() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    story(cove);
}

#[test]
fn the_story_is_true_with_objects_in_a_bucket() {
    let Some(cove) = Cove::start(Objects::S3) else { return };
    story(cove);
}

fn story(mut cove: Cove) {
    let source = cove.make_dir("some-real-project");
    make_project(&source);

    a_project_comes_in(&cove, &source);
    files_are_read_and_changed(&cove);
    let first = a_state_is_kept(&cove);
    differences_are_seen(&cove, &first);
    forks_are_made(&cove, &first);
    the_past_comes_back(&cove, &first);
    a_project_is_shown(&cove);
    house_is_kept(&cove, &first);
    what_is_stored_is_checked(&cove);

    let down = cove.program_of(&["down"]).spawn().unwrap();
    assert!(cove.ended().success());
    let ended = std::time::Instant::now();
    let down = down.wait_with_output().unwrap();
    assert!(ended.elapsed().as_secs() < 8, "it asked on although nobody answers any more");
    assert!(down.status.success(), "{down:?}");
    assert!(down.stdout.is_empty(), "prose is for standard error: {down:?}");
    assert!(!is_mounted(&cove.home.join("pool")), "`down` returns when the pool is unmounted");
    assert!(loop_devices_of(&cove.home.join("pool.img")).is_empty(), "and its device detached");
    cove.refuses(7, &["ls"]);
    cove.up();
    let there = texts(&cove.json(&["ls"])["projects"], "slug");
    assert!(there.contains(&"store".to_owned()), "{there:?}");
}

fn a_project_comes_in(cove: &Cove, source: &Path) {
    assert_eq!(cove.json(&["ls"]), serde_json::json!({ "projects": [] }));
    let made = cove.cove(&["new", "shop", "--from", "./some-real-project"]).success();
    assert_eq!(made.stdout, "shop\n", "data is on standard output");
    assert!(made.stderr.contains("edit its files from now on in "), "{}", made.stderr);
    same_trees("the project as it came in", source, &cove.path("shop"));
    let shown = cove.json(&["show", "shop"]);
    is_a_project(&shown["project"]);
    assert_eq!(shown["project"]["durability"], "saved");
    assert_eq!(shown["project"]["unsaved_bytes"], 0);
    assert_eq!(cove.json(&["timeline", "shop"]), serde_json::json!({ "entries": [] }));
}

fn files_are_read_and_changed(cove: &Cove) {
    let root = cove.json(&["files", "ls", "shop:/"]);
    list(&root["files"]).iter().for_each(is_a_file);
    assert_eq!(
        texts(&root["files"], "path"),
        [".git", "data", "dist", "node_modules", "package.json", "run.sh", "src"]
    );
    assert!(cove.text(&["files", "cat", "shop:/package.json"]).contains("\"name\": \"shop\""));

    let put = cove.json_with(&["files", "put", "shop:/notes.txt"], 0, b"remember the milk\n");
    is_a_file(&put["files"][0]);
    assert_eq!(put["files"][0]["mode"], "0644");
    assert_eq!(put["files"][0]["bytes"], 18);
    assert_eq!(cove.text(&["files", "cat", "shop:/notes.txt"]), "remember the milk\n");

    fs::create_dir_all(cove.dir.path().join("src")).unwrap();
    fs::write(cove.dir.path().join("src/new.ts"), "export {};\n").unwrap();
    let copied = cove.json(&["cp", "./src", "shop:/src2"]);
    assert!(!list(&copied["files"]).is_empty(), "{copied}");
    assert_eq!(cove.text(&["files", "cat", "shop:/src2/new.ts"]), "export {};\n");
    cove.json(&["cp", "shop:/dist", "./dist"]);
    assert_eq!(
        fs::read(cove.dir.path().join("dist/assets/logo.svg")).unwrap(),
        b"<svg/>\n",
        "a directory that is not there is made under the new name"
    );

    let made = cove.json(&["files", "mkdir", "shop:/a/b"]);
    assert_eq!(made["files"][0]["kind"], "directory", "{made}");
    let moved = cove.json(&["files", "mv", "shop:/notes.txt", "shop:/a/b/notes.txt"]);
    assert_eq!(texts(&moved["files"], "path"), ["a/b/notes.txt"]);
    let stat = cove.json(&["files", "stat", "shop:/run.sh"]);
    is_a_file(&stat["files"][0]);
    assert_eq!(stat["files"][0]["mode"], "0755");
    let found = cove.json(&["files", "find", "shop:/", "notes*"]);
    assert_eq!(texts(&found["files"], "path"), ["a/b/notes.txt"]);
    let lines = cove.json(&["files", "grep", "TODO", "shop:/src"]);
    assert_eq!(lines["matches"][0]["path"], "src/app.ts");
    assert_eq!(lines["matches"][0]["line"], 1);
    assert!(text(&lines["matches"][0]["text"]).contains("// TODO: taxes"));
    assert_eq!(
        cove.json(&["files", "grep", "no such words", "shop:/"]),
        serde_json::json!({ "matches": [] })
    );
    cove.json(&["files", "rm", "shop:/a/b/notes.txt"]);
    cove.refuses(3, &["files", "stat", "shop:/a/b/notes.txt"]);
}

fn a_state_is_kept(cove: &Cove) -> String {
    let said =
        cove.cove(&["snapshot", "shop", "-m", "before the refactor", "--label", "v1"]).success();
    assert!(said.stderr.contains("captured") && said.stderr.contains("saved"), "{}", said.stderr);
    let id = said.stdout.trim().to_owned();
    let timeline = cove.timeline("shop");
    assert_eq!(timeline.len(), 1);
    is_a_saved_entry(&timeline[0]);
    assert_eq!(timeline[0]["id"], id.as_str());
    assert_eq!(timeline[0]["kind"], "manual");
    assert_eq!(timeline[0]["message"], "before the refactor");
    assert_eq!(timeline[0]["label"], "v1");
    assert_eq!(timeline[0]["pinned"], false);
    let second = cove.json(&["snapshot", "shop", "-m", "nothing new"]);
    is_a_saved_entry(&second["entry"]);
    assert_eq!(second["rolled_off"], serde_json::json!([]));
    assert_eq!(second["entry"]["tree"], timeline[0]["tree"], "the same state has the same tree");
    assert_eq!(cove.timeline("shop")[0]["id"], second["entry"]["id"], "newest first");
    id
}

fn differences_are_seen(cove: &Cove, first: &str) {
    let root = cove.path("shop");
    fs::write(root.join("src/app.ts"), "import nothing;\n").unwrap();
    fs::rename(root.join("src/cart.ts"), root.join("src/basket.ts")).unwrap();
    fs::write(root.join("src/fresh.ts"), "fresh\n").unwrap();
    fs::remove_file(root.join("dist/app.js")).unwrap();
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o700)).unwrap();

    let moments = format!("shop@{first}..shop");
    let changes = cove.json(&["diff", &moments]);
    let seen: Vec<(String, String)> = list(&changes["changes"])
        .iter()
        .map(|one| (text(&one["change"]), text(&one["path"])))
        .collect();
    let expected = [
        ("removed", "dist/app.js"),
        ("metadata", "run.sh"),
        ("modified", "src/app.ts"),
        ("renamed", "src/basket.ts"),
        ("added", "src/fresh.ts"),
    ];
    let expected = expected.map(|(change, path)| (change.to_owned(), path.to_owned()));
    assert_eq!(seen, expected, "no directory whose time alone is new");
    let of =
        |path: &str| list(&changes["changes"]).into_iter().find(|one| one["path"] == path).unwrap();
    assert_eq!(of("src/basket.ts")["from"], "src/cart.ts");
    assert_eq!(of("src/app.ts")["bytes_before"], 46);
    assert_eq!(of("src/app.ts")["bytes_after"], 16);
    assert!(cove.text(&["diff", &moments, "--stat"]).contains("src/app.ts"));
    let lines = cove.text(&["diff", &moments, "--name-status"]);
    assert!(lines.contains("M\tsrc/app.ts\n") && lines.contains("D\tdist/app.js\n"), "{lines}");
    assert_eq!(
        cove.json(&["diff", "shop@v1..shop@~1"]),
        serde_json::json!({ "changes": [] }),
        "both entries hold the same"
    );
}

fn forks_are_made(cove: &Cove, first: &str) {
    let source = cove.path("shop");
    let fork = cove.json(&["fork", "shop", "--as", "shop-intake"]);
    is_a_project(&fork["project"]);
    assert_eq!(fork["project"]["slug"], "shop-intake");
    assert_eq!(fork["project"]["forked_from"]["entry"], Value::Null);
    same_trees("a fork from now", &source, &cove.path("shop-intake"));
    assert_eq!(cove.timeline("shop-intake").len(), 0, "a fork starts with an empty timeline");
    assert_eq!(cove.timeline("shop").len(), 2, "and makes no entry in its source");

    let forks = cove.json(&["fork", &format!("shop@{first}"), "--count", "8"]);
    let names: Vec<String> = (1..=8).map(|n| format!("shop-{n}")).collect();
    assert_eq!(texts(&forks["projects"], "slug"), names);
    for fork in list(&forks["projects"]) {
        is_a_project(&fork);
        assert_eq!(fork["forked_from"]["entry"], first);
        assert_eq!(fork["durability"], "saved");
    }
    let path = cove.path("shop-8");
    assert!(path.join("dist/app.js").exists() && !path.join("src/fresh.ts").exists());
    fs::write(path.join("src/app.ts"), "only here\n").unwrap();
    assert_ne!(fs::read(source.join("src/app.ts")).unwrap(), b"only here\n");
}

fn the_past_comes_back(cove: &Cove, first: &str) {
    let restored = cove.json(&["restore", "shop", first, "--", "src/app.ts"]);
    is_a_project(&restored["project"]);
    let root = cove.path("shop");
    let app = fs::read_to_string(root.join("src/app.ts")).unwrap();
    assert!(app.contains("// TODO: taxes"), "{app}");
    assert!(root.join("src/fresh.ts").exists(), "one path and no other");

    let restored = cove.json(&["restore", "shop", "@v1"]);
    is_a_project(&restored["project"]);
    assert_eq!(restored["project"]["durability"], "saved");
    let changes = cove.json(&["diff", "shop@v1..shop"]);
    assert_eq!(changes, serde_json::json!({ "changes": [] }));
    let timeline = cove.timeline("shop");
    let kinds: Vec<String> = timeline.iter().map(|entry| text(&entry["kind"])).collect();
    assert_eq!(kinds, ["before-restore", "before-restore", "manual", "manual"]);
    timeline.iter().for_each(is_a_saved_entry);
    let before = text(&timeline[0]["id"]);
    let kept = cove.text(&["files", "cat", &format!("shop@{before}:/src/fresh.ts")]);
    assert_eq!(kept, "fresh\n", "the state before it stays in the timeline");
}

fn a_project_is_shown(cove: &Cove) {
    let shown = cove.text(&["show", "shop"]);
    let root = cove.path("shop");
    assert!(shown.contains(root.to_str().unwrap()), "where it lives: {shown}");
    let saved_to = text(&cove.json(&["show", "shop"])["project"]["saved_to"]);
    match cove.objects.starts_with("s3://") {
        true => assert_eq!(saved_to, cove.objects),
        false => assert_eq!(saved_to, "this_disk"),
    }
    let path = cove.json(&["path", "shop"]);
    assert_eq!(path, serde_json::json!({ "path": root.to_str().unwrap() }));
}

fn house_is_kept(cove: &Cove, first: &str) {
    let pinned = cove.json(&["pin", &format!("shop@{first}")]);
    is_a_saved_entry(&pinned["entry"]);
    assert_eq!(pinned["entry"]["pinned"], true);
    assert_eq!(pinned["rolled_off"], serde_json::json!([]));
    assert_eq!(cove.json(&["unpin", "shop@v1"])["entry"]["pinned"], false);
    let labelled = cove.json(&["label", "shop@~1", "good"]);
    assert_eq!(labelled["entry"]["label"], "good");
    assert_eq!(labelled["entry"]["message"], "nothing new", "~1 is what somebody asked for");
    let renamed = cove.json(&["rename", "shop", "store"]);
    is_a_project(&renamed["project"]);
    assert_eq!(renamed["project"]["slug"], "store");
    cove.refuses(3, &["show", "shop"]);

    let removed = cove.json(&["rm", "shop-intake"]);
    has_members(&removed["project"], &PROJECT);
    assert_eq!(texts(&cove.json(&["trash"])["projects"], "slug"), ["shop-intake"]);
    assert!(!texts(&cove.json(&["ls"])["projects"], "slug").contains(&"shop-intake".to_owned()));
    cove.refuses(3, &["show", "shop-intake"]);
    is_a_project(&cove.json(&["undelete", "shop-intake"])["project"]);
    assert_eq!(cove.json(&["trash"]), serde_json::json!({ "projects": [] }));
    assert!(cove.path("shop-intake").join("src/fresh.ts").exists());
}

fn what_is_stored_is_checked(cove: &Cove) {
    for arguments in [&["verify", "store"][..], &["verify"], &["verify", "--level", "2"]] {
        let verified = cove.json(arguments);
        assert_eq!(verified["problems"], serde_json::json!([]));
        has_members(&verified, &["checked"]);
    }
    let doctor = cove.json(&["doctor"]);
    let checks = list(&doctor["checks"]);
    assert!(!checks.is_empty());
    for check in checks {
        has_members(&check, &["name", "ok", "what"]);
        assert_eq!(check["ok"], true, "{check}");
    }
}
