//! Archives made to do harm: each is refused, and nothing outside changes.

use super::super::header::{BLOCK, Header, Type};
use super::super::pax::Records;
use super::*;

/// An archive under construction, block by block.
#[derive(Default)]
struct Evil(Vec<u8>);

impl Evil {
    fn header(mut self, kind: Type, name: &[u8], target: &[u8], size: u64) -> Self {
        let header = Header {
            kind,
            name: name.to_vec(),
            target: target.to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: 1,
        };
        self.0.extend_from_slice(&header.encode());
        self
    }

    fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        self
    }

    fn file(self, name: &str) -> Self {
        self.header(Type::File, name.as_bytes(), b"", 4).content(b"evil")
    }

    fn dir(self, name: &str) -> Self {
        self.header(Type::Directory, name.as_bytes(), b"", 0)
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.header(Type::Symlink, name.as_bytes(), target.as_bytes(), 0)
    }

    fn hard(self, name: &str, target: &str) -> Self {
        self.header(Type::HardLink, name.as_bytes(), target.as_bytes(), 0)
    }

    fn long(self, kind: Type, content: &[u8]) -> Self {
        self.header(kind, b"extended", b"", content.len() as u64).content(content)
    }

    fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut all = Records::default();
        for (key, value) in records {
            all.push(key.as_bytes(), value);
        }
        self.long(Type::Pax, &all.0)
    }

    /// Changes the header before this point.
    fn patch(mut self, at: usize, bytes: &[u8]) -> Self {
        let last = self.0.len() - BLOCK;
        self.0[last + at..last + at + bytes.len()].copy_from_slice(bytes);
        fix_checksum(&mut self.0[last..]);
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}

fn fix_checksum(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Makes the checksums right of all that looks like a header.
pub(super) fn fix_checksums(tar: &mut [u8]) {
    for block in tar.as_chunks_mut::<BLOCK>().0 {
        if block[257..262] == *b"ustar" {
            fix_checksum(block);
        }
    }
}

fn evil() -> Evil {
    Evil::default()
}

/// What is wrong, the archive, and a word of the refusal.
fn vectors() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let cut = |mut tar: Vec<u8>, length: usize| {
        tar.truncate(length);
        tar
    };
    let deep = "d/".repeat(257);
    let long = "n".repeat(256);
    let path_over = vec!["n".repeat(250); 17].join("/");
    let bomb = vec![b'x'; (1 << 20) + 1];
    vec![
        ("absolute name", evil().file("/canary/x").end(), "absolute"),
        ("absolute directory", evil().dir("/").end(), "absolute"),
        ("absolute name, pax", evil().pax(&[("path", b"/canary/x")]).file("x").end(), "absolute"),
        (
            "absolute name, GNU",
            evil().long(Type::LongName, b"/canary/x\0").file("x").end(),
            "absolute",
        ),
        ("two slashes first", evil().file("//canary/x").end(), "absolute"),
        ("climbs", evil().file("../canary/x").end(), ".."),
        ("climbs from below", evil().dir("a").file("a/../../canary/x").end(), ".."),
        ("climbs after a dot", evil().file("./../canary/x").end(), ".."),
        ("climbs as a directory", evil().dir("../canary").end(), ".."),
        ("is the parent", evil().dir("..").end(), ".."),
        ("climbs at its end", evil().dir("a/..").end(), ".."),
        ("climbs, pax", evil().pax(&[("path", b"../canary/x")]).file("x").end(), ".."),
        ("climbs, GNU", evil().long(Type::LongName, b"../canary/x").file("x").end(), ".."),
        (
            "climbs in the prefix",
            evil().header(Type::File, b"x", b"", 0).patch(345, b"../canary").end(),
            "..",
        ),
        ("through its own link", evil().link("l", "../canary").file("l/x").end(), "symbolic link"),
        ("through an absolute link", evil().link("l", "/tmp").file("l/x").end(), "symbolic link"),
        (
            "through a link to a link",
            evil().link("l", "m").link("m", "../canary").file("l/x").end(),
            "symbolic link",
        ),
        (
            "through a link that stays inside",
            evil().dir("d").link("l", "d").file("l/x").end(),
            "symbolic link",
        ),
        ("through a link already there", evil().file("there/x").end(), "symbolic link"),
        ("a directory through a link already there", evil().dir("there/d").end(), "symbolic link"),
        ("a link through a link", evil().link("there/l", "x").end(), "symbolic link"),
        (
            "a pipe through a link",
            evil().header(Type::Fifo, b"there/p", b"", 0).end(),
            "symbolic link",
        ),
        ("a directory over a link already there", evil().dir("there").end(), "symbolic link"),
        ("through a file", evil().file("f").file("f/x").end(), "regular file"),
        ("a hard link that climbs", evil().hard("h", "../canary/secret").end(), "no name"),
        ("an absolute hard link", evil().hard("h", "/etc/passwd").end(), "no name"),
        (
            "a hard link that climbs, pax",
            evil().pax(&[("linkpath", b"../canary/secret")]).hard("h", "x").end(),
            "no name",
        ),
        (
            "a hard link that climbs, GNU",
            evil().long(Type::LongTarget, b"../canary/secret").hard("h", "x").end(),
            "no name",
        ),
        (
            "a hard link through a link",
            evil().link("l", "../canary").hard("h", "l/secret").end(),
            "not made",
        ),
        ("a hard link to nothing", evil().hard("h", "nothing").end(), "not made"),
        ("a hard link to what comes later", evil().hard("h", "f").file("f").end(), "not made"),
        ("a hard link to what was there", evil().hard("h", "private").end(), "not made"),
        ("a hard link to a directory", evil().dir("d").hard("h", "d").end(), "not made"),
        ("a hard link to the top", evil().hard("h", ".").end(), "the top"),
        ("a hard link to itself", evil().hard("h", "h").end(), "itself"),
        (
            "a hard link with content",
            evil().file("f").header(Type::HardLink, b"h", b"f", 4).content(b"evil").end(),
            "content",
        ),
        (
            "a link with content",
            evil().header(Type::Symlink, b"l", b"x", 512).content(b"x").end(),
            "content",
        ),
        (
            "a directory with content",
            evil().header(Type::Directory, b"d", b"", 9).content(b"x").end(),
            "content",
        ),
        (
            "a pipe with content",
            evil().header(Type::Fifo, b"p", b"", 9).content(b"x").end(),
            "content",
        ),
        ("a link to nowhere", evil().link("l", "").end(), "target"),
        (
            "a target with a NUL",
            evil().pax(&[("linkpath", b"a\0b")]).link("l", "x").end(),
            "target",
        ),
        (
            "a target of 4096 bytes",
            evil().pax(&[("linkpath", &[b'x'; 4096])]).link("l", "x").end(),
            "target",
        ),
        (
            "a character device",
            evil().file("f").header(Type::File, b"d", b"", 0).patch(156, b"3").end(),
            "device",
        ),
        (
            "a block device",
            evil().header(Type::File, b"d", b"", 0).patch(156, b"4").end(),
            "device",
        ),
        (
            "a sparse file, GNU",
            evil().header(Type::File, b"s", b"", 0).patch(156, b"S").end(),
            "sparse",
        ),
        (
            "a sparse file, pax 0.1",
            evil().pax(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"99")]).file("s").end(),
            "sparse",
        ),
        (
            "a sparse file, pax 1.0",
            evil().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.name", b"/x")]).file("s").end(),
            "sparse",
        ),
        (
            "another volume",
            evil().header(Type::File, b"m", b"", 0).patch(156, b"M").end(),
            "volume",
        ),
        ("an unknown type", evil().header(Type::File, b"m", b"", 0).patch(156, b"Z").end(), "type"),
        ("a name of 256 bytes", evil().pax(&[("path", long.as_bytes())]).file("x").end(), "255"),
        (
            "a path of 4096 bytes",
            evil().pax(&[("path", path_over.as_bytes())]).file("x").end(),
            "4095",
        ),
        ("a path of 257 names", evil().pax(&[("path", deep.as_bytes())]).dir("x").end(), "deep"),
        ("a NUL in a name", evil().pax(&[("path", b"a\0b")]).file("x").end(), "NUL"),
        ("no name", evil().file("").end(), "no name"),
        ("no name, pax", evil().pax(&[("path", b"")]).file("x").end(), "no name"),
        ("the top as a file", evil().file("./").end(), "content"),
        ("the top as a link", evil().link(".", "x").end(), "top"),
        (
            "a wrong checksum",
            {
                let mut tar = evil().file("f").end();
                tar[0] = b'g';
                tar
            },
            "checksum",
        ),
        (
            "a checksum that is no number",
            {
                let mut tar = evil().file("f").end();
                tar[148..156].copy_from_slice(b"checksum");
                tar
            },
            "checksum",
        ),
        (
            "a size that is no number",
            evil().header(Type::File, b"f", b"", 0).patch(124, b"12x").end(),
            "size",
        ),
        (
            "a negative size",
            evil().header(Type::File, b"f", b"", 0).patch(124, &[0xff; 12]).end(),
            "negative",
        ),
        (
            "a size over 63 bits",
            {
                evil()
                    .header(Type::File, b"f", b"", 0)
                    .patch(124, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
                    .end()
            },
            "size",
        ),
        (
            "a size beyond the limit",
            evil().pax(&[("size", b"9223372036854775807")]).file("f").end(),
            "at most",
        ),
        (
            "a size beyond numbers",
            evil().pax(&[("size", b"99999999999999999999")]).file("f").end(),
            "size",
        ),
        ("a size with a sign", evil().pax(&[("size", b"-1")]).file("f").end(), "size"),
        (
            "a size beyond what follows",
            evil().header(Type::File, b"f", b"", 1 << 20).content(b"x").end(),
            "early",
        ),
        ("a time that is none", evil().pax(&[("mtime", b"1e99")]).file("f").end(), "time"),
        (
            "a time beyond numbers",
            evil().pax(&[("mtime", b"99999999999999999999")]).file("f").end(),
            "time",
        ),
        (
            "an extended header over 1 MiB",
            evil().long(Type::Pax, &bomb).file("f").end(),
            "extended header has",
        ),
        (
            "an extended header that claims 8 GiB",
            evil().header(Type::Pax, b"x", b"", (1 << 33) - 1).end(),
            "extended header has",
        ),
        (
            "a GNU name over 1 MiB",
            evil().long(Type::LongName, &bomb).file("f").end(),
            "extended header has",
        ),
        (
            "a global header over 1 MiB",
            evil().long(Type::GlobalPax, &bomb).file("f").end(),
            "extended header has",
        ),
        (
            "a record without a length",
            evil().long(Type::Pax, b"path=x\n").file("f").end(),
            "record",
        ),
        (
            "a record over the header",
            evil().long(Type::Pax, b"99 path=x\n").file("f").end(),
            "record",
        ),
        ("a record of length 0", evil().long(Type::Pax, b"0 path=x\n").file("f").end(), "record"),
        (
            "a record of huge length",
            evil().long(Type::Pax, b"99999999999999999999 a=b\n").file("f").end(),
            "record",
        ),
        ("a record without an end", evil().long(Type::Pax, b"9 path=xx").file("f").end(), "record"),
        ("a record without a value", evil().long(Type::Pax, b"7 path\n").file("f").end(), "record"),
        (
            "two extended headers",
            evil().pax(&[("a", b"b")]).pax(&[("path", b"x")]).file("f").end(),
            "two",
        ),
        (
            "two names",
            evil().long(Type::LongName, b"a").pax(&[("path", b"b")]).file("f").end(),
            "two names",
        ),
        (
            "a path for all entries",
            evil().long(Type::GlobalPax, b"10 path=x\n").file("f").end(),
            "global",
        ),
        (
            "global headers without end",
            {
                let mut tar = evil();
                for _ in 0..100 {
                    tar = tar.long(Type::GlobalPax, b"8 a=bcd\n");
                }
                tar.end()
            },
            "extended headers",
        ),
        ("an extended header of nothing", evil().pax(&[("path", b"x")]).end(), "extended header"),
        (
            "a kind that is not known",
            evil().pax(&[("COVE.kind", b"device")]).header(Type::File, b"x", b"", 0).end(),
            "kind",
        ),
        (
            "a socket with content",
            evil().pax(&[("COVE.kind", b"socket")]).file("x").end(),
            "content",
        ),
        (
            "a socket that is a directory",
            evil().pax(&[("COVE.kind", b"socket")]).dir("x").end(),
            "kind",
        ),
        (
            "a malformed ACL",
            evil().pax(&[("SCHILY.xattr.system.posix_acl_access", b"nonsense")]).file("x").end(),
            "malformed",
        ),
        (
            "a malformed ACL of a directory",
            evil().pax(&[("SCHILY.xattr.system.posix_acl_default", b"nonsense")]).dir("x").end(),
            "malformed",
        ),
        (
            "an attribute over 64 KiB",
            evil().pax(&[("SCHILY.xattr.user.x", &vec![b'x'; (64 << 10) + 1])]).file("x").end(),
            "malformed",
        ),
        (
            "an attribute with a long name",
            evil().pax(&[(&format!("SCHILY.xattr.user.{long}"), b"x")]).file("x").end(),
            "malformed",
        ),
        ("nothing at all", Vec::new(), "early"),
        ("no tar", b"PK\x03\x04".repeat(400), "checksum"),
        ("one block of zeros", vec![0; BLOCK], "early"),
        ("no end", evil().file("f").0, "early"),
        ("cut in a header", cut(evil().file("f").end(), 300), "early"),
        ("cut in content", cut(evil().file("f").end(), 514), "early"),
        ("cut in an extended header", cut(evil().pax(&[("path", b"x")]).end(), 520), "early"),
        (
            "another archive after the end",
            { [evil().file("f").end(), evil().file("../canary/x").end()].concat() },
            "after the end",
        ),
        (
            "zeros without end",
            {
                let mut tar = evil().file("f").end();
                tar.resize(2 << 20, 0);
                tar
            },
            "zeros",
        ),
        (
            "too many entries",
            {
                let mut tar = evil();
                for _ in 0..200 {
                    tar = tar.dir("d");
                }
                tar.end()
            },
            "entries",
        ),
    ]
}

/// Extracts beside a canary and makes sure of it.
fn extracted_beside_canary(tar: &[u8], limits: Limits) -> Result<Extracted, ExtractError> {
    let place = temp();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("canary")).unwrap();
    fs::write(at("canary/secret"), "secret").unwrap();
    fs::create_dir(at("inside")).unwrap();
    fs::write(at("inside/private"), "private").unwrap();
    symlink("../canary", at("inside/there")).unwrap();
    let before = describe(&at("canary"));
    let links = fs::metadata(at("canary/secret")).unwrap().nlink();
    let options = ExtractOptions { limits, ..options() };
    let result = extracted(tar, &at("inside"), &options);
    check_equal(&before, &describe(&at("canary")));
    assert_eq!(fs::metadata(at("canary/secret")).unwrap().nlink(), links);
    let mut outside: Vec<_> =
        fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    outside.sort();
    assert_eq!(outside, ["canary", "inside"]);
    trees::each(&at("inside"), &mut |path| {
        let metadata = fs::symlink_metadata(path).unwrap();
        assert_eq!(metadata.mode() & 0o6000, 0, "{}", path.display());
        assert_ne!(metadata.mode() & 0o170_000, 0o020_000, "{}", path.display());
        assert_ne!(metadata.mode() & 0o170_000, 0o060_000, "{}", path.display());
    });
    result
}

pub(super) fn check_stays_inside(tar: &[u8]) {
    let _ = extracted_beside_canary(tar, LIMITS);
}

#[test]
fn every_hostile_archive_is_refused_and_changes_nothing_outside() {
    let limits = Limits { entries: 100, ..LIMITS };
    let vectors = vectors();
    assert!(vectors.len() >= 40);
    for (what, tar, word) in vectors {
        let error = match extracted_beside_canary(&tar, limits) {
            Ok(extracted) => panic!("{what}: not refused: {extracted:?}"),
            Err(error) => error,
        };
        let text = error.to_string();
        let is_conflict = matches!(error, ExtractError::Conflict { .. });
        assert!(error.kind() == ErrorKind::Invalid || is_conflict, "{what}: {text}");
        assert!(text.contains(word), "{what}: {text}");
        assert!(!text.contains(|c: char| c.is_control()), "{what}: {text:?}");
    }
}

#[test]
fn names_in_errors_are_escaped_and_short() {
    let tar = evil().file("\x1b[31m/../x").end();
    let error = extracted_beside_canary(&tar, LIMITS).unwrap_err().to_string();
    assert!(error.contains("\\x1b[31m"), "{error}");
    let tar = evil().pax(&[("path", &vec![b'n'; 100_000])]).file("x").end();
    assert!(extracted_beside_canary(&tar, LIMITS).unwrap_err().to_string().len() < 600);
}

#[test]
fn limits_are_kept() {
    let bytes = Limits { bytes: 7, ..LIMITS };
    extracted_beside_canary(&evil().file("a").end(), bytes).unwrap();
    extracted_beside_canary(&evil().file("a").file("b").end(), bytes).unwrap_err();
    let depth = Limits { depth: 2, ..LIMITS };
    extracted_beside_canary(&evil().file("a/b").end(), depth).unwrap();
    extracted_beside_canary(&evil().file("a/b/c").end(), depth).unwrap_err();
}

#[test]
fn set_id_bits_and_foreign_attributes_are_left_out_and_named() {
    let tar = evil()
        .header(Type::Directory, b"d", b"", 0)
        .patch(100, b"0007755\0")
        .pax(&[
            ("SCHILY.xattr.security.capability", b"x"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.acl.access", b"user::rwx"),
        ])
        .header(Type::File, b"f", b"", 0)
        .patch(100, b"0006755\0")
        .end();
    let remarks = extracted_beside_canary(&tar, LIMITS).unwrap().remarks;
    assert_eq!(
        remarks,
        [
            "d: its set-uid and set-gid bits are not kept",
            "f: its set-uid and set-gid bits are not kept",
            "f: an ACL or attribute in an unknown form is left out",
            "f: attribute security.capability is left out",
            "f: attribute trusted.overlay.opaque is left out",
        ]
    );
}

#[test]
fn a_stream_that_fails_is_no_broken_archive() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let to = temp();
    let dir = Dir::from_path(to.path()).unwrap();
    let error = extract(&mut Broken, &dir, &TreePath::top(), &options(), &|_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}
