use std::io::Read;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

use cove_types::{Classify, ErrorKind, FileTime};

use super::*;

/// A directory `in` with a file, beside a file `secret` that nobody may reach from it.
struct Fixture {
    outer: tempfile::TempDir,
    dir: Dir,
}

impl Fixture {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        std::fs::create_dir(outer.path().join("in")).unwrap();
        std::fs::write(outer.path().join("in/file"), "text").unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        let dir = Dir::from_path(&outer.path().join("in")).unwrap();
        Self { outer, dir }
    }

    fn link(&self, name: &str, target: &str) {
        symlink(target, self.outer.path().join("in").join(name)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.outer.path().join("in").join(name)).unwrap()
    }
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

#[test]
fn a_link_that_leaves_the_directory_is_not_followed() {
    let f = Fixture::new();
    f.link("up", "..");
    f.link("absolute", f.outer.path().to_str().unwrap());
    f.link("magic", "/proc/self/root");
    for name in ["up/secret", "absolute/secret", "magic/etc/passwd", "magic/tmp"] {
        let error = f.dir.open_file(&path(name)).unwrap_err();
        assert!(matches!(error, PathError::Escapes { .. }), "{name}: {error:?}");
        assert_eq!(f.dir.metadata(&path(name)).unwrap_err().kind(), ErrorKind::Denied);
        let written = f.dir.write_file(&path(name), None, &mut &b"x"[..]).unwrap_err();
        assert_eq!(written.kind(), ErrorKind::Denied);
        assert!(f.dir.remove(&path(name), true).is_err());
        assert!(f.dir.create_dir(&path(name).join(b"d").unwrap(), 0o755).is_err());
    }
    assert_eq!(std::fs::read_to_string(f.outer.path().join("secret")).unwrap(), "secret");
}

#[test]
fn a_link_that_stays_inside_leads_on_and_is_itself_never_opened() {
    let f = Fixture::new();
    f.dir.create_dirs(&path("d/e"), 0o755).unwrap();
    f.dir.write_file(&path("d/e/a"), None, &mut &b"deep"[..]).unwrap();
    f.link("in", "d/../d/e");
    f.link("last", "d/e/a");
    f.dir.open_file(&path("in/a")).unwrap();
    f.dir.write_file(&path("in/b"), None, &mut &b"b"[..]).unwrap();
    assert_eq!(f.read("d/e/b"), "b");
    let refused = f.dir.open_file(&path("last")).unwrap_err();
    assert_eq!(refused.to_string(), "\"last\" is a symbolic link, not a regular file");
    assert_eq!(f.dir.metadata(&path("last")).unwrap().kind, FileKind::Symlink);
    assert_eq!(f.dir.read_link(&path("last")).unwrap(), b"d/e/a");
    let refused = f.dir.list(&path("in")).unwrap_err();
    assert_eq!(refused.to_string(), "\"in\" is a symbolic link, not a directory");
    let refused = f.dir.set_mode(&path("last"), 0o600);
    assert!(refused.is_err());
}

#[test]
fn a_pipe_is_not_opened_and_does_not_block() {
    let f = Fixture::new();
    f.dir.mkfifo(&path("fifo"), 0o622).unwrap();
    f.dir.mksocket(&path("socket"), 0o711).unwrap();
    assert_eq!(f.dir.metadata(&path("fifo")).unwrap().mode, 0o622);
    assert_eq!(f.dir.metadata(&path("socket")).unwrap().mode, 0o711);
    for name in ["fifo", "socket", ""] {
        let refused = f.dir.open_file(&path(name)).unwrap_err();
        assert!(matches!(refused, PathError::Kind { .. }), "{name}: {refused:?}");
    }
    assert!(f.dir.open_file_writable(&path("fifo")).is_err());
}

#[test]
fn a_file_is_replaced_with_its_mode_and_its_other_names_keep_the_old_content() {
    let f = Fixture::new();
    f.dir.set_mode(&path("file"), 0o751).unwrap();
    f.dir.hard_link(&path("file"), &path("other")).unwrap();
    f.dir.write_file(&path("file"), None, &mut &b"new"[..]).unwrap();
    assert_eq!((f.read("file"), f.read("other")), ("new".into(), "text".into()));
    assert_eq!(f.dir.metadata(&path("file")).unwrap().mode, 0o751);
    f.dir.write_file(&path("fresh"), None, &mut &b"new"[..]).unwrap();
    assert_eq!(f.dir.metadata(&path("fresh")).unwrap().mode, 0o644);
    f.dir.write_file(&path("fresh"), Some(0o600), &mut &b"new"[..]).unwrap();
    assert_eq!(f.dir.metadata(&path("fresh")).unwrap().mode, 0o600);
    assert_eq!(f.dir.list(&TreePath::top()).unwrap().len(), 3);
}

#[test]
fn a_content_that_fails_leaves_the_old_file_and_nothing_beside_it() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let f = Fixture::new();
    assert!(f.dir.write_file(&path("file"), None, &mut Broken).is_err());
    assert!(f.dir.write_file(&path("fresh"), None, &mut Broken).is_err());
    assert_eq!(f.read("file"), "text");
    assert_eq!(f.dir.list(&TreePath::top()).unwrap().len(), 1);
}

#[test]
fn a_file_is_not_written_over_a_directory_nor_over_the_top() {
    let f = Fixture::new();
    f.dir.create_dir(&path("d"), 0o755).unwrap();
    let refused = f.dir.write_file(&path("d"), None, &mut &b""[..]).unwrap_err();
    assert_eq!(refused.to_string(), "\"d\" is a directory, not a regular file");
    let refused = f.dir.write_file(&TreePath::top(), None, &mut &b""[..]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(f.dir.remove(&TreePath::top(), true).is_err());
}

#[test]
fn removing_never_follows_a_link() {
    let f = Fixture::new();
    f.dir.create_dirs(&path("d/e"), 0o755).unwrap();
    f.link("d/up", "../..");
    f.link("d/e/secret", "../../../secret");
    let refused = f.dir.remove(&path("d"), false).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Precondition);
    assert!(f.dir.remove(&path("d"), true).unwrap());
    assert!(!f.dir.remove(&path("d"), true).unwrap());
    assert!(!f.dir.remove(&path("d/e/f"), true).unwrap());
    assert!(f.outer.path().join("secret").exists());
    assert_eq!(f.dir.list(&TreePath::top()).unwrap().len(), 1);
}

#[test]
fn a_tree_deeper_than_descriptors_and_stack_is_removed() {
    let f = Fixture::new();
    f.dir.create_dir(&path("deep"), 0o755).unwrap();
    let mut at = f.dir.open_below(&path("deep"), OFlags::PATH).unwrap();
    for _ in 0..5000 {
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
        rustix::fs::mkdirat(&at, "side", Mode::from_raw_mode(0o755)).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        at = rustix::fs::openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    assert!(f.dir.remove(&path("deep"), true).unwrap());
}

#[test]
fn names_are_bytes_and_listed_in_their_order() {
    let f = Fixture::new();
    for name in [&b"\xff\xfe"[..], b"Z", b"a"] {
        let path = TreePath::from_bytes(name).unwrap();
        f.dir.write_file(&path, None, &mut &b""[..]).unwrap();
    }
    let names: Vec<_> = f.dir.list(&TreePath::top()).unwrap().into_iter().map(|e| e.0).collect();
    assert_eq!(names, [&b"Z"[..], b"a", b"file", b"\xff\xfe"]);
}

#[test]
fn a_time_comes_back_as_it_was_set() {
    let f = Fixture::new();
    f.link("link", "nowhere");
    for (seconds, nanoseconds) in [(0, 0), (-1, 999_999_999), (4_000_000_000, 1)] {
        let time = FileTime { seconds, nanoseconds };
        for name in ["file", "link"] {
            f.dir.set_times(&path(name), time).unwrap();
            assert_eq!(f.dir.metadata(&path(name)).unwrap().mtime, time);
        }
    }
    f.dir.set_times(&TreePath::top(), FileTime::default()).unwrap();
    assert_eq!(f.dir.metadata(&TreePath::top()).unwrap().mtime, FileTime::default());
}

#[test]
fn attributes_are_bytes_and_links_have_none() {
    let f = Fixture::new();
    f.link("link", "file");
    let value = vec![0xff; 3000];
    f.dir.set_xattr(&path("file"), b"user.b", &value).unwrap();
    f.dir.set_xattr(&path("file"), b"user.a", b"").unwrap();
    let is_ours = |name: &Vec<u8>| name.starts_with(b"user.");
    let names = f.dir.list_xattrs(&path("file")).unwrap();
    assert_eq!(names.into_iter().filter(is_ours).collect::<Vec<_>>(), [b"user.a", b"user.b"]);
    assert_eq!(f.dir.find_xattr(&path("file"), b"user.b").unwrap(), Some(value));
    assert_eq!(f.dir.find_xattr(&path("file"), b"user.a").unwrap(), Some(vec![]));
    assert_eq!(f.dir.find_xattr(&path("file"), b"user.c").unwrap(), None);
    assert!(f.dir.list_xattrs(&path("link")).unwrap().is_empty());
    assert!(f.dir.set_xattr(&path("link"), b"user.a", b"").is_err());
    assert!(f.dir.remove_xattr(&path("file"), b"user.a").unwrap());
    assert!(!f.dir.remove_xattr(&path("file"), b"user.a").unwrap());
}

#[test]
fn absence_is_told_from_a_failure() {
    let f = Fixture::new();
    assert_eq!(f.dir.find(&path("absent")).unwrap(), None);
    assert_eq!(f.dir.find(&path("absent/a")).unwrap(), None);
    assert_eq!(f.dir.find(&path("file/a")).unwrap(), None);
    f.link("loop", "loop");
    assert!(f.dir.find(&path("loop/a")).is_err());
    assert!(f.dir.create_dirs(&path("a/b/c"), 0o755).unwrap());
    assert!(!f.dir.create_dirs(&path("a/b/c"), 0o755).unwrap());
    assert!(f.dir.create_dirs(&path("file/b"), 0o755).is_err());
    assert!(f.dir.create_dirs(&path("file"), 0o755).is_err());
}

#[test]
fn another_mount_is_seen_and_not_entered() {
    let root = Dir::from_path(Path::new("/")).unwrap();
    let proc = root.metadata(&path("proc")).unwrap();
    assert_ne!(proc.device, root.device());
    assert!(matches!(root.list(&path("proc")), Err(PathError::OtherDevice { .. })));
    let inside = root.open_file(&path("proc/version")).unwrap_err();
    assert!(matches!(inside, PathError::OtherDevice { .. }), "{inside:?}");
}

#[test]
fn a_thread_that_swaps_a_directory_for_a_link_lets_nothing_escape() {
    let f = Fixture::new();
    f.dir.create_dir(&path("d"), 0o755).unwrap();
    f.dir.write_file(&path("d/secret"), None, &mut &b"mine"[..]).unwrap();
    f.link("l", "..");
    let inside = f.outer.path().join("in");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let (d, l) = (inside.join("d"), inside.join("l"));
                rustix::fs::renameat_with(CWD, d, CWD, l, flags).unwrap();
            }
        });
        let mut read = 0;
        for _ in 0..20_000 {
            if let Ok(mut file) = f.dir.open_file(&path("d/secret")) {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                assert_eq!(text, "mine");
                read += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(read > 0);
    });
}
