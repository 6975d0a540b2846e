use cove_types::ErrorKind;

use super::is_lasting;

const ALL: [ErrorKind; 11] = [
    ErrorKind::Invalid,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::Conflict,
    ErrorKind::Precondition,
    ErrorKind::Exhausted,
    ErrorKind::Unavailable,
    ErrorKind::Corrupt,
    ErrorKind::Denied,
    ErrorKind::TimedOut,
    ErrorKind::Internal,
];

#[test]
fn what_may_pass_is_tried_again_and_the_rest_has_failed() {
    let passing = |asks_store| -> Vec<ErrorKind> {
        ALL.into_iter().filter(|kind| !is_lasting(*kind, asks_store)).collect()
    };
    let always =
        [ErrorKind::Conflict, ErrorKind::Exhausted, ErrorKind::Unavailable, ErrorKind::TimedOut];
    assert_eq!(passing(false), always);
    // keys may be given again
    let of_a_store = [
        ErrorKind::Conflict,
        ErrorKind::Exhausted,
        ErrorKind::Unavailable,
        ErrorKind::Denied,
        ErrorKind::TimedOut,
    ];
    assert_eq!(passing(true), of_a_store);
}
