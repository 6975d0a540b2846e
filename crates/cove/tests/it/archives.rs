//! Archives that mean harm, sent to the API as they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::bad_input::{header, put_archive};
use crate::harness::{Cove, Objects, contents, texts};

/// A block, filled up with zeros.
fn block(text: &[u8]) -> Vec<u8> {
    let mut block = text.to_vec();
    block.resize(text.len().div_ceil(512) * 512, 0);
    block
}

/// Records of a pax header for the entry behind it.
fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in records {
        let rest = [b" ", name.as_bytes(), b"=", value, b"\n"].concat();
        // The length counts its own digits.
        let mut length = rest.len() + 1;
        while format!("{length}").len() + rest.len() != length {
            length += 1;
        }
        body.extend_from_slice(format!("{length}").as_bytes());
        body.extend_from_slice(&rest);
    }
    [header(b"pax", b'x', b"", body.len()), block(&body)].concat()
}

/// The same header with another field.
fn with_field(mut header: Vec<u8>, at: usize, field: &[u8]) -> Vec<u8> {
    header[at..at + field.len()].copy_from_slice(field);
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn file(name: &[u8], bytes: &[u8]) -> Vec<u8> {
    [header(name, b'0', b"", bytes.len()), block(bytes)].concat()
}

#[test]
fn whatever_an_archive_says_nothing_outside_changes_and_cove_goes_on() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let outside = cove.make_dir("outside");
    fs::write(outside.join("secret"), "secret").unwrap();
    let out = outside.to_str().unwrap().as_bytes().to_vec();
    let secret = [&out[..], b"/secret"].concat();
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let depth = root.components().count();
    let climb = |name: &[u8]| [&b"../".repeat(depth)[..], &out[1..], b"/", name].concat();
    let long = vec![b'n'; 300];

    let refused: Vec<(&str, Vec<u8>)> = vec![
        (
            "a pax path that climbs",
            [pax(&[("path", &climb(b"evil"))]), file(b"x", b"evil")].concat(),
        ),
        ("a pax path that is absolute", {
            [pax(&[("path", &[&out[..], b"/evil"].concat())]), file(b"x", b"evil")].concat()
        }),
        ("a long name that climbs", {
            let name = [climb(b"evil"), vec![0]].concat();
            [header(b"././@LongLink", b'L', b"", name.len()), block(&name), file(b"x", b"evil")]
                .concat()
        }),
        ("a hard link out by pax", {
            [pax(&[("linkpath", &climb(b"secret"))]), header(b"h", b'1', b"x", 0)].concat()
        }),
        ("a hard link that climbs", header(b"h", b'1', b"../../../../secret", 0)),
        ("a name of 300 bytes", [pax(&[("path", &long)]), file(b"x", b"long")].concat()),
        ("a path of 5,000 bytes", {
            [pax(&[("path", &b"d/".repeat(2_500))]), file(b"x", b"deep")].concat()
        }),
        ("a name with a zero byte", [pax(&[("path", b"a\0b")]), file(b"x", b"zero")].concat()),
        ("a block device", header(b"sda", b'4', b"", 0)),
        ("a character device", header(b"null", b'3', b"", 0)),
        ("a size of 8 EiB", {
            with_field(
                header(b"huge", b'0', b"", 0),
                124,
                b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
            )
        }),
        ("a size below zero", {
            with_field(
                header(b"less", b'0', b"", 0),
                124,
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            )
        }),
        ("a pax size that lies", [pax(&[("size", b"99999999")]), file(b"x", b"short")].concat()),
        ("a pax header of 1 GiB", [header(b"pax", b'x', b"", 1 << 30), vec![b'9'; 4096]].concat()),
        ("a checksum that is wrong", {
            let mut bytes = file(b"x", b"sum");
            bytes[3] ^= 1;
            bytes
        }),
    ];
    for (what, archive) in refused {
        let (status, answer) = put_archive(&cove, &[archive, vec![0; 1024]].concat());
        assert!((400..500).contains(&status), "{what}: {answer}");
        assert!(answer.contains("application/problem+json"), "{what}: {answer}");
        unharmed(&outside, what);
    }

    // What may be accepted, as long as it stays inside.
    let link = |name: &[u8], target: &[u8]| header(name, b'2', target, 0);
    let either: Vec<(&str, Vec<u8>)> = vec![
        ("a directory over a link out", {
            [link(b"d1", &out), header(b"d1", b'5', b"", 0), file(b"d1/evil", b"evil")].concat()
        }),
        ("a file over a link out", [link(b"f1", &secret), file(b"f1", b"evil")].concat()),
        ("a hard link to a link out, then a file", {
            [link(b"l2", &secret), header(b"h2", b'1', b"l2", 0), file(b"h2", b"evil")].concat()
        }),
        ("a link to the parent", [link(b"up", b".."), file(b"up/evil", b"evil")].concat()),
        ("a link over a directory", {
            [file(b"d3/kept", b"kept"), link(b"d3", &out), file(b"d3/evil", b"evil")].concat()
        }),
        ("a chain of links", {
            [link(b"a4", b"b4"), link(b"b4", &out), file(b"a4/evil", b"evil")].concat()
        }),
        ("the root as a link", [link(b".", &out), file(b"evil", b"evil")].concat()),
        ("the root as a file", file(b".", b"evil")),
        ("an empty name", file(b"", b"evil")),
        ("the same name twice", [file(b"twice", b"one"), file(b"twice", b"two")].concat()),
    ];
    for (what, archive) in either {
        let (status, answer) = put_archive(&cove, &[archive, vec![0; 1024]].concat());
        assert!((200..500).contains(&status), "{what}: {answer}");
        unharmed(&outside, what);
        assert!(root.symlink_metadata().unwrap().is_dir(), "{what}");
    }

    // A set-user-id bit is not taken.
    let setuid = with_field(header(b"setuid", b'0', b"", 0), 100, b"0004755\0");
    let (status, answer) = put_archive(&cove, &[setuid, vec![0; 1024]].concat());
    if status == 200 {
        let found = fs::metadata(root.join("setuid")).unwrap();
        assert_eq!((found.mode() & 0o7000, found.uid(), found.gid()), (0, 1000, 1000));
    } else {
        assert!((400..500).contains(&status), "{answer}");
    }
    let (status, answer) = put_archive(&cove, &[file(b"good", b"good"), vec![0; 1024]].concat());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(cove.text(&["files", "cat", "shop:/good"]), "good");
    let names = texts(&cove.json(&["files", "ls", "-R", "shop:/"])["files"], "path");
    assert!(!names.iter().any(|name| name.contains(".cove")), "nothing of ours stays: {names:?}");
    cove.snapshot("shop", "after all of it");
}

#[track_caller]
fn unharmed(outside: &Path, what: &str) {
    let expected = [(outside.join("secret"), b"secret".to_vec())];
    assert_eq!(contents(outside), expected, "{what}");
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().nlink(), 1, "{what}");
}

#[test]
fn a_copy_outward_stays_below_its_target() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let outside = cove.make_dir("outside");
    fs::write(outside.join("secret"), "secret").unwrap();
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let out = cove.make_dir("out");
    // A link that the first copy brings becomes a directory in the second.
    symlink(&outside, root.join("d")).unwrap();
    symlink(outside.join("secret"), root.join("f")).unwrap();
    cove.json(&["cp", "shop:/.", "out"]);
    unharmed(&outside, "links are copied as links");
    assert_eq!(fs::read_link(out.join("d")).unwrap(), outside);
    let first = cove.snapshot("shop", "links");
    for name in ["d", "f"] {
        fs::remove_file(root.join(name)).unwrap();
    }
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/evil"), "evil").unwrap();
    fs::write(root.join("f"), "evil").unwrap();
    let second = cove.snapshot("shop", "files");
    for place in ["shop:/.".to_owned(), format!("shop@{second}:/."), format!("shop@{first}:/.")] {
        let output = cove.cove(&["cp", &place, "out"]);
        assert!(matches!(output.code, 0 | 2..=4), "{place}: {}", output.stderr);
        unharmed(&outside, &place);
    }
    // A link at the target itself is the user's own: followed, or refused as it is now.
    let elsewhere = cove.make_dir("elsewhere");
    symlink(&elsewhere, cove.dir.path().join("to")).unwrap();
    let output = cove.cove(&["cp", "shop:/d", "to"]);
    match output.code {
        0 => assert_eq!(fs::read(elsewhere.join("d/evil")).unwrap(), b"evil"),
        code => assert_eq!((code, fs::read_dir(elsewhere).unwrap().count()), (4, 0)),
    }
}
