//! What is refused at the door, field by field.

use tonic::{Code, Response, Status};

use crate::pb;
use crate::world::{World, document};

const OP: &str = "000000000123456789abcdef01234567";

fn call() -> pb::Call {
    pb::Call { op_id: OP.into(), principal: "ada".into(), request: vec![7; 8].into() }
}

/// Checks that a call is refused for its field.
async fn refused<T>(call: impl Future<Output = Result<Response<T>, Status>>, told: &str) {
    let status = call.await.map(drop).expect_err(told);
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().starts_with(told), "wanted {told}, found {}", status.message());
}

/// Refuses each change of a lawful request with the text beside it.
macro_rules! refuses {
    ($world:expr, $rpc:ident, $lawful:expr, $($field:ident = $value:expr => $told:expr),+ $(,)?) => {
        let lawful = $lawful;
        $(
            let mut request = lawful.clone();
            request.$field = $value;
            refused($world.raw().$rpc(request), $told).await;
        )+
    };
}

#[tokio::test]
async fn a_request_is_refused_for_the_field_that_is_wrong() {
    let world = World::start();
    let lawful = pb::DescribeRequest {
        call: Some(call()),
        volume: "vol-1".into(),
        document_json: document("x").encode().into(),
    };
    let mut loose = serde_json::to_vec(&document("x")).unwrap();
    loose.push(b' ');
    refuses!(world, describe, lawful,
        call = None => "field \"call\" is missing",
        call = Some(pb::Call { op_id: String::new(), ..call() }) => "field \"call.op_id\" is missing",
        call = Some(pb::Call { op_id: OP.to_uppercase(), ..call() }) => "field \"call.op_id\": ",
        call = Some(pb::Call { request: vec![7; 9].into(), ..call() })
            => "field \"call.request\": it has 8 bytes, found 9",
        volume = String::new() => "field \"volume\" is missing",
        volume = "Vol".into() => "field \"volume\": ",
        document_json = Vec::new().into() => "field \"document_json\" is missing",
        document_json = b"{}".to_vec().into() => "field \"document_json\": ",
        document_json = loose.into() => "field \"document_json\": ",
        document_json = vec![b'['; 49_153].into() => "field \"document_json\": at most 49152 bytes, found 49153",
    );
    let lawful = pb::SpecifyRequest {
        call: Some(call()),
        volume: "vol-1".into(),
        change_json: b"{}".to_vec().into(),
        ..Default::default()
    };
    refuses!(world, specify, lawful,
        change_json = vec![b' '; 49_153].into() => "field \"change_json\": at most 49152 bytes, found 49153",
        document_json = vec![b' '; 49_153].into() => "field \"document_json\": at most 49152 bytes, found 49153",
    );
    let entry = pb::NewEntry { kind: 1, author: "ada".into(), keep: 20, ..Default::default() };
    let lawful = pb::SnapshotRequest {
        call: Some(call()),
        volume: "vol-1".into(),
        entry: Some(entry.clone()),
    };
    refuses!(world, snapshot, lawful,
        entry = None => "field \"entry\" is missing",
        entry = Some(pb::NewEntry { kind: 0, ..entry.clone() }) => "field \"entry.kind\" is missing",
        entry = Some(pb::NewEntry { kind: 99, ..entry.clone() }) => "field \"entry.kind\": ",
        entry = Some(pb::NewEntry { label: "a b".into(), ..entry.clone() })
            => "field \"entry.label\": ",
    );
    let lawful = pb::RestoreRequest {
        call: Some(call()),
        volume: "vol-1".into(),
        entry: "abcdefghij23".into(),
        ..Default::default()
    };
    refuses!(world, restore, lawful,
        entry = String::new() => "field \"entry\" is missing",
        entry = "x".into() => "field \"entry\": ",
        paths = vec![b"../x".to_vec().into()] => "field \"paths\": ",
    );
    let lawful = pb::EditEntryRequest {
        call: Some(call()),
        volume: "vol-1".into(),
        entry: "abcdefghij23".into(),
        edit: Some(pb::edit_entry_request::Edit::Pin(true)),
    };
    refuses!(world, edit_entry, lawful,
        edit = None => "field \"edit\" is missing",
        edit = Some(pb::edit_entry_request::Edit::Trash(false)) => "field \"trash\": it is always true",
        edit = Some(pb::edit_entry_request::Edit::Label("now".into())) => "field \"label\": ",
    );
    let lawful = pb::VerifyRequest { volume: "vol-1".into(), level: 3, part: 1, of: 2 };
    refuses!(world, verify, lawful,
        level = 0 => "field \"level\" is missing",
        level = 9 => "field \"level\": ",
        part = 0 => "field \"part\": it is one of 1 to 2, found 0",
        part = 3 => "field \"part\": it is one of 1 to 2, found 3",
    );
    let place = pb::Place { volume: "vol-1".into(), entry: String::new() };
    let lawful = pb::ReadRequest { place: Some(place.clone()), ..Default::default() };
    refuses!(world, read, lawful,
        place = None => "field \"place\" is missing",
        place = Some(pb::Place { volume: "!".into(), ..place.clone() }) => "field \"place.volume\": ",
        place = Some(pb::Place { entry: "!".into(), ..place }) => "field \"place.entry\": ",
        path = b"a//b".to_vec().into() => "field \"path\": ",
        range = Some(pb::Range { start: 5, end: 4 })
            => "field \"range\": it begins at 5 and ends before, at 4",
    );
    let one = pb::TogetherCall { call: Some(call()), volume: "vol-1".into() };
    let lawful = pb::SnapshotTogetherRequest { calls: vec![one.clone()], entry: Some(entry) };
    refuses!(world, snapshot_together, lawful,
        entry = None => "field \"entry\" is missing",
        calls = vec![one; 65] => "field \"calls\": at most 64, found 65",
    );
    assert_eq!(world.volumes.calls(), [""; 0]);
}

#[tokio::test]
async fn a_stream_without_its_first_message_is_refused() {
    use futures::stream::iter;
    let world = World::start();
    let end = pb::End {};
    let part = Some(pb::create_request::Part::End(end));
    refused(world.raw().create(iter([])), "field \"create\" is missing").await;
    refused(world.raw().create(iter([pb::CreateRequest { part }])), "field \"create\" is ").await;
    let part = Some(pb::fork_request::Part::End(end));
    refused(world.raw().fork(iter([pb::ForkRequest { part }])), "field \"fork\" is missing").await;
    let part = Some(pb::edit_request::Part::End(end));
    refused(world.raw().edit(iter([pb::EditRequest { part }])), "field \"edit\" is missing").await;
    let look = pb::RecoverRequest { ask: Some(pb::recover_request::Ask::Look(true)) };
    refused(world.raw().recover(iter([look])), "field \"take\" is missing").await;
    // nor is one of more targets than a call makes
    let target = pb::NewVolume {
        volume: "vol-2".into(),
        document_json: document("x").encode().into(),
        spec_json: Vec::new().into(),
    };
    let fork = pb::NewFork { call: Some(call()), source: "vol-1".into(), entry: String::new() };
    let parts = std::iter::once(pb::fork_request::Part::Fork(fork))
        .chain(vec![pb::fork_request::Part::Target(target.clone()); 101])
        .map(|part| pb::ForkRequest { part: Some(part) });
    let parts: Vec<_> = parts.collect();
    refused(world.raw().fork(iter(parts)), "field \"target\": at most 100, found 101").await;
    // nor is one of which more would have to be read than a volume can be
    let target = pb::NewVolume { spec_json: vec![b' '; 49_153].into(), ..target };
    let fork = pb::NewFork { call: Some(call()), source: "vol-1".into(), entry: String::new() };
    let parts = [pb::fork_request::Part::Fork(fork), pb::fork_request::Part::Target(target)];
    let parts = parts.map(|part| pb::ForkRequest { part: Some(part) });
    let told = "field \"target.spec_json\": at most 49152 bytes, found 49153";
    refused(world.raw().fork(iter(parts)), told).await;
    // a fork whose targets are not all said is none
    let fork = pb::NewFork { call: Some(call()), source: "vol-1".into(), entry: String::new() };
    let part = Some(pb::fork_request::Part::Fork(fork));
    refused(world.raw().fork(iter([pb::ForkRequest { part }])), "field \"end\" is missing").await;
    assert_eq!(world.volumes.calls(), [""; 0]);
}
