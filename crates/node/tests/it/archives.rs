//! Archives that come in: all of one takes effect, or nothing, and nobody waits for its stream.

use std::io::{Cursor, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::mpsc;

use cove_content::volumes::{Edited, FileEdit, VolumeError, Volumes};
use cove_testkit::trees::describe;
use cove_types::{Classify, ErrorKind, TreePath, VolumeId};

use crate::world::{World, is_root, memory};

/// An entry of an archive: name, kind, target of a link, content.
type Member<'a> = (&'a str, u8, &'a str, &'a [u8]);

fn tar(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, kind, target, content) in members {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000750\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000001750\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = *kind;
        header[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

async fn extract(
    world: &World,
    volume: &VolumeId,
    path: &str,
    stream: impl Read + Send + 'static,
) -> Result<Edited, VolumeError> {
    let path = TreePath::from_bytes(path.as_bytes()).unwrap();
    world.node.edit(volume, FileEdit::Extract(path, Box::new(stream))).await
}

/// What a volume has beside its files: nothing of ours when nothing is going on.
fn beside(files: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(files.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_archive_changes_nothing() {
    if !is_root("a_refused_archive_changes_nothing") {
        return;
    }
    let world = World::fake("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    std::fs::create_dir_all(files.join("here/deep")).unwrap();
    std::fs::write(files.join("here/file"), "old").unwrap();
    symlink("here", files.join("link")).unwrap();
    let before = describe(&files).unwrap();
    let first: [Member<'_>; 3] =
        [("d/", b'5', "", b""), ("d/ok", b'0', "", b"ok"), ("here/file", b'0', "", b"another")];
    let with = |last: &[Member<'_>]| tar(&[&first, last].concat());
    let mut cut = with(&[("d/large", b'0', "", &[7; 100_000])]);
    cut.truncate(cut.len() - 50_000);
    let mut damaged = with(&[("d/last", b'0', "", b"last")]);
    let header = damaged.len() - 1024 - 1024;
    damaged[header] ^= 1;
    let archives: [(&str, ErrorKind, Vec<u8>); 8] = [
        ("climbs", ErrorKind::Invalid, with(&[("../evil", b'0', "", b"evil")])),
        (
            "passes a link of its own",
            ErrorKind::Invalid,
            with(&[("d/ln", b'2', "/etc", b""), ("d/ln/pwned", b'0', "", b"evil")]),
        ),
        (
            "passes a link that is there",
            ErrorKind::Precondition,
            with(&[("link/new", b'0', "", b"new")]),
        ),
        ("has a device", ErrorKind::Invalid, with(&[("d/disk", b'4', "", b"")])),
        (
            "replaces a directory",
            ErrorKind::Precondition,
            with(&[("here/deep", b'0', "", b"no directory")]),
        ),
        (
            "goes below a file",
            ErrorKind::Precondition,
            tar(&[first[0], first[1], ("here/file/", b'5', "", b"")]),
        ),
        ("breaks off", ErrorKind::Invalid, cut),
        ("is damaged", ErrorKind::Invalid, damaged),
    ];
    for (what, kind, archive) in archives {
        for path in ["", "new/place"] {
            let is_free = !path.is_empty() && kind == ErrorKind::Precondition;
            if is_free {
                // nothing there to be in conflict with
                continue;
            }
            let refused = extract(&world, &volume, path, Cursor::new(archive.clone())).await;
            let error = refused.expect_err(what);
            assert_eq!(error.kind(), kind, "it {what}, at {path:?}: {error}");
            assert_eq!(describe(&files).unwrap(), before, "it {what}, at {path:?}");
            assert_eq!(beside(&files), Vec::<String>::new(), "it {what}, at {path:?}");
        }
    }
    world.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_finds_the_pool_full_changes_nothing() {
    if !is_root("an_archive_that_finds_the_pool_full_changes_nothing") {
        return;
    }
    let world = World::on_loop("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    let filler = std::fs::File::create(files.join("filler")).unwrap();
    let (mut end, mut step) = (0, 256 << 20);
    while step >= 1 << 20 {
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&filler, flags, end, step) {
            Ok(()) => end += step,
            Err(_) => step /= 2,
        }
    }
    let members: Vec<Vec<u8>> = (0..64_u8)
        .map(|seed| {
            let mut state = u64::from(seed) + 1;
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            };
            (0..4 << 20).map(next).collect()
        })
        .collect();
    let names: Vec<String> = (0..64).map(|n| format!("d1/{n}")).collect();
    let members: Vec<Member<'_>> = names
        .iter()
        .zip(&members)
        .map(|(name, content)| (name.as_str(), b'0', "", content.as_slice()))
        .collect();
    let error = extract(&world, &volume, "b", Cursor::new(tar(&members))).await.expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
    assert!(!files.join("b").exists());
    assert_eq!(beside(&files), Vec::<String>::new());
    world.node.stop().await;
}

/// A stream whose second half comes when it is told to.
struct Halting {
    first: Cursor<Vec<u8>>,
    more: mpsc::Receiver<Vec<u8>>,
}

impl Read for Halting {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.first.read(buffer)? {
                0 => match self.more.recv() {
                    Ok(more) => self.first = Cursor::new(more),
                    Err(_) => return Ok(0),
                },
                read => return Ok(read),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_on_its_way_keeps_nobody_waiting_and_then_merges() {
    if !is_root("an_archive_on_its_way_keeps_nobody_waiting_and_then_merges") {
        return;
    }
    let world = World::on_loop("a", &memory()).await;
    let volume = world.create().await;
    let files = world.files(&volume).await;
    std::fs::create_dir_all(files.join("in/named")).unwrap();
    std::fs::create_dir_all(files.join("in/passed")).unwrap();
    for path in ["in", "in/named", "in/passed"] {
        std::fs::set_permissions(files.join(path), PermissionsExt::from_mode(0o711)).unwrap();
    }
    std::fs::write(files.join("in/named/stays"), "stays").unwrap();
    std::fs::write(files.join("in/replaced"), "old").unwrap();
    symlink("named", files.join("in/link")).unwrap();
    let archive = tar(&[
        ("named/", b'5', "", b""),
        ("named/new", b'0', "", &[3; 200_000]),
        ("named/twice", b'1', "named/new", b""),
        ("passed/new/below", b'0', "", b"below"),
        ("replaced", b'0', "", b"new"),
        ("link", b'0', "", b"no link"),
    ]);
    let (sender, more) = mpsc::channel();
    let (first, last) = archive.split_at(100_000);
    let stream = Halting { first: Cursor::new(first.to_vec()), more };
    let entry = {
        let extracting = extract(&world, &volume, "in", stream);
        let meanwhile = async {
            // a snapshot, and a restore that replaces the files' subvolume, do not wait for the stream
            let entry = world.snapshot(&volume).await;
            world.restore(&volume, &entry).await;
            sender.send(last.to_vec()).unwrap();
            drop(sender);
            entry
        };
        let (edited, entry) = tokio::join!(extracting, meanwhile);
        let edited: Vec<String> =
            edited.unwrap().files.iter().map(|file| file.path.to_string()).collect();
        assert_eq!(edited, ["in/named", "in/passed", "in/replaced", "in/link"]);
        entry
    };
    let files = world.files(&volume).await;
    let read = |path: &str| std::fs::read_to_string(files.join(path)).unwrap();
    assert_eq!(read("in/named/stays"), "stays");
    assert_eq!(read("in/passed/new/below"), "below");
    assert_eq!(read("in/replaced"), "new");
    assert_eq!(read("in/link"), "no link");
    let looks = |path: &str| std::fs::symlink_metadata(files.join(path)).unwrap();
    assert_eq!(looks("in/named").mode() & 0o7777, 0o750, "the archive names it");
    assert_eq!(looks("in/named").mtime(), 0o1750);
    assert_eq!(looks("in/passed").mode() & 0o7777, 0o711, "the archive does not name it");
    assert_eq!(looks("in/named/new").ino(), looks("in/named/twice").ino());
    assert_eq!(looks("in/named/new").len(), 200_000);
    assert_eq!((looks("in/replaced").uid(), looks("in/passed/new").uid()), (1000, 1000));
    assert_eq!(beside(&files), Vec::<String>::new());
    // what was restored to and what came in are told apart
    let restored = world.restore_as(&world.call(), &volume, &entry, &["in"]).await.unwrap();
    restored.saved.await.unwrap();
    assert_eq!(std::fs::read_to_string(files.join("in/replaced")).unwrap(), "old");
    world.node.stop().await;
}
