//! What a tree cannot hold is named, and is in nobody else's way.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cove_testkit::trees::{Description, describe, difference};
use rustix::fs::{AtFlags, Mode, OFlags};
use serde_json::{Value, json};

use crate::harness::{Cove, Objects, list, poll, run, text, texts};

#[track_caller]
fn tool(program: &str, arguments: &[&OsStr]) {
    let output = run(Command::new(program).args(arguments), b"");
    assert_eq!(output.code, 0, "{program} {arguments:?}: {}", output.stderr);
}

/// A project with what can be kept and all that cannot.
fn make_uncapturable(root: &Path) {
    for dir in ["plain/below", "mixed", "src"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::write(root.join("plain/below/a"), "a").unwrap();
    fs::write(root.join("mixed/kept"), "kept").unwrap();
    fs::write(root.join("src/app.ts"), "one").unwrap();
    tool(
        "btrfs",
        &["-q", "subvolume", "create"]
            .map(OsStr::new)
            .iter()
            .copied()
            .chain([root.join("nested").as_os_str()])
            .collect::<Vec<_>>(),
    );
    fs::write(root.join("nested/inside"), "inside").unwrap();
    tool("mknod", &[root.join("mixed/null").as_os_str(), "c".as_ref(), "1".as_ref(), "3".as_ref()]);
    fs::write(root.join("mixed/setuid"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("mixed/setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::create_dir(root.join("mixed/setgid")).unwrap();
    fs::set_permissions(root.join("mixed/setgid"), fs::Permissions::from_mode(0o2755)).unwrap();
}

fn delete_subvolume(path: &Path) {
    tool("btrfs", &["subvolume".as_ref(), "delete".as_ref(), path.as_os_str()]);
}

/// What a restore makes of it: nothing that a tree cannot hold.
fn kept_of(root: &Path) -> std::collections::BTreeMap<Vec<u8>, Description> {
    let mut tree = describe(root).unwrap();
    tree.retain(|path, _| !path.starts_with(b"nested") && path != b"mixed/null");
    for one in tree.values_mut() {
        one.mode &= 0o1777;
    }
    tree
}

fn lacks(value: &Value) -> Vec<(String, String)> {
    list(value).iter().map(|one| (text(&one["path"]), text(&one["what"]))).collect()
}

#[test]
fn what_a_tree_cannot_hold_is_named_and_nothing_else_suffers() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    make_uncapturable(&root);
    let expected = kept_of(&root);
    let entry = cove.snapshot("shop", "awkward");

    let shown = cove.json(&["show", "shop"]);
    let health = &shown["project"]["health"];
    let verified = cove.json(&["verify", "shop", "--level", "2"]);
    assert_eq!(verified["problems"], json!([]), "that is no problem");
    for named in [lacks(&health["not_captured"]), lacks(&verified["not_captured"])] {
        let has = |path: &str, what: &str| {
            named.iter().any(|(at, why)| at.starts_with(path) && why.contains(what))
        };
        for (path, what) in [
            ("nested", "subvolume"),
            ("mixed/null", "device"),
            ("mixed/setuid", "setuid"),
            ("mixed/setgid", "setgid"),
        ] {
            assert!(has(path, what), "{path}: {what} in {named:?}");
        }
    }
    let said = cove.text(&["show", "shop"]);
    assert!(said.contains("mixed/null") && said.contains("nested"), "{said}");
    assert_eq!(shown["project"]["durability"], "saved");

    // A change is saved as a difference.
    fs::write(root.join("src/app.ts"), "two").unwrap();
    let second = cove.snapshot("shop", "changed");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{second}:/src/app.ts")]), "two");

    // Forks and restores of what there is.
    cove.json(&["fork", "shop", "--as", "from-now"]);
    cove.json(&["fork", &format!("shop@{entry}"), "--as", "from-entry"]);
    cove.json(&["restore", "shop", &entry, "--", "src"]);
    assert_eq!(fs::read(root.join("src/app.ts")).unwrap(), b"one");
    cove.json(&["restore", "shop", &entry, "--", "mixed"]);
    cove.json(&["restore", "shop", &entry, "--", "plain"]);
    // what no entry holds does not go with the state before unless that is meant
    let refused = cove.refuses(4, &["restore", "shop", &entry]);
    assert!(refused.contains("nested is another subvolume"), "{refused}");
    assert!(root.join("nested").exists(), "a refused restore changes nothing");
    cove.json(&["restore", "shop", &entry, "--force"]);
    let differs = |name: &str| {
        let found = kept_of(&cove.path(name));
        let lines = difference(&expected, &found);
        assert!(lines.is_empty(), "{name}:\n{}", lines.join("\n"));
    };
    differs("shop");
    differs("from-entry");
    let root = cove.path("shop");
    assert!(!root.join("mixed/null").exists(), "two restores of one entry are equal");

    // Removing.
    let fork = cove.path("from-now");
    cove.json(&["files", "rm", "-r", "from-now:/plain"]);
    assert!(!fork.join("plain").exists());
    cove.json(&["files", "rm", "-r", "from-now:/mixed"]);
    assert!(!fork.join("mixed").exists());
    cove.json(&["rm", "from-now"]);
    cove.json(&["undelete", "from-now"]);
    cove.json(&["rm", "from-entry"]);

    cove.lose_and_recover();
    let found = kept_of(&cove.path("shop"));
    let lines = difference(&expected, &found);
    assert!(lines.is_empty(), "after a loss:\n{}", lines.join("\n"));
}

#[test]
fn what_cannot_be_held_can_be_removed() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    make_uncapturable(&root);
    cove.snapshot("shop", "all of it");
    for path in ["mixed/null", "mixed/setuid"] {
        cove.json(&["files", "rm", &format!("shop:/{path}")]);
        assert!(root.join(path).symlink_metadata().is_err(), "{path} is gone");
    }
    // A nested subvolume is deleted by who made it.
    let output = cove.cove(&["files", "rm", "-r", "shop:/nested"]);
    match output.code {
        0 => assert!(root.join("nested").symlink_metadata().is_err()),
        code => {
            assert!(matches!(code, 2 | 4), "{}", output.stderr);
            assert!(output.stderr.contains("nested subvolume"), "{}", output.stderr);
            assert!(root.join("nested/inside").exists());
            delete_subvolume(&root.join("nested"));
        }
    }
    cove.json(&["files", "rm", "-r", "shop:/mixed/setgid"]);
    cove.snapshot("shop", "none of it");
    let shown = cove.json(&["show", "shop"]);
    assert_eq!(shown["project"]["health"]["not_captured"], json!([]));
    assert_eq!(shown["project"]["health"]["not_captured_count"], 0);
}

#[test]
fn what_is_in_the_way_of_one_project_is_not_in_another_ones() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "awkward"]);
    make_uncapturable(&cove.path("awkward"));
    cove.json(&["new", "plain"]);
    cove.cove_with(&["files", "put", "plain:/a"], b"a").success();
    cove.snapshot("awkward", "one");
    cove.snapshot("plain", "one");
    let shown = cove.json(&["show", "plain"]);
    assert_eq!(shown["project"]["health"]["not_captured"], json!([]));
    let verified = cove.json(&["verify"]);
    assert!(verified["not_captured"].to_string().contains("mixed/null"), "{verified}");
    cove.json(&["rm", "awkward"]);
    assert_eq!(texts(&cove.json(&["trash"])["projects"], "slug"), ["awkward"]);
    cove.json(&["undelete", "awkward"]);
    let root = cove.path("awkward");
    assert!(root.join("mixed/kept").exists());
}
/// Takes the immutable flag away in all cases, so that the test's directory can go.
struct Immutable(PathBuf);

impl Immutable {
    fn set(path: PathBuf) -> Self {
        tool("chattr", &["+i".as_ref(), path.as_ref()]);
        Self(path)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn an_immutable_file_is_named_and_holds_up_nothing() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::create_dir(root.join("src")).unwrap();
    fs::write(root.join("src/kept"), "kept").unwrap();
    fs::write(root.join("src/fixed"), "fixed").unwrap();
    let flag = Immutable::set(root.join("src/fixed"));
    let entry = cove.snapshot("shop", "with a flag");
    let shown = cove.json(&["show", "shop"]);
    let named = lacks(&shown["project"]["health"]["not_captured"]);
    let is_named =
        |(path, what): &(String, String)| path == "src/fixed" && what.contains("immutable");
    assert!(named.iter().any(is_named), "{named:?}");
    let verified = cove.json(&["verify", "shop"]);
    assert!(lacks(&verified["not_captured"]).iter().any(is_named), "{verified}");

    cove.json(&["fork", "shop", "--as", "other"]);
    fs::write(root.join("src/kept"), "changed").unwrap();
    cove.json(&["restore", "shop", &entry, "--", "src/kept"]);
    assert_eq!(fs::read(root.join("src/kept")).unwrap(), b"kept");
    cove.json(&["restore", "shop", &entry]);
    let restored = cove.path("shop").join("src/fixed");
    assert_eq!(fs::read(&restored).unwrap(), b"fixed");
    // A tree does not hold the flag, so what is restored has none.
    fs::write(&restored, "no longer fixed").unwrap();
    // It is in the way of no restore of a path above it, and of no removal.
    let again = Immutable::set(restored.clone());
    cove.json(&["restore", "shop", &entry, "--", "src"]);
    assert_eq!(fs::read(&restored).unwrap(), b"fixed");
    drop(again);
    let again = Immutable::set(restored.clone());
    cove.json(&["files", "rm", "shop:/src/fixed"]);
    assert!(!restored.exists());
    cove.cove_with(&["files", "put", "shop:/src/fixed"], b"no longer fixed").success();
    let once_more = Immutable::set(restored.clone());
    cove.cove_with(&["files", "put", "shop:/src/fixed"], b"put over it").success();
    cove.json(&["files", "mv", "shop:/src/fixed", "shop:/src/moved"]);
    cove.json(&["files", "mv", "shop:/src/moved", "shop:/src/fixed"]);
    assert_eq!(fs::read(&restored).unwrap(), b"put over it");
    fs::write(&restored, "no longer fixed").unwrap();
    drop((again, once_more));
    let fork = Immutable(cove.path("other").join("src/fixed"));
    drop(File::open(&fork.0).unwrap());
    cove.json(&["files", "rm", "other:/src/kept"]);
    cove.json(&["rm", "other"]);
    drop((fork, flag));
    cove.snapshot("shop", "restored");
    cove.lose_and_recover();
    assert_eq!(fs::read(cove.path("shop").join("src/fixed")).unwrap(), b"no longer fixed");
}

#[test]
fn attributes_that_are_too_long_are_named_and_the_file_is_kept() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    for name in ["long", "lawful"] {
        fs::write(root.join(name), name).unwrap();
    }
    let set = |file: &str, count: usize| {
        for n in 0..count {
            let name = format!("user.attribute-{n}");
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::setxattr(root.join(file), name, &[n as u8; 12_000], flags).unwrap();
        }
    };
    set("long", 12);
    set("lawful", 10);
    let entry = cove.snapshot("shop", "attributes");
    let shown = cove.json(&["show", "shop"]);
    let named = lacks(&shown["project"]["health"]["not_captured"]);
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].0 == "long" && named[0].1.contains("extended attributes"), "{named:?}");
    let expected = describe(&root).unwrap();
    cove.lose_and_recover();
    for _ in 0..2 {
        let found = describe(&cove.path("shop")).unwrap();
        assert_eq!(found[&b"long"[..]].content, expected[&b"long"[..]].content);
        assert_eq!(found[&b"lawful"[..]], expected[&b"lawful"[..]]);
        cove.json(&["restore", "shop", &entry]);
    }
}

/// Directories of names of 250 bytes, deeper than any path can say, with a file at the end.
fn make_deep(root: &Path) {
    let mut dir =
        rustix::fs::open(root, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    for n in 0..20 {
        let name = format!("{n:02}{}", "d".repeat(248));
        let name = if n == 0 { "deep".to_owned() } else { name };
        rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(0o755)).unwrap();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        dir = rustix::fs::openat(&dir, &name, flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    rustix::fs::openat(&dir, "bottom", flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::fs::accessat(&dir, "bottom", rustix::fs::Access::EXISTS, AtFlags::empty()).unwrap();
}

#[test]
fn paths_too_long_for_any_call_are_named_and_so_is_the_rest() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    make_uncapturable(&root);
    make_deep(&root);
    let entry = cove.snapshot("shop", "deep");
    let shown = cove.json(&["show", "shop"]);
    let health = &shown["project"]["health"];
    let verified = cove.json(&["verify", "shop", "--level", "2"]);
    let is_named = |value: &Value| {
        let named = lacks(value);
        let has = |path: &str| named.iter().any(|(at, _)| at.starts_with(path));
        ["deep", "mixed/null", "mixed/setuid", "nested"].iter().all(|path| has(path))
    };
    assert!(is_named(&health["not_captured"]), "{health}");
    assert!(is_named(&verified["not_captured"]), "{verified}");
    assert!(cove.stop().success());
    cove.up();
    poll("they are named after a start too", || {
        let health = cove.json(&["show", "shop"])["project"]["health"].clone();
        if is_named(&health["not_captured"]) { Ok(()) } else { Err(health.to_string()) }
    });
    fs::write(root.join("src/app.ts"), "two").unwrap();
    cove.snapshot("shop", "changed");
    cove.json(&["fork", "shop", "--as", "other"]);
    cove.json(&["restore", "shop", &entry, "--", "src"]);
    cove.json(&["files", "rm", "-r", "other:/plain"]);
    cove.json(&["rm", "other"]);
    cove.json(&["restore", "shop", &entry, "--force"]);
    cove.lose_and_recover();
    assert_eq!(cove.text(&["files", "cat", "shop:/src/app.ts"]), "one");
    assert!(cove.path("shop").join("deep").is_dir(), "as far as a path reaches");
}
