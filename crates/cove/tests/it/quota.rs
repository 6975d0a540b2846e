//! A project that may hold so much and no more.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use cove_btrfs::{BtrfsPool, Pool, SubvolumePath};
use cove_testkit::proof::Chance;
use cove_testkit::trees::{describe, difference};
use cove_types::VolumeId;
use serde_json::{Value, json};

use crate::harness::{Cove, Objects, list, poll, text};

/// A look at a Cove's pool from outside, as an operator's.
fn pool(cove: &Cove) -> BtrfsPool {
    BtrfsPool::open(&cove.home.join("pool")).unwrap()
}

/// Limits what the project of these files may hold.
fn limit(cove: &Cove, root: &Path, bytes: Option<u64>) {
    let volume = root.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap();
    let volume: VolumeId = volume.parse().unwrap();
    pool(cove).set_limit(&volume, bytes).unwrap();
    pool(cove).flush().unwrap();
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn problems(cove: &Cove) -> Vec<String> {
    let shown: Value = cove.json(&["show", "shop"]);
    list(&shown["project"]["health"]["problems"]).iter().map(|one| text(&one["what"])).collect()
}

#[test]
fn a_restore_that_hits_the_quota_changes_nothing_and_leaves_room_for_small_writes() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/small"), "of the entry").unwrap();
    fs::write(root.join("dir/large"), Chance::new(5).bytes(48 << 20)).unwrap();
    let then = describe(&root).unwrap();
    let entry = cove.snapshot("shop", "whole");
    fs::remove_file(root.join("dir/large")).unwrap();
    fs::write(root.join("dir/small"), "of now").unwrap();
    cove.snapshot("shop", "now");
    // on another machine the entry is in the store alone, so that its restore writes all of it
    cove.lose_and_recover();
    let root = cove.path("shop");
    let mut before = describe(&root).unwrap();
    let entries = cove.timeline("shop");
    limit(&cove, &root, Some(24 << 20));
    let noise = Chance::new(6).bytes(1 << 20);
    for paths in [&[][..], &["--", "dir"]] {
        let said = cove.refuses(6, &[&["restore", "shop", &entry], paths].concat());
        assert!(said.starts_with("error: the quota of project shop is used up\n"), "{said}");
        assert!(said.contains("ModifyVolume"), "it says how it goes on: {said}");
        let differences = difference(&before, &describe(&root).unwrap());
        assert!(differences.is_empty(), "{paths:?}:\n{}", differences.join("\n"));
        // what was built has given back its room by now
        write(&root.join("by a program"), &noise).unwrap();
        cove.cove_with(&["files", "put", "shop:/by cove"], &noise).success();
        for name in ["by a program", "by cove"] {
            fs::remove_file(root.join(name)).unwrap();
        }
        before = describe(&root).unwrap();
        assert_eq!(cove.timeline("shop"), entries, "{paths:?}");
        let left = pool(&cove).list().unwrap();
        let is_built = |place: &&SubvolumePath| matches!(place, SubvolumePath::Incoming(_));
        assert_eq!(left.iter().find(is_built), None, "{paths:?}");
    }

    // a program that fills it is refused, and whoever looks is told
    let mut filled = 0;
    while write(&root.join(format!("fill-{filled}")), &noise).is_ok() {
        filled += 1;
    }
    assert!(filled > 20, "{filled} MiB fit into 24");
    let told = problems(&cove);
    assert!(told.iter().any(|what| what.contains("its quota is used up")), "{told:?}");
    // this limit is nobody's of Cove, so that Cove cannot raise it
    assert!(cove.text(&["show", "shop"]).contains("btrfs qgroup limit"));
    let output = cove.cove_with(&["files", "put", "shop:/more"], &noise.repeat(4));
    assert_eq!(output.code, 6, "{}", output.stderr);
    let said = "error: the quota of project shop is used up: more was not written\n";
    assert!(output.stderr.starts_with(said), "{}", output.stderr);
    for number in 0..=filled {
        cove.cove(&["files", "rm", "-f", &format!("shop:/fill-{number}")]).success();
    }
    poll("its quota is no longer used up", || {
        // what is removed is charged until the kernel's next commit
        pool(&cove).flush().unwrap();
        let told = problems(&cove);
        if told.is_empty() { Ok(()) } else { Err(format!("{told:?}")) }
    });
    cove.cove_with(&["files", "put", "shop:/more"], &noise.repeat(4)).success();
    cove.json(&["files", "rm", "shop:/more"]);

    limit(&cove, &root, Some(200 << 20));
    cove.json(&["restore", "shop", &entry]);
    let differences = difference(&then, &describe(&cove.path("shop")).unwrap());
    assert!(differences.is_empty(), "after the restore:\n{}", differences.join("\n"));
    assert_eq!(problems(&cove), Vec::<String>::new());
    assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], json!([]));
}

#[test]
fn a_project_is_held_to_the_quota_that_it_was_made_with_wherever_it_goes() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    let noise = Chance::new(7).bytes(12 << 20);
    let quota =
        |cove: &Cove, name: &str| cove.json(&["show", name])["project"]["quota_bytes"].clone();
    let holds = |cove: &Cove, name: &str, when: &str| {
        let root = cove.path(name);
        assert_eq!(quota(cove, name), json!(16 << 20), "{when}");
        write(&root.join("fits"), &noise).unwrap_or_else(|error| panic!("{when}: {error}"));
        let error = write(&root.join("more"), &noise).expect_err(when);
        assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded, "{when}");
        for name in ["fits", "more"] {
            let _ = fs::remove_file(root.join(name));
        }
        pool(cove).flush().unwrap();
        poll("what was removed is charged no longer", || {
            let volume = root.parent().and_then(Path::file_name).and_then(|name| name.to_str());
            let charged =
                pool(cove).usage(&volume.unwrap().parse().unwrap()).unwrap().charged_bytes;
            pool(cove).flush().unwrap();
            if charged < 2 << 20 { Ok(()) } else { Err(charged.to_string()) }
        });
    };
    cove.json(&["new", "shop", "--quota", "16MiB"]);
    cove.json(&["new", "free"]);
    let full = cove.path("shop").join("full");
    write(&full, &noise.repeat(2)).unwrap_err();
    poll("its quota is told to be used up", || {
        let shown = cove.text(&["show", "shop"]);
        match shown.contains("its quota is used up") {
            true if shown.contains("`ModifyVolume`") && !shown.contains("qgroup") => Ok(()),
            _ => Err(shown),
        }
    });
    fs::remove_file(full).unwrap();
    assert_eq!(quota(&cove, "free"), Value::Null);
    holds(&cove, "shop", "new");
    let entry = cove.snapshot("shop", "empty");
    cove.json(&["fork", "shop", "--as", "copy"]);
    holds(&cove, "copy", "a fork of now");
    cove.json(&["fork", &format!("shop@{entry}"), "--as", "old"]);
    holds(&cove, "old", "a fork of an entry");
    cove.json(&["restore", "shop", &entry]);
    holds(&cove, "shop", "after a restore");
    cove.stop();
    cove.up();
    holds(&cove, "shop", "after a restart");
    cove.json(&["wait", "shop"]);
    cove.json(&["wait", "copy"]);
    cove.lose_and_recover();
    for name in ["shop", "copy"] {
        holds(&cove, name, "on another machine");
    }
    write(&cove.path("free").join("large"), &noise.repeat(2)).unwrap();
}

#[test]
fn what_does_not_fit_into_its_quota_is_not_made() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let said = cove.refuses(2, &["new", "tiny", "--quota", "4096"]);
    assert!(said.contains("1 MiB to 1 EiB") && said.contains("--quota"), "{said}");
    let source = cove.make_dir("source");
    fs::write(source.join("large"), Chance::new(8).bytes(24 << 20)).unwrap();
    let said = cove.refuses(6, &["new", "shop", "--from", "source", "--quota", "8MiB"]);
    let why = "error: a quota of 8 MiB does not hold what project shop is to begin with\n\n\
        hint: nothing was made: give a larger --quota\n";
    assert!(said.ends_with(why), "{said}");
    assert_eq!(list(&cove.json(&["ls"])["projects"]), [0_u8; 0].map(Value::from));
    let left = pool(&cove).list().unwrap();
    assert!(left.is_empty(), "{left:?}");
    cove.json(&["new", "shop", "--from", "source", "--quota", "64MiB"]);
}
