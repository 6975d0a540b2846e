//! `cp`: as docker has it, and what cannot be whole or not in every part.

use std::fs;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use cove_testkit::proof::Chance;

use crate::harness::{Cove, Objects, get, texts};

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

    let output = cove.cove(&["files", "cat", "shop:/d/large"]);
    assert_eq!(output.code, 8, "{}", output.stderr);

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

#[test]
fn copies_merge_as_docker_has_it() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("from");
    fs::create_dir(source.join("sub")).unwrap();
    fs::write(source.join("sub/one"), "new one").unwrap();
    fs::write(source.join("two"), "two").unwrap();
    cove.json(&["new", "shop"]);
    let listed = || texts(&cove.json(&["files", "ls", "-R", "shop:/"])["files"], "path");

    // To a name that is not there: the directory, under that name.
    cove.json(&["cp", "from", "shop:/to"]);
    assert_eq!(listed(), ["to", "to/sub", "to/sub/one", "to/two"]);
    // To a directory that is there: inside, under its own name.
    cove.json(&["cp", "from", "shop:/to"]);
    assert!(listed().contains(&"to/from/sub/one".to_owned()), "{:?}", listed());
    cove.json(&["files", "rm", "-r", "shop:/to/from"]);
    // What is in it: merged, and what was there stays.
    cove.cove_with(&["files", "put", "shop:/to/sub/own"], b"own").success();
    cove.cove_with(&["files", "put", "shop:/to/sub/one"], b"old one").success();
    cove.json(&["cp", "from/.", "shop:/to"]);
    assert_eq!(listed(), ["to", "to/sub", "to/sub/one", "to/sub/own", "to/two"]);
    assert_eq!(cove.text(&["files", "cat", "shop:/to/sub/one"]), "new one");
    // A file: into a directory, over a file, under a new name.
    cove.json(&["cp", "from/two", "shop:/to/sub"]);
    cove.json(&["cp", "from/two", "shop:/to/sub/own"]);
    cove.json(&["cp", "from/two", "shop:/to/third"]);
    assert_eq!(cove.text(&["files", "cat", "shop:/to/sub/own"]), "two");
    assert!(
        listed().contains(&"to/sub/two".to_owned()) && listed().contains(&"to/third".to_owned())
    );
    // A directory does not replace a file, nor is a file below one that is missing.
    cove.refuses(4, &["cp", "from", "shop:/to/third"]);
    cove.refuses(4, &["cp", "from/two", "shop:/absent/"]);
    cove.refuses(3, &["cp", "no-such-file", "shop:/to"]);
    cove.refuses(3, &["cp", "shop:/no-such-file", "out"]);
    cove.refuses(2, &["cp", "from", "to"]);

    // Outward the same.
    let out = cove.make_dir("out");
    cove.json(&["cp", "shop:/to", "out"]);
    assert_eq!(fs::read(out.join("to/sub/one")).unwrap(), b"new one");
    fs::write(out.join("to/sub/mine"), "mine").unwrap();
    fs::write(out.join("to/sub/one"), "mine").unwrap();
    cove.json(&["cp", "shop:/to/.", "out/to"]);
    assert_eq!(fs::read(out.join("to/sub/one")).unwrap(), b"new one");
    assert_eq!(fs::read(out.join("to/sub/mine")).unwrap(), b"mine");
    cove.json(&["cp", "shop:/to", "fresh"]);
    assert_eq!(fs::read(cove.dir.path().join("fresh/two")).unwrap(), b"two");
    cove.json(&["cp", "shop:/to/two", "out"]);
    cove.json(&["cp", "shop:/to/two", "out/three"]);
    assert_eq!(fs::read(out.join("two")).unwrap(), b"two");
    assert_eq!(fs::read(out.join("three")).unwrap(), b"two");
    cove.refuses(4, &["cp", "shop:/to", "out/three"]);
    let left: Vec<_> = fs::read_dir(cove.dir.path())
        .unwrap()
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".cove"))
        .collect();
    assert!(left.is_empty(), "nothing of ours is left behind: {left:?}");
}

#[test]
fn copies_go_through_links_and_streams_and_are_refused_as_docker_has_it() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("from");
    fs::write(source.join("a"), "a").unwrap();
    fs::create_dir(source.join("dir")).unwrap();
    fs::write(source.join("dir/b"), "b").unwrap();
    symlink("dir", source.join("link")).unwrap();
    symlink("/etc", source.join("outside")).unwrap();
    cove.json(&["new", "shop", "--from", "from"]);
    let listed = |at: &str| texts(&cove.json(&["files", "ls", "-R", at])["files"], "path");
    let local = |path: &str| fs::read_to_string(cove.dir.path().join(path)).unwrap();

    // The directory above the target must be there, and a slash asks for a directory.
    cove.refuses(3, &["cp", "from/a", "shop:/none/a"]);
    cove.refuses(3, &["cp", "shop:/a", "none/a"]);
    for refused in ["from/a/", "from/a/."] {
        cove.refuses(4, &["cp", refused, "shop:/new"]);
    }
    for refused in ["shop:/a/", "shop:/a/."] {
        cove.refuses(4, &["cp", refused, "new"]);
    }
    assert_eq!(listed("shop:/"), ["a", "dir", "dir/b", "link", "outside"]);

    // A target that is a link is what it points to; one that points out is refused.
    cove.json(&["cp", "from/a", "shop:/link"]);
    assert_eq!(listed("shop:/dir"), ["dir/a", "dir/b"]);
    cove.refuses(4, &["cp", "from/a", "shop:/outside"]);
    let out = cove.make_dir("out");
    symlink("out", cove.dir.path().join("out-link")).unwrap();
    cove.json(&["cp", "shop:/a", "out-link"]);
    assert_eq!(local("out/a"), "a");
    // A source that is a link is copied as one, with -L as what it points to.
    cove.json(&["cp", "shop:/link", "copied"]);
    assert_eq!(fs::read_link(cove.dir.path().join("copied")).unwrap().to_str(), Some("dir"));
    cove.json(&["cp", "-L", "shop:/link", "followed"]);
    assert_eq!(local("followed/b"), "b");
    cove.json(&["cp", "-L", "from/link", "shop:/followed"]);
    assert_eq!(listed("shop:/followed"), ["followed/b"]);

    // A tar stream out, and in again.
    let tar = cove.cove(&["cp", "shop:/dir", "-"]).success().bytes;
    cove.json(&["files", "mkdir", "shop:/in"]);
    cove.cove_with(&["cp", "-", "shop:/in"], &tar).success();
    assert_eq!(listed("shop:/in"), ["in/dir", "in/dir/a", "in/dir/b"]);
    assert_eq!(cove.cove_with(&["cp", "-", "shop:/absent"], &tar).code, 3);
    cove.refuses(2, &["cp", "shop:/dir", "-", "--json"]);

    // What is refused half-way has written nothing.
    fs::create_dir_all(out.join("dir/b/is-a-directory-here")).unwrap();
    cove.refuses(4, &["cp", "shop:/dir", "out"]);
    assert!(!out.join("dir/a").exists());
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2, "and nothing is left beside it");
}
