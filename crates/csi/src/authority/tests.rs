use super::*;

/// What kubelet's client sends for GetInfo to `/var/lib/kubelet/plugins_registry/cove.csi.storage-reg.sock`, recorded
/// from grpc-go 1.82.0 with the options that kubelet's plugin manager gives it: the preface, SETTINGS twice, HEADERS
/// and DATA.
const KUBELET: &str = "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a0000000400000000000000000401\
    0000000000008a0104000000018386459c62ba2d98d558598c84d83498f52fb4b31909b06931\
    ea63115392a94f41b254587b8ec545868346a8b0f5b632d054aa2c35d16cc6a91158598c84d9\
    e9516121fb957220cba127b073156b0b32e8393aff5f8b1d75d0620d263d4c4d65647a8a9aca\
    c8b4c7602bbc25c140027465864d833505b11f40899acac8b24d494f6a7f8669f7df65b66d00\
    00050001000000010000000000";

/// Where in it the value of `:authority` is, with its length before it.
const VALUE: std::ops::Range<usize> = 84..135;

pub(crate) fn kubelet() -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    KUBELET.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What is read of what was sent, in parts of `part` bytes.
fn through(sent: &[u8], part: usize) -> Vec<u8> {
    let mut requests = Requests::new();
    let mut came = Vec::new();
    let mut bytes = [0; 7];
    let mut take = |requests: &mut Requests| {
        while !requests.is_empty() {
            let mut buffer = ReadBuf::new(&mut bytes);
            requests.read(&mut buffer);
            came.extend_from_slice(buffer.filled());
        }
    };
    for part in sent.chunks(part) {
        requests.push(part);
        take(&mut requests);
    }
    requests.end();
    take(&mut requests);
    came
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

#[test]
fn the_authority_that_kubelet_sends_becomes_a_letter() {
    let sent = kubelet();
    let mut expected = sent.clone();
    expected.splice(VALUE, LETTER);
    // the length of the frame of headers
    let head = PREFACE.len() + 2 * FRAME_HEAD_BYTES;
    assert_eq!(sent[head + 2] as usize, 138);
    expected[head + 2] = (138 - VALUE.len() + LETTER.len()) as u8;
    for part in 1..=sent.len() {
        assert_eq!(through(&sent, part), expected, "in parts of {part}");
    }
}

#[test]
fn damage_changes_nothing_but_values() {
    let sent = kubelet();
    for at in 0..sent.len() {
        for bit in 0..8 {
            let mut damaged = sent.clone();
            damaged[at] ^= 1 << bit;
            assert!(through(&damaged, 50).len() <= damaged.len());
        }
        assert!(through(&sent[..at], 50).len() <= at);
    }
}

#[test]
fn each_way_to_write_an_authority_is_known() {
    let path = [b"\x05/a/b/".as_slice(), b"\x07%2Fa%2F", b"\x82\xff\xff"];
    for first in [0x41, 0x01, 0x11] {
        for value in path {
            let block = [&[0x3f, 0xe1, 0x1f, 0x83, first], value, &[0xbe, 0x40, 1, b'a', 1, b'b']];
            let expected = [0x3f, 0xe1, 0x1f, 0x83, first, 1, b'k', 0xbe, 0x40, 1, b'a', 1, b'b'];
            assert_eq!(replace(&block.concat()).unwrap(), expected);
        }
    }
    let long = [&[0x41, 0x7f, 0x81, 0x01][..], &[b'/'; 256]].concat();
    assert_eq!(replace(&long).unwrap(), [0x41, 1, b'k']);
}

#[test]
fn other_fields_stay_and_what_is_no_block_is_none() {
    // an empty value, an index, another name of the table, a name that is written out
    for block in [&[0x41, 0][..], &[0x81], &[0x44, 2, b'/', b'x'], b"\x00\x0a:authority\x02/a"] {
        assert_eq!(replace(block).unwrap(), block);
    }
    for broken in [&[0x41][..], &[0x41, 2, b'a'], &[0xff], &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(replace(broken), None);
    }
}

#[test]
fn padding_and_priority_stay() {
    let payload = b"\x02PRIOR\x41\x02/a\0\0";
    let sent = [PREFACE, &frame(HEADERS, END_HEADERS | PADDED | PRIORITY, payload)].concat();
    let expected = frame(HEADERS, END_HEADERS | PADDED | PRIORITY, b"\x02PRIOR\x41\x01k\0\0");
    assert_eq!(through(&sent, 5)[PREFACE.len()..], expected);
    let sent = [PREFACE, &frame(HEADERS, END_HEADERS | PADDED, b"\x09\x41\x02/a")].concat();
    assert_eq!(through(&sent, 5), sent);
}

#[test]
fn what_is_not_understood_goes_on_as_it_is() {
    let field = b"\x41\x02/a";
    let too_long = [&field[..], &vec![0x83; PAYLOAD_BYTES_MAX]].concat();
    for frame in [
        frame(0, END_HEADERS, field),
        frame(HEADERS, 0, field),
        frame(HEADERS, END_HEADERS, &too_long),
        frame(HEADERS, END_HEADERS, b"\x41\x7f"),
    ] {
        let sent = [PREFACE, &frame, &frame].concat();
        assert_eq!(through(&sent, 1000), sent);
    }
    for sent in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/1", b"P", b""] {
        assert_eq!(through(sent, 3), sent);
    }
}
