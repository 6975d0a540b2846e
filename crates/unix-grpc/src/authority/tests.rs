use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Server;

use super::*;
use crate::connections::connections;
use crate::socket::{Listening, listen};

/// What kubelet's client sends for GetInfo to `/var/lib/kubelet/plugins_registry/cove.csi.storage-reg.sock`, recorded
/// from grpc-go 1.82.0 with the options that kubelet's plugin manager gives it: the preface, SETTINGS twice, HEADERS
/// and DATA.
const KUBELET: &str = include_str!("kubelet.hex");

/// Where in it the value of `:authority` is, with its length before it.
const VALUE: std::ops::Range<usize> = 84..135;

fn kubelet() -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    let digits: Vec<u8> = KUBELET.bytes().filter(u8::is_ascii_hexdigit).map(digit).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
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
    for name in AUTHORITY_TEXTS {
        for first in [0x40, 0x00, 0x10] {
            let block = [&[first], name, b"\x02/a", &[0xbe]].concat();
            assert_eq!(replace(&block).unwrap(), [&[first], name, b"\x01k", &[0xbe]].concat());
        }
    }
    let long = [&[0x41, 0x7f, 0x81, 0x01][..], &[b'/'; 256]].concat();
    assert_eq!(replace(&long).unwrap(), [0x41, 1, b'k']);
}

#[test]
fn other_fields_stay_and_what_is_no_block_is_none() {
    // an empty value, an index, another name of the table, a name that is written out
    for block in [&[0x41, 0][..], &[0x81], &[0x44, 2, b'/', b'x'], b"\x00\x0a:authoritx\x02/a"] {
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

/// What is read of a connection that is read in pieces of `size` bytes.
async fn through_connection(sent: Vec<u8>, size: usize) -> Vec<u8> {
    let (mut client, server) = UnixStream::pair().unwrap();
    let sending = tokio::spawn(async move { client.write_all(&sent).await.unwrap() });
    let mut server = AnyAuthority::new(server);
    let (mut came, mut piece) = (Vec::new(), vec![0; size]);
    loop {
        match server.read(&mut piece).await.unwrap() {
            0 => break,
            length => came.extend_from_slice(&piece[..length]),
        }
    }
    sending.await.unwrap();
    came
}

#[tokio::test]
async fn a_connection_hands_on_all_that_came_however_it_is_read() {
    let data = frame(0, 0, &(0..200_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    let ask = kubelet();
    let sent =
        [&ask[..], &data, &ask[PREFACE.len()..], &data, &ask[PREFACE.len()..][..20]].concat();
    let expected = through(&sent, sent.len());
    assert_eq!(expected.len(), sent.len() - 2 * (VALUE.len() - LETTER.len()));
    for size in [1, 7, 9, 4096, 70_000, 1 << 20] {
        assert!(through_connection(sent.clone(), size).await == expected, "in pieces of {size}");
    }
    let other = b"GET / HTTP/1.1\r\n\r\n".repeat(9);
    assert_eq!(through_connection(other.clone(), 11).await, other);
}

/// The types of the frames that a server sent.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [a, b, c, kind, ..] = bytes {
        types.push(*kind);
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    types
}

/// What a server answers to kubelet, up to the end of its stream.
async fn answer_to_kubelet(path: &Path) -> Vec<u8> {
    let mut connection = UnixStream::connect(path).await.unwrap();
    connection.write_all(&kubelet()).await.unwrap();
    let mut came = Vec::new();
    let is_enough =
        |came: &[u8]| frames(came).iter().any(|kind| [HEADERS, RST_STREAM].contains(kind));
    let read =
        async { while !is_enough(&came) && connection.read_buf(&mut came).await.unwrap() > 0 {} };
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await;
    came
}

const RST_STREAM: u8 = 3;

#[tokio::test]
async fn a_path_as_authority_is_answered() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("any.sock");
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().add_service(health);
    let listening = listen(&path).unwrap();
    let served = tokio::spawn(server.serve_with_incoming(connections(listening.listener)));
    let came = frames(&answer_to_kubelet(&path).await);
    assert!(came.contains(&HEADERS) && !came.contains(&RST_STREAM), "{came:?}");
    served.abort();
}

/// As long as this holds, [`AnyAuthority`] is needed.
#[tokio::test]
async fn a_path_as_authority_is_reset_otherwise() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("plain.sock");
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().add_service(health);
    let plain = futures::stream::unfold(listen(&path).unwrap(), async |listening: Listening| {
        let stream = listening.accept().await.unwrap();
        Some((Ok::<_, io::Error>(stream), listening))
    });
    let served = tokio::spawn(server.serve_with_incoming(plain.boxed()));
    let came = frames(&answer_to_kubelet(&path).await);
    assert!(came.contains(&RST_STREAM), "{came:?}");
    served.abort();
}
