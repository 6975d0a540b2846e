//! What a tree cannot hold is named, and is in nobody else's way.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cove_testkit::trees::{Description, describe, difference};
use serde_json::{Value, json};

use crate::harness::{Cove, Objects, list, run, text, texts};

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
    cove.json(&["restore", "shop", &entry]);
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
