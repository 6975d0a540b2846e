//! What goes in comes back, to the last bit.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use cove_testkit::proof::figure;
use cove_testkit::trees::{Description, build_awkward_tree, describe, difference};
use serde_json::json;

use crate::harness::{
    Cove, Objects, Settings, keep_copy, list, poll, run, same_trees, text, texts,
};

/// What a tree is in a project: its owner is the workspace's, set-id bits and devices are not
/// kept.
fn as_in_a_project(dir: &Path) -> std::collections::BTreeMap<Vec<u8>, Description> {
    let mut described = describe(dir).unwrap();
    for one in described.values_mut() {
        one.uid = 1000;
        one.gid = 1000;
        one.mode &= 0o1777;
    }
    // Sockets are what a running program listens on: `new --from` leaves them out.
    described.retain(|_, one| {
        use cove_testkit::trees::Kind;
        !matches!(one.kind, Kind::Socket | Kind::Other)
    });
    described
}

#[test]
fn an_awkward_tree_comes_in_is_lost_and_comes_back() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    an_awkward_tree(cove);
}

#[test]
fn an_awkward_tree_comes_back_from_a_bucket() {
    let Some(cove) = Cove::start(Objects::S3) else { return };
    an_awkward_tree(cove);
}

fn an_awkward_tree(mut cove: Cove) {
    let source = cove.make_dir("source");
    build_awkward_tree(&source, 7, 150).unwrap();
    // What is in a directory does not change its time any more: it was set last.
    let made = cove.cove(&["new", "shop", "--from", "source"]).success();
    assert!(made.stderr.contains("socket"), "what is left out is named: {}", made.stderr);
    let mut expected = as_in_a_project(&source);
    let mut found = describe(&cove.path("shop")).unwrap();
    let differences = difference(&expected, &found);
    assert!(differences.is_empty(), "as it came in:\n{}", differences.join("\n"));

    // Inside a workspace sockets are kept, set-id bits are not captured and named.
    let root = cove.path("shop");
    let socket = std::os::unix::net::UnixListener::bind(root.join("own.sock")).unwrap();
    fs::write(root.join("setuid"), "#!/bin/sh\n").unwrap();
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    }
    let device = run(Command::new("mknod").arg(root.join("null")).args(["c", "1", "3"]), b"");
    let nested =
        run(Command::new("btrfs").args(["subvolume", "create"]).arg(root.join("nested")), b"");
    assert_eq!(device.code, 0, "{}", device.stderr);
    let entry = cove.snapshot("shop", "awkward");
    let shown = cove.json(&["show", "shop"]);
    let lacks = &shown["project"]["health"]["not_captured"];
    let paths = texts(lacks, "path");
    for path in ["null", "setuid"] {
        assert!(paths.contains(&path.to_owned()), "{path} is named: {lacks}");
    }
    if nested.code == 0 {
        assert!(paths.contains(&"nested".to_owned()), "{lacks}");
    }
    let verified = cove.json(&["verify", "shop", "--level", "2"]);
    assert_eq!(verified["problems"], json!([]), "that is no problem");
    assert!(texts(&verified["not_captured"], "path").contains(&"setuid".to_owned()));
    found = describe(&root).unwrap();
    found.retain(|path, _| path != b"null" && path != b"nested");
    for one in found.values_mut() {
        one.mode &= 0o1777;
    }
    expected = found;
    drop(socket);

    assert!(cove.stop().success());
    cove.lose_home();
    cove.up();
    cove.json(&["recover", "--take"]);
    let found = describe(&cove.path("shop")).unwrap();
    let differences = difference(&expected, &found);
    assert!(differences.is_empty(), "as it came back:\n{}", differences.join("\n"));
    fs::remove_file(cove.path("shop").join("setuid")).unwrap();
    cove.json(&["restore", "shop", &entry]);
    let found = describe(&cove.path("shop")).unwrap();
    let differences = difference(&expected, &found);
    assert!(differences.is_empty(), "as restored:\n{}", differences.join("\n"));
    figure("an awkward tree, lost and back", format!("{} paths compared", found.len()));
}

#[test]
fn a_large_sparse_file_stays_sparse() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    for at in [0, 300_000_001, (1 << 30) - 7] {
        sparse.write_all_at(b"content", at).unwrap();
    }
    drop(sparse);
    cove.json(&["new", "shop", "--from", "source"]);
    cove.snapshot("shop", "sparse");
    assert!(cove.stop().success());
    cove.lose_home();
    cove.up();
    cove.json(&["recover", "--take"]);
    let back = File::open(cove.path("shop").join("sparse")).unwrap();
    let metadata = back.metadata().unwrap();
    assert_eq!(metadata.size(), 1 << 30);
    assert!(metadata.blocks() * 512 < 2 << 20, "it takes {} blocks", metadata.blocks());
    for at in [0, 300_000_001, (1 << 30) - 7] {
        let mut bytes = [0; 7];
        back.read_exact_at(&mut bytes, at).unwrap();
        assert_eq!(&bytes, b"content", "at {at}");
    }
    let stored: u64 = cove.stored_objects().iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(stored < 1 << 20, "{stored} bytes are stored");
}

#[test]
fn each_of_several_entries_comes_back_as_it_was() {
    let settings = Settings { pool_bytes: "1GiB", ..Settings::with(Objects::Directory) };
    let Some(mut cove) = Cove::start_with(settings) else { return };
    let source = cove.make_dir("source");
    build_awkward_tree(&source, 11, 80).unwrap();
    cove.json(&["new", "shop", "--from", "source"]);
    let mut kept = Vec::new();
    for round in 0..3_u8 {
        let root = cove.path("shop");
        edit(&root, round);
        let copy = cove.dir.path().join(format!("kept-{round}"));
        keep_copy(&root, &copy);
        let entry = cove.snapshot("shop", "round");
        kept.push((entry, copy));
    }
    let check = |cove: &Cove, when: &str| {
        for (entry, copy) in kept.iter().rev().chain(&kept) {
            cove.json(&["restore", "shop", entry]);
            same_trees(&format!("{entry} {when}"), copy, &cove.path("shop"));
        }
    };
    check(&cove, "on this node");
    assert!(cove.stop().success());
    cove.lose_home();
    cove.up();
    cove.json(&["recover", "--take"]);
    check(&cove, "from the store");
    // Paths of one entry in the state of another.
    let (entry, copy) = &kept[0];
    cove.json(&["restore", "shop", &kept[2].0]);
    cove.json(&["restore", "shop", entry, "--", "contents", "edited", "becomes"]);
    for path in ["contents", "edited", "becomes"] {
        let found = cove.path("shop").join(path);
        match copy.join(path).is_dir() {
            true => same_trees(path, &copy.join(path), &found),
            false => assert_eq!(fs::read(copy.join(path)).unwrap(), fs::read(found).unwrap()),
        }
    }
    let changes = cove.json(&["diff", &format!("shop@{}..shop@{}", kept[0].0, kept[0].0)]);
    assert_eq!(changes, json!({ "changes": [] }));
}

/// Changes of all kinds; in each round others.
fn edit(root: &Path, round: u8) {
    let database = File::options().write(true).open(root.join("contents/database.sqlite")).unwrap();
    database.write_all_at(&[round; 4096], u64::from(round) * 8192).unwrap();
    let sparse = File::options().write(true).open(root.join("contents/sparse-64m")).unwrap();
    sparse.write_all_at(b"edited", 20 << 20 | u64::from(round)).unwrap();
    sparse.set_len((64 << 20) - u64::from(round)).unwrap();
    let becomes = root.join("becomes");
    match round {
        0 => fs::write(&becomes, "a file").unwrap(),
        1 => {
            fs::remove_file(&becomes).unwrap();
            fs::create_dir(&becomes).unwrap();
            fs::write(becomes.join("below"), "a directory").unwrap();
        }
        _ => {
            fs::remove_dir_all(&becomes).unwrap();
            std::os::unix::fs::symlink("nowhere", &becomes).unwrap();
        }
    }
    fs::create_dir_all(root.join("edited")).unwrap();
    fs::write(root.join(format!("edited/new-{round}")), vec![round; 20_000]).unwrap();
    if round > 0 {
        let before = root.join(format!("edited/new-{}", round - 1));
        fs::hard_link(&before, root.join(format!("edited/link-{round}"))).unwrap();
        fs::rename(before, root.join(format!("edited/renamed-{round}"))).unwrap();
    }
    for path in ["becomes", "edited"] {
        own_all(&root.join(path));
    }
}

fn own_all(path: &Path) {
    std::os::unix::fs::lchown(path, Some(1000), Some(1000)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for one in fs::read_dir(path).unwrap() {
            own_all(&one.unwrap().path());
        }
    }
}

#[test]
fn a_file_that_changes_while_it_comes_in_is_whole_at_some_length() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    fs::write(source.join("steady"), "steady").unwrap();
    fs::write(source.join("grows"), "").unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (stop, path) = (stop.clone(), source.join("grows"));
        std::thread::spawn(move || {
            let file = File::options().write(true).open(path).unwrap();
            let mut at = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && at < 200 << 20 {
                file.write_all_at(&[7; 1000], at).unwrap();
                at += 1000;
            }
        })
    };
    poll("it has begun to grow", || {
        let length = fs::metadata(source.join("grows")).unwrap().len();
        if length > 1 << 20 { Ok(()) } else { Err(length.to_string()) }
    });
    let made = cove.cove(&["new", "shop", "--from", "source", "--json"]).success();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
    let bytes = fs::read(cove.path("shop").join("grows")).unwrap();
    assert!(bytes.len() > 1 << 20 && bytes.iter().all(|byte| *byte == 7), "{}", made.stderr);
    assert_eq!(fs::read(cove.path("shop").join("steady")).unwrap(), b"steady");
}

#[test]
fn coves_own_home_below_the_source_is_left_out_and_named() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    fs::write(cove.dir.path().join("mine"), "mine").unwrap();
    let made = cove.cove(&["new", "shop", "--from", "."]).success();
    assert!(made.stderr.contains("home") && made.stderr.contains("objects"), "{}", made.stderr);
    let files = texts(&cove.json(&["files", "ls", "shop:/"])["files"], "path");
    assert!(files.contains(&"mine".to_owned()), "{files:?}");
    assert!(!files.contains(&"home".to_owned()) && !files.contains(&"objects".to_owned()));
    // Who brings it in need not know what `up` was told.
    let mut program = cove.program();
    program.env_remove("COVE_OBJECTS").args(["new", "again", "--from", "."]);
    let made = run(&mut program, b"").success();
    assert!(made.stderr.contains("objects"), "{}", made.stderr);
    let files = texts(&cove.json(&["files", "ls", "again:/"])["files"], "path");
    assert!(!files.contains(&"objects".to_owned()), "{files:?}");
}

#[test]
fn while_a_swap_file_is_active_there_is_no_snapshot_and_health_says_why() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    cove.snapshot("shop", "before");
    let swap = cove.path("shop").join("swap");
    let script = "set -e; touch \"$0\"; chattr +C \"$0\"; chmod 600 \"$0\"; \
                  dd if=/dev/zero of=\"$0\" bs=1M count=8 status=none; mkswap -q \"$0\"; swapon \"$0\"";
    let on = run(Command::new("sh").args(["-c", script]).arg(&swap), b"");
    if on.code != 0 {
        eprintln!("SKIPPED: this machine activates no swap file: {}", on.stderr);
        return;
    }
    let output = cove.cove(&["snapshot", "shop"]);
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        poll("health names the swap file", || {
            let shown = cove.json(&["show", "shop"]);
            let problems = list(&shown["project"]["health"]["problems"]);
            let named = problems.iter().any(|problem| text(&problem["what"]).contains("swap"));
            if named { Ok(()) } else { Err(shown.to_string()) }
        });
    }));
    let off = run(Command::new("swapoff").arg(&swap), b"");
    assert_eq!(off.code, 0, "{}", off.stderr);
    assert_eq!(output.code, 4, "{}", output.stderr);
    assert!(output.stderr.contains("swap"), "{}", output.stderr);
    assert!(told.is_ok());
    cove.snapshot("shop", "after");
}
