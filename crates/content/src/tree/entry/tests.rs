use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::tree::{ChunkList, GROUP_CHUNKS};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn a_file(size: u64, chunk: Option<Digest>) -> Entry {
    let time = FileTime { seconds: 1_700_000_000, nanoseconds: 5 };
    Entry::new(Content::File { size, grid: Grid::Large, chunk }, 0o644, time)
}

fn refuses(bytes: &[u8], why: &str) {
    let error = Entry::decode(bytes).unwrap_err();
    assert!(error.0.contains(why), "expected \"{why}\", found \"{error}\"");
}

/// The fields of a directory, to be changed.
fn fields() -> Vec<(u8, Vec<u8>)> {
    vec![(1, vec![1]), (2, vec![0xed, 1]), (5, vec![0; 12])]
}

fn written(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, value) in fields {
        bytes.push(*number);
        put_piece(&mut bytes, value);
    }
    bytes
}

#[test]
fn a_field_that_must_be_understood_and_is_not_is_refused() {
    for number in [0, 13, 127] {
        let mut fields = fields();
        fields.push((number, vec![]));
        fields.sort();
        refuses(&written(&fields), "is unknown");
    }
}

#[test]
fn a_field_that_may_be_ignored_is_kept() {
    let mut fields = fields();
    fields.extend([(128, vec![]), (255, vec![1, 2])]);
    let bytes = written(&fields);
    let entry = Entry::decode(&bytes).unwrap();
    assert_eq!(entry.unknown, [(128, vec![]), (255, vec![1, 2])]);
    assert_eq!(entry.encode().unwrap(), bytes);
}

#[test]
fn a_field_of_another_kind_or_form_is_refused() {
    let with = |number: u8, value: &[u8]| {
        let mut fields = fields();
        fields.retain(|(found, _)| *found != number);
        fields.push((number, value.to_vec()));
        fields.sort();
        written(&fields)
    };
    refuses(&with(1, &[6]), "kind is 1 to 5");
    refuses(&with(1, &[0]), "kind is 1 to 5");
    refuses(&with(1, &[2]), "size is missing");
    refuses(&with(1, &[3]), "target is missing");
    refuses(&with(2, &[0xed]), "mode has 2 bytes");
    refuses(&with(2, &0o2755_u16.to_le_bytes()), "a mode is");
    refuses(&with(2, &0o4755_u16.to_le_bytes()), "a mode is");
    refuses(&with(3, &[0xe8, 0x07]), "uid is its default");
    refuses(&with(4, &[0xe8, 0x07]), "gid is its default");
    refuses(&with(3, &[0x80, 0]), "shortest");
    refuses(&with(3, &[1, 1]), "goes on");
    refuses(&with(3, &[0xff, 0xff, 0xff, 0xff, 0x7f]), "over 32 bits");
    refuses(&with(5, &[0; 11]), "mtime has 12 bytes");
    refuses(&with(5, &[0xff; 12]), "nanoseconds");
    refuses(&with(6, &[1]), "field 6 is unknown or of another kind");
    refuses(&with(7, b"x"), "field 7 is unknown or of another kind");
    refuses(&with(8, &[]), "xattrs is empty");
    refuses(&with(8, b"\x06user.b\x01x\x06user.a\x01x"), "not in order");
    refuses(&with(8, b"\x06user.a\x01x\x06user.a\x01y"), "twice");
    refuses(&with(8, b"\x0asecurity.x\x01x"), "neither user.*");
    refuses(&with(8, b"\x05user.\x01x"), "neither user.*");
    refuses(&with(9, &[1; 31]), "xattr chunk has 32 bytes");
    refuses(&with(9, &[0; 32]), "is a hole");
    refuses(&with(10, &[14]), "field 10 is unknown or of another kind");
    refuses(&with(11, &[1; 32]), "field 11 is unknown or of another kind");
    refuses(&with(12, b"a"), "a directory has a link");
}

#[test]
fn fields_of_files_are_held_to_each_other() {
    let file = |fields: &[(u8, Vec<u8>)]| {
        let mut all = vec![(1, vec![2]), (2, vec![0xed, 1]), (5, vec![0; 12])];
        all.extend(fields.iter().cloned());
        written(&all)
    };
    refuses(&file(&[(6, vec![0]), (11, vec![1; 32])]), "a file of one chunk");
    refuses(&file(&[(6, vec![0x81, 0x80, 0x08]), (11, vec![1; 32])]), "a file of one chunk");
    refuses(&file(&[(6, vec![1]), (11, vec![0; 32])]), "is a hole");
    refuses(&file(&[(6, vec![1]), (10, vec![17])]), "grid is not 14");
    refuses(&file(&[(6, vec![1]), (12, vec![])]), "link is empty");
    refuses(&file(&[(6, vec![1]), (12, b"a//b".to_vec())]), "empty name");
    refuses(&file(&[(6, vec![0xff; 9].into_iter().chain([1]).collect())]), "a file has up to");
}

#[test]
fn fields_out_of_order_twice_or_cut_are_refused() {
    let all = fields();
    refuses(&written(&[all[1].clone(), all[0].clone(), all[2].clone()]), "ascending");
    refuses(
        &written(&[all[0].clone(), all[0].clone(), all[1].clone(), all[2].clone()]),
        "ascending",
    );
    let bytes = written(&all);
    for end in 0..bytes.len() {
        assert!(Entry::decode(&bytes[..end]).is_err(), "cut at {end}");
    }
    refuses(&[bytes.as_slice(), &[200]].concat(), "announced");
}

#[test]
fn xattrs_over_1_kib_go_to_a_chunk() {
    let small = XattrList::new(vec![(b"user.a".to_vec(), vec![7; 900])]).unwrap();
    assert_eq!(Xattrs::place(small.clone()), (Xattrs::Inline(small), None));
    let large = XattrList::new(vec![(b"user.a".to_vec(), vec![7; 1100])]).unwrap();
    let (placed, chunk) = Xattrs::place(large.clone());
    let chunk = chunk.unwrap();
    assert_eq!(placed, Xattrs::Chunk(Digest::of(&chunk)));
    assert_eq!(XattrList::decode(&chunk).unwrap(), large);
    let mut entry = a_file(0, None);
    entry.xattrs = Xattrs::Inline(large);
    assert!(entry.encode().is_err());
}

#[test]
fn a_chunk_list_has_as_many_digests_as_its_group_has_chunks() {
    let grid = Grid::Small;
    let of = |size, offset, count: usize| {
        ChunkList::of_group(grid, size, offset, vec![Digest([1; 32]); count])
    };
    let size = 65 * grid.bytes() + 9;
    assert!(of(size, 0, GROUP_CHUNKS).unwrap().is_some());
    let last = of(size, grid.group_bytes(), 2).unwrap().unwrap();
    assert_eq!((last.bytes(), last.data_bytes()), (grid.bytes() + 9, grid.bytes() + 9));
    assert!(of(size, 0, 63).is_err());
    assert!(of(size, grid.group_bytes(), 1).is_err());
    assert!(of(size, grid.bytes(), 64).is_err());
    assert!(of(size, 2 * grid.group_bytes(), 1).is_err());
    assert_eq!(ChunkList::of_group(grid, size, 0, vec![Digest::HOLE; 64]).unwrap(), None);
}

#[test]
fn a_chunk_list_of_another_form_is_refused() {
    let list = |header: u8, digests: usize, tail: &[u8]| {
        let bytes = [vec![header], vec![1; 32 * digests], tail.to_vec()].concat();
        ChunkList::decode(&bytes).is_ok()
    };
    assert!(list(1, 1, &[]) && list(64, 64, &[]) && list(0x81, 1, &[5]));
    assert!(!list(0, 0, &[]) && !list(65, 65, &[]) && !list(2, 1, &[]));
    assert!(!list(1, 1, &[0]), "an empty last chunk");
    assert!(!list(1, 1, &[0x80, 0x80, 0x08]), "a whole grid written out");
    assert!(!list(1, 1, &[5, 5]), "bytes after the end");
    assert!(ChunkList::decode(&[vec![2], vec![0; 64]].concat()).is_err(), "holes only");
}

fn a_content() -> impl Strategy<Value = Content> {
    let digest = any::<[u8; 32]>().prop_map(Digest);
    prop_oneof![
        Just(Content::Directory),
        Just(Content::Fifo),
        Just(Content::Socket),
        prop::collection::vec(1_u8.., 1..80).prop_map(Content::Symlink),
        (1..=1_u64 << 14, any::<bool>(), prop::option::of(digest)).prop_map(
            |(size, small, chunk)| {
                let grid = if small { Grid::Small } else { Grid::Large };
                Content::File { size, grid, chunk: chunk.filter(|digest| !digest.is_hole()) }
            }
        ),
        (0..=SIZE_MAX).prop_map(|size| Content::File { size, grid: Grid::Large, chunk: None }),
    ]
}

fn an_entry() -> impl Strategy<Value = Entry> {
    let xattrs = prop::collection::btree_map("user\\.[a-z]{1,8}", any::<Vec<u8>>(), 0..4);
    let owner = prop_oneof![Just(1000_u32), any::<u32>()];
    let unknown = prop::collection::btree_map(128_u8.., any::<Vec<u8>>(), 0..3);
    let time = (any::<i64>(), 0..1_000_000_000_u32);
    (a_content(), 0..=MODE_MAX, (owner.clone(), owner), time, xattrs, unknown, any::<bool>())
        .prop_map(|(content, mode, (uid, gid), (seconds, nanoseconds), xattrs, unknown, link)| {
            let list = xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            let (xattrs, _) = Xattrs::place(XattrList::new(list).unwrap());
            let link = (link && content != Content::Directory)
                .then(|| TreePath::parse("first/name").unwrap());
            Entry {
                mode,
                uid,
                gid,
                mtime: FileTime { seconds, nanoseconds },
                xattrs,
                link,
                unknown: unknown.into_iter().collect(),
                content,
            }
        })
}

proptest! {
    #[test]
    fn an_entry_comes_back(entry in an_entry()) {
        let bytes = entry.encode().unwrap();
        prop_assert_eq!(Entry::decode(&bytes).unwrap(), entry);
    }

    #[test]
    fn bytes_that_are_an_entry_are_its_only_form(
        entry in an_entry(), at: prop::sample::Index, flip in 1_u8..,
    ) {
        let mut bytes = entry.encode().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(other) = Entry::decode(&bytes) {
            prop_assert_eq!(other.encode().unwrap(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_refused(bytes: Vec<u8>) {
        if let Ok(entry) = Entry::decode(&bytes) {
            prop_assert_eq!(entry.encode().unwrap(), bytes);
        }
    }
}

// Golden: these bytes are the format. A difference here is a new version of it.

fn golden(entry: &Entry, expect: &Expect) {
    expect.assert_eq(&hex(&entry.encode().unwrap()));
}

#[test]
fn the_bytes_of_each_kind_are_these() {
    let time = FileTime { seconds: -1, nanoseconds: 999_999_999 };
    golden(
        &Entry::new(Content::Directory, 0o1777, time),
        &expect!["0101010202ff03050cffffffffffffffffffc99a3b"],
    );
    golden(&a_file(0, None), &expect!["0101020202a401050c00f153650000000005000000060100"]);
    golden(
        &a_file(300, Some(Digest([0xab; 32]))),
        &expect![
            "0101020202a401050c00f1536500000000050000000602ac020b20abababababababababababababababababababababababababababababababab"
        ],
    );
    golden(
        &Entry::new(Content::Symlink(b"../x".to_vec()), 0o777, time),
        &expect!["0101030202ff01050cffffffffffffffffffc99a3b07042e2e2f78"],
    );
    golden(
        &Entry::new(Content::Fifo, 0o600, time),
        &expect!["01010402028001050cffffffffffffffffffc99a3b"],
    );
    golden(
        &Entry::new(Content::Socket, 0o600, time),
        &expect!["01010502028001050cffffffffffffffffffc99a3b"],
    );
    let mut full = a_file(5 << 30, None);
    full.content = Content::File { size: 5 << 30, grid: Grid::Small, chunk: None };
    full.uid = 0;
    full.gid = 100_000;
    full.xattrs = Xattrs::Inline(
        XattrList::new(vec![(b"user.b".to_vec(), vec![]), (b"user.a".to_vec(), b"1".to_vec())])
            .unwrap(),
    );
    full.link = Some(TreePath::parse("a/b").unwrap());
    full.unknown = vec![(200, vec![9])];
    golden(
        &full,
        &expect![
            "0101020202a4010301000403a08d06050c00f15365000000000500000006058080808014081106757365722e61013106757365722e62000a010e0c03612f62c80109"
        ],
    );
    let mut chunk = a_file(1, Some(Digest([0xcd; 32])));
    chunk.xattrs = Xattrs::Chunk(Digest([0xef; 32]));
    golden(
        &chunk,
        &expect![
            "0101020202a401050c00f1536500000000050000000601010920efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef0b20cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
        ],
    );
    let list = ChunkList::of_group(
        Grid::Small,
        (1 << 14) + 300,
        0,
        vec![Digest::HOLE, Digest([0x11; 32])],
    );
    expect!["8200000000000000000000000000000000000000000000000000000000000000001111111111111111111111111111111111111111111111111111111111111111ac02"].assert_eq(&hex(&list.unwrap().unwrap().encode()));
}
