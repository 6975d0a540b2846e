use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::sample::{index_ref, pack_ref};

const MIB: u64 = 1 << 20;

/// The plan for as many packs of 1 MiB, as many of 16 MiB, and indexes of as many rows.
fn check(small: u8, large: u8, indexes: &[u64], expected: &Expect) {
    let packs =
        (0..small).map(|n| pack_ref(n, MIB)).chain((0..large).map(|n| pack_ref(100 + n, 16 * MIB)));
    let indexes = indexes.iter().zip(1..).map(|(rows, n)| index_ref(n, *rows));
    let locations = Locations { indexes: indexes.collect(), packs: packs.collect() };
    let said = match plan_gather(&locations, &Damaged::default()) {
        None => "nothing".to_owned(),
        Some(plan) => {
            let merged: Vec<_> = plan.merge.iter().map(|index| index.rows.to_string()).collect();
            let (rewrite, index) = (plan.rewrite.len(), plan.index.len());
            format!("rewrite {rewrite}, index {index}, merge [{}]", merged.join(" "))
        }
    };
    expected.assert_eq(&said);
}

#[test]
fn below_64_packs_nothing_is_gathered() {
    check(63, 0, &[], &expect!["nothing"]);
    check(0, 63, &[10; 8], &expect!["nothing"]);
}

#[test]
fn at_the_64th_pack_the_small_ones_are_rewritten_and_all_are_indexed() {
    check(60, 4, &[], &expect!["rewrite 60, index 4, merge []"]);
}

#[test]
fn one_small_pack_alone_is_not_rewritten() {
    check(1, 63, &[], &expect!["rewrite 0, index 64, merge []"]);
}

#[test]
fn a_session_with_more_packs_than_a_head_may_name_is_planned_alike() {
    check(0, 100, &[], &expect!["rewrite 0, index 100, merge []"]);
}

// 64 packs of 10 rows each: the new index has 640 rows

#[test]
fn indexes_of_the_size_of_the_new_one_are_taken_in() {
    check(0, 64, &[640, 5000], &expect!["rewrite 0, index 64, merge [640]"]);
}

#[test]
fn what_was_taken_in_counts_for_the_next() {
    check(0, 64, &[2600, 640, 100_000], &expect!["rewrite 0, index 64, merge [640]"]);
    check(0, 64, &[2560, 640, 100_000], &expect!["rewrite 0, index 64, merge [640 2560]"]);
}

#[test]
fn eight_indexes_stay_whatever_their_sizes() {
    let rows: Vec<u64> = (0..8).map(|n| 10_000 * 10u64.pow(n)).collect();
    check(0, 64, &rows[..7], &expect!["rewrite 0, index 64, merge []"]);
    check(0, 64, &rows, &expect!["rewrite 0, index 64, merge [10000]"]);
}

#[test]
fn what_is_damaged_stays_beside_the_new_index_and_is_counted() {
    let rows: Vec<u64> = (0..8).map(|n| 10_000 * 10u64.pow(n)).collect();
    let indexes = rows.iter().zip(1..).map(|(rows, n)| index_ref(n, *rows)).collect();
    let packs = (0..64).map(|n| pack_ref(n, MIB)).collect();
    let locations = Locations { indexes, packs };
    let smallest = locations.indexes[0].id;
    let damaged = Damaged { packs: vec![pack_ref(7, MIB).id], indexes: vec![smallest] };
    let plan = plan_gather(&locations, &damaged).unwrap();
    assert_eq!((plan.rewrite.len(), plan.index.len(), plan.merge.len()), (63, 0, 1));
    let gathered = locations.gathered(&plan, index_ref(99, 640));
    assert!(gathered.check().is_ok());
    assert_eq!(gathered.packs, [pack_ref(7, MIB)]);
    assert!(gathered.indexes.iter().any(|index| index.id == smallest));
}

/// The plan for as many whole packs and indexes of 1000 rows beside as many damaged ones.
fn check_damaged((whole, damaged): (u8, u8), (indexes, bad): (u8, u8), expected: &Expect) {
    let locations = Locations {
        indexes: (0..indexes + bad).map(|n| index_ref(n, 1000 * 10u64.pow(n.into()))).collect(),
        packs: (0..whole + damaged).map(|n| pack_ref(n, 16 * MIB)).collect(),
    };
    let damaged = Damaged {
        packs: locations.packs[usize::from(whole)..].iter().map(|pack| pack.id).collect(),
        indexes: locations.indexes[usize::from(indexes)..].iter().map(|index| index.id).collect(),
    };
    let said = match plan_gather(&locations, &damaged) {
        None => "nothing".to_owned(),
        Some(plan) => format!("index {}, merge {}", plan.index.len(), plan.merge.len()),
    };
    expected.assert_eq(&said);
}

#[test]
fn beside_many_damaged_packs_the_others_are_gathered_when_there_are_16() {
    check_damaged((30, 34), (0, 0), &expect!["index 30, merge 0"]);
    check_damaged((16, 48), (0, 0), &expect!["index 16, merge 0"]);
    check_damaged((15, 49), (0, 0), &expect!["nothing"]);
    check_damaged((15, 200), (0, 0), &expect!["nothing"]);
    check_damaged((16, 200), (0, 0), &expect!["index 16, merge 0"]);
}

#[test]
fn beside_many_damaged_indexes_four_others_stay() {
    check_damaged((64, 0), (5, 2), &expect!["index 64, merge 1"]);
    check_damaged((64, 0), (3, 4), &expect!["index 64, merge 1"]);
    check_damaged((64, 0), (3, 8), &expect!["index 64, merge 1"]);
    check_damaged((64, 0), (4, 8), &expect!["index 64, merge 1"]);
    check_damaged((64, 0), (5, 8), &expect!["index 64, merge 2"]);
}

#[test]
fn the_written_index_takes_the_place_of_all_that_it_covers() {
    let packs = (0..64).map(|n| pack_ref(n, 16 * MIB)).collect();
    let locations = Locations { indexes: vec![index_ref(1, 640), index_ref(2, 9000)], packs };
    let plan = plan_gather(&locations, &Damaged::default()).unwrap();
    let mut younger = locations;
    younger.packs.push(pack_ref(99, MIB));
    let gathered = younger.gathered(&plan, index_ref(3, 1280));
    assert_eq!(gathered.packs, [pack_ref(99, MIB)]);
    assert_eq!(gathered.indexes, [index_ref(2, 9000), index_ref(3, 1280)]);
}

#[test]
fn adding_another_set_names_nothing_twice() {
    let mut mine = Locations { indexes: vec![index_ref(1, 1)], packs: vec![pack_ref(1, MIB)] };
    let other = Locations {
        indexes: vec![index_ref(1, 1), index_ref(2, 1)],
        packs: vec![pack_ref(1, MIB), pack_ref(2, MIB)],
    };
    mine.add(&other);
    assert_eq!(mine, other);
}

#[test]
fn a_set_that_no_head_may_name_is_refused() {
    let refused = |locations: Locations| locations.check().unwrap_err().to_string();
    let numbered = |n: u16| PackRef {
        id: PackId([n.to_be_bytes(); 8].concat().try_into().unwrap()),
        ..pack_ref(0, MIB)
    };
    let packs: Vec<_> = (0..1025).map(numbered).collect();
    let twice = vec![pack_ref(1, MIB), pack_ref(1, MIB)];
    let indexes = (0..=256_u16).map(|n| index_ref((n % 256) as u8, 1)).collect();
    let of = |packs| Locations { indexes: vec![], packs };
    expect!["the set of locations is damaged: it has more than 1,024 packs"]
        .assert_eq(&refused(of(packs)));
    expect!["the set of locations is damaged: it names an object twice"]
        .assert_eq(&refused(of(twice)));
    expect!["the set of locations is damaged: it has more than 256 indexes"]
        .assert_eq(&refused(Locations { indexes, packs: vec![] }));
    expect!["the set of locations is damaged: the length of a pack is unlawful"]
        .assert_eq(&refused(of(vec![pack_ref(1, 33 * MIB)])));
}

#[test]
fn a_set_in_json_is_short() {
    let locations = Locations { indexes: vec![index_ref(1, 9)], packs: vec![pack_ref(2, MIB)] };
    let text = crate::json::canonical(&locations);
    expect![[r#"{"indexes":[["01010101010101010101010101010101",572,9,88]],"packs":[["02020202020202020202020202020202",1048576,608]]}"#]].assert_eq(std::str::from_utf8(&text).unwrap());
    assert_eq!(serde_json::from_slice::<Locations>(&text).unwrap(), locations);
}

proptest! {
    #[test]
    fn at_most_eight_indexes_are_left_and_the_largest_are_spared(
        rows in prop::collection::vec(1u64..10_000_000, 0..=8),
        packs in 64u8..200,
    ) {
        let indexes: Vec<_> = rows.iter().zip(1..).map(|(rows, n)| index_ref(n, *rows)).collect();
        let packs = (0..packs).map(|n| pack_ref(n, 16 * MIB)).collect();
        let locations = Locations { indexes, packs };
        let plan = plan_gather(&locations, &Damaged::default()).unwrap();
        let gathered = locations.gathered(&plan, index_ref(99, 1));
        prop_assert!(gathered.check().is_ok());
        prop_assert!(gathered.packs.is_empty());
        let left = gathered.indexes.iter().filter(|index| index.id != index_ref(99, 1).id);
        let taken_in = plan.merge.iter().map(|index| index.rows).max().unwrap_or(0);
        prop_assert!(left.clone().all(|index| index.rows >= taken_in));
    }
}
