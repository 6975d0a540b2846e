use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::sample::{entry, entry_id, time};

/// A timeline in words, the oldest first: `m` manual, `h` hibernation, `p` publish, `r`
/// rescue, `c` csi, `f` files, with `!` when pinned and `#` when held; the last one is new. Says which
/// roll off, as `<letter><place>`.
fn check(keep: u32, timeline: &str, expected: &Expect) {
    let words: Vec<&str> = timeline.split(' ').collect();
    let mut held = Vec::new();
    let mut entries = Vec::new();
    for (n, word) in (0..).zip(&words) {
        let kind = match word.as_bytes()[0] {
            b'm' => EntryKind::Manual,
            b'h' => EntryKind::Hibernation,
            b'p' => EntryKind::Publish,
            b'r' => EntryKind::Rescue,
            b'c' => EntryKind::Csi,
            _ => EntryKind::Files,
        };
        let mut entry = entry(n, kind);
        entry.pinned = word.contains('!');
        if word.contains('#') {
            held.push(entry.id);
        }
        entries.push(entry);
    }
    let new = entries.pop().unwrap();
    entries.reverse();
    let place = |id: &EntryId| (0..).position(|n| entry_id(n) == *id).unwrap();
    let gone = roll_off(&entries, keep, &new, &held);
    let gone: Vec<_> =
        gone.iter().map(|id| format!("{}{}", &words[place(id)][..1], place(id))).collect();
    expected.assert_eq(&gone.join(" "));
}

#[test]
fn up_to_the_number_nothing_rolls_off() {
    check(5, "m h p m m", &expect![""]);
}

#[test]
fn over_the_number_the_oldest_hibernation_or_publish_goes_first() {
    check(5, "m h p m m m", &expect!["h1"]);
    check(5, "m p h m m m", &expect!["p1"]);
}

#[test]
fn the_oldest_manual_one_goes_only_when_no_other_is_left() {
    check(5, "m m m m m m", &expect!["m0"]);
    check(5, "m m m m m h", &expect!["m0"]);
    check(2, "m h m m", &expect!["m0 h1"]);
}

#[test]
fn a_smaller_number_takes_all_that_are_too_many() {
    check(1, "m h p m h", &expect!["m0 h1 p2 m3"]);
}

#[test]
fn pinned_entries_neither_count_nor_go() {
    check(2, "m! h! m! m m", &expect![""]);
    check(2, "m! h! m! m m m", &expect!["m3"]);
    check(1, "m m!", &expect![""]);
}

#[test]
fn held_entries_count_and_stay() {
    check(2, "m# m m", &expect!["m1"]);
    check(1, "m# h#", &expect![""]);
}

#[test]
fn rescue_csi_and_automatic_entries_do_not_count() {
    check(1, "m r c f r c f f", &expect![""]);
    check(1, "m r c f m", &expect!["m0"]);
}

#[test]
fn the_number_is_one_to_two_hundred() {
    check(0, "m m", &expect!["m0"]);
    check(0, "m", &expect![""]);
}

#[test]
fn the_trash_does_not_count() {
    let trashed =
        EntryRecord { state: cove_types::EntryState::Trashed, ..entry(1, EntryKind::Manual) };
    assert_eq!(roll_off(&[trashed], 1, &entry(2, EntryKind::Manual), &[]), []);
}

/// Automatic entries of these ages in hours; says the ages that stay.
fn stay(hours: &[i64]) -> Vec<i64> {
    let day = 24 * 3600;
    let at = |hours: i64| time(100 * day - hours * 3600);
    let entries: Vec<_> = hours
        .iter()
        .zip(1..)
        .map(|(hours, n)| EntryRecord { time: at(*hours), ..entry(n, EntryKind::Files) })
        .collect();
    let new = EntryRecord { time: at(0), ..entry(0, EntryKind::Graph) };
    let gone = roll_off(&entries, 5, &new, &[]);
    let left = entries.iter().zip(hours).filter(|(entry, _)| !gone.contains(&entry.id));
    left.map(|(_, hours)| *hours).collect()
}

#[test]
fn the_last_fifty_automatic_entries_stay_whatever_their_age() {
    let old: Vec<_> = (1000..1049).collect();
    assert_eq!(stay(&old), old);
    let older: Vec<_> = (1000..1051).collect();
    assert_eq!(stay(&older), old);
}

#[test]
fn older_automatic_entries_stay_one_a_day_for_a_week_and_one_a_week_for_four() {
    // 49 of the last hour, then one every 6 hours for 40 days
    let mut hours = vec![0; 49];
    hours.extend((1..160).map(|n| n * 6));
    let left = stay(&hours);
    assert_eq!(left[49..], [6, 24, 48, 72, 96, 120, 144, 168, 336, 504]);
}

proptest! {
    #[test]
    fn what_rolls_off_is_old_and_loose_and_no_more_than_too_many(
        kinds in prop::collection::vec((0u8..6, any::<bool>()), 0..40), keep in 1u32..10,
    ) {
        let entries: Vec<_> = (1..).zip(&kinds).map(|(n, (kind, pinned))| {
            let kind = [EntryKind::Manual, EntryKind::Hibernation, EntryKind::Publish,
                EntryKind::Rescue, EntryKind::Csi, EntryKind::Agent][usize::from(*kind)];
            EntryRecord { pinned: *pinned, ..entry(n, kind) }
        }).collect();
        let new = entry(1000, EntryKind::Manual);
        let gone = roll_off(&entries, keep, &new, &[]);
        let counted = entries.iter().filter(|e| e.kind.is_asked_for() && !e.pinned);
        let left = counted.clone().filter(|e| !gone.contains(&e.id)).count() + 1;
        prop_assert_eq!(left, (counted.count() + 1).min(usize::try_from(keep).unwrap()));
        prop_assert!(entries.iter().filter(|e| gone.contains(&e.id)).all(|e| !e.pinned && e.kind.is_asked_for()));
        prop_assert!(!gone.contains(&new.id));
    }
}

// ---- what a person means

fn resolved(at: &str, entries: &[EntryRecord]) -> String {
    match resolve(&at.parse().unwrap(), entries) {
        Ok(Moment::Now) => "now".into(),
        Ok(Moment::Entry(id)) => entries.iter().find(|e| e.id == id).unwrap().author.clone(),
        Err(error) => error.to_string(),
    }
}

fn timeline() -> Vec<EntryRecord> {
    let of = |id: &str, n: u32, kind, label: &str| EntryRecord {
        id: id.parse().unwrap(),
        author: format!("#{n}"),
        label: label.parse().ok(),
        ..entry(n, kind)
    };
    vec![
        of("abcdaaaaaaaa", 1, EntryKind::Manual, ""),
        of("abceaaaaaaaa", 2, EntryKind::Files, "v1"),
        of("bbbbaaaaaaaa", 3, EntryKind::Publish, "abce"),
        of("ccccaaaaaaaa", 4, EntryKind::Manual, "bbbbaaaaaaaa"),
    ]
}

#[test]
fn a_moment_is_found_by_id_prefix_label_or_number() {
    let timeline = timeline();
    let found = |at| resolved(at, &timeline);
    assert_eq!(found("now"), "now");
    assert_eq!(found("abcdaaaaaaaa"), "#1");
    assert_eq!(found("abcd"), "#1");
    assert_eq!(found("v1"), "#2");
    assert_eq!([found("~1"), found("~2"), found("~3")], ["#4", "#3", "#1"]);
}

#[test]
fn what_means_nothing_is_not_found() {
    expect!["there is no entry ~4"].assert_eq(&resolved("~4", &timeline()));
    expect!["there is no entry zzz"].assert_eq(&resolved("zzz", &timeline()));
    expect!["there is no entry cc"].assert_eq(&resolved("cc", &timeline()));
    assert!(matches!(resolve(&At::Newest(0), &timeline()), Err(ResolveError::NotFound { .. })));
}

#[test]
fn what_may_mean_two_is_refused_with_both() {
    expect!["abc is one of abcdaaaaaaaa, abceaaaaaaaa"].assert_eq(&resolved("abc", &timeline()));
}

#[test]
fn a_label_means_its_entry_though_the_id_of_another_begins_with_it() {
    assert_eq!(resolved("abce", &timeline()), "#3");
}

#[test]
fn a_whole_id_means_that_entry_whatever_is_labelled_so() {
    assert_eq!(resolved("bbbbaaaaaaaa", &timeline()), "#3");
}
