//! Programs that write while paths of a project are restored.
//!
//! Whatever they wrote and fsynced is in the files afterwards or in an entry of the timeline.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, list, poll, text};

fn cove() -> Option<Cove> {
    let mut settings = Settings::with(Objects::Directory);
    settings.store_every = "200ms";
    settings.variables.push(("COVE_MAX_SNAPSHOTS_PER_PROJECT", "200".to_owned()));
    Cove::start_with(settings)
}

/// The names in a directory of the project, now and in every entry.
fn names_anywhere(cove: &Cove, project: &str, dir: &str) -> BTreeSet<String> {
    let mut moments = vec![project.to_owned()];
    let entries = cove.json(&["timeline", project, "--all"]);
    moments.extend(
        list(&entries["entries"]).iter().map(|entry| format!("{project}@{}", text(&entry["id"]))),
    );
    let mut names = BTreeSet::new();
    for moment in moments {
        let listed = cove.json(&["files", "ls", &format!("{moment}:/{dir}")]);
        names.extend(list(&listed["files"]).iter().map(|file| text(&file["path"])));
    }
    names
}

/// Makes files with names of its own and fsyncs them and their directory, until it is stopped;
/// what it had made for certain.
fn make_files(dir: &Path, prefix: &str, stop: &AtomicBool) -> Vec<String> {
    let mut made = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let name = format!("{prefix}-{number}");
        let written = || -> std::io::Result<()> {
            let mut file = File::create(dir.join(&name))?;
            file.write_all(name.as_bytes())?;
            file.sync_all()?;
            File::open(dir)?.sync_all()
        };
        if written().is_ok() {
            made.push(name);
        }
    }
    made
}

#[test]
fn what_is_written_by_name_while_its_directory_is_restored_is_in_the_files_or_in_an_entry() {
    let Some(cove) = cove() else { return };
    cove.text(&["new", "shop"]);
    let dir = cove.path("shop").join("d");
    fs::create_dir(&dir).unwrap();
    for number in 0..200 {
        fs::write(dir.join(format!("old-{number}")), b"old").unwrap();
    }
    let entry = cove.snapshot("shop", "before");
    let stop = AtomicBool::new(false);
    let made: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let (dir, stop) = (&dir, &stop);
                scope.spawn(move || make_files(dir, &format!("new-{writer}"), stop))
            })
            .collect();
        for _ in 0..4 {
            cove.text(&["restore", "shop", &entry, "--force", "--", "d"]);
        }
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert!(made.len() >= 10, "the writers were at work");
    cove.snapshot("shop", "after");
    poll("every file that was written", || {
        let there = names_anywhere(&cove, "shop", "d");
        let lost: Vec<&String> =
            made.iter().filter(|name| !there.contains(&format!("d/{name}"))).collect();
        if lost.is_empty() {
            Ok(())
        } else {
            Err(format!("{} of {}: {lost:?}", lost.len(), made.len()))
        }
    });
}

#[test]
fn what_a_program_writes_after_its_file_was_restored_becomes_a_rescue() {
    let Some(cove) = cove() else { return };
    cove.text(&["new", "shop"]);
    let dir = cove.path("shop").join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("log"), b"first\n").unwrap();
    let entry = cove.snapshot("shop", "before");
    let mut log = OpenOptions::new().append(true).open(dir.join("log")).unwrap();
    log.write_all(b"second\n").unwrap();
    log.sync_all().unwrap();
    cove.refuses(4, &["restore", "shop", &entry, "--", "d/log"]);
    cove.text(&["restore", "shop", &entry, "--force", "--", "d/log"]);
    assert_eq!(fs::read(dir.join("log")).unwrap(), b"first\n");
    let rescued = |expected: &str| {
        poll("the rescue of late writes", || {
            let entries = cove.json(&["timeline", "shop"]);
            let entries = list(&entries["entries"]);
            let rescue = entries.iter().find(|entry| entry["kind"] == "rescue");
            let Some(rescue) = rescue else { return Err(format!("{entries:?}")) };
            let place = format!("shop@{}:/d/log", text(&rescue["id"]));
            let found = cove.cove(&["files", "cat", &place]);
            if found.stdout == expected { Ok(()) } else { Err(found.stdout) }
        });
    };
    log.write_all(b"late\n").unwrap();
    log.sync_all().unwrap();
    rescued("first\nsecond\nlate\n");
    log.write_all(b"later\n").unwrap();
    log.sync_all().unwrap();
    rescued("first\nsecond\nlate\nlater\n");
    // it is brought up to date and not made again
    let entries = cove.json(&["timeline", "shop"]);
    let rescues = |entries: &Value| {
        list(&entries["entries"]).iter().filter(|entry| entry["kind"] == "rescue").count()
    };
    assert_eq!(rescues(&entries), 1);
    log.write_all(b"last\n").unwrap();
    log.sync_all().unwrap();
    drop(log);
    rescued("first\nsecond\nlate\nlater\nlast\n");
    // nobody has it open any more, and nothing of it stays beside the files
    let volume = cove.path("shop").parent().unwrap().to_owned();
    poll("nothing beside the files", || {
        let beside: Vec<_> = fs::read_dir(&volume)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with('.'))
            .collect();
        if beside.is_empty() { Ok(()) } else { Err(format!("{beside:?}")) }
    });
    assert_eq!(fs::read(dir.join("log")).unwrap(), b"first\n");
    // the timeline says what it is, health how to dismiss it, and then it is gone
    let told = cove.text(&["timeline", "shop"]);
    assert!(told.contains("written after a restore, by a program that had files open"), "{told}");
    let rescue = text(&cove.timeline("shop").iter().find(|e| e["kind"] == "rescue").unwrap()["id"]);
    let dismiss = format!("cove rm shop@{rescue}");
    assert!(cove.text(&["show", "shop"]).contains(&dismiss));
    let removed = cove.json(&["rm", &format!("shop@{rescue}")]);
    assert_eq!(
        (&removed["entry"]["state"], &removed["rolled_off"]),
        (&json!("trashed"), &json!([]))
    );
    assert!(!cove.text(&["show", "shop"]).contains(&rescue));
}
