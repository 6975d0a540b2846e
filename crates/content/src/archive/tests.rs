//! Whole archives: made here, by GNU tar, by hand with evil intent.

mod hostile;
mod trees;

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use cove_btrfs::Dir;
use cove_types::{Classify, ErrorKind, TreePath};
use proptest::prelude::*;

use self::trees::{build, describe};
use super::*;

const LIMITS: Limits = Limits { entries: 10_000, bytes: 1 << 40, depth: 256 };

fn options() -> ExtractOptions {
    ExtractOptions { owner: None, limits: LIMITS, new_names_only: false }
}

fn path(text: &str) -> TreePath {
    TreePath::from_bytes(text.as_bytes()).unwrap()
}

fn packed(from: &Path, at: &str, name: &str) -> (Vec<u8>, Vec<String>) {
    let mut tar = Vec::new();
    let options = PackOptions { leave_out: Vec::new(), sockets: true };
    let dir = Dir::from_path(from).unwrap();
    let remarks = pack(&dir, &path(at), name.as_bytes(), &mut tar, &options, &|_, _| {}).unwrap();
    (tar, remarks)
}

fn extracted(tar: &[u8], into: &Path, options: &ExtractOptions) -> Result<Extracted, ExtractError> {
    extract(&mut &*tar, &Dir::from_path(into).unwrap(), &TreePath::top(), options, &|_, _| {})
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Packs a tree, extracts it and compares.
fn check_round(from: &Path) {
    let to = temp();
    let (tar, remarks) = packed(from, "", ".");
    assert_eq!(remarks, Vec::<String>::new());
    let extracted = extracted(&tar, to.path(), &options()).unwrap();
    assert_eq!(extracted.remarks, Vec::<String>::new());
    check_equal(&describe(from), &describe(to.path()));
}

fn check_equal(expected: &[String], found: &[String]) {
    let lacks = |of: &[String], than: &[String]| -> Vec<String> {
        of.iter().filter(|line| !than.contains(line)).map(|line| shortened(line)).collect()
    };
    let (lost, new) = (lacks(expected, found), lacks(found, expected));
    assert!(expected == found, "lost: {lost:#?}\nnew: {new:#?}");
}

fn shortened(line: &str) -> String {
    let (head, tail) = (line.chars().take(150), line.chars().rev().take(250));
    let tail: String = tail.collect::<Vec<_>>().into_iter().rev().collect();
    if line.len() > 400 {
        format!("{} … {tail}", head.collect::<String>())
    } else {
        line.to_owned()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_comes_back_equal(shapes in trees::shapes()) {
        let from = temp();
        build(from.path(), &shapes);
        check_round(from.path());
    }

    #[test]
    fn broken_bytes_neither_panic_nor_leave_the_directory(
        shapes in trees::shapes(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let place = temp();
        build(&place.path().join("from"), &shapes);
        let (mut tar, _) = packed(&place.path().join("from"), "", ".");
        for (at, byte) in flips {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        hostile::fix_checksums(&mut tar);
        hostile::check_stays_inside(&tar);
    }
}

#[test]
fn an_awkward_tree_comes_back_equal() {
    let from = temp();
    trees::build_awkward(from.path());
    check_round(from.path());
}

#[test]
fn a_tree_of_the_test_kit_comes_back_but_for_set_id_bits() {
    use cove_testkit::trees::{Kind, build_awkward_tree, describe, difference};
    for seed in 0..3 {
        let (from, to) = (temp(), temp());
        build_awkward_tree(from.path(), seed, 200).unwrap();
        let mut expected = describe(from.path()).unwrap();
        for description in expected.values_mut().filter(|it| it.kind != Kind::Symlink) {
            description.mode &= 0o1777;
        }
        let (tar, _) = packed(from.path(), "", ".");
        extracted(&tar, to.path(), &options()).unwrap();
        let found = describe(to.path()).unwrap();
        assert_eq!(difference(&expected, &found), Vec::<String>::new());
    }
}

#[test]
fn packing_twice_gives_the_same_bytes() {
    let from = temp();
    trees::build_awkward(from.path());
    assert_eq!(packed(from.path(), "", "."), packed(from.path(), "", "."));
}

#[test]
fn a_path_is_packed_under_a_name_and_lies_there_afterwards() {
    let (from, to) = (temp(), temp());
    fs::create_dir_all(from.path().join("a/b")).unwrap();
    fs::write(from.path().join("a/b/c"), "text").unwrap();
    let (tar, _) = packed(from.path(), "a/b", "new");
    let result = extracted(&tar, to.path(), &options()).unwrap();
    assert_eq!(result.files, [path("new")]);
    assert_eq!((result.entries, result.bytes), (2, 4));
    assert_eq!(fs::read(to.path().join("new/c")).unwrap(), b"text");

    let (tar, _) = packed(from.path(), "a/b/c", "alone");
    extracted(&tar, to.path(), &options()).unwrap();
    assert_eq!(fs::read(to.path().join("alone")).unwrap(), b"text");
}

#[test]
fn a_top_that_is_absent_is_an_error_of_its_own_kind() {
    let dir = Dir::from_path(temp().path()).unwrap();
    let absent = pack(&dir, &path("x"), b"x", &mut Vec::new(), &PackOptions::default(), &|_, _| {});
    assert_eq!(absent.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn names_that_cannot_begin_an_archive_are_refused() {
    let from = temp();
    let dir = Dir::from_path(from.path()).unwrap();
    for name in [&b""[..], b"..", b"/a", b"a//b", b"a/../b"] {
        let top = TreePath::top();
        let refused = pack(&dir, &top, name, &mut Vec::new(), &PackOptions::default(), &|_, _| {});
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid, "{name:?}");
    }
}

#[test]
fn what_is_left_out_is_named() {
    let from = temp();
    let at = |name: &str| from.path().join(name);
    fs::create_dir_all(at("home/objects")).unwrap();
    fs::write(at("setuid"), "x").unwrap();
    fs::set_permissions(at("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let home = fs::metadata(at("home")).unwrap();
    let options = PackOptions { leave_out: vec![(home.dev(), home.ino())], sockets: false };
    let mut tar = Vec::new();
    let dir = Dir::from_path(from.path()).unwrap();
    let top = TreePath::top();
    let remarks = pack(&dir, &top, b".", &mut tar, &options, &|_, _| {}).unwrap();
    assert_eq!(
        remarks,
        [
            "home: it belongs to Cove itself, left out",
            "setuid: its set-uid and set-gid bits are not kept",
            "socket: it is a socket, left out",
        ]
    );
    let to = temp();
    assert_eq!(extracted(&tar, to.path(), &self::options()).unwrap().entries, 2);
    assert_eq!(fs::metadata(to.path().join("setuid")).unwrap().mode() & 0o7777, 0o755);
}

/// Changes the tree when the first bytes come.
struct Meddler<F: FnMut()> {
    meddle: F,
    tar: Vec<u8>,
}

impl<F: FnMut()> Write for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tar.is_empty() {
            (self.meddle)();
        }
        self.tar.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn packed_while(from: &Path, meddle: impl FnMut()) -> (Vec<u8>, Vec<String>) {
    let mut to = Meddler { meddle, tar: Vec::new() };
    let dir = Dir::from_path(from).unwrap();
    let top = TreePath::top();
    let remarks = pack(&dir, &top, b".", &mut to, &PackOptions::default(), &|_, _| {}).unwrap();
    (to.tar, remarks)
}

#[test]
fn a_file_that_changes_meanwhile_is_whole_at_its_first_size() {
    const SIZE: usize = 1 << 20;
    let (from, to) = (temp(), temp());
    let file = from.path().join("file");
    let resized = |size: u64| fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(size);

    fs::write(&file, vec![b'x'; SIZE]).unwrap();
    let (tar, remarks) = packed_while(from.path(), || resized(300_000).unwrap());
    assert!(remarks[0].starts_with("file: it became shorter"), "{remarks:?}");
    extracted(&tar, to.path(), &options()).unwrap();
    let mut expected = vec![b'x'; 300_000];
    expected.resize(SIZE, 0);
    assert!(fs::read(to.path().join("file")).unwrap() == expected);

    fs::write(&file, vec![b'x'; SIZE]).unwrap();
    let (tar, remarks) = packed_while(from.path(), || resized(2 << 20).unwrap());
    assert!(remarks[0].starts_with("file: it became longer"), "{remarks:?}");
    extracted(&tar, to.path(), &options()).unwrap();
    assert!(fs::read(to.path().join("file")).unwrap() == vec![b'x'; SIZE]);
}

#[test]
fn what_disappears_meanwhile_is_named_and_the_rest_is_packed() {
    let from = temp();
    fs::write(from.path().join("a"), vec![b'x'; 1 << 20]).unwrap();
    fs::write(from.path().join("b"), "b").unwrap();
    fs::write(from.path().join("c"), "c").unwrap();
    let (tar, remarks) =
        packed_while(from.path(), || fs::remove_file(from.path().join("b")).unwrap());
    assert_eq!(remarks, ["b: it was removed while it was read"]);
    let to = temp();
    extracted(&tar, to.path(), &options()).unwrap();
    assert!(to.path().join("c").exists() && !to.path().join("b").exists());
}

#[test]
fn a_file_over_8_gib_says_its_size_in_an_extended_header() {
    const SIZE: u64 = (8 << 30) + 5;
    struct First(Vec<u8>);
    impl Write for First {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let from = temp();
    fs::File::create(from.path().join("big")).unwrap().set_len(SIZE).unwrap();
    let mut to = First(Vec::new());
    let dir = Dir::from_path(from.path()).unwrap();
    let error =
        pack(&dir, &path("big"), b"big", &mut to, &PackOptions::default(), &|_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let mut stream = to.0.as_slice();
    let mut reader = super::reader::Reader::new(&mut stream);
    let entry = reader.next().unwrap().unwrap();
    assert_eq!((entry.name.as_slice(), entry.size), (&b"big"[..], SIZE));
}

#[test]
fn zeros_become_holes() {
    let (from, to) = (temp(), temp());
    let mut content = vec![0; 8 << 20];
    content[4 << 20] = 1;
    fs::write(from.path().join("f"), &content).unwrap();
    let (tar, _) = packed(from.path(), "", ".");
    extracted(&tar, to.path(), &options()).unwrap();
    let file = to.path().join("f");
    assert!(fs::read(&file).unwrap() == content);
    assert!(fs::metadata(&file).unwrap().blocks() * 512 <= 64 << 10);
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let from = temp();
    fs::write(from.path().join("file"), vec![b'x'; 700]).unwrap();
    symlink("to".repeat(80), from.path().join("link")).unwrap();
    let (tar, _) = packed(from.path(), "", ".");
    let borders = (0..tar.len()).filter(|length| matches!(length % 512, 0 | 1 | 200 | 511));
    for length in borders {
        let error = extracted(&tar[..length], temp().path(), &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{length}");
    }
}

#[test]
fn all_belongs_to_the_owner_asked_for() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (from, to) = (temp(), temp());
    trees::build_awkward(from.path());
    let (tar, _) = packed(from.path(), "", ".");
    let options = ExtractOptions { owner: Some((1000, 1000)), ..options() };
    extracted(&tar, to.path(), &options).unwrap();
    trees::each(to.path(), &mut |path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1000, 1000), "{}", path.display());
    });
}

#[test]
fn progress_counts_entries_and_bytes() {
    let from = temp();
    fs::write(from.path().join("a"), "12345").unwrap();
    let seen = Cell::new((0, 0));
    let dir = Dir::from_path(from.path()).unwrap();
    let mut tar = Vec::new();
    let top = TreePath::top();
    pack(&dir, &top, b".", &mut tar, &PackOptions::default(), &|a, b| seen.set((a, b))).unwrap();
    assert_eq!(seen.get(), (2, 5));
    let calls = RefCell::new(Vec::new());
    let to = temp();
    let dir = Dir::from_path(to.path()).unwrap();
    extract(&mut &*tar, &dir, &top, &options(), &|a, b| calls.borrow_mut().push((a, b))).unwrap();
    assert_eq!(calls.borrow().last(), Some(&(2, 5)));
}

// merging

#[test]
fn a_file_replaces_a_file_and_not_its_other_names() {
    let (from, to) = (temp(), temp());
    fs::write(from.path().join("f"), "new").unwrap();
    fs::write(to.path().join("f"), "the old one").unwrap();
    fs::hard_link(to.path().join("f"), to.path().join("other")).unwrap();
    let (tar, _) = packed(from.path(), "", ".");
    extracted(&tar, to.path(), &options()).unwrap();
    assert_eq!(fs::read(to.path().join("f")).unwrap(), b"new");
    assert_eq!(fs::read(to.path().join("other")).unwrap(), b"the old one");
    let names: Vec<_> = fs::read_dir(to.path()).unwrap().collect();
    assert_eq!(names.len(), 2);
}

/// Only where temporary directories are on btrfs (`TMPDIR`), and as root.
#[test]
fn a_file_in_a_subvolume_is_replaced_in_one_step() {
    use cove_btrfs::{BtrfsPool, Pool, SubvolumePath};
    let (from, pool_at) = (temp(), temp());
    let Ok(pool) = BtrfsPool::open(pool_at.path()) else { return };
    let volume: cove_types::VolumeId = "v".repeat(26).parse().unwrap();
    let place = SubvolumePath::Volume(volume.clone());
    pool.create(&place, &volume).unwrap();
    let dir = pool.open(&place).unwrap();
    dir.create_dir(&path("files"), 0o755).unwrap();
    fs::write(from.path().join("f"), "text").unwrap();
    let (tar, _) = packed(from.path(), "", ".");
    let extract = || extract(&mut &*tar, &dir, &path("files"), &options(), &|_, _| {}).unwrap();
    extract();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let dir = pool.open(&place).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                // a listing is no instant: it may miss a name that is replaced meanwhile
                assert_eq!(dir.metadata(&path("files/f")).unwrap().size, 4);
            }
        });
        for _ in 0..2_000 {
            extract();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        looking.join().unwrap();
    });
    assert_eq!(dir.list(&TreePath::top()).unwrap().len(), 1, "nothing temporary stays");
    drop(dir);
    pool.delete(&place).unwrap();
}

#[test]
fn a_file_replaces_a_link_and_does_not_follow_it() {
    let (from, to) = (temp(), temp());
    fs::write(from.path().join("f"), "new").unwrap();
    fs::write(to.path().join("target"), "old").unwrap();
    symlink("target", to.path().join("f")).unwrap();
    let (tar, _) = packed(from.path(), "", ".");
    extracted(&tar, to.path(), &options()).unwrap();
    assert_eq!(fs::read(to.path().join("target")).unwrap(), b"old");
    assert!(fs::symlink_metadata(to.path().join("f")).unwrap().is_file());
}

#[test]
fn directories_merge() {
    let (from, to) = (temp(), temp());
    fs::create_dir(from.path().join("d")).unwrap();
    fs::write(from.path().join("d/new"), "").unwrap();
    fs::create_dir(to.path().join("d")).unwrap();
    fs::write(to.path().join("d/old"), "").unwrap();
    let (tar, _) = packed(from.path(), "", ".");
    extracted(&tar, to.path(), &options()).unwrap();
    assert!(to.path().join("d/new").exists() && to.path().join("d/old").exists());
}

#[test]
fn a_directory_and_something_else_do_not_replace_each_other() {
    for directory_is_new in [true, false] {
        let (from, to) = (temp(), temp());
        let (with_directory, with_file) =
            if directory_is_new { (&from, &to) } else { (&to, &from) };
        fs::create_dir(with_directory.path().join("x")).unwrap();
        fs::write(with_file.path().join("x"), "").unwrap();
        let (tar, _) = packed(from.path(), "", ".");
        let error = extracted(&tar, to.path(), &options()).unwrap_err();
        assert!(matches!(error, ExtractError::Conflict { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Precondition);
        assert_eq!(to.path().join("x").is_dir(), !directory_is_new);
    }
}

#[test]
fn a_file_whose_stream_breaks_leaves_the_old_one() {
    let (from, to) = (temp(), temp());
    fs::write(from.path().join("f"), vec![b'n'; 1 << 20]).unwrap();
    fs::write(to.path().join("f"), "old").unwrap();
    let (tar, _) = packed(from.path(), "", ".");
    extracted(&tar[..tar.len() / 2], to.path(), &options()).unwrap_err();
    assert_eq!(fs::read(to.path().join("f")).unwrap(), b"old");
}

#[test]
fn new_names_are_asked_for_and_an_old_one_is_refused() {
    let (from, to) = (temp(), temp());
    fs::write(from.path().join("f"), "new").unwrap();
    let (tar, _) = packed(from.path(), "f", "f");
    let options = ExtractOptions { new_names_only: true, ..options() };
    extracted(&tar, to.path(), &options).unwrap();
    let error = extracted(&tar, to.path(), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_directory_that_is_swapped_for_a_link_lets_nothing_out() {
    let place = temp();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("from/d")).unwrap();
    for name in 0..8 {
        fs::write(at("from/d").join(name.to_string()), "x").unwrap();
    }
    fs::create_dir(at("canary")).unwrap();
    fs::create_dir_all(at("to/d")).unwrap();
    symlink("../canary", at("to/l")).unwrap();
    let before = describe(&at("canary"));
    let (tar, _) = packed(&at("from"), "", ".");
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut outcomes = [0, 0];
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let to = Dir::from_path(&at("to")).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let (fd, d, l) = (to.descriptor(), "d", "l");
                rustix::fs::renameat_with(fd, d, fd, l, flags).unwrap();
            }
        });
        for _ in 0..20_000 {
            outcomes[usize::from(extracted(&tar, &at("to"), &options()).is_ok())] += 1;
            if outcomes.iter().all(|count| *count >= 100) {
                break;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        swapping.join().unwrap();
    });
    check_equal(&before, &describe(&at("canary")));
    assert!(outcomes[0] > 0, "the race was never lost, so nothing was tested: {outcomes:?}");
}

// other programs

#[expect(clippy::disallowed_methods, reason = "GNU tar is what our archives must agree with")]
fn gnu_tar(arguments: &[&str], directory: &Path) {
    let status =
        std::process::Command::new("tar").args(arguments).current_dir(directory).status().unwrap();
    assert!(status.success(), "{arguments:?}");
}

fn build_for_gnu(place: &Path) -> std::path::PathBuf {
    let from = place.join("from");
    fs::create_dir(&from).unwrap();
    let long = "n".repeat(200);
    fs::create_dir_all(from.join(&long).join("d")).unwrap();
    fs::write(from.join(&long).join("d/file"), "text").unwrap();
    fs::write(from.join("short"), vec![7; 70_000]).unwrap();
    fs::hard_link(from.join("short"), from.join("zz")).unwrap();
    fs::hard_link(from.join(&long).join("d/file"), from.join("zzz")).unwrap();
    symlink("t".repeat(150), from.join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, from.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
    from
}

#[test]
fn archives_of_gnu_tar_extract_right() {
    for format in ["gnu", "pax", "ustar", "v7"] {
        let place = temp();
        let from = build_for_gnu(place.path());
        if format == "pax" {
            trees::build_awkward(&from.join("awkward"));
            // GNU tar has no sockets, and packs a pipe with two names as two pipes
            fs::remove_file(from.join("awkward/socket")).unwrap();
            fs::remove_file(from.join("awkward/fifo-again")).unwrap();
            trees::set_times_of(&from.join("awkward"), 1234, 0);
        } else {
            // what the old formats cannot say
            trees::each(&from, &mut |path| trees::set_times_of(path, 1_000_000_000, 0));
        }
        if matches!(format, "ustar" | "v7") {
            let long = "n".repeat(200);
            fs::remove_dir_all(from.join(long)).unwrap();
            fs::remove_file(from.join("link")).unwrap();
            fs::remove_file(from.join("fifo")).unwrap();
            trees::set_times_of(&from, 1_000_000_000, 0);
        }
        let format = format!("--format={format}");
        let mut arguments = vec!["-cf", "../it.tar", &format, "."];
        if format.ends_with("pax") {
            arguments.insert(2, "--xattrs");
        }
        gnu_tar(&arguments, &from);
        let tar = fs::read(place.path().join("it.tar")).unwrap();
        let to = temp();
        let result = extracted(&tar, to.path(), &options()).unwrap();
        assert_eq!(result.remarks, Vec::<String>::new());
        check_equal(&describe(&from), &describe(to.path()));
    }
}

#[test]
fn gnu_tar_extracts_ours() {
    let place = temp();
    let from = build_for_gnu(place.path());
    let to = place.path().join("to");
    fs::create_dir(&to).unwrap();
    let (tar, _) = packed(&from, "", ".");
    fs::write(place.path().join("it.tar"), tar).unwrap();
    gnu_tar(&["-xpf", "../it.tar", "--xattrs", "--xattrs-include=user.*"], &to);
    check_equal(&describe(&from), &describe(&to));
}

#[test]
fn a_sparse_archive_of_gnu_tar_is_refused_in_plain_words() {
    for format in ["gnu", "pax"] {
        let place = temp();
        fs::create_dir(place.path().join("from")).unwrap();
        let file = fs::File::create(place.path().join("from/hole")).unwrap();
        file.set_len(1 << 20).unwrap();
        let format = format!("--format={format}");
        gnu_tar(&["-cSf", "../it.tar", &format, "."], &place.path().join("from"));
        let tar = fs::read(place.path().join("it.tar")).unwrap();
        let error = extracted(&tar, temp().path(), &options()).unwrap_err();
        assert!(error.to_string().contains("sparse"), "{error}");
    }
}

#[test]
fn archives_of_the_tar_crate_extract_right() {
    let (from, to) = (temp(), temp());
    fs::create_dir_all(from.path().join("a".repeat(120))).unwrap();
    fs::write(from.path().join("a".repeat(120)).join("b"), "text").unwrap();
    symlink("b", from.path().join("a".repeat(120)).join("l")).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_dir_all("top", from.path()).unwrap();
    let tar = builder.into_inner().unwrap();
    extracted(&tar, to.path(), &options()).unwrap();
    let found = fs::read(to.path().join("top").join("a".repeat(120)).join("l")).unwrap();
    assert_eq!(found, b"text");
}
