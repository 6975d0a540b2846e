use expect_test::expect;

use super::*;
use crate::frame::{Gatherer, compress};
use crate::sample::{hex, refuses_every_other};

/// A pack with two frames, whose bytes do not depend on the version of zstd: both
/// are raw blocks, written by hand.
fn small_pack() -> FinishedPack {
    let volume = "vol-1".parse().unwrap();
    let mut writer = PackWriter::new(PackId([0x11; 16]), &volume, SessionId([0x22; 16]));
    let place = |plain: &[u8], position| FrameChunk {
        digest: Digest::of(plain),
        position,
        bytes: u32::try_from(plain.len()).unwrap(),
    };
    writer.push_frame(&raw_frame(b"onetwo"), 6, &[place(b"one", 0), place(b"two", 3)]);
    writer.push_frame(&raw_frame(b"three"), 5, &[place(b"three", 0)]);
    writer.finish(b"{\"head\":1}")
}

/// A zstd frame of one raw block (RFC 8878): single segment, content size in one byte.
fn raw_frame(plain: &[u8]) -> Vec<u8> {
    let length = u8::try_from(plain.len()).unwrap();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, length, length << 3 | 1, 0, 0];
    frame.extend_from_slice(plain);
    frame
}

#[test]
fn the_bytes_of_a_pack_are_these() {
    let pack = small_pack();
    expect![[r#"
        636f76657061636b010000000000000000000000000000000000000000000000
        0000000000000000000000000000000011111111111111111111111111111111
        2222222222222222222222222222222205766f6c2d3100000000000000000000
        0000000000000000000000000000000000000000000000000000000000000000
        0000000000000000000000000000000028b52ffd20063100006f6e6574776f28
        b52ffd20052900007468726565d33fb48ab5adff269ae172b29a6913ff04f6f2
        66207a7a8e976f2ecd571d4492900000000f0000000000000003000000dbec0e
        689fb63bd729147727129d854e9d590ab620a18bbbcb3317d268d6fd729f0000
        000e0000000000000005000000dc770fff53f50835f8cc957e01c0d5731d3c2e
        d544c375493a28c09be5e09763900000000f00000003000000030000007b2268
        656164223a317dad00000000000000030000000a000000000000000000000000
        000000000000000000000000000000111111111111111111111111111111110c
        c54eeb1165dd1c8f20f9f1019919060fd77d11e69c348c8ccd34edeadcc2b32c
        0c6d106b6354895f2f57d5575b4e8090e94e5c9aa1f5914f33294c67e0e97070
        61636b656e6473"#]]
    .assert_eq(&hex(&pack.bytes));
    expect!["0cc54eeb1165dd1c8f20f9f1019919060fd77d11e69c348c8ccd34edeadcc2b3 282"]
        .assert_eq(&format!("{} {}", pack.blake3, pack.footer_bytes));
}

#[test]
fn a_pack_says_where_its_chunks_lie() {
    let pack = small_pack();
    let read = Pack::decode(&pack.bytes).unwrap();
    assert_eq!(read.volume.as_str(), "vol-1");
    assert_eq!(read.session, SessionId([0x22; 16]));
    assert_eq!(read.index.rows, pack.index);
    assert_eq!((read.index.id, read.index.blake3), (pack.id, pack.blake3));
    assert_eq!(read.index.head_record, b"{\"head\":1}");
    for plain in [b"one".as_slice(), b"two", b"three"] {
        let row = read.index.find(&Digest::of(plain)).unwrap();
        let frame = &pack.bytes[row.frame().start as usize..row.frame().end as usize];
        let alone = [*row];
        assert!(check_frame(frame, &alone).unwrap() >= plain.len() as u32);
    }
    assert_eq!(read.index.find(&Digest::of(b"four")), None);
}

#[test]
fn header_and_end_of_a_pack_are_read_without_the_rest() {
    let pack = small_pack();
    let header = PackHeader::decode(&pack.bytes[..HEADER_BYTES as usize]).unwrap();
    assert_eq!(header.id, pack.id);
    assert_eq!((header.volume.as_str(), header.session), ("vol-1", SessionId([0x22; 16])));
    let tail = &pack.bytes[pack.bytes.len() - TRAILER_BYTES as usize..];
    let end = PackEnd::decode(tail, pack.bytes.len() as u64).unwrap();
    assert_eq!((end.pack.id, end.pack.footer_bytes), (pack.id, pack.footer_bytes));
    let record = end.record();
    assert_eq!(&pack.bytes[record.start as usize..record.end as usize], b"{\"head\":1}");
}

#[test]
fn any_other_bytes_are_no_pack() {
    refuses_every_other(&small_pack().bytes, Pack::decode);
}

#[test]
fn any_other_bytes_are_no_footer() {
    let pack = small_pack();
    let start = pack.bytes.len() - pack.footer_bytes as usize;
    let length = pack.bytes.len() as u64;
    let footer = &pack.bytes[start..];
    refuses_every_other(footer, |tail| PackIndex::decode_tail(tail, length));
    assert!(PackIndex::decode_tail(footer, length - 1).is_err());
    assert!(PackIndex::decode_tail(footer, length + 1).is_err());
    assert_eq!(PackIndex::footer_bytes(&footer[10..], length).unwrap(), pack.footer_bytes);
}

#[test]
fn a_longer_tail_is_as_good_as_the_footer() {
    let pack = small_pack();
    let length = pack.bytes.len() as u64;
    let whole = PackIndex::decode_tail(&pack.bytes, length).unwrap();
    let start = pack.bytes.len() - pack.footer_bytes as usize;
    assert_eq!(PackIndex::decode_tail(&pack.bytes[start..], length).unwrap(), whole);
}

#[test]
fn a_pack_with_a_feature_of_the_future_is_refused_by_name() {
    let pack = small_pack();
    let mut bytes = pack.bytes;
    // the trailer's must, and the digest over it
    let trailer = bytes.len() - TRAILER_BYTES as usize;
    bytes[trailer + 16] = 4;
    let flipped = PackIndex::decode_tail(&bytes, bytes.len() as u64).unwrap_err();
    assert_eq!(cove_types::Classify::kind(&flipped), cove_types::ErrorKind::Corrupt);
    let start = bytes.len() - pack.footer_bytes as usize;
    let digest = Digest::of(&bytes[start..trailer + 88]);
    bytes[trailer + 88..trailer + 120].copy_from_slice(&digest.0);
    let error = PackIndex::decode_tail(&bytes, bytes.len() as u64).unwrap_err();
    assert_eq!(error, DecodeError::UnknownFeatures { what: "pack", features: 4 });
    assert_eq!(cove_types::Classify::kind(&error), cove_types::ErrorKind::Precondition);
}

#[test]
fn a_chunk_that_is_another_is_refused() {
    let pack = small_pack();
    let row = pack.index.iter().find(|row| row.digest == Digest::of(b"one")).unwrap();
    let two = IndexRow { position: 3, ..*row };
    let error = check_frame(&raw_frame(b"onetwo"), &[two]).unwrap_err();
    expect!["the chunk d33fb48ab5adff269ae172b29a6913ff04f6f266207a7a8e976f2ecd571d4492"]
        .assert_eq(error.to_string().split(" is damaged").next().unwrap());
    assert!(check_frame(&raw_frame(b"on"), &[*row]).is_err());
}

#[test]
fn a_chunk_twice_keeps_its_first_place() {
    let volume = "vol-1".parse().unwrap();
    let mut writer = PackWriter::new(PackId([1; 16]), &volume, SessionId([2; 16]));
    let chunk = FrameChunk { digest: Digest::of(b"one"), position: 0, bytes: 3 };
    writer.push_frame(&raw_frame(b"one"), 3, &[chunk]);
    writer.push_frame(&raw_frame(b"one"), 3, &[chunk]);
    let pack = writer.finish(b"");
    assert_eq!(pack.index.len(), 1);
    assert_eq!(pack.index[0].frame_offset, HEADER_BYTES);
    Pack::decode(&pack.bytes).unwrap();
}

#[test]
fn a_pack_without_chunks_is_a_pack() {
    let volume = "vol-1".parse().unwrap();
    let writer = PackWriter::new(PackId([1; 16]), &volume, SessionId([2; 16]));
    assert!(writer.is_empty());
    assert_eq!(writer.bytes(), u64::from(HEADER_BYTES + TRAILER_BYTES));
    Pack::decode(&writer.finish(b"").bytes).unwrap();
}

#[test]
fn a_pack_of_the_smallest_chunks_stays_within_its_bound() {
    let volume = "vol-1".parse().unwrap();
    let mut writer = PackWriter::new(PackId([1; 16]), &volume, SessionId([2; 16]));
    let mut gatherer = Gatherer::new();
    let mut number = 0u32;
    while !writer.is_full() {
        number += 1;
        let plain = number.to_le_bytes();
        if let Some(frame) = gatherer.push(Digest::of(&plain), &plain) {
            writer.push_frame(&compress(&frame.plain), 128 << 10, &frame.chunks);
        }
    }
    let pack = writer.finish(&[b' '; HEAD_RECORD_BYTES_MAX]);
    assert!(pack.bytes.len() as u64 <= PACK_BYTES_MAX);
    Pack::decode(&pack.bytes).unwrap();
}
