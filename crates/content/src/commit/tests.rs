use expect_test::{Expect, expect};

use super::*;
use crate::head::{Nonce, Tombstone};
use crate::sample::{head, node, op, operation_id, stamp};

/// What node a does after its commit of operation `01` on the head of seq 1, epoch 1.
///
/// `put` is the store's answer; `read` what was read since: `-`, `unknown`, `absent`,
/// `tombstone`, `never-lived`, or `<holder>@<epoch>` with `+op` when the operation is in
/// its list and `same` when it is the head that was put; `!` when no time is left.
fn check(put: &str, read: &str, expected: &Expect) {
    let mine = head().record_op(op(1, 9), stamp(2)).unwrap();
    expected.assert_eq(&decided(&mine, put, read));
}

fn decided(mine: &Head, put: &str, read: &str) -> String {
    let outcome = match put.trim_end_matches('!') {
        "done" => Outcome::Done,
        "412" => Outcome::Refused,
        _ => Outcome::Unknown,
    };
    let tombstone = |lived| {
        let base = Tombstone::of_failed_create(mine.volume.clone(), operation_id(0, 77), stamp(5));
        Some(ReadHead::Found(HeadObject::Tombstone(Tombstone { lived, ..base })))
    };
    let read = match read {
        "-" => None,
        "unknown" => Some(ReadHead::Unknown),
        "absent" => Some(ReadHead::Absent),
        "tombstone" => tombstone(true),
        "never-lived" => tombstone(false),
        "same" => Some(ReadHead::Found(HeadObject::Head(Box::new(mine.clone())))),
        text => {
            let (text, listed) = (text.trim_end_matches("+op"), text.ends_with("+op"));
            let (holder, epoch) = text.split_once('@').unwrap();
            let mut found = head().record_op(op(1, 50), stamp(7)).unwrap();
            if listed {
                found = found.record_op(op(1, 9), stamp(8)).unwrap();
            }
            found.holder = node(holder);
            found.epoch = epoch.parse().unwrap();
            Some(ReadHead::Found(HeadObject::Head(Box::new(found))))
        }
    };
    let op = mine.ops.last().map(|op| op.id);
    let next = after_put(outcome, mine, read.as_ref(), op.as_ref(), !put.ends_with('!'));
    format!("{next:?}")
}

#[test]
fn a_put_that_is_done_is_success() {
    check("done", "-", &expect!["Success"]);
}

#[test]
fn an_unknown_result_is_asked_for_with_the_same_put() {
    check("unknown", "-", &expect!["RepeatSame"]);
}

#[test]
fn an_unknown_result_is_never_called_a_failure() {
    check("unknown!", "-", &expect!["AnswerUnknown"]);
    check("unknown!", "a@1", &expect!["AnswerUnknown"]);
    check("unknown!", "absent", &expect!["AnswerUnknown"]);
}

#[test]
fn a_head_that_is_read_while_the_put_may_still_arrive_proves_nothing() {
    check("unknown", "a@1", &expect!["RepeatSame"]);
    check("unknown", "b@2", &expect!["RepeatSame"]);
    check("unknown", "absent", &expect!["RepeatSame"]);
}

#[test]
fn a_head_that_is_the_one_that_was_put_is_success() {
    check("unknown", "same", &expect!["Success"]);
    check("412", "same", &expect!["Success"]);
}

#[test]
fn a_refusal_is_explained_by_the_head() {
    check("412", "-", &expect!["ReadAgain"]);
    check("412", "unknown", &expect!["ReadAgain"]);
    check("412!", "unknown", &expect!["AnswerUnknown"]);
}

#[test]
fn an_operation_of_mine_in_the_list_is_my_own_lost_reply() {
    check("412", "a@1+op", &expect!["Success"]);
    check("unknown", "a@1+op", &expect!["Success"]);
}

#[test]
fn another_change_of_this_epoch_begins_again() {
    check("412", "a@1", &expect!["BeginAgain"]);
}

#[test]
fn a_higher_epoch_of_another_holder_is_a_fence() {
    check("412", "b@2", &expect!["Fenced { took_effect: false }"]);
}

#[test]
fn what_took_effect_before_the_fence_took_effect() {
    check("412", "b@2+op", &expect!["Fenced { took_effect: true }"]);
}

#[test]
fn a_higher_epoch_that_i_hold_was_sealed_for_me() {
    check("412", "a@2", &expect!["SealedForMe { took_effect: false }"]);
    check("412", "a@2+op", &expect!["SealedForMe { took_effect: true }"]);
}

#[test]
fn the_same_epoch_of_another_holder_is_a_fence() {
    check("412", "b@1", &expect!["Fenced { took_effect: false }"]);
}

#[test]
fn a_head_that_is_gone_is_missing_and_nobody_elses() {
    check("412", "absent", &expect!["Missing"]);
    check("412!", "absent", &expect!["Missing"]);
}

#[test]
fn a_volume_that_was_deleted_stays_deleted() {
    check("412", "tombstone", &expect!["Deleted { lived: true }"]);
}

fn check_seal(put: &str, read: &str, expected: &Expect) {
    let mine = head().seal(node("b"), stamp(2)).unwrap();
    let mine = Head { ops: vec![], ..mine };
    expected.assert_eq(&decided(&mine, put, read));
}

#[test]
fn a_seal_that_lost_against_a_commit_begins_again() {
    check_seal("412", "a@1", &expect!["BeginAgain"]);
}

#[test]
fn a_seal_that_lost_against_another_seal_is_fenced() {
    check_seal("412", "c@2", &expect!["Fenced { took_effect: false }"]);
}

#[test]
fn a_seal_that_arrived_is_success() {
    check_seal("412", "same", &expect!["Success"]);
}

fn check_create(put: &str, read: &str, expected: &Expect) {
    expected.assert_eq(&decided(&Head { nonce: Nonce([3; 8]), ..head() }, put, read));
}

#[test]
fn a_live_head_under_a_derived_id_is_the_success_of_its_create() {
    check_create("412", "a@1", &expect!["Success"]);
    check_create("412", "b@5", &expect!["Success"]);
    check_create("unknown", "b@5", &expect!["Success"]);
}

#[test]
fn a_tombstone_says_whether_the_created_volume_ever_lived() {
    check_create("412", "tombstone", &expect!["Deleted { lived: true }"]);
    check_create("412", "never-lived", &expect!["Deleted { lived: false }"]);
}

#[test]
fn a_delete_that_finds_its_own_tombstone_is_success() {
    let mine = head().record_op(op(1, 9), stamp(2)).unwrap();
    let tombstone = mine.delete(&[], Some(op(1, 9)), stamp(3)).unwrap();
    let read = ReadHead::Found(tombstone);
    let next = after_put(Outcome::Refused, &mine, Some(&read), Some(&operation_id(1, 9)), true);
    assert_eq!(next, Next::Success);
}
