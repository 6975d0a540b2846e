use proptest::prelude::*;

use super::*;

/// Bytes that do not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn push(gatherer: &mut Gatherer, plain: &[u8]) -> Option<PlainFrame> {
    gatherer.push(Digest::of(plain), plain)
}

#[test]
fn a_frame_gives_back_what_went_in() {
    for plain in [vec![], b"a".to_vec(), vec![7; 128 << 10], noise(128 << 10), noise(1 << 20)] {
        let frame = compress(&plain);
        assert!(frame.len() <= FRAME_BYTES_MAX as usize);
        check_header(&frame).unwrap();
        assert_eq!(decompress(&frame, CHUNK_BYTES_MAX).unwrap(), plain);
    }
}

#[test]
fn what_does_not_compress_grows_by_a_few_bytes() {
    assert!(compress(&noise(128 << 10)).len() <= (128 << 10) + 16);
}

#[test]
fn a_frame_that_is_longer_than_it_may_be_is_refused() {
    let frame = compress(&vec![0; (128 << 10) + 1]);
    assert!(decompress(&frame, 128 << 10).is_err());
    assert!(decompress(&frame, (128 << 10) + 1).is_ok());
}

#[test]
fn a_frame_is_one_frame_and_nothing_else() {
    let frame = compress(b"some text, some text, some text");
    let two = [frame.clone(), frame.clone()].concat();
    assert!(decompress(&two, 1000).is_err());
    assert_eq!(frame_bytes(&two).unwrap(), frame.len());
    let padded = [frame.clone(), vec![0; 100]].concat();
    assert!(decompress(&padded, 1000).is_err());
    assert_eq!(frame_bytes(&padded).unwrap(), frame.len());
    for cut in 0..frame.len() {
        assert!(decompress(&frame[..cut], 1000).is_err());
    }
}

#[test]
fn a_frame_with_a_larger_window_is_refused() {
    // single segment off, no content size, window 256 KiB
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 8 << 3];
    assert!(check_header(&header).unwrap_err().to_string().contains("larger than 128 KiB"));
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    check_header(&header).unwrap();
}

#[test]
fn a_frame_with_a_dictionary_is_refused() {
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x01, 7 << 3, 9];
    assert!(check_header(&header).unwrap_err().to_string().contains("needs a dictionary"));
}

#[test]
fn any_frame_of_another_level_is_read() {
    let plain = [noise(1000), vec![1; 60_000]].concat();
    for level in [-5, 1, 3, 15] {
        let frame = zstd::bulk::compress(&plain, level).unwrap();
        assert_eq!(decompress(&frame, GRID_BYTES).unwrap(), plain);
    }
}

#[test]
fn short_chunks_are_gathered_in_the_order_in_which_they_come() {
    let mut gatherer = Gatherer::new();
    assert_eq!(push(&mut gatherer, b"one"), None);
    assert_eq!(push(&mut gatherer, b"two"), None);
    assert_eq!(gatherer.pending_bytes(), 6);
    let frame = gatherer.finish().unwrap();
    assert_eq!(frame.plain, b"onetwo");
    assert_eq!(
        frame.chunks.iter().map(|c| (c.position, c.bytes)).collect::<Vec<_>>(),
        [(0, 3), (3, 3)]
    );
    assert_eq!(gatherer.finish(), None);
}

#[test]
fn a_full_chunk_has_a_frame_of_its_own_and_does_not_end_the_gathering() {
    let mut gatherer = Gatherer::new();
    push(&mut gatherer, b"one");
    let full = push(&mut gatherer, &noise(128 << 10)).unwrap();
    assert_eq!((full.chunks.len(), full.plain.len()), (1, 128 << 10));
    push(&mut gatherer, b"two");
    assert_eq!(gatherer.finish().unwrap().plain, b"onetwo");
}

#[test]
fn a_chunk_of_metadata_over_128_kib_has_a_frame_of_its_own() {
    let frame = push(&mut Gatherer::new(), &vec![1; 300_000]).unwrap();
    assert_eq!((frame.plain.len(), frame.chunks[0].bytes), (300_000, 300_000));
}

#[test]
fn a_chunk_that_does_not_fit_begins_the_next_frame() {
    let mut gatherer = Gatherer::new();
    push(&mut gatherer, &vec![1; 100_000]);
    let full = push(&mut gatherer, &vec![2; 31_073]).unwrap();
    assert_eq!(full.plain.len(), 100_000);
    assert_eq!(push(&mut gatherer, &vec![3; 99_999]), None);
    assert_eq!(gatherer.finish().unwrap().plain.len(), 128 << 10);
}

proptest! {
    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes: Vec<u8>) {
        let _ = decompress(&bytes, GRID_BYTES);
        let magic = [&[0x28, 0xb5, 0x2f, 0xfd], bytes.as_slice()].concat();
        let _ = decompress(&magic, GRID_BYTES);
    }

    #[test]
    fn every_chunk_lies_where_its_frame_says(lengths in prop::collection::vec(1usize..140_000, 0..12)) {
        let mut gatherer = Gatherer::new();
        let mut frames = Vec::new();
        for (n, length) in lengths.iter().enumerate() {
            let plain = vec![u8::try_from(n).unwrap(); *length];
            frames.extend(push(&mut gatherer, &plain));
        }
        frames.extend(gatherer.finish());
        let chunks: usize = frames.iter().map(|frame| frame.chunks.len()).sum();
        prop_assert_eq!(chunks, lengths.len());
        for frame in frames {
            for chunk in &frame.chunks {
                let range = chunk.position as usize..(chunk.position + chunk.bytes) as usize;
                prop_assert_eq!(Digest::of(&frame.plain[range]), chunk.digest);
            }
            prop_assert!(frame.plain.len() <= 128 << 10 || frame.chunks.len() == 1);
        }
    }
}
