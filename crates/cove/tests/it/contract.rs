//! What scripts and programs rely on, point by point.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, get, list, poll, run, same_trees, text, texts};

#[test]
fn a_name_obeys_the_law_is_known_and_is_free() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let long = "a".repeat(41);
    for name in ["Shop", "-shop", "shop-", "sh--op", "sh.op", "sh op", "", "süß", &long] {
        cove.refuses(2, &["new", "--", name]);
    }
    cove.json(&["new", &"a".repeat(40)]);
    cove.json(&["new", "shop"]);
    cove.json(&["new", "other"]);

    for arguments in [
        &["show", "nothing"][..],
        &["path", "nothing"],
        &["timeline", "nothing"],
        &["snapshot", "nothing"],
        &["fork", "nothing"],
        &["restore", "nothing", "~1"],
        &["rename", "nothing", "new"],
        &["rm", "nothing"],
        &["undelete", "nothing"],
        &["verify", "nothing"],
        &["wait", "nothing"],
        &["files", "ls", "nothing:/"],
        &["files", "cat", "nothing:/a"],
        &["diff", "nothing@~1..nothing"],
        &["pin", "nothing@~1"],
    ] {
        cove.refuses(3, arguments);
    }

    cove.refuses(4, &["new", "shop"]);
    cove.refuses(4, &["new", "shop", "--from", "/etc/hostname/nothing"]);
    cove.refuses(4, &["rename", "shop", "other"]);
    cove.refuses(4, &["fork", "shop", "--as", "other"]);
    assert_eq!(list(&cove.json(&["ls"])["projects"]).len(), 3, "nothing was made");

    // A name in the trash is free, and is taken when its project comes back.
    let trashed = text(&cove.json(&["rm", "other"])["project"]["id"]);
    let fresh = text(&cove.json(&["new", "other"])["project"]["id"]);
    assert_ne!(trashed, fresh);
    cove.refuses(4, &["undelete", "other"]);
    cove.json(&["rename", "other", "another"]);
    assert_eq!(cove.json(&["undelete", "other"])["project"]["id"], trashed.as_str());
}

#[test]
fn a_moment_is_an_id_a_prefix_a_label_a_number_or_now() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let put = |bytes: &str| {
        cove.cove_with(&["files", "put", "shop:/a"], bytes.as_bytes()).success();
    };
    let read = |moment: &str| cove.text(&["files", "cat", &format!("shop@{moment}:/a")]);
    put("one");
    let one = cove.snapshot("shop", "one");
    put("two");
    let two = text(&cove.json(&["snapshot", "shop", "--label", "v2"])["entry"]["id"]);
    put("three");

    assert_eq!(read("now"), "three");
    assert_eq!((read(&one), read(&two)), ("one".into(), "two".into()));
    assert_eq!((read(&one[..5]), read(&two[..11])), ("one".into(), "two".into()));
    assert_eq!((read("~1"), read("~2"), read("v2")), ("two".into(), "one".into(), "two".into()));
    for unknown in ["~3", "v3", "nothing", "zzzzzzzzzzzz"] {
        cove.refuses(3, &["files", "cat", &format!("shop@{unknown}:/a")]);
    }
    for unlawful in ["", "~0", "~x", "a b", "../b", &"a".repeat(65)] {
        cove.refuses(2, &["files", "cat", &format!("shop@{unlawful}:/a")]);
    }

    // Labels are unique in a project, and `now` is none.
    cove.refuses(2, &["label", "shop@~2", "now"]);
    cove.refuses(2, &["label", "shop@~2", "not a label"]);
    cove.refuses(4, &["label", "shop@~2", "v2"]);
    cove.refuses(4, &["snapshot", "shop", "--label", "v2"]);
    assert_eq!(cove.timeline("shop").len(), 2, "a snapshot that was refused is none");
    cove.json(&["label", "shop@v2", "latest.of_all-1"]);
    cove.refuses(3, &["files", "cat", "shop@v2:/a"]);
    assert_eq!(read("latest.of_all-1"), "two");
    let removed = cove.json(&["label", &format!("shop@{two}"), "--remove"]);
    assert_eq!(removed["entry"]["label"], Value::Null);
    // Where an entry must be, now is none.
    cove.refuses(2, &["pin", "shop"]);
    cove.refuses(2, &["pin", "shop@now"]);
    // An entry does not change.
    cove.refuses(2, &["files", "rm", &format!("shop@{one}:/a")]);
    cove.refuses(2, &["files", "put", &format!("shop@{one}:/a")]);
}

#[test]
fn an_entry_is_read_searched_and_copied_without_restoring_it() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    fs::create_dir_all(source.join("src/deep")).unwrap();
    fs::write(source.join("src/deep/app.ts"), "// TODO: first\nline\n// TODO: second\n").unwrap();
    fs::write(source.join("top.ts"), "nothing to do\n").unwrap();
    cove.json(&["new", "shop", "--from", source.to_str().unwrap()]);
    let entry = cove.snapshot("shop", "all");
    cove.json(&["files", "rm", "-r", "shop:/src"]);
    let at = |path: &str| format!("shop@{entry}:{path}");

    cove.refuses(3, &["files", "ls", "shop:/src"]);
    assert_eq!(texts(&cove.json(&["files", "ls", &at("/src")])["files"], "path"), ["src/deep"]);
    assert_eq!(
        texts(&cove.json(&["files", "ls", "-R", &at("/")])["files"], "path"),
        ["src", "src/deep", "src/deep/app.ts", "top.ts"]
    );
    let found = cove.json(&["files", "find", &at("/"), "*.ts"]);
    assert_eq!(texts(&found["files"], "path"), ["src/deep/app.ts", "top.ts"]);
    let matches = cove.json(&["files", "grep", "TODO", &at("/src")]);
    let lines: Vec<_> = list(&matches["matches"]).iter().map(|one| one["line"].clone()).collect();
    assert_eq!(lines, [1, 3]);
    assert_eq!(cove.json(&["files", "stat", &at("/src")])["files"][0]["kind"], "directory");
    cove.json(&["cp", &at("/src"), "out"]);
    same_contents(&source.join("src"), &cove.dir.path().join("out"));
    // The same after nothing of it is on this node any more.
    assert_eq!(cove.text(&["files", "cat", &at("/top.ts")]), "nothing to do\n");
}

#[track_caller]
fn same_contents(expected: &std::path::Path, found: &std::path::Path) {
    let contents = |dir: &std::path::Path| -> Vec<_> {
        let below = |path: std::path::PathBuf| path.strip_prefix(dir).unwrap().to_owned();
        crate::harness::contents(dir)
            .into_iter()
            .map(|(path, bytes)| (below(path), bytes))
            .collect()
    };
    assert_eq!(contents(expected), contents(found));
}

#[test]
fn copies_merge_as_docker_has_it() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("from");
    fs::create_dir(source.join("sub")).unwrap();
    fs::write(source.join("sub/one"), "new one").unwrap();
    fs::write(source.join("two"), "two").unwrap();
    cove.json(&["new", "shop"]);
    let listed = || texts(&cove.json(&["files", "ls", "-R", "shop:/"])["files"], "path");

    // To a name that is not there: the directory, under that name.
    cove.json(&["cp", "from", "shop:/to"]);
    assert_eq!(listed(), ["to", "to/sub", "to/sub/one", "to/two"]);
    // To a directory that is there: inside, under its own name.
    cove.json(&["cp", "from", "shop:/to"]);
    assert!(listed().contains(&"to/from/sub/one".to_owned()), "{:?}", listed());
    cove.json(&["files", "rm", "-r", "shop:/to/from"]);
    // What is in it: merged, and what was there stays.
    cove.cove_with(&["files", "put", "shop:/to/sub/own"], b"own").success();
    cove.cove_with(&["files", "put", "shop:/to/sub/one"], b"old one").success();
    cove.json(&["cp", "from/.", "shop:/to"]);
    assert_eq!(listed(), ["to", "to/sub", "to/sub/one", "to/sub/own", "to/two"]);
    assert_eq!(cove.text(&["files", "cat", "shop:/to/sub/one"]), "new one");
    // A file: into a directory, over a file, under a new name.
    cove.json(&["cp", "from/two", "shop:/to/sub"]);
    cove.json(&["cp", "from/two", "shop:/to/sub/own"]);
    cove.json(&["cp", "from/two", "shop:/to/third"]);
    assert_eq!(cove.text(&["files", "cat", "shop:/to/sub/own"]), "two");
    assert!(
        listed().contains(&"to/sub/two".to_owned()) && listed().contains(&"to/third".to_owned())
    );
    // A directory does not replace a file, nor is a file below one that is missing.
    cove.refuses(4, &["cp", "from", "shop:/to/third"]);
    cove.refuses(4, &["cp", "from/two", "shop:/absent/"]);
    cove.refuses(3, &["cp", "no-such-file", "shop:/to"]);
    cove.refuses(3, &["cp", "shop:/no-such-file", "out"]);
    cove.refuses(2, &["cp", "from", "to"]);

    // Outward the same.
    let out = cove.make_dir("out");
    cove.json(&["cp", "shop:/to", "out"]);
    assert_eq!(fs::read(out.join("to/sub/one")).unwrap(), b"new one");
    fs::write(out.join("to/sub/mine"), "mine").unwrap();
    fs::write(out.join("to/sub/one"), "mine").unwrap();
    cove.json(&["cp", "shop:/to/.", "out/to"]);
    assert_eq!(fs::read(out.join("to/sub/one")).unwrap(), b"new one");
    assert_eq!(fs::read(out.join("to/sub/mine")).unwrap(), b"mine");
    cove.json(&["cp", "shop:/to", "fresh"]);
    assert_eq!(fs::read(cove.dir.path().join("fresh/two")).unwrap(), b"two");
    cove.json(&["cp", "shop:/to/two", "out"]);
    cove.json(&["cp", "shop:/to/two", "out/three"]);
    assert_eq!(fs::read(out.join("two")).unwrap(), b"two");
    assert_eq!(fs::read(out.join("three")).unwrap(), b"two");
    cove.refuses(4, &["cp", "shop:/to", "out/three"]);
    let left: Vec<_> = fs::read_dir(cove.dir.path())
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".cove"))
        .collect();
    assert!(left.is_empty(), "nothing of ours is left behind: {left:?}");
}

#[test]
fn copies_go_through_links_and_streams_and_are_refused_as_docker_has_it() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("from");
    fs::write(source.join("a"), "a").unwrap();
    fs::create_dir(source.join("dir")).unwrap();
    fs::write(source.join("dir/b"), "b").unwrap();
    symlink("dir", source.join("link")).unwrap();
    symlink("/etc", source.join("outside")).unwrap();
    cove.json(&["new", "shop", "--from", "from"]);
    let listed = |at: &str| texts(&cove.json(&["files", "ls", "-R", at])["files"], "path");
    let local = |path: &str| fs::read_to_string(cove.dir.path().join(path)).unwrap();

    // The directory above the target must be there, and a slash asks for a directory.
    cove.refuses(3, &["cp", "from/a", "shop:/none/a"]);
    cove.refuses(3, &["cp", "shop:/a", "none/a"]);
    for refused in ["from/a/", "from/a/."] {
        cove.refuses(4, &["cp", refused, "shop:/new"]);
    }
    for refused in ["shop:/a/", "shop:/a/."] {
        cove.refuses(4, &["cp", refused, "new"]);
    }
    assert_eq!(listed("shop:/"), ["a", "dir", "dir/b", "link", "outside"]);

    // A target that is a link is what it points to; one that points out is refused.
    cove.json(&["cp", "from/a", "shop:/link"]);
    assert_eq!(listed("shop:/dir"), ["dir/a", "dir/b"]);
    cove.refuses(4, &["cp", "from/a", "shop:/outside"]);
    let out = cove.make_dir("out");
    symlink("out", cove.dir.path().join("out-link")).unwrap();
    cove.json(&["cp", "shop:/a", "out-link"]);
    assert_eq!(local("out/a"), "a");
    // A source that is a link is copied as one, with -L as what it points to.
    cove.json(&["cp", "shop:/link", "copied"]);
    assert_eq!(fs::read_link(cove.dir.path().join("copied")).unwrap().to_str(), Some("dir"));
    cove.json(&["cp", "-L", "shop:/link", "followed"]);
    assert_eq!(local("followed/b"), "b");
    cove.json(&["cp", "-L", "from/link", "shop:/followed"]);
    assert_eq!(listed("shop:/followed"), ["followed/b"]);

    // A tar stream out, and in again.
    let tar = cove.cove(&["cp", "shop:/dir", "-"]).success().bytes;
    cove.json(&["files", "mkdir", "shop:/in"]);
    cove.cove_with(&["cp", "-", "shop:/in"], &tar).success();
    assert_eq!(listed("shop:/in"), ["in/dir", "in/dir/a", "in/dir/b"]);
    assert_eq!(cove.cove_with(&["cp", "-", "shop:/absent"], &tar).code, 3);
    cove.refuses(2, &["cp", "shop:/dir", "-", "--json"]);

    // What is refused half-way has written nothing.
    fs::create_dir_all(out.join("dir/b/is-a-directory-here")).unwrap();
    cove.refuses(4, &["cp", "shop:/dir", "out"]);
    assert!(!out.join("dir/a").exists());
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2, "and nothing is left beside it");
}

#[test]
fn who_restores_from_inside_is_told_to_enter_again() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    cove.json(&["files", "mkdir", "shop:/src"]);
    let entry = cove.snapshot("shop", "with src");
    cove.cove_with(&["files", "put", "shop:/src/a"], b"a").success();
    let restore = |at: &std::path::Path| {
        let mut command = cove.program_of(&["restore", "shop", &entry]);
        let output = crate::harness::run(command.current_dir(at), b"");
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stderr
    };
    let inside = cove.path("shop").join("src");
    assert!(restore(&inside).contains("`cd .`"));
    assert!(!restore(cove.dir.path()).contains("cd ."));
}

#[test]
fn files_are_searched_with_the_flags_of_grep_and_find() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let put = |path: &str, bytes: &[u8]| {
        cove.cove_with(&["files", "put", &format!("shop:{path}")], bytes).success();
    };
    cove.json(&["files", "mkdir", "-p", "shop:/src/deep"]);
    put("/src/deep/app.ts", b"// TODO: (a)\n// todo b\n");
    put("/src/data", b"TODO\0");
    let grep = |arguments: &[&str]| {
        let all: Vec<&str> = [&["files", "grep"], arguments, &["shop:/"]].concat();
        cove.text(&all)
    };
    assert_eq!(grep(&["(a)"]), "src/deep/app.ts:1:// TODO: (a)\n");
    assert_eq!(grep(&["-rnF", "(a)"]), grep(&["(a)"]));
    assert_eq!(grep(&["-E", "TODO: .a.$"]), grep(&["(a)"]));
    assert_eq!(grep(&["-i", "todo"]).lines().count(), 2);
    assert_eq!(grep(&["-il", "todo"]), "src/deep/app.ts\n");
    let none = cove.cove(&["files", "grep", "nowhere", "shop:/"]).success();
    assert!(none.stderr.contains("1 binary file was not searched"), "{}", none.stderr);
    cove.refuses(2, &["files", "grep", "-E", "(", "shop:/"]);
    let find = |arguments: &[&str]| {
        let all: Vec<&str> = [&["files", "find", "shop:/"], arguments].concat();
        texts(&cove.json(&all)["files"], "path")
    };
    assert_eq!(find(&["-name", "*.ts"]), ["src/deep/app.ts"]);
    assert_eq!(find(&["-type", "d"]), ["src", "src/deep"]);
    assert_eq!(find(&["*/deep/*"]), ["src/deep/app.ts"]);
    assert_eq!(cove.json(&["files", "rm", "-f", "shop:/none"])["files"], json!([]));
    let text = cove.json(&["files", "cat", "shop:/src/data"]);
    assert_eq!(text["content"]["data"], "TODO\0");
    put("/bytes", &[0xff, 0xfe, 0xfd]);
    let bytes = cove.json(&["files", "cat", "shop:/bytes"]);
    let expected = json!({ "path": "bytes", "bytes": 3, "encoding": "base64", "data": "//79" });
    assert_eq!(bytes, json!({ "content": expected }));
}

#[test]
fn a_file_that_is_put_keeps_the_mode_of_the_one_it_replaces() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let put = |path: &str, bytes: &[u8]| {
        let output = cove.cove_with(&["files", "put", &format!("shop:{path}")], bytes).success();
        assert_eq!(output.stdout, format!("{}\n", &path[1..]));
    };
    put("/run.sh", b"#!/bin/sh\n");
    let found = fs::metadata(root.join("run.sh")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o644, 1000, 1000));
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o4750)).unwrap();
    put("/run.sh", b"#!/bin/bash\n");
    let found = fs::metadata(root.join("run.sh")).unwrap();
    assert_eq!(found.mode() & 0o777, 0o750);
    put("/empty", b"");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    put("/large", &bytes);
    assert_eq!(cove.cove(&["files", "cat", "shop:/large"]).success().bytes, bytes);
    cove.refuses(3, &["files", "put", "shop:/no/such/directory"]);
    cove.json(&["files", "mkdir", "shop:/dir"]);
    cove.refuses(4, &["files", "put", "shop:/dir"]);
    assert_eq!(
        texts(&cove.json(&["files", "ls", "-R", "shop:/"])["files"], "path"),
        ["dir", "empty", "large", "run.sh"],
        "temporary files of ours are never in the workspace"
    );
}

#[test]
fn paths_are_escaped_in_what_is_printed_and_may_be_written_so() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let name = std::ffi::OsStr::from_encoded(b"bell\x07-\xff-back\\slash-\xe2\x80\xaebidi");
    fs::write(root.join(name), "found").unwrap();
    let escaped = r"bell\x07-\xff-back\\slash-\xe2\x80\xaebidi";
    let listed = cove.json(&["files", "ls", "shop:/"]);
    assert_eq!(texts(&listed["files"], "path"), [escaped]);
    assert!(cove.text(&["files", "ls", "shop:/"]).contains(escaped));
    assert_eq!(cove.text(&["files", "cat", &format!("shop:/{escaped}")]), "found");
    cove.refuses(2, &["snapshot", "shop", "-m", "\u{1b}[31mred\u{1b}[0m"]);
    let entry = cove.snapshot("shop", "names");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/{escaped}")]), "found");
    fs::remove_file(root.join(name)).unwrap();
    let changes = cove.json(&["diff", &format!("shop@{entry}..shop")]);
    assert_eq!(changes["changes"][0]["path"], escaped);
    cove.json(&["restore", "shop", &entry, "--", escaped]);
    assert_eq!(fs::read(root.join(name)).unwrap(), b"found");
}

/// Names of bytes, for tests alone.
trait FromEncoded {
    fn from_encoded(bytes: &[u8]) -> &Self;
}

impl FromEncoded for std::ffi::OsStr {
    fn from_encoded(bytes: &[u8]) -> &Self {
        std::os::unix::ffi::OsStrExt::from_bytes(bytes)
    }
}

#[test]
fn forks_take_free_names_and_all_of_them_or_none() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    cove.cove_with(&["files", "put", "shop:/a"], b"a").success();
    let names = |value: &Value| texts(&value["projects"], "slug");
    assert_eq!(cove.json(&["fork", "shop"])["project"]["slug"], "shop-1");
    assert_eq!(names(&cove.json(&["fork", "shop", "--count", "2"])), ["shop-2", "shop-3"]);
    assert_eq!(names(&cove.json(&["fork", "shop", "--as", "x", "--count", "2"])), ["x-1", "x-2"]);
    let before = names(&cove.json(&["ls"]));
    cove.refuses(4, &["fork", "shop", "--as", "x", "--count", "3"]);
    cove.json(&["new", "y-3"]);
    cove.refuses(4, &["fork", "shop", "--as", "y", "--count", "3"]);
    let after = names(&cove.json(&["ls"]));
    assert_eq!(after.len(), before.len() + 1, "{after:?}");
    cove.refuses(2, &["fork", "shop", "--as", &"a".repeat(40), "--count", "2"]);
    cove.refuses(3, &["fork", "shop@~1"]);
    for name in ["shop-1", "shop-3", "x-2"] {
        assert_eq!(cove.text(&["files", "cat", &format!("{name}:/a")]), "a");
    }
}

#[test]
fn what_rolls_off_is_named_and_comes_back_pinned() {
    let variables = vec![("COVE_MAX_SNAPSHOTS_PER_PROJECT", "2".to_owned())];
    let settings = Settings { variables, ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let keep = |content: &str| -> (String, Vec<String>) {
        cove.cove_with(&["files", "put", "shop:/a"], content.as_bytes()).success();
        let reply = cove.json(&["snapshot", "shop", "-m", content]);
        (text(&reply["entry"]["id"]), texts(&reply["rolled_off"], "id"))
    };
    let ids = || -> Vec<String> {
        cove.timeline("shop").iter().map(|entry| text(&entry["id"])).collect()
    };
    let (one, none) = keep("one");
    assert!(none.is_empty());
    let (two, none) = keep("two");
    assert!(none.is_empty());
    let (three, rolled_off) = keep("three");
    assert_eq!(rolled_off, std::slice::from_ref(&one), "the oldest");
    assert_eq!(ids(), [three.clone(), two.clone()]);
    let all = cove.json(&["timeline", "shop", "--all"]);
    assert_eq!(texts(&all["entries"], "id"), [three.clone(), two.clone(), one.clone()]);

    // Pinned ones do not count.
    cove.json(&["pin", &format!("shop@{two}")]);
    let (four, rolled_off) = keep("four");
    assert!(rolled_off.is_empty(), "{rolled_off:?}");
    let said = cove.cove(&["snapshot", "shop", "-m", "five"]).success();
    assert!(said.stderr.contains(&three), "what rolled off is named: {}", said.stderr);
    let five = said.stdout.trim().to_owned();
    assert_eq!(ids(), [five.clone(), four.clone(), two.clone()]);

    // Over the number, what comes back is pinned so that it stays.
    let back = cove.json(&["undelete", &format!("shop@{one}")]);
    assert_eq!(back["entry"]["id"], one.as_str());
    assert_eq!(back["entry"]["pinned"], true);
    assert_eq!(ids(), [five, four, two, one.clone()]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{one}:/a")]), "one");
    cove.refuses(3, &["undelete", "shop@aaaaaaaaaaaa"]);
}

#[test]
fn either_variable_says_how_many_entries_are_kept() {
    let settings = Settings::with(Objects::Directory);
    let variables = vec![("K8S_MAX_SNAPSHOTS_PER_PROJECT", "1".to_owned())];
    let Some(mut cove) = Cove::start_with(Settings { variables, ..settings }) else { return };
    cove.json(&["new", "shop"]);
    let roll = |cove: &Cove, count: usize| -> usize {
        (0..count).for_each(|_| drop(cove.snapshot("shop", "one more")));
        cove.timeline("shop").len()
    };
    assert_eq!(roll(&cove, 3), 1);
    // The one of Cove's own goes first.
    assert!(cove.stop().success());
    cove.set_variable("COVE_MAX_SNAPSHOTS_PER_PROJECT", "3");
    cove.up();
    assert_eq!(roll(&cove, 4), 3);
}

#[test]
fn a_restore_waits_for_nobody_and_loses_nothing_of_who_writes_on() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::write(root.join("log"), "first\n").unwrap();
    let entry = cove.snapshot("shop", "first");
    fs::write(root.join("log"), "second\n").unwrap();

    let mut open = File::options().append(true).open(root.join("log")).unwrap();
    let said = cove.refuses(4, &["restore", "shop", &entry]);
    let pid = std::process::id().to_string();
    let program = fs::read_to_string("/proc/self/comm").unwrap();
    assert!(said.contains(&pid), "names who writes, {pid}: {said}");
    assert!(said.contains(program.trim()), "and what program that is, {program}: {said}");
    assert_eq!(fs::read(root.join("log")).unwrap(), b"second\n", "nothing has changed");
    assert_eq!(cove.timeline("shop").len(), 1);

    let reading = File::open(root.join("log")).unwrap();
    cove.json(&["restore", "shop", &entry, "--force"]);
    assert_eq!(fs::read(cove.path("shop").join("log")).unwrap(), b"first\n");
    open.write_all(b"late\n").unwrap();
    open.sync_all().unwrap();
    let rescue = poll("a rescue entry of the late write", || {
        let timeline = cove.timeline("shop");
        let found = timeline.iter().find(|one| one["kind"] == "rescue");
        let found = found.filter(|one| {
            let place = format!("shop@{}:/log", text(&one["id"]));
            cove.cove(&["files", "cat", &place]).stdout == "second\nlate\n"
        });
        found.map(|one| text(&one["id"])).ok_or_else(|| format!("{timeline:?}"))
    });
    drop((open, reading));
    cove.json(&["wait", "shop"]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{rescue}:/log")]), "second\nlate\n");
    // One who only reads is in nobody's way.
    let reading = File::open(cove.path("shop").join("log")).unwrap();
    cove.json(&["restore", "shop", &entry]);
    drop(reading);
}

#[test]
fn what_was_written_a_moment_before_is_in_the_snapshot() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let mut open = File::create(root.join("journal")).unwrap();
    let mut expected = Vec::new();
    for n in 0..5_u32 {
        let line = format!("line {n}\n").repeat(1 << (3 * n));
        open.write_all(line.as_bytes()).unwrap();
        fs::write(root.join(format!("file-{n}")), &line).unwrap();
        expected.extend_from_slice(line.as_bytes());
        let entry = cove.snapshot("shop", "at once");
        let place = format!("shop@{entry}:/journal");
        assert!(cove.cove(&["files", "cat", &place]).bytes == expected, "round {n}");
        assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/file-{n}")]), line);
    }
}

#[test]
fn without_waiting_the_result_is_on_this_node_and_is_saved_later() {
    let Some(cove) = Cove::start(Objects::S3) else { return };
    let source = cove.make_dir("source");
    let bytes: Vec<u8> = (0..4_000_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    fs::write(source.join("large"), bytes).unwrap();
    let made = cove.cove(&["new", "shop", "--from", "source", "--no-wait"]).success();
    assert!(
        made.stderr.contains("on this node") || made.stderr.contains("saved"),
        "{}",
        made.stderr
    );
    let entry = cove.json(&["snapshot", "shop", "--no-wait"]);
    let id = text(&entry["entry"]["id"]);
    let waited = cove.json(&["wait", "shop"]);
    assert_eq!(waited["project"]["durability"], "saved");
    assert_eq!(waited["project"]["unsaved_bytes"], 0);
    let timeline = cove.timeline("shop");
    assert_eq!(timeline[0]["id"], id.as_str());
    assert_eq!(timeline[0]["durability"], "saved");
    assert!(timeline[0]["saved_ms"].is_u64(), "{timeline:?}");
}

#[test]
fn changes_are_saved_by_themselves_and_unsaved_bytes_say_how_much_is_left() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::write(root.join("a"), vec![1; 100_000]).unwrap();
    let tree = poll("the change is saved", || {
        let changed = cove.json(&["show", "shop"]);
        let project = &changed["project"];
        let is_saved = project["durability"] == "saved" && project["bytes"]["logical"] == 100_000;
        if is_saved { Ok(project["saved_at"].clone()) } else { Err(changed.to_string()) }
    });
    assert!(tree.is_string());
    assert!(cove.timeline("shop").is_empty(), "saving makes no entry");
}

#[test]
fn over_tcp_every_call_needs_the_token_and_no_foreign_page_may_call() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let (address, token) = cove.tcp();
    let mode = |name: &str| fs::symlink_metadata(cove.home.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("token"), mode("cove.sock")), (0o600, 0o600));
    let host = format!("Host: {address}");
    let bearer = format!("Authorization: Bearer {token}");
    let projects = |headers: &[&str]| get(&address, "/v1/projects", headers);

    let (status, answer) = projects(&[&host]);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert_eq!(projects(&[&host, "Authorization: Bearer cove_0000"]).0, 401);
    let (status, answer) = projects(&[&host, &bearer]);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\"slug\":\"shop\""), "{answer}");
    for path in ["/v1/projects/shop", "/v1/doctor", "/v1/trash", "/", "/v1/nothing"] {
        let (status, answer) = get(&address, path, &[&host]);
        assert_eq!(status, 401, "{path}: {answer}");
    }
    // Whoever has the token from a foreign page all the same.
    for foreign in ["evil.example", "evil.example:80", "127.0.0.1.nip.io"] {
        let (status, answer) = projects(&[&format!("Host: {foreign}"), &bearer]);
        assert!((400..500).contains(&status), "{foreign}: {answer}");
        assert!(!answer.contains("\"slug\""), "{answer}");
    }
    for header in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let (status, answer) = projects(&[&host, &bearer, header]);
        assert!((400..500).contains(&status), "{header}: {answer}");
        assert!(!answer.contains("\"slug\""), "{answer}");
    }
    assert_eq!(projects(&[&host, &bearer, &format!("Origin: http://{address}")]).0, 200);

    // The program itself, by address and token.
    let call = |token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        command.env("COVE_URL", format!("http://{address}")).env("COVE_TOKEN", token);
        run(command.args(["ls", "--quiet"]), b"")
    };
    assert_eq!(call(&token).success().stdout, "shop\n");
    assert_eq!(call("cove_wrong").code, 9);
}

#[test]
fn a_second_cove_on_the_same_home_is_refused() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let second = run(&mut cove.refused_up(), b"");
    assert_eq!(second.code, 4, "{}", second.stderr);
    assert!(second.stderr.contains("error: ") && second.stderr.contains("hint: "));
    let second = run(cove.refused_up().arg("--detach"), b"");
    assert_eq!(second.code, 4, "{}", second.stderr);
    assert!(second.stderr.starts_with("error: "), "{}", second.stderr);
    assert_eq!(cove.text(&["ls", "--quiet"]), "shop\n", "the first one is unharmed");
}

#[test]
fn it_starts_in_the_background_and_stops() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    for _ in 0..2 {
        let started = run(cove.up_command().arg("--detach"), b"").success();
        assert!(started.stderr.contains("ready on http://127.0.0.1:"), "{}", started.stderr);
        assert!(cove.home.join("cove.log").exists());
        assert_eq!(cove.json(&["ls"]), json!({ "projects": [] }));
        cove.cove(&["down"]).success();
        assert!(!crate::harness::is_mounted(&cove.home.join("pool")));
    }
    fs::remove_dir_all(&cove.home).unwrap();
}

#[test]
fn a_home_with_a_long_path_works() {
    let Some(mut cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    cove.home = cove.dir.path().join("deep-".repeat(20)).join("er-".repeat(30)).join("home");
    cove.up();
    cove.json(&["new", "shop"]);
    assert!(cove.path("shop").is_dir());
    cove.json(&["snapshot", "shop"]);
}

#[test]
fn after_a_kill_the_next_start_repairs_by_itself() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    crate::story::make_project(&source);
    cove.json(&["new", "shop", "--from", "source"]);
    let entry = cove.snapshot("shop", "kept");
    let root = cove.path("shop");
    fs::write(root.join("written"), "and fsynced").unwrap();
    File::open(root.join("written")).unwrap().sync_all().unwrap();
    cove.kill9();
    cove.up();
    assert_eq!(cove.text(&["files", "cat", "shop:/written"]), "and fsynced");
    assert_eq!(cove.timeline("shop")[0]["id"], entry.as_str());
    cove.json(&["restore", "shop", &entry]);
    same_trees("after a kill", &source, &cove.path("shop"));
    assert!(cove.stop().success());
    cove.up();
    assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], json!([]));
}

#[test]
fn interrupted_waiting_leaves_the_entry_and_its_upload_alive() {
    let Some(cove) = Cove::start(Objects::S3) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let bytes: Vec<u8> = (0..8_000_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    fs::write(root.join("large"), bytes).unwrap();
    let mut snapshot = cove.program_of(&["snapshot", "shop", "-m", "interrupted"]);
    let child = snapshot.spawn().unwrap();
    poll("the entry is captured", || {
        let timeline = cove.timeline("shop");
        if timeline.is_empty() { Err("no entry".to_owned()) } else { Ok(()) }
    });
    let pid = rustix::process::Pid::from_child(&child);
    // It may have ended meanwhile, saved.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    match ended.status.code() {
        Some(0) => {}
        Some(130) => assert!(said.contains("cove wait shop"), "{said}"),
        other => panic!("{other:?}: {said}"),
    }
    cove.json(&["wait", "shop"]);
    let timeline = cove.timeline("shop");
    assert_eq!(timeline.len(), 1);
    assert_eq!(timeline[0]["durability"], "saved");
}

#[test]
fn a_restore_of_a_path_is_exact_and_follows_no_link() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let outside = cove.make_dir("outside");
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::create_dir_all(root.join("src/deep")).unwrap();
    fs::write(root.join("src/deep/a"), "a").unwrap();
    fs::write(root.join("src/b"), "b").unwrap();
    fs::write(root.join("other"), "other").unwrap();
    let entry = cove.snapshot("shop", "good");
    fs::remove_dir_all(root.join("src/deep")).unwrap();
    fs::write(root.join("src/later"), "later").unwrap();
    fs::write(root.join("other"), "changed").unwrap();
    cove.json(&["restore", "shop", &entry, "--", "src"]);
    let files = texts(&cove.json(&["files", "ls", "-R", "shop:/"])["files"], "path");
    assert_eq!(
        files,
        ["other", "src", "src/b", "src/deep", "src/deep/a"],
        "what came later is gone"
    );
    assert_eq!(fs::read(root.join("other")).unwrap(), b"changed", "outside nothing changes");
    let before = text(&cove.timeline("shop")[0]["id"]);
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{before}:/src/later")]), "later");

    // A parent that is a link now is refused or replaced.
    fs::remove_dir_all(root.join("src")).unwrap();
    symlink(&outside, root.join("src")).unwrap();
    cove.refuses(4, &["restore", "shop", &entry, "--", "src/deep/a"]);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was written behind the link");
    cove.refuses(3, &["restore", "shop", &entry, "--", "no/such/path"]);
    cove.refuses(2, &["restore", "shop", &entry, "--", "../outside"]);
}

#[test]
fn a_restore_of_what_is_an_entry_already_makes_none() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    fs::write(cove.path("shop").join("a"), "one").unwrap();
    let one = cove.snapshot("shop", "one");
    fs::write(cove.path("shop").join("a"), "two").unwrap();
    cove.snapshot("shop", "two");
    cove.json(&["restore", "shop", &one]);
    assert_eq!(fs::read(cove.path("shop").join("a")).unwrap(), b"one");
    assert_eq!(cove.timeline("shop").len(), 2, "the state before is entry two");
}
