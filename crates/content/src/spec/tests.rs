use super::*;

fn spec() -> VolumeSpec {
    VolumeSpec {
        name: Some("pvc 1/../é".parse().unwrap()),
        quota_bytes: Some(1 << 30),
        labels: [("a".to_owned(), "1".to_owned())].into(),
        parameters: [("retention".to_owned(), "5".to_owned())].into(),
        source: Some(SpecSource::Volume("vol-a".parse().unwrap())),
        asked: Some(RequestHash([7; 8])),
        stands_alone: true,
        unknown: Map::new(),
    }
}

#[test]
fn a_spec_is_read_as_it_was_written_and_what_a_newer_version_added_stays() {
    let text = String::from_utf8(spec().encode()).unwrap();
    let newer = text.replacen('{', "{\"zone\":\"b\",", 1);
    let read: VolumeSpec = serde_json::from_str(&text).unwrap();
    assert_eq!(read, spec());
    let read: VolumeSpec = serde_json::from_str(&newer).unwrap();
    assert_eq!(read.unknown["zone"], "b");
    assert!(String::from_utf8(read.encode()).unwrap().contains("\"zone\":\"b\""));
}

#[test]
fn nothing_asked_takes_no_byte_of_a_head() {
    assert_eq!(VolumeSpec::default().encode(), b"{}");
    assert!(VolumeSpec::default().is_empty() && !spec().is_empty());
}

#[test]
fn a_change_leaves_what_it_does_not_name() {
    let change = SpecChange {
        quota_bytes: Some(None),
        parameters: [("storingInterval".to_owned(), "60".to_owned())].into(),
        ..SpecChange::default()
    };
    let next = spec().changed(&change);
    assert_eq!(next.quota_bytes, None);
    assert_eq!(next.parameters.len(), 2);
    assert_eq!((next.labels, next.name), (spec().labels, spec().name));
    assert_eq!(spec().changed(&SpecChange::default()), spec());
}

#[test]
fn a_change_that_takes_the_quota_is_another_than_one_that_leaves_it() {
    for change in [
        SpecChange::default(),
        SpecChange { quota_bytes: Some(None), ..SpecChange::default() },
        SpecChange { quota_bytes: Some(Some(5 << 20)), ..SpecChange::default() },
    ] {
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<SpecChange>(&text).unwrap(), change, "{text}");
    }
}

#[test]
fn what_no_head_has_room_for_is_refused_with_its_law() {
    let label = |key: &str, value: &str| VolumeSpec {
        labels: [(key.to_owned(), value.to_owned())].into(),
        ..VolumeSpec::default()
    };
    let many = |count: usize, bytes: usize| VolumeSpec {
        labels: (0..count).map(|n| (format!("{n:04}"), "v".repeat(bytes))).collect(),
        ..VolumeSpec::default()
    };
    for (lawful, spec) in [
        (true, spec()),
        (true, label("k", "")),
        (true, label(&"k".repeat(63), &"v".repeat(63))),
        (true, many(64, 12)),
        (false, many(65, 1)),
        (false, many(64, 13)),
        (false, label("", "v")),
        (false, label("k", &"v".repeat(64))),
        (false, label("k", "\u{1b}[2J")),
        (false, VolumeSpec { quota_bytes: Some((1 << 20) - 1), ..VolumeSpec::default() }),
    ] {
        assert_eq!(spec.check().is_ok(), lawful, "{:?}", spec.check());
    }
}

#[test]
fn what_is_short_as_text_and_long_as_json_is_refused() {
    let spec = |mark: &str| VolumeSpec {
        labels: (0..64).map(|n| (format!("{n:02}"), mark.repeat(14))).collect(),
        ..VolumeSpec::default()
    };
    assert!(spec("v").check().is_ok());
    assert!(spec("\"").check().is_err());
    let mut newer = spec("v");
    newer.unknown.insert("zone".into(), "b".repeat(SPEC_BYTES_MAX).into());
    assert!(newer.check().is_ok(), "what this version does not know is not its to measure");
}

#[test]
fn a_parameter_of_another_law_says_nothing() {
    let spec = |key: &str, value: &str| VolumeSpec {
        parameters: [(key.to_owned(), value.to_owned())].into(),
        ..VolumeSpec::default()
    };
    assert_eq!(spec(STORING_INTERVAL, "30").storing_interval(), Some(Duration::from_secs(30)));
    assert_eq!(spec(RETENTION, "200").retention(), Some(200));
    for value in ["", "0", "x", "-1", "86401"] {
        assert_eq!(spec(STORING_INTERVAL, value).storing_interval(), None, "{value}");
        assert_eq!(spec(RETENTION, value).retention(), None, "{value}");
    }
    assert_eq!(VolumeSpec::default().retention(), None);
}
