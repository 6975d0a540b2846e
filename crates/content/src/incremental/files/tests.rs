use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn one_walk_finds_what_a_look_at_every_range_finds(
        gaps in prop::collection::vec((1..9_u64, 1..9_u64), 0..40),
        asked in prop::collection::btree_set(0..400_u64, 0..200),
    ) {
        let mut end = 0;
        let ranges: Vec<Range<u64>> = gaps
            .into_iter()
            .map(|(gap, length)| {
                let start = end + gap;
                end = start + length;
                start..end
            })
            .collect();
        let mut is_within = within(&ranges);
        for number in asked {
            let wanted = ranges.iter().any(|range| range.contains(&number));
            prop_assert_eq!(is_within(number), wanted, "{} in {:?}", number, ranges);
        }
    }
}

#[test]
fn a_file_of_many_scattered_changes_is_gone_through_once() {
    // half a million ranges: a look at every range for every chunk would not end today
    let ranges: Vec<Range<u64>> = (0..500_000).map(|n| 2 * n..2 * n + 1).collect();
    let mut is_within = within(&ranges);
    assert_eq!((0..1_000_000).filter(|number| is_within(*number)).count(), 500_000);
}
