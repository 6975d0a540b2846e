//! Programs that write while paths of a project are restored.
//!
//! Whatever they wrote and fsynced is in the files afterwards or in an entry of the timeline.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, list, poll, run, text};

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

/// A way to have a file open that no path of a process shows.
enum Hidden {
    /// By another mount.
    Mount,
    /// On its way through a socket.
    Socket,
    /// Under a loop device.
    Loop,
}

/// Restores a path while something has it open in a way that is hard to see, and writes afterwards: what
/// was written is in an entry.
fn late_write_is_found(hidden: &Hidden) {
    let Some(cove) = cove() else { return };
    cove.text(&["new", "shop"]);
    let dir = cove.path("shop").join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("log"), vec![b'1'; 4096]).unwrap();
    let entry = cove.snapshot("shop", "before");
    fs::write(dir.join("log"), vec![b'2'; 4096]).unwrap();
    let log = dir.join("log");
    let restore = |more: &[&str]| {
        cove.text(&[&["restore", "shop", &entry], more, &["--", "d/log"]].concat());
        assert_eq!(fs::read(&log).unwrap(), vec![b'1'; 4096]);
    };
    let late = vec![b'3'; 4096];
    let write = |file: &File| {
        file.write_all_at(&late, 0).unwrap();
        file.sync_all().unwrap();
    };
    let open = |at: &Path| OpenOptions::new().read(true).write(true).open(at).unwrap();
    match hidden {
        Hidden::Mount => {
            let other = tempfile::tempdir().unwrap();
            rustix::mount::mount_bind(&dir, other.path()).unwrap();
            let file = open(&other.path().join("log"));
            // it goes with the last descriptor
            rustix::mount::unmount(other.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
            let own = std::process::id().to_string();
            poll("it names who writes", || {
                // a child that another test has just forked writes too, until it becomes another program
                let refused = cove.refuses(4, &["restore", "shop", &entry, "--", "d/log"]);
                if refused.contains(&own) { Ok(()) } else { Err(format!("{own}: {refused}")) }
            });
            restore(&["--force"]);
            write(&file);
        }
        Hidden::Socket => {
            let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
            send(&one, &open(&log));
            restore(&[]);
            write(&receive(&other));
        }
        Hidden::Loop => {
            let attached = run(Command::new("losetup").args(["--find", "--show"]).arg(&log), b"");
            let device = attached.success().stdout;
            restore(&[]);
            write(&open(Path::new(device.trim())));
            run(Command::new("losetup").args(["--detach", device.trim()]), b"").success();
        }
    }
    poll("the rescue of late writes", || {
        let entries = cove.json(&["timeline", "shop"]);
        let entries = list(&entries["entries"]);
        let rescue = entries.iter().find(|entry| entry["kind"] == "rescue");
        let Some(rescue) = rescue else { return Err(format!("{entries:?}")) };
        let found = cove.cove(&["files", "cat", &format!("shop@{}:/d/log", text(&rescue["id"]))]);
        if found.stdout.as_bytes() == late { Ok(()) } else { Err(found.stdout) }
    });
}

fn send(socket: &std::os::unix::net::UnixStream, file: &File) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    let descriptors = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let bytes = [IoSlice::new(b"x")];
    rustix::net::sendmsg(socket, &bytes, &mut control, SendFlags::empty()).unwrap();
}

fn receive(socket: &std::os::unix::net::UnixStream) -> File {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut bytes, &mut control, RecvFlags::empty()).unwrap();
    let files = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    files.unwrap().into()
}

#[test]
fn a_writer_that_came_by_another_mount_is_named_and_what_it_writes_late_is_kept() {
    late_write_is_found(&Hidden::Mount);
}

#[test]
fn what_is_written_by_a_descriptor_that_was_on_its_way_is_kept() {
    late_write_is_found(&Hidden::Socket);
}

#[test]
fn what_is_written_through_a_loop_device_is_kept() {
    late_write_is_found(&Hidden::Loop);
}

/// The content of a file at the newest rescue entry.
fn rescued(cove: &Cove, path: &str, expected: &str) {
    poll("the rescue of late writes", || {
        let entries = cove.json(&["timeline", "shop"]);
        let entries = list(&entries["entries"]);
        let rescues = entries.iter().filter(|entry| entry["kind"] == "rescue");
        let found: Vec<String> = rescues
            .map(|entry| format!("shop@{}:/{path}", text(&entry["id"])))
            .map(|place| cove.cove(&["files", "cat", &place]).stdout)
            .collect();
        if found.iter().any(|found| found == expected) { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

#[test]
fn what_is_written_after_a_restore_of_its_path_and_a_whole_one_becomes_a_rescue() {
    let Some(cove) = cove() else { return };
    cove.text(&["new", "shop"]);
    let dir = cove.path("shop").join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("log"), b"first\n").unwrap();
    let entry = cove.snapshot("shop", "before");
    let mut log = OpenOptions::new().append(true).open(dir.join("log")).unwrap();
    log.write_all(b"second\n").unwrap();
    log.sync_all().unwrap();
    cove.text(&["restore", "shop", &entry, "--force", "--", "d/log"]);
    fs::write(cove.path("shop").join("other"), b"other").unwrap();
    cove.text(&["restore", "shop", &entry, "--force"]);
    log.write_all(b"late\n").unwrap();
    log.sync_all().unwrap();
    rescued(&cove, "d/log", "first\nsecond\nlate\n");
}

#[test]
fn a_late_write_is_kept_also_when_a_file_has_the_place_of_its_directory() {
    let Some(cove) = cove() else { return };
    cove.text(&["new", "shop"]);
    let dir = cove.path("shop").join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("log"), b"first\n").unwrap();
    let entry = cove.snapshot("shop", "before");
    let mut log = OpenOptions::new().append(true).open(dir.join("log")).unwrap();
    cove.text(&["restore", "shop", &entry, "--force", "--", "d/log"]);
    fs::remove_dir_all(&dir).unwrap();
    fs::write(&dir, b"no directory").unwrap();
    log.write_all(b"late\n").unwrap();
    log.sync_all().unwrap();
    rescued(&cove, "d/log", "first\nlate\n");
    // and what is written now is saved by itself
    poll("the present state to be saved", || {
        let shown = cove.json(&["show", "shop"]);
        let health = &shown["project"]["health"]["state"];
        let is_saved = shown["project"]["unsaved_bytes"] == 0;
        if is_saved && health != "at_risk" { Ok(()) } else { Err(format!("{shown}")) }
    });
}

#[test]
fn a_restore_of_a_path_goes_into_no_mount_and_no_other_subvolume() {
    let Some(cove) = cove() else { return };
    cove.text(&["new", "shop"]);
    let root = cove.path("shop");
    let at = root.join("d/mnt");
    fs::create_dir_all(&at).unwrap();
    fs::create_dir(root.join("data")).unwrap();
    fs::write(root.join("data/file"), b"of the workspace").unwrap();
    let entry = cove.snapshot("shop", "before");
    fs::write(root.join("d/new"), b"new").unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), b"outside").unwrap();
    // what is mounted may be of this very subvolume
    for (source, file) in [
        (outside.path(), outside.path().join("file")),
        (&root.join("data"), root.join("data/file")),
    ] {
        rustix::mount::mount_bind(source, &at).unwrap();
        let refused = cove.cove(&["restore", "shop", &entry, "--force", "--", "d"]);
        let removed = cove.cove(&["files", "rm", "-r", "shop:/d"]);
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains("d/mnt"), "{refused:?}");
        assert_ne!(removed.code, 0, "{removed:?}");
        assert!(file.exists(), "{} is gone", file.display());
        fs::create_dir_all(&at).unwrap();
    }
    fs::remove_dir(&at).unwrap();
    let made = run(Command::new("btrfs").args(["subvolume", "create"]).arg(&at), b"");
    assert_eq!(made.code, 0, "{made:?}");
    fs::write(at.join("file"), b"of the subvolume").unwrap();
    let refused = cove.refuses(4, &["restore", "shop", &entry, "--force", "--", "d"]);
    assert!(refused.contains("d/mnt"), "{refused}");
    assert_eq!(fs::read(at.join("file")).unwrap(), b"of the subvolume");
    run(Command::new("btrfs").args(["subvolume", "delete"]).arg(&at), b"").success();
    cove.text(&["restore", "shop", &entry, "--", "d"]);
    assert!(!root.join("d/new").exists());
}

#[test]
fn an_upload_that_comes_slowly_keeps_nobody_waiting() {
    let Some(cove) = cove() else { return };
    cove.text(&["new", "shop"]);
    fs::write(cove.path("shop").join("file"), b"first").unwrap();
    let entry = cove.snapshot("shop", "before");
    let mut put = cove.program();
    put.args(["files", "put", "shop:/slow"]);
    put.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut put = put.spawn().unwrap();
    let mut body = put.stdin.take().unwrap();
    body.write_all(&vec![b'x'; 1 << 20]).unwrap();
    // it is under way: its file has no name yet
    fs::write(cove.path("shop").join("file"), b"second").unwrap();
    cove.text(&["restore", "shop", &entry]);
    cove.snapshot("shop", "after");
    assert!(!cove.path("shop").join("slow").exists());
    drop(body);
    assert!(put.wait().unwrap().success());
    assert_eq!(fs::read(cove.path("shop").join("slow")).unwrap(), vec![b'x'; 1 << 20]);
    assert_eq!(fs::read(cove.path("shop").join("file")).unwrap(), b"first");
}
