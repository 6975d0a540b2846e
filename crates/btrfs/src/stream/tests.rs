use expect_test::expect;

use super::*;

/// What Linux 6.18 wrote for the edits in `live::record_a_stream`.
const GOLDEN: &[u8] = include_bytes!("golden.bin");

/// A command as one line.
fn line(command: &Command) -> String {
    let text = |bytes: &[u8]| cove_types::escape_bytes(bytes);
    match command {
        Command::Begin => "begin".into(),
        Command::Make { path } => format!("make {}", text(path)),
        Command::Rename { from, to } => format!("rename {} -> {}", text(from), text(to)),
        Command::Link { existing, path } => format!("link {} = {}", text(path), text(existing)),
        Command::Remove { path } => format!("remove {}", text(path)),
        Command::Metadata { path } => format!("metadata \"{}\"", text(path)),
        Command::Truncate { path } => format!("truncate {}", text(path)),
        Command::Extent { path, offset, length } => {
            format!("extent {} {offset}+{length}", text(path))
        }
        Command::End => "end".into(),
    }
}

#[test]
fn a_stream_of_a_real_kernel_is_read() {
    let lines: Vec<String> = decode_all(GOLDEN).unwrap().iter().map(line).collect();
    expect![[r#"
        begin
        rename d -> f
        remove a
        link f/e/b = b
        remove b
        metadata "f/e/b"
        link y = f/x
        metadata "f/x"
        extent f/x 4096+4096
        metadata "f/x"
        make o262-10-0
        rename o262-10-0 -> a
        metadata "a"
        metadata "a"
        metadata ""
        metadata "f/e"
        metadata "f"
    "#]]
    .assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn every_flipped_bit_is_refused() {
    for bit in 0..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_all(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn a_stream_that_is_cut_off_is_refused() {
    for end in 0..GOLDEN.len() {
        assert!(decode_all(&GOLDEN[..end]).is_err(), "{end} bytes");
    }
}

#[test]
fn a_length_that_no_kernel_writes_is_refused_before_anything_waits_for_it() {
    let mut command = [0xff; COMMAND_BYTES];
    command[4] = 21;
    assert!(decode(&command).is_err());
}

#[test]
fn a_path_that_climbs_is_refused() {
    for path in [&b".."[..], b"a/../b", b"/a", b"a//b", b"a/", b"a\0"] {
        assert!(checked(path).is_err(), "{path:?}");
    }
    assert_eq!(checked(b"").unwrap(), b"");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        let _ = decode(&bytes);
        let _ = Attributes::decode(&bytes);
    }
}
