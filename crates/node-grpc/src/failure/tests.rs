use super::*;

#[test]
fn a_text_is_cut_between_its_letters() {
    assert_eq!(cut("abc".into(), 3), "abc");
    assert_eq!(cut("abcd".into(), 3), "abc…");
    assert_eq!(cut("aéé".into(), 4), "aé…");
}

#[test]
fn an_error_of_the_system_in_the_middle_says_its_text_once() {
    let inner = io::Error::other("the disk is full");
    let outer = io::Error::new(io::ErrorKind::StorageFull, inner);
    let told = broken(wire_broken(&outer));
    assert_eq!(told.kind(), io::ErrorKind::StorageFull);
    assert_eq!(chain(&told), chain(&outer));
}

#[test]
fn bytes_that_break_off_without_a_word_break_off() {
    let told = broken(pb::Broken::default());
    assert_eq!(told.kind(), io::ErrorKind::Other);
}

#[test]
fn a_disk_that_gives_nothing_back_is_damaged_in_the_other_process_too() {
    let error = io::Error::from_raw_os_error(5);
    let told = broken(wire_broken(&error));
    assert_eq!(kind_of_io(&told), ErrorKind::Corrupt);
    assert_eq!(chain(&told), chain(&error));
}

#[test]
fn nobody_goes_on_after_an_error_because_it_says_interrupted() {
    let error = io::Error::from(io::ErrorKind::Interrupted);
    assert_eq!(broken(wire_broken(&error)).kind(), io::ErrorKind::Other);
}

#[test]
fn a_failure_without_causes_is_a_refusal() {
    let failure = pb::Failure {
        reason: Reason::Failed.into(),
        kind: wire_kind(ErrorKind::Corrupt),
        what: "it is lost".into(),
        ..Default::default()
    };
    let error = volume_error(failure).unwrap();
    let VolumeError::Refused { kind: ErrorKind::Corrupt, what } = error else {
        panic!("{error:?}")
    };
    assert_eq!(what, "it is lost");
}

#[test]
fn details_that_are_none_tell_nothing() {
    let status = Status::with_details(tonic::Code::Aborted, "x", vec![0xff; 3].into());
    assert!(told(&status).is_none());
    assert!(told(&Status::aborted("x")).is_none());
}
