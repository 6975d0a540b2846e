//! A workspace that takes all the room of its pool, from inside.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use cove_testkit::proof::{Chance, figure};
use rustix::fs::{XattrFlags, fsetxattr};
use serde_json::json;

use crate::full_and_away::{goes_on_by_itself, is_named};
use crate::harness::{Cove, Objects, Settings, poll};
use crate::loop_disk::LoopDisk;

/// The smallest pool and what a host keeps free (2 GiB), and too little besides for the pool to grow.
const DISK_BYTES: u64 = 2500 << 20;

/// A Cove whose pool cannot grow, on a disk of its own; it goes before its disk does.
fn start() -> Option<(LoopDisk, Cove)> {
    let settings = Settings {
        store_every: "1s",
        pool_bytes: "256MiB",
        // removing all of the tiny files takes 5 s here, and 40 where others use the disk
        patience: Duration::from_secs(150),
        ..Settings::with(Objects::Directory)
    };
    let mut cove = Cove::prepare(settings)?;
    let disk = LoopDisk::mount(DISK_BYTES);
    cove.home = disk.path().join("home");
    cove.up();
    Some((disk, cove))
}

fn is_full(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::StorageFull
}

/// Writes to a file until there is no room; gives how many MiB it took.
fn fill(path: &Path) -> usize {
    let mut chance = Chance::new(1);
    let mut file = File::create(path).unwrap();
    for written in 0.. {
        let piece = chance.bytes(1 << 20);
        if let Err(error) = file.write_all(&piece).and_then(|()| file.sync_data()) {
            assert!(is_full(&error), "{error}");
            return written;
        }
    }
    0
}

/// Makes files of which all is metadata, a name and an attribute, until there is no room.
fn fill_with_tiny(dir: &Path) -> usize {
    let mut chance = Chance::new(2);
    fs::create_dir(dir).unwrap();
    for made in 0.. {
        let done = File::create(dir.join(format!("{made:0200}")))
            .and_then(|file| {
                let attribute = chance.bytes(4000);
                Ok(fsetxattr(&file, "user.tiny", &attribute, XattrFlags::CREATE)?)
            })
            // what was only promised is refused now
            .and_then(|()| if made % 500 == 0 { File::open(dir)?.sync_all() } else { Ok(()) });
        if let Err(error) = done {
            assert!(is_full(&error), "{error}");
            return made;
        }
    }
    0
}

/// What holds while the pool is full: health names it, what is saved is read, looking works, what needs
/// room is done or says what to do, and a project and a file can be removed.
fn is_usable(cove: &Cove, entry: &str, spare: &str, file: &str) {
    is_named(cove, "shop", &["the pool is full"]);
    assert_eq!(cove.text(&["files", "cat", "shop:/kept"]), "kept");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/kept")]), "kept");
    cove.json(&["timeline", "shop"]);
    let snapshot = cove.cove(&["snapshot", "shop", "--no-wait"]);
    assert!(matches!(snapshot.code, 0 | 6), "{}: {}", snapshot.code, snapshot.stderr);
    assert!(snapshot.code == 0 || snapshot.stderr.contains("hint: "), "{}", snapshot.stderr);
    cove.json(&["rm", spare]);
    cove.json(&["files", "rm", &format!("shop:/{file}")]);
    cove.refuses(3, &["files", "stat", &format!("shop:/{file}")]);
}

#[test]
fn a_pool_that_is_filled_from_inside_by_data_and_by_tiny_files_goes_on_once_there_is_room() {
    let Some((_disk, mut cove)) = start() else { return };
    cove.json(&["new", "shop"]);
    for file in ["kept", "first", "second"] {
        cove.cove_with(&["files", "put", &format!("shop:/{file}")], file.as_bytes()).success();
    }
    let entry = cove.snapshot("shop", "before");
    for spare in ["spare", "other"] {
        cove.json(&["new", spare]);
    }
    let root = cove.path("shop");

    let data = fill(&root.join("huge"));
    assert!(data > 100, "{data} MiB fit");
    figure("room: a pool of 256 MiB took", format!("{data} MiB of one file"));
    is_usable(&cove, &entry, "spare", "first");
    let more = Chance::new(3).bytes(8 << 20);
    let output = cove.cove_with(&["files", "put", "shop:/more"], &more);
    assert_eq!(output.code, 6, "{}", output.stderr);
    let said = "error: the pool is full: more was not written\n";
    assert!(output.stderr.starts_with(said), "{}", output.stderr);
    assert!(output.stderr.contains("hint: make room"), "{}", output.stderr);
    cove.refuses(3, &["files", "stat", "shop:/more"]);

    // data has all room by now, and what names and tiny files take is full soon
    let tiny = fill_with_tiny(&root.join("tiny"));
    assert!(tiny > 100, "{tiny} tiny files fit");
    figure("room: and then", format!("{tiny} tiny files"));
    is_usable(&cove, &entry, "other", "second");

    // where a snapshot shares what is removed, each takes a commit
    let begun = Instant::now();
    cove.json(&["files", "rm", "-r", "shop:/tiny"]);
    let each = begun.elapsed().as_secs_f64() * 1000.0 / tiny as f64;
    figure("room: removing one of them", format!("{each:.2} ms"));
    cove.json(&["files", "rm", "shop:/huge"]);
    goes_on_by_itself(&cove, "shop");
    poll("there is room again", || {
        let output = cove.cove_with(&["files", "put", "shop:/more"], &more);
        if output.code == 0 { Ok(()) } else { Err(output.stderr) }
    });
    let after = cove.snapshot("shop", "after");
    fs::write(cove.path("shop").join("kept"), "changed").unwrap();
    cove.json(&["restore", "shop", &after]);
    assert_eq!(cove.text(&["files", "cat", "shop:/kept"]), "kept");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/first")]), "first");
    assert!(cove.stop().success());
    cove.up();
    assert!(cove.cove(&["files", "cat", "shop:/more"]).success().bytes == more);
    assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], json!([]));
}
