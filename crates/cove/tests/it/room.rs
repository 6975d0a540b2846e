//! A workspace that takes all the room there is.

use std::fs::{self, File};
use std::io::Write;

use cove_testkit::proof::Chance;

use crate::bad_input::SmallDisk;
use crate::harness::{Cove, Objects, Settings};

/// Writes until there is no room; what was written stays.
fn fill(file: &mut File) -> u64 {
    let mut chance = Chance::new(1);
    let mut written = 0;
    loop {
        let piece = chance.bytes(1 << 20);
        let full = file.write_all(&piece).and_then(|()| file.sync_data());
        match full {
            Ok(()) => written += piece.len() as u64,
            Err(error) => {
                let kind = error.kind();
                use std::io::ErrorKind::{QuotaExceeded, StorageFull};
                assert!(matches!(kind, StorageFull | QuotaExceeded), "{error}");
                return written;
            }
        }
    }
}

#[test]
fn a_pool_that_is_filled_from_inside_goes_on_once_there_is_room() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    let disk = SmallDisk::mount();
    // It goes before its disk does.
    let mut cove = cove;
    cove.home = disk.0.path().join("home");
    cove.up();
    cove.json(&["new", "shop"]);
    cove.cove_with(&["files", "put", "shop:/kept"], b"kept").success();
    let entry = cove.snapshot("shop", "before");
    let mut file = File::create(cove.path("shop").join("huge")).unwrap();
    assert!(fill(&mut file) > 100 << 20);

    let large = vec![7; 8 << 20];
    let random: Vec<u8> = large
        .iter()
        .scan(1_u32, |at, _| {
            *at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*at >> 24) as u8)
        })
        .collect();
    // The pool may have grown by a last step since, or let a snapshot go.
    let output = crate::harness::poll("there is no room any more", || {
        let output = cove.cove_with(&["files", "put", "shop:/more"], &random);
        if output.code != 0 {
            return Ok(output);
        }
        cove.json(&["files", "rm", "shop:/more"]);
        Err(format!("8 MiB more fit, and {} bytes since", fill(&mut file)))
    });
    drop(file);
    assert_eq!(output.code, 6, "{}", output.stderr);
    assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    assert!(output.stderr.contains("hint: "), "{}", output.stderr);
    cove.refuses(3, &["files", "stat", "shop:/more"]);
    // Reading and looking need no room.
    assert_eq!(cove.text(&["files", "cat", "shop:/kept"]), "kept");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/kept")]), "kept");
    cove.json(&["show", "shop"]);
    cove.json(&["timeline", "shop"]);

    cove.json(&["files", "rm", "shop:/huge"]);
    crate::harness::poll("there is room again", || {
        let output = cove.cove_with(&["files", "put", "shop:/more"], &random);
        if output.code == 0 { Ok(()) } else { Err(output.stderr) }
    });
    let after = cove.snapshot("shop", "after");
    fs::write(cove.path("shop").join("kept"), "changed").unwrap();
    cove.json(&["restore", "shop", &after]);
    assert_eq!(cove.text(&["files", "cat", "shop:/kept"]), "kept");
    assert!(cove.stop().success());
    cove.up();
    assert!(cove.cove(&["files", "cat", "shop:/more"]).success().bytes == random);
}
