//! Nodes that are newer than we are, and those that are wrong.

use cove_content::volumes::{Moment, VolumeError, Volumes};
use cove_types::{Classify, ErrorKind};
use prost::Message;

use crate::pb;
use crate::raw::{Ending, RawNode, framed, header};
use crate::world::{call, document, new_entry, path, volume};

fn status() -> pb::VolumeStatus {
    pb::VolumeStatus {
        volume: "vol-1".into(),
        document_json: document("Shop").encode().into(),
        durability: 2,
        store: "reachable".into(),
        ..Default::default()
    }
}

/// A message as a newer node sends it, with a field that nobody here knows.
fn newer(message: &impl Message) -> Vec<u8> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Newer {
        #[prost(string, tag = "1999")]
        word: String,
        #[prost(fixed64, tag = "2000")]
        number: u64,
    }
    let more = Newer { word: "newer".into(), number: 7 }.encode_to_vec();
    let mut bytes = message.encode_to_vec();
    bytes.extend(more);
    let mut framed = vec![0];
    framed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    framed.extend(bytes);
    framed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_newer_node_knows_is_left_out() {
    use pb::describe_response::Step;
    let step = |step| pb::DescribeResponse { step: Some(step) };
    let frames = vec![
        // a step that is none of ours
        newer(&pb::DescribeResponse { step: None }),
        newer(&step(Step::Volume(Box::new(status())))),
        newer(&pb::DescribeResponse { step: None }),
        newer(&step(Step::Mark(2))),
    ];
    let node = RawNode::answers(frames, Ending::ok());
    let described = node.client().describe(call(1), volume(1), document("Shop")).await.unwrap();
    assert_eq!(described.document, document("Shop"));

    let file = Some(pb::File { path: b"a".to_vec().into(), kind: 1, ..Default::default() });
    let opened = pb::read_response::Part::Opened(pb::Opened { file, whole: None });
    let piece = pb::read_response::Part::Piece(b"abc".to_vec().into());
    let end = pb::read_response::Part::End(pb::End {});
    let part = |part| newer(&pb::ReadResponse { part });
    let frames = vec![
        part(None),
        part(Some(opened)),
        part(None),
        part(Some(piece)),
        part(None),
        part(Some(end)),
    ];
    let node = RawNode::answers(frames, Ending::Open);
    let (found, ended) = crate::world::read(&node.client(), &volume(1), "a").await;
    ended.unwrap();
    assert_eq!(found, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_only_a_newer_node_knows_keeps_its_kind_and_text() {
    let failures = [
        (pb::Failure { reason: 999, kind: 6, ..Default::default() }, ErrorKind::Exhausted),
        (pb::Failure { reason: 999, kind: 999, ..Default::default() }, ErrorKind::Unavailable),
        (
            pb::Failure { reason: 7, kind: 5, found: "a hole".into(), ..Default::default() },
            ErrorKind::Precondition,
        ),
        (
            pb::Failure { reason: 1, kind: 2, volume: "!".into(), ..Default::default() },
            ErrorKind::NotFound,
        ),
    ];
    for (failure, kind) in failures {
        let details = base64(&failure.encode_to_vec());
        let trailers = [
            ("grpc-status", "14"),
            ("grpc-message", "the moon is full"),
            ("grpc-status-details-bin", details.as_str()),
        ];
        let trailers = trailers.map(header).into_iter().collect();
        let node = RawNode::answers(Vec::new(), Ending::Status(trailers));
        let error = node.client().list().await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, "the moon is full"));
        let error =
            node.client().snapshot(call(1), volume(1), new_entry()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let digit = |n: usize| (0..6).fold(0u8, |value, b| value << 1 | bit(n * 6 + b));
    (0..(bytes.len() * 8).div_ceil(6)).map(|n| char::from(DIGITS[usize::from(digit(n))])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_an_older_node_does_not_know_says_so() {
    let trailers = [("grpc-status", "12")].map(header).into_iter().collect();
    let node = RawNode::answers(Vec::new(), Ending::Status(trailers));
    let error = node.client().capacity().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().ends_with("does not know this call"), "{error}");
}

/// What is said of an answer.
async fn of(frames: &[Vec<u8>]) -> String {
    let node = RawNode::answers(frames.to_vec(), Ending::ok());
    let error = node.client().describe(call(1), volume(1), document("Shop")).await.unwrap_err();
    assert!(matches!(error, VolumeError::Refused { kind: ErrorKind::Internal, .. }), "{error:?}");
    let text = error.to_string();
    text.split_once(".sock ").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_unlawful_is_named_by_its_field() {
    use pb::describe_response::Step;
    let step = |step| framed(&pb::DescribeResponse { step: Some(step) });
    let mark = |mark| step(Step::Mark(mark));
    let with = |change: &dyn Fn(&mut pb::VolumeStatus)| {
        let mut status = status();
        change(&mut status);
        [step(Step::Volume(Box::new(status))), mark(2)]
    };
    assert_eq!(of(&[mark(2)]).await, "has no field \"volume\"");
    let twice = [with(&|_| {}), with(&|_| {})].map(|[volume, _]| volume);
    let twice = [twice[0].clone(), twice[1].clone(), mark(2)];
    assert_eq!(of(&twice).await, "has an unlawful field \"volume\": there is one");
    let early = of(&[step(Step::Volume(Box::new(status()))), mark(1)]).await;
    assert_eq!(early, "has an unlawful field \"mark\": MARK_SAVED comes first, found 1");
    let no_id = of(&with(&|status| status.volume.clear())).await;
    assert_eq!(no_id, "has no field \"volume.volume\"");
    let never = of(&with(&|status| status.durability = 0)).await;
    assert_eq!(never, "has no field \"volume.durability\"");
    let relative = of(&with(&|status| status.path = b"pool".to_vec().into())).await;
    assert_eq!(relative, "has an unlawful field \"volume.path\": a directory is absolute");
    let loose = of(&with(&|status| status.document_json = b"{}".to_vec().into())).await;
    assert!(loose.starts_with("has an unlawful field \"volume.document_json\": "), "{loose}");
    let problems = of(&with(&|status| status.problems_json = b"[7]".to_vec().into())).await;
    assert!(problems.starts_with("has an unlawful field \"volume.problems_json\": "), "{problems}");
    let node = RawNode::answers(
        vec![framed(&pb::ReadResponse { part: Some(pb::read_response::Part::End(pb::End {})) })],
        Ending::ok(),
    );
    let error =
        node.client().read(&volume(1), &Moment::Now, &path("a"), None).await.map(drop).unwrap_err();
    assert!(error.to_string().ends_with("has no field \"opened\""), "{error}");
}
