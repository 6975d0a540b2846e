//! What programs make directly in a workspace comes back after the machine is lost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use cove_testkit::proof::{Chance, figure, rounds};
use cove_testkit::trees::{Description, Kind, build_awkward_tree, describe, difference};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Timespec, Timestamps, XattrFlags};
use serde_json::json;

use crate::harness::{Cove, Objects, Settings, list, run, s3, text, texts};

type Tree = BTreeMap<Vec<u8>, Description>;

/// A tree without set-id bits, which are not captured.
fn kept_of(dir: &Path) -> Tree {
    let mut tree = describe(dir).unwrap();
    for one in tree.values_mut() {
        one.mode &= 0o1777;
    }
    tree
}

#[track_caller]
fn same(what: &str, expected: &Tree, found: &Path) {
    let differences = difference(expected, &describe(found).unwrap());
    let shown = &differences[..differences.len().min(40)];
    assert!(differences.is_empty(), "{what}: {} differ:\n{}", differences.len(), shown.join("\n"));
}

/// Bytes that do not compress and differ by what they are for.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    Chance::new(seed).bytes(count)
}

fn writable(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap()
}

#[track_caller]
fn tool(program: &str, arguments: &[&str], path: &Path) {
    let output = run(Command::new(program).args(arguments).arg(path), b"");
    assert_eq!(output.code, 0, "{program} {arguments:?}: {}", output.stderr);
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// Makes `range` of the source the same extents in the target.
fn reflink(source: &File, target: &File, at: u64, to: u64, bytes: u64) {
    let (mut from, mut into) = (at, to);
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left).unwrap();
        let done =
            rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut into), count);
        left -= done.unwrap() as u64;
    }
}

/// Sizes around the borders of pages, inline data, nodes and chunks.
fn make_sizes(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for border in [0_u64, 2_048, 4 << 10, 16 << 10, 128 << 10, 256 << 10] {
        for size in border.saturating_sub(1)..=border + 1 {
            let size = usize::try_from(size).unwrap();
            fs::write(dir.join(format!("noise-{size}")), noise(size as u64, size)).unwrap();
            fs::write(dir.join(format!("text-{size}")), vec![b'a'; size]).unwrap();
            // The border lies inside of what is written, and the end is a hole.
            let holed = writable(&dir.join(format!("holed-{size}")));
            holed.set_len(size as u64 * 2).unwrap();
            holed.write_all_at(&noise(3, size / 2), size as u64 / 3).unwrap();
        }
    }
}

/// Extents of all kinds.
fn make_extents(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let whole = writable(&dir.join("source"));
    whole.write_all_at(&noise(1, 700_001), 0).unwrap();
    whole.sync_all().unwrap();
    let clone = writable(&dir.join("cloned-whole"));
    rustix::fs::ioctl_ficlone(&clone, &whole).unwrap();
    let shifted = writable(&dir.join("cloned-shifted"));
    shifted.write_all_at(&noise(2, 300_000), 0).unwrap();
    reflink(&whole, &shifted, 128 << 10, 64 << 10, 128 << 10);
    reflink(&whole, &shifted, 4 << 10, 1 << 20, 8 << 10);
    // Within itself.
    let twice = writable(&dir.join("cloned-within"));
    twice.write_all_at(&noise(4, 256 << 10), 0).unwrap();
    reflink(&twice, &twice, 0, 256 << 10, 256 << 10);

    let reserved = writable(&dir.join("reserved"));
    rustix::fs::fallocate(&reserved, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    reserved.write_all_at(b"in the middle", 500_000).unwrap();
    let behind = writable(&dir.join("reserved-behind"));
    behind.write_all_at(&noise(5, 10_000), 0).unwrap();
    rustix::fs::fallocate(&behind, FallocateFlags::KEEP_SIZE, 10_000, 1 << 20).unwrap();
    let punched = writable(&dir.join("punched"));
    punched.write_all_at(&noise(6, 1 << 20), 0).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (at, bytes) in [(0, 4_096), (100_001, 200_000), ((1 << 20) - 5_000, 5_000)] {
        rustix::fs::fallocate(&punched, punch, at, bytes).unwrap();
    }
    let zeroed = writable(&dir.join("zeroed"));
    zeroed.write_all_at(&noise(7, 400_000), 0).unwrap();
    rustix::fs::fallocate(&zeroed, FallocateFlags::ZERO_RANGE, 70_000, 200_000).unwrap();

    let squeezed = writable(&dir.join("compressed"));
    squeezed.write_all_at(&b"the same line again\n".repeat(60_000), 0).unwrap();
    squeezed.sync_all().unwrap();
    squeezed.write_all_at(&noise(8, 5_000), 300_001).unwrap();
    let plain = dir.join("no-copy-on-write");
    File::create(&plain).unwrap();
    tool("chattr", &["+C"], &plain);
    writable(&plain).write_all_at(&noise(9, 200_000), 0).unwrap();

    let sparse = writable(&dir.join("sparse-1g"));
    sparse.set_len(1 << 30).unwrap();
    for at in [1, 300_000_001, (512 << 20) - 3, (1 << 30) - 7] {
        sparse.write_all_at(b"content", at).unwrap();
    }
}

fn make_names(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let names: [&[u8]; 6] =
        [b"not-utf8-\xff\xfe", b"new\nline", b"\x1b[31mred\x1b[0m", b"back\\slash", b"-rf", b"..."];
    for name in names {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
    for byte in [b'l', 0xfe] {
        let long = dir.join(OsStr::from_bytes(&[byte; 255]));
        fs::create_dir(&long).unwrap();
        fs::write(long.join(OsStr::from_bytes(&[b'm'; 255])), "255 below 255").unwrap();
    }
}

fn make_links(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let at = |name: &str| dir.join(name);
    // The first name goes to another directory; or is no more.
    fs::create_dir(at("moved-to")).unwrap();
    fs::write(at("first"), "thrice").unwrap();
    fs::hard_link(at("first"), at("second")).unwrap();
    fs::hard_link(at("first"), at("moved-to/third")).unwrap();
    fs::rename(at("first"), at("moved-to/zeroth")).unwrap();
    fs::write(at("gone"), "twice").unwrap();
    fs::hard_link(at("gone"), at("left-a")).unwrap();
    fs::hard_link(at("gone"), at("left-b")).unwrap();
    fs::remove_file(at("gone")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    fs::hard_link(at("dangling"), at("dangling-too")).unwrap();
    symlink("/etc", at("outward")).unwrap();
    tool("mkfifo", &["-m", "640"], &at("fifo"));
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::mknodat(CWD, at("socket"), rustix::fs::FileType::Socket, mode, 0).unwrap();
}

/// Owners, attributes, access lists and times, of what there is and of the root itself.
fn make_metadata(root: &Path) {
    let dir = root.join("metadata");
    fs::create_dir(&dir).unwrap();
    let at = |name: &str| dir.join(name);
    for name in ["file", "owned", "listed", "old", "ancient", "far"] {
        fs::write(at(name), name).unwrap();
    }
    for name in ["directory", "listed-directory", "old-directory"] {
        fs::create_dir(at(name)).unwrap();
    }
    chown(at("owned"), Some(1234), Some(5678)).unwrap();
    chown(at("directory"), Some(1000), Some(1000)).unwrap();
    symlink("file", at("link")).unwrap();
    lchown(at("link"), Some(1000), Some(100)).unwrap();
    for path in [&at("file"), &at("directory"), root] {
        set_attribute(path, "user.text", b"value");
        set_attribute(path, "user.empty", b"");
        set_attribute(path, "user.binary", b"\0\xff\n=");
    }
    set_attribute(&at("file"), "user.large", &noise(10, 3_000));
    tool("setfacl", &["-m", "u:1234:rw-,g:5678:r--,m::rwx"], &at("listed"));
    tool("setfacl", &["-m", "u:1234:rwx,d:u:1234:r-x,d:g::---"], &at("listed-directory"));
    tool("setfacl", &["-m", "u:4321:r-x,d:u:4321:rwx"], root);
    // Default lists hand themselves down.
    fs::write(at("listed-directory/below"), "inherits").unwrap();
    set_time(&at("link"), 1_234_567_890, 123_456_789);
    set_time(&at("old"), -219_900_000_000, 999_999_999); // about the year -5000
    set_time(&at("old-directory"), -219_900_000_000, 1);
    set_time(&at("ancient"), -1, 999_999_999);
    set_time(&at("far"), 569_000_000_000, 5); // about the year 20000
    fs::set_permissions(root, Permissions::from_mode(0o1751)).unwrap();
    set_time(root, 987_654_321, 123_456_789);
}

fn make_everything(root: &Path) {
    make_sizes(&root.join("sizes"));
    make_extents(&root.join("extents"));
    make_names(&root.join("names"));
    make_links(&root.join("links"));
    fs::create_dir(root.join("awkward")).unwrap();
    build_awkward_tree(&root.join("awkward"), 23, 120).unwrap();
    make_metadata(root);
}

/// Changes to much of it, so that what is stored next is a difference.
fn change_everything(root: &Path) {
    let extents = root.join("extents");
    let source = writable(&extents.join("source"));
    source.write_all_at(b"overwritten", 130_000).unwrap();
    let shifted = writable(&extents.join("cloned-shifted"));
    reflink(&source, &shifted, 256 << 10, 0, 64 << 10);
    shifted.set_len(1_000_000).unwrap();
    let punched = writable(&extents.join("punched"));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&punched, punch, 600_000, 100_000).unwrap();
    let reserved = writable(&extents.join("reserved"));
    reserved.write_all_at(b"later", 900_000).unwrap();
    let sparse = writable(&extents.join("sparse-1g"));
    sparse.write_all_at(b"also here", 777_777_777).unwrap();
    for border in [4_096_u64, 16_384, 131_072] {
        let name = |size: u64| root.join(format!("sizes/noise-{size}"));
        writable(&name(border)).set_len(border + 1).unwrap();
        writable(&name(border + 1)).set_len(border - 1).unwrap();
        writable(&name(border - 1)).write_all_at(b"xy", border - 2).unwrap();
    }
    let links = root.join("links");
    fs::rename(links.join("second"), links.join("a-new-first")).unwrap();
    fs::hard_link(links.join("left-b"), root.join("names/elsewhere")).unwrap();
    fs::remove_file(links.join("left-a")).unwrap();
    fs::rename(links.join("fifo"), links.join("moved-to/fifo")).unwrap();
    let metadata = root.join("metadata");
    set_attribute(&metadata.join("file"), "user.text", b"another");
    rustix::fs::removexattr(metadata.join("file"), "user.empty").unwrap();
    tool("setfacl", &["-m", "u:1234:r--"], &metadata.join("listed"));
    tool("setfacl", &["-b"], &metadata.join("listed-directory"));
    set_time(&metadata.join("far"), 569_000_000_001, 6);
    chown(metadata.join("owned"), Some(1000), Some(1000)).unwrap();
    fs::rename(root.join("names"), root.join("names-renamed")).unwrap();
    rustix::fs::removexattr(root, "user.empty").unwrap();
    tool("setfacl", &["-x", "u:4321"], root);
    fs::set_permissions(root, Permissions::from_mode(0o700)).unwrap();
    set_time(root, -5, 7);
}

#[test]
fn what_is_made_inside_comes_back_from_a_directory() {
    let settings = Settings { pool_bytes: "1GiB", ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    what_is_made_inside_comes_back(cove);
}

#[test]
fn what_is_made_inside_comes_back_from_a_bucket() {
    if s3().is_none() {
        return;
    }
    let settings = Settings { pool_bytes: "1GiB", ..Settings::with(Objects::S3) };
    let Some(cove) = Cove::start_with(settings) else { return };
    what_is_made_inside_comes_back(cove);
}

fn what_is_made_inside_comes_back(mut cove: Cove) {
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    make_everything(&root);
    let first = kept_of(&root);
    let one = cove.snapshot("shop", "made");
    change_everything(&root);
    let second = kept_of(&root);
    let two = cove.snapshot("shop", "changed");
    assert!(difference(&first, &second).len() > 20, "much has changed");
    let lists = first.values().flat_map(|one| one.xattrs.keys());
    assert!(lists.filter(|name| name.starts_with(b"system.posix_acl_")).count() > 5);
    cove.json(&["fork", &format!("shop@{one}"), "--as", "from-one"]);
    same("a fork on this node", &first, &cove.path("from-one"));

    cove.lose_and_recover();
    same("the last state", &second, &cove.path("shop"));
    same("the fork", &first, &cove.path("from-one"));
    let metadata = fs::metadata(cove.path("shop").join("extents/sparse-1g")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert!(metadata.blocks() * 512 < 4 << 20, "holes stay holes: {}", metadata.blocks());
    cove.json(&["restore", "shop", &one]);
    same("the first entry, restored", &first, &cove.path("shop"));
    cove.json(&["restore", "shop", &two]);
    same("the second entry, restored", &second, &cove.path("shop"));
    assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], json!([]));
    let changes = cove.json(&["diff", &format!("shop@{two}..shop")]);
    assert_eq!(changes, json!({ "changes": [] }));

    // Years that JSON's times have no room for are clamped there.
    let modified = |path: &str| {
        let stat = cove.json(&["files", "stat", &format!("shop:/metadata/{path}")]);
        text(&stat["files"][0]["modified"])
    };
    assert!(modified("old").starts_with("0000-01-01T"), "{}", modified("old"));
    assert!(modified("far").starts_with("9999-12-"), "{}", modified("far"));
}

#[test]
fn a_workspace_comes_into_another_one_as_it_is() {
    let settings = Settings { pool_bytes: "1GiB", ..Settings::with(Objects::Directory) };
    let Some(mut cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "first"]);
    make_everything(&cove.path("first"));
    let source = cove.path("first");
    let mut expected = kept_of(&source);
    expected.retain(|_, one| one.kind != Kind::Socket);
    for one in expected.values_mut() {
        (one.uid, one.gid) = (1000, 1000);
        // The archive has user attributes.
        one.xattrs.retain(|name, _| name.starts_with(b"user."));
    }
    let of = |path: &Path| {
        let mut tree = describe(path).unwrap();
        for one in tree.values_mut() {
            one.xattrs.retain(|name, _| name.starts_with(b"user."));
        }
        tree
    };
    let made = cove.cove(&["new", "second", "--from", source.to_str().unwrap()]).success();
    assert!(made.stderr.contains("links/socket"), "{}", made.stderr);
    let found = of(&cove.path("second"));
    let differences = difference(&expected, &found);
    assert!(differences.is_empty(), "as it came in:\n{}", differences.join("\n"));
    cove.snapshot("second", "imported");
    cove.lose_and_recover();
    let differences = difference(&expected, &of(&cove.path("second")));
    assert!(differences.is_empty(), "as it came back:\n{}", differences.join("\n"));
}

#[test]
fn many_files_in_one_directory_come_back() {
    let count = u32::try_from(rounds(20_000, 100_000)).unwrap();
    let settings = Settings { pool_bytes: "1GiB", ..Settings::with(Objects::Directory) };
    let Some(mut cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::create_dir(root.join("all")).unwrap();
    for n in 0..count {
        let path = root.join(format!("all/file-{n:06}"));
        fs::write(&path, format!("the {n}th\n")).unwrap();
        set_time(&path, 1_000_000_000 + i64::from(n), i64::from(n));
    }
    let first = kept_of(&root);
    let one = cove.snapshot("shop", "many");
    for n in (0..count).step_by(97) {
        let path = root.join(format!("all/file-{n:06}"));
        match n % 3 {
            0 => fs::remove_file(path).unwrap(),
            1 => fs::write(path, "changed").unwrap(),
            _ => fs::rename(&path, root.join(format!("all/renamed-{n:06}"))).unwrap(),
        }
    }
    let second = kept_of(&root);
    cove.snapshot("shop", "some have changed");
    cove.lose_and_recover();
    same("many files", &second, &cove.path("shop"));
    let listed = cove.json(&["files", "ls", &format!("shop@{one}:/all")]);
    assert_eq!(list(&listed["files"]).len(), count as usize);
    let stat = cove.json(&["files", "stat", &format!("shop@{one}:/all/file-{:06}", count - 1)]);
    assert_eq!(texts(&stat["files"], "path").len(), 1);
    cove.json(&["restore", "shop", &one]);
    same("many files, restored", &first, &cove.path("shop"));
    let compared = first.len() + second.len();
    figure("files in one directory", format!("{count}, {compared} paths compared"));
}
