//! A restore: of all, of a path, and of who works there meanwhile.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;

use crate::harness::{Cove, Objects, Settings, poll, text, texts};

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
fn a_restore_waits_for_nobody_and_loses_nothing_of_who_writes_on() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::write(root.join("log"), "first\n").unwrap();
    let entry = cove.snapshot("shop", "first");
    fs::write(root.join("log"), "second\n").unwrap();

    let mut open = File::options().append(true).open(root.join("log")).unwrap();
    let pid = std::process::id().to_string();
    let program = fs::read_to_string("/proc/self/comm").unwrap();
    let said = poll("it names who writes", || {
        // a child that another test has just forked writes too, until it becomes another program
        let said = cove.refuses(4, &["restore", "shop", &entry]);
        if said.contains(&pid) { Ok(said) } else { Err(format!("{pid}: {said}")) }
    });
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

#[test]
fn a_path_and_one_below_it_are_restored_as_one() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::create_dir(root.join("src")).unwrap();
    fs::write(root.join("src/a"), "a").unwrap();
    let entry = cove.snapshot("shop", "good");
    fs::write(root.join("src/a"), "changed").unwrap();
    fs::write(root.join("src/b"), "new").unwrap();
    let paths = ["src/b", "src", "src/a", "."];
    cove.json(&[&["restore", "shop", &entry, "--"][..], &paths].concat());
    assert_eq!(fs::read(root.join("src/a")).unwrap(), b"a");
    assert!(!root.join("src/b").exists());
    // The one was taken for what a program wrote into the files that the other had replaced.
    let health = &cove.json(&["show", "shop"])["project"]["health"];
    assert_eq!(health["problems"], serde_json::json!([]));
    let kinds = texts(&cove.json(&["timeline", "shop"])["entries"], "kind");
    assert_eq!(kinds, ["before-restore", "manual"]);
    cove.refuses(3, &["restore", "shop", &entry, "--", "src", "src/none"]);
}

#[test]
fn what_is_removed_and_brought_back_is_what_is_printed() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    for name in ["shop", "one", "two"] {
        cove.json(&["new", name]);
    }
    let entry = cove.snapshot("shop", "kept");
    let at = format!("shop@{entry}");
    assert_eq!(cove.text(&["rm", &at, "one", "two"]), format!("{entry}\none\ntwo\n"));
    for (name, printed) in [(at.as_str(), entry.as_str()), ("one", "one"), ("two", "two")] {
        assert_eq!(cove.text(&["undelete", name]), format!("{printed}\n"), "{name}");
    }
    // One object for all of them; the first that fails ends it, and what is left is named.
    let removed = cove.json(&["rm", &at, "one"])["removed"].clone();
    assert_eq!(removed[0]["entry"]["id"], entry.as_str());
    assert_eq!(removed[1]["project"]["slug"], "one");
    let refused = cove.cove(&["rm", "two", "none", "shop"]);
    assert_eq!(refused.code, 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("\nnot removed either: shop\n"), "{}", refused.stderr);
    assert_eq!(cove.text(&["ls", "--quiet"]), "shop\n");
    // A name that is none is refused before anything is removed.
    cove.refuses(2, &["rm", "shop", "No Name"]);
    assert_eq!(cove.text(&["ls", "--quiet"]), "shop\n");
}
