//! Copies out of a project that cannot be whole, or not in every part.

use std::fs;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use cove_testkit::proof::Chance;

use crate::harness::{Cove, Objects, get};

/// The blocks of the pool in which data is kept.
const BLOCK_BYTES: usize = 4096;

/// Flips a bit of the block in which `bytes` begin, behind the back of the file system.
fn damage(image: &Path, bytes: &[u8]) {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(image).unwrap();
    let mut reader = BufReader::with_capacity(1 << 20, file.try_clone().unwrap());
    let mut block = [0; BLOCK_BYTES];
    let mut at = 0;
    loop {
        reader.read_exact(&mut block).expect("the bytes are in the image");
        if bytes.starts_with(&block) {
            break;
        }
        at += BLOCK_BYTES as u64;
    }
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[block[0] ^ 1]).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_copy_of_what_this_disk_does_not_give_back_names_it_and_leaves_nothing() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let bytes = Chance::new(7).bytes(2 << 20);
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/a"), b"a").unwrap();
    fs::write(root.join("d/large"), &bytes).unwrap();
    cove.snapshot("shop", "whole");
    assert!(cove.stop().success());
    damage(&cove.home.join("pool.img"), &bytes[384 * BLOCK_BYTES..]);
    cove.up();

    let before = fs::read_dir(cove.dir.path()).unwrap().count();
    let output = cove.cove(&["cp", "shop:/d", "out"]);
    assert_eq!(output.code, 8, "{}", output.stderr);
    let told = "error: failed to write the archive: failed to read \"d/large\": ";
    assert!(output.stderr.starts_with(told), "{}", output.stderr);
    assert!(output.stderr.contains("; nothing was left below "), "{}", output.stderr);
    assert_eq!(fs::read_dir(cove.dir.path()).unwrap().count(), before, "nothing is left");

    let output = cove.cove(&["cp", "shop:/d", "-"]);
    assert_eq!(output.code, 8, "{}", output.stderr);
    assert!(output.stderr.starts_with(told), "{}", output.stderr);
    assert!(output.bytes.len() > 1 << 20, "it had begun");

    assert_eq!(cove.cove(&["files", "cat", "shop:/d/large"]).code, 8);

    // Whoever knows nothing of trailers sees it break off, and not as if it were whole.
    let (address, token) = cove.tcp();
    let host = format!("Host: {address}");
    let token = format!("Authorization: Bearer {token}");
    let archive = |path: &str| {
        let target = format!("/v1/projects/shop/files/archive?path={path}");
        get(&address, &target, &[&host, &token]).1
    };
    assert!(!archive("d").ends_with("\r\n0\r\n\r\n"), "it ended as if it were whole");
    assert!(archive("d/a").ends_with("\r\n0\r\n\r\n"));
    // Nothing else is hit, and what was saved is whole.
    cove.cove(&["cp", "shop:/d/a", "a"]).success();
}

#[test]
fn attributes_that_do_not_fit_into_an_archive_are_named() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::create_dir(root.join("many-dir")).unwrap();
    for name in ["few", "large", "many"] {
        fs::write(root.join(name), name).unwrap();
    }
    let set = |name: &str, attribute: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join(name), attribute, value, flags).unwrap();
    };
    set("few", "user.few", b"1");
    for number in 0..80 {
        set("large", &format!("user.{number:02}"), &[b'v'; 15_000]);
    }
    for number in 0..300 {
        let attribute = format!("user.{number:03}{}", "n".repeat(240));
        set("many", &attribute, b"");
        set("many-dir", &attribute, b"");
    }
    let unkept = |name: &str| {
        format!("{name}: extended attributes over 992 KiB, or over 64 KiB of names, are not kept")
    };
    for name in ["large", "many", "many-dir"] {
        let output = cove.cove(&["cp", &format!("shop:/{name}"), "-"]).success();
        assert_eq!(output.stderr.trim_end(), unkept(name));
    }
    // The file system of the target may hold less than a workspace.
    fs::remove_file(root.join("large")).unwrap();
    let output = cove.cove(&["cp", "shop:/", "out"]).success();
    let warned: Vec<&str> = output.stderr.lines().filter(|line| line.contains("kept")).collect();
    assert_eq!(warned, [unkept("many"), unkept("many-dir")]);
    let out = cove.dir.path().join("out");
    for name in ["few", "many"] {
        assert_eq!(fs::read_to_string(out.join(name)).unwrap(), name);
    }
}
