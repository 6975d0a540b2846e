//! Every error, there and back.

use std::io;

use cove_content::volumes::{FileEdit, Moment, Source, VolumeError, Volumes};
use cove_types::{Classify, EntryId, ErrorKind, ParseError, chain};
use tonic::Code;

use crate::pb;
use crate::world::{World, call, new_entry, new_volume, operation, path, volume};

fn entry() -> EntryId {
    EntryId::derive(&operation(1), "snapshot")
}

/// One of each, and the code that it has.
fn plain() -> Vec<(VolumeError, Code)> {
    let what = || "a refusal, \"é\"".to_owned();
    let path = || path("a/\\xff/b");
    let (found, wanted) = ("a directory", "a file");
    let (program, open) = ("vim".to_owned(), "/pool/a".to_owned());
    let mut all = vec![
        (VolumeError::NotHere { volume: volume(7) }, Code::NotFound),
        (VolumeError::Exists { volume: volume(7) }, Code::AlreadyExists),
        (VolumeError::NoEntry { entry: entry() }, Code::NotFound),
        (VolumeError::EntriesUnread { count: 3 }, Code::DataLoss),
        (
            VolumeError::LabelTaken { label: "v1".parse().unwrap(), entry: entry() },
            Code::AlreadyExists,
        ),
        (VolumeError::NoPath { path: path() }, Code::NotFound),
        (VolumeError::WrongKind { path: path(), found, wanted }, Code::FailedPrecondition),
        (
            VolumeError::WrongKind { path: path(), found: "fifo", wanted: "a directory" },
            Code::FailedPrecondition,
        ),
        (VolumeError::PathExists { path: path() }, Code::AlreadyExists),
        (VolumeError::NotEmpty { path: path() }, Code::FailedPrecondition),
        (VolumeError::InUse { pid: 42, program, path: open }, Code::FailedPrecondition),
        (VolumeError::OtherRequest, Code::Aborted),
        (VolumeError::TooOld, Code::Aborted),
        (VolumeError::Unknown { operation: operation(9) }, Code::DeadlineExceeded),
        (VolumeError::Stopping, Code::Unavailable),
        (VolumeError::HeldByAnother, Code::FailedPrecondition),
        (VolumeError::TooManyEntries, Code::FailedPrecondition),
    ];
    for (kind, code) in [
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
    ] {
        all.push((VolumeError::Refused { kind, what: what() }, code));
    }
    all
}

/// The error of the next call of each form: one reply, steps, a list, bytes both ways.
async fn of_each_form(world: &World, make: impl Fn() -> VolumeError) -> Vec<VolumeError> {
    let (client, volume) = (world.client(), volume(1));
    let fail = || world.volumes.fail(make());
    let mut errors = Vec::new();
    fail();
    errors.push(client.status(&volume).await.unwrap_err());
    fail();
    errors.push(client.snapshot(call(1), volume.clone(), new_entry()).await.map(drop).unwrap_err());
    fail();
    errors
        .push(client.describe(call(1), volume.clone(), new_volume(1).document).await.unwrap_err());
    fail();
    errors.push(client.list().await.unwrap_err());
    fail();
    let read = client.read(&volume, &Moment::Now, &path("a"), None).await;
    errors.push(read.map(drop).unwrap_err());
    fail();
    let sink = Box::new(io::sink());
    errors.push(client.export(&volume, &Moment::Now, &path("a"), sink).await.unwrap_err());
    fail();
    let put = FileEdit::Put(path("a"), Box::new(io::repeat(7)));
    errors.push(client.edit(&volume, put).await.unwrap_err());
    fail();
    let source = Source::Archive(Box::new(io::repeat(7)));
    errors.push(client.create(call(1), new_volume(1), source).await.map(drop).unwrap_err());
    errors
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_comes_back_as_it_was() {
    let world = World::start();
    let count = plain().len();
    for at in 0..count {
        let make = || plain().swap_remove(at).0;
        for error in of_each_form(&world, make).await {
            assert_eq!(format!("{error:?}"), format!("{:?}", make()));
        }
    }
}

#[tokio::test]
async fn every_error_has_its_code_and_a_text_for_people() {
    let world = World::start();
    let mut raw = world.raw();
    for (error, code) in plain() {
        let text = error.to_string();
        world.volumes.fail(error);
        let request = pb::GetStatusRequest { volume: "vol-1".into() };
        let status = raw.get_status(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, text.as_str()));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("failed to write the pack")]
struct Outer {
    source: io::Error,
}

impl Classify for Outer {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Exhausted
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_keeps_its_causes_and_what_the_system_said() {
    let world = World::start();
    for system in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
        let of_system = move || match system {
            io::ErrorKind::StorageFull => io::Error::from_raw_os_error(28),
            _ => io::Error::from_raw_os_error(122),
        };
        let make = move || VolumeError::failed("failed to store", Outer { source: of_system() });
        assert!(make().is_caused_by(system), "the kernel's number is of that kind");
        for error in of_each_form(&world, make).await {
            assert_eq!(chain(&error), chain(&make()));
            assert!(matches!(error, VolumeError::Failed { kind: ErrorKind::Exhausted, .. }));
            assert!(error.is_caused_by(system));
            assert!(!error.is_caused_by(io::ErrorKind::NotFound));
        }
    }
    // an error of the system that holds another says its text once
    let inner = || Outer { source: io::Error::other(ParseError("it is none".into())) };
    let held = || io::Error::new(io::ErrorKind::InvalidData, inner());
    let make = || VolumeError::Failed {
        kind: ErrorKind::Corrupt,
        what: "failed to read".into(),
        source: Box::new(held()),
    };
    for error in of_each_form(&world, make).await {
        assert_eq!(chain(&error), "failed to read: failed to write the pack: it is none");
        assert!(error.is_caused_by(io::ErrorKind::InvalidData));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_with_very_long_texts_arrives_cut() {
    let world = World::start();
    let long = || "é\"\n".repeat(100_000);
    let deep = || {
        let mut error = io::Error::other(long());
        for _ in 0..20 {
            error = io::Error::other(Long { text: long(), source: error });
        }
        error
    };
    let make = || VolumeError::Failed {
        kind: ErrorKind::Unavailable,
        what: long(),
        source: Box::new(deep()),
    };
    for error in of_each_form(&world, make).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:.100}");
        let text = chain(&error);
        assert!(text.starts_with("é\"\né\"\n") && text.ends_with('…'));
        assert!((8 << 10..100 << 10).contains(&text.len()), "{} bytes", text.len());
    }
    let long_path = vec![format!("\\xff{}", "\\x01".repeat(200)); 20].join("/");
    let make = || VolumeError::NoPath { path: path(&long_path) };
    for error in of_each_form(&world, make).await {
        assert_eq!(format!("{error:?}"), format!("{:?}", make()));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Long {
    text: String,
    source: io::Error,
}
