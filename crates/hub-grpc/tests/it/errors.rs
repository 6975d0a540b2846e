//! Every error, with its code.

use cove_content::volumes::VolumeError;
use cove_hub::{HubError, VolumeHub};
use cove_types::{Classify, ErrorKind, OperationId, ParseError};
use tonic::Code;

use crate::pb;
use crate::world::World;

const KINDS: [(ErrorKind, Code); 11] = [
    (ErrorKind::Invalid, Code::InvalidArgument),
    (ErrorKind::NotFound, Code::NotFound),
    (ErrorKind::AlreadyExists, Code::AlreadyExists),
    (ErrorKind::Conflict, Code::Aborted),
    (ErrorKind::Precondition, Code::FailedPrecondition),
    (ErrorKind::Exhausted, Code::ResourceExhausted),
    (ErrorKind::Unavailable, Code::Unavailable),
    (ErrorKind::Corrupt, Code::DataLoss),
    (ErrorKind::Denied, Code::PermissionDenied),
    (ErrorKind::TimedOut, Code::DeadlineExceeded),
    (ErrorKind::Internal, Code::Internal),
];

fn failed(kind: ErrorKind) -> HubError {
    let source = VolumeError::Refused { kind, what: "the disk says no".into() };
    HubError::Volumes { what: "fork volume v".into(), source }
}

#[tokio::test]
async fn every_kind_has_its_code_and_comes_back() {
    let world = World::start();
    for (kind, code) in KINDS {
        let told = match kind {
            ErrorKind::Internal => "internal error",
            _ => "failed to fork volume v: the disk says no",
        };
        world.hub.fail(failed(kind));
        let request = pb::VolumeStatusRequest { volume: "v".into() };
        let status = world.raw().volume_status(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, told));
        world.hub.fail(failed(kind));
        let operation = OperationId([1; 16]);
        let error =
            world.client().delete_volume("v".parse().unwrap(), operation).await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, told));
    }
}

#[tokio::test]
async fn a_quota_that_cannot_be_is_out_of_range() {
    let world = World::start();
    let refused = || HubError::QuotaOutOfRange { what: "the source has 2 GiB".into() };
    world.hub.fail(refused());
    let request = pb::VolumeStatusRequest { volume: "v".into() };
    let status = world.raw().volume_status(request).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::OutOfRange, "the source has 2 GiB"));
    world.hub.fail(refused());
    let error = world.client().volume_status("v".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, HubError::QuotaOutOfRange { .. }), "{error:?}");
}

#[tokio::test]
async fn what_the_hub_calls_invalid_is_invalid_there_too() {
    let world = World::start();
    world.hub.fail(HubError::Invalid(ParseError("a law is broken".into())));
    let error = world.client().volume_status("v".parse().unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Invalid, "a law is broken"));
}

#[tokio::test]
async fn the_longest_path_does_not_break_the_connection() {
    let world = World::start();
    let path = "/дом".repeat(386);
    assert_eq!(path.len(), 2702);
    for kind in [ErrorKind::Precondition, ErrorKind::Corrupt] {
        let what = format!("sh (pid 7) has {path} open for writing");
        let source = VolumeError::Refused { kind, what };
        world.hub.fail(HubError::Volumes { what: "restore volume v".into(), source });
        let error = world.client().volume_status("v".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let told = error.to_string();
        assert!(told.starts_with("failed to restore volume v: sh (pid 7) has /дом/"), "{told}");
        assert!(told.ends_with('…') && told.len() < 1100, "{told}");
    }
}
