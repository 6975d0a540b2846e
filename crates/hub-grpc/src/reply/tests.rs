use super::*;
use crate::status::unlawful_reply;

fn volume() -> pb::Volume {
    pb::Volume {
        id: "vol".into(),
        name: "pvc".into(),
        node: "node-a".into(),
        created_at: Some(prost_types::Timestamp::default()),
        ..Default::default()
    }
}

fn snapshot() -> pb::Snapshot {
    pb::Snapshot {
        id: "vol@abcdefghij23".into(),
        volume: "vol".into(),
        created_at: Some(prost_types::Timestamp::default()),
        durability: 2,
        ..Default::default()
    }
}

fn report() -> pb::VolumeStatusResponse {
    pb::VolumeStatusResponse {
        volume: Some(volume()),
        durability: 1,
        health: Some(pb::Health::default()),
        ..Default::default()
    }
}

/// What a client says of a reply with a change.
fn said<W: Clone, T: TryFrom<W, Error = FieldError> + std::fmt::Debug>(
    lawful: &W,
    change: impl Fn(&mut W),
) -> String {
    assert!(T::try_from(lawful.clone()).is_ok());
    let mut changed = lawful.clone();
    change(&mut changed);
    unlawful_reply(&T::try_from(changed).unwrap_err()).to_string()
}

#[test]
fn a_reply_that_is_unlawful_is_named_by_its_field() {
    let of_volume = |change: &dyn Fn(&mut pb::Volume)| said::<_, Volume>(&volume(), change);
    let of_snapshot = |change: &dyn Fn(&mut pb::Snapshot)| said::<_, Snapshot>(&snapshot(), change);
    let of_report =
        |change: &dyn Fn(&mut pb::VolumeStatusResponse)| said::<_, VolumeReport>(&report(), change);
    let no = |field: &str| format!("the reply of the hub has no field \"{field}\"");
    assert_eq!(of_volume(&|volume| volume.id.clear()), no("id"));
    assert_eq!(of_volume(&|volume| volume.name.clear()), no("name"));
    assert_eq!(of_volume(&|volume| volume.node.clear()), no("node"));
    assert_eq!(of_volume(&|volume| volume.created_at = None), no("created_at"));
    assert_eq!(of_snapshot(&|snapshot| snapshot.durability = 0), no("durability"));
    assert_eq!(of_report(&|report| report.health = None), no("health"));
    assert_eq!(of_report(&|report| report.volume = None), no("volume"));
    let nameless = |report: &mut pb::VolumeStatusResponse| {
        report.volume.get_or_insert_default().name.clear();
    };
    assert_eq!(of_report(&nameless), no("volume.name"));
    let since_never = |report: &mut pb::VolumeStatusResponse| {
        let problem = pb::Problem { what: "x".into(), ..Default::default() };
        report.health.get_or_insert_default().problems.push(problem);
    };
    assert_eq!(of_report(&since_never), no("health.problems.since"));

    let unlawful = |field: &str, law: &str| {
        format!("the reply of the hub has an unlawful field \"{field}\": {law}")
    };
    let relative = |volume: &mut pb::Volume| volume.path = "volumes/x".into();
    assert_eq!(of_volume(&relative), unlawful("path", "a directory is absolute"));
    let late = |volume: &mut pb::Volume| {
        volume.created_at = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 });
    };
    let law = "an instant is of the years 1 to 9999";
    assert_eq!(of_volume(&late), unlawful("created_at", law));
    let nanos = |volume: &mut pb::Volume| {
        volume.created_at = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    };
    assert_eq!(of_volume(&nanos), unlawful("created_at", law));
    let template = |volume: &mut pb::Volume| {
        volume.source = Some(VolumeSource::Template("x".into()).into());
    };
    let law = "a volume began as a volume or a snapshot";
    assert_eq!(of_volume(&template), unlawful("source.template", law));
    let other = |snapshot: &mut pb::Snapshot| snapshot.volume = "other".into();
    let law = "snapshot vol@abcdefghij23 is of another";
    assert_eq!(of_snapshot(&other), unlawful("volume", law));
    let newer = |snapshot: &mut pb::Snapshot| snapshot.durability = 9;
    assert!(
        of_snapshot(&newer).starts_with(&unlawful("durability", "")),
        "{}",
        of_snapshot(&newer)
    );
}

#[test]
fn an_event_that_only_a_newer_hub_knows_is_left_out() {
    assert!(event(pb::WatchVolumesResponse { event: None }).unwrap().is_none());
    let never = pb::watch_volumes_response::Event::Listed(false);
    assert!(event(pb::WatchVolumesResponse { event: Some(never) }).is_err());
}

#[test]
fn what_is_at_risk_has_a_problem_and_is_not_saved() {
    use pb::health::State;
    let problem = pb::Problem {
        what: "x".into(),
        since: Some(prost_types::Timestamp::default()),
        who_acts: "you".into(),
        hint: String::new(),
    };
    let (none, one) = (Vec::new(), vec![problem]);
    for (problems, durability, state) in [
        (&none, pb::Durability::OnNode, State::Ok),
        (&none, pb::Durability::Saved, State::Ok),
        (&one, pb::Durability::Saved, State::Attention),
        (&one, pb::Durability::OnNode, State::AtRisk),
    ] {
        let health = pb::Health { problems: problems.clone(), ..Default::default() };
        let durability = durability.into();
        let told = pb::VolumeStatusResponse { durability, health: Some(health), ..report() };
        let sent: pb::VolumeStatusResponse =
            VolumeReport::try_from(told).unwrap().try_into().unwrap();
        assert_eq!(sent.health.unwrap().state(), state);
    }
}

#[test]
fn a_path_that_is_no_text_is_not_told() {
    use std::os::unix::ffi::OsStrExt;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(b"/pool/\xff"));
    let error = pb::CreateServiceVolumeResponse::try_from(path).unwrap_err();
    assert_eq!(error.to_string(), "field \"path\": the directory is not UTF-8");
}
