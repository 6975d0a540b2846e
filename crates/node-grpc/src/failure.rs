//! Errors of volumes as the wire has them, and back.

use std::error::Error;
use std::{fmt, io};

use cove_content::read::{ForeignReadError, kind_of_io};
use cove_content::volumes::VolumeError;
use cove_types::{Classify, ErrorKind, chain};
use cove_unix_grpc::{MESSAGE_BYTES_MAX, code, cut};
use prost::Message;
use tonic::Status;

use crate::field::{FieldError, required, tree_path, wire_tree_path};
use crate::pb;
use crate::pb::failure::Reason;
use crate::word::{io_kind, kind, path_word, wire_io_kind, wire_kind};

/// The most bytes of one text of an error. An error has to fit into the heads of a message, where its bytes
/// have four digits each three, and its message up to three each.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// The most causes of an error that are told.
const CAUSES_MAX: usize = 8;

/// What a caller is told of an error of `rpc`.
pub(crate) fn status(rpc: &'static str, error: &VolumeError) -> Status {
    let text = chain(error);
    let kind = error.kind();
    match kind {
        ErrorKind::Internal => tracing::error!(rpc, error = text, "a call failed"),
        ErrorKind::Corrupt => tracing::error!(rpc, error = text, "a call found damage"),
        kind => tracing::debug!(rpc, error = text, ?kind, "a call was refused"),
    }
    let details = wire_failure(error).encode_to_vec();
    Status::with_details(code(kind), cut(text, MESSAGE_BYTES_MAX), details.into())
}

/// Logs what happened and says as little as possible.
pub(crate) fn internal(rpc: &'static str, error: &str) -> Status {
    tracing::error!(rpc, error, "a call failed");
    Status::internal("internal error")
}

/// The error that a status tells; none when it tells none.
pub(crate) fn told(status: &Status) -> Option<VolumeError> {
    if status.details().is_empty() {
        return None;
    }
    let failure = pb::Failure::decode(status.details()).ok()?;
    let own_kind = kind(failure.kind);
    let unknown = |_| VolumeError::Refused {
        // one that only a newer node knows
        kind: own_kind.unwrap_or_else(|| cove_unix_grpc::kind(status.code())),
        what: status.message().to_owned(),
    };
    Some(volume_error(failure).unwrap_or_else(unknown))
}

/// Bytes that cannot be read to their end.
pub(crate) fn wire_broken(error: &io::Error) -> pb::Broken {
    pb::Broken { causes: causes(error), kind: wire_kind(kind_of_io(error)) }
}

/// Why bytes cannot be read to their end.
pub(crate) fn broken(broken: pb::Broken) -> io::Error {
    let mut causes = broken.causes.into_iter();
    let Some(first) = causes.next() else { return io::ErrorKind::Other.into() };
    let source = error_of(causes.collect());
    let io_kind = io_kind(first.io_kind).unwrap_or(io::ErrorKind::Other);
    match kind(broken.kind) {
        Some(kind) => io::Error::new(io_kind, ForeignReadError { kind, text: first.text, source }),
        None => io::Error::new(io_kind, Told { text: first.text, source }),
    }
}

fn text(text: impl ToString) -> String {
    cut(text.to_string(), TEXT_BYTES_MAX)
}

/// An error and its causes.
fn causes(error: &(dyn Error + 'static)) -> Vec<pb::Cause> {
    let errors = std::iter::successors(Some(error), |&error| error.source()).take(CAUSES_MAX);
    let cause = |error: &(dyn Error + 'static)| pb::Cause {
        text: text(error),
        io_kind: error.downcast_ref::<io::Error>().map_or(0, |io| wire_io_kind(io.kind())),
    };
    errors.map(cause).collect()
}

/// An error of another process: its text and its causes.
#[derive(Debug)]
struct Told {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The first of some causes, each because of the one after it.
fn error_of(causes: Vec<pb::Cause>) -> Option<Box<dyn Error + Send + Sync>> {
    let because = |source, pb::Cause { text, io_kind: number }| {
        let told = Told { text, source };
        let error: Box<dyn Error + Send + Sync> = match io_kind(number) {
            // its source is that of what it holds, so that no text comes twice
            Some(kind) => Box::new(io::Error::new(kind, told)),
            None => Box::new(told),
        };
        Some(error)
    };
    causes.into_iter().rev().fold(None, because)
}

fn wire_failure(error: &VolumeError) -> pb::Failure {
    let failure = |reason: Reason| pb::Failure {
        reason: reason.into(),
        kind: wire_kind(error.kind()),
        ..pb::Failure::default()
    };
    match error {
        VolumeError::NotHere { volume } => {
            pb::Failure { volume: volume.to_string(), ..failure(Reason::NotHere) }
        }
        VolumeError::Exists { volume } => {
            pb::Failure { volume: volume.to_string(), ..failure(Reason::Exists) }
        }
        VolumeError::NoEntry { entry } => {
            pb::Failure { entry: entry.to_string(), ..failure(Reason::NoEntry) }
        }
        VolumeError::EntriesUnread { count } => {
            pb::Failure { count: *count, ..failure(Reason::EntriesUnread) }
        }
        VolumeError::LabelTaken { label, entry } => pb::Failure {
            label: label.to_string(),
            entry: entry.to_string(),
            ..failure(Reason::LabelTaken)
        },
        VolumeError::NoPath { path } => {
            pb::Failure { path: wire_tree_path(path), ..failure(Reason::NoPath) }
        }
        VolumeError::WrongKind { path, found, wanted } => pb::Failure {
            path: wire_tree_path(path),
            found: (*found).to_owned(),
            wanted: (*wanted).to_owned(),
            ..failure(Reason::WrongKind)
        },
        VolumeError::PathExists { path } => {
            pb::Failure { path: wire_tree_path(path), ..failure(Reason::PathExists) }
        }
        VolumeError::NotEmpty { path } => {
            pb::Failure { path: wire_tree_path(path), ..failure(Reason::NotEmpty) }
        }
        VolumeError::InUse { pid, program, path } => pb::Failure {
            pid: *pid,
            program: text(program),
            shown_path: text(path),
            ..failure(Reason::InUse)
        },
        VolumeError::OtherRequest => failure(Reason::OtherRequest),
        VolumeError::TooOld => failure(Reason::TooOld),
        VolumeError::Unknown { operation } => {
            pb::Failure { op_id: operation.to_string(), ..failure(Reason::Unknown) }
        }
        VolumeError::Stopping => failure(Reason::Stopping),
        VolumeError::HeldByAnother => failure(Reason::HeldByAnother),
        VolumeError::TooManyEntries => failure(Reason::TooManyEntries),
        VolumeError::Refused { kind: _, what } => {
            pb::Failure { what: text(what), ..failure(Reason::Refused) }
        }
        VolumeError::Failed { kind: _, what, source } => {
            let causes = causes(&**source);
            pb::Failure { what: text(what), causes, ..failure(Reason::Failed) }
        }
    }
}

fn volume_error(failure: pb::Failure) -> Result<VolumeError, FieldError> {
    let of_kind = || kind(failure.kind).ok_or_else(|| FieldError::missing("kind"));
    let volume = || required("volume", &failure.volume);
    let entry = || required("entry", &failure.entry);
    let path = || tree_path("path", &failure.path);
    let reason = Reason::try_from(failure.reason);
    Ok(match reason.map_err(|unknown| FieldError::unlawful("reason", unknown))? {
        Reason::Unspecified => return Err(FieldError::missing("reason")),
        Reason::NotHere => VolumeError::NotHere { volume: volume()? },
        Reason::Exists => VolumeError::Exists { volume: volume()? },
        Reason::NoEntry => VolumeError::NoEntry { entry: entry()? },
        Reason::EntriesUnread => VolumeError::EntriesUnread { count: failure.count },
        Reason::LabelTaken => {
            VolumeError::LabelTaken { label: required("label", &failure.label)?, entry: entry()? }
        }
        Reason::NoPath => VolumeError::NoPath { path: path()? },
        Reason::WrongKind => {
            let word = |field, text: &str| {
                path_word(text).ok_or_else(|| FieldError::unlawful(field, "it is no kind of path"))
            };
            VolumeError::WrongKind {
                path: path()?,
                found: word("found", &failure.found)?,
                wanted: word("wanted", &failure.wanted)?,
            }
        }
        Reason::PathExists => VolumeError::PathExists { path: path()? },
        Reason::NotEmpty => VolumeError::NotEmpty { path: path()? },
        Reason::InUse => VolumeError::InUse {
            pid: failure.pid,
            program: failure.program,
            path: failure.shown_path,
        },
        Reason::OtherRequest => VolumeError::OtherRequest,
        Reason::TooOld => VolumeError::TooOld,
        Reason::Unknown => VolumeError::Unknown { operation: required("op_id", &failure.op_id)? },
        Reason::Stopping => VolumeError::Stopping,
        Reason::HeldByAnother => VolumeError::HeldByAnother,
        Reason::TooManyEntries => VolumeError::TooManyEntries,
        Reason::Refused => VolumeError::Refused { kind: of_kind()?, what: failure.what },
        Reason::Failed => {
            let kind = of_kind()?;
            match error_of(failure.causes) {
                Some(source) => VolumeError::Failed { kind, what: failure.what, source },
                None => VolumeError::Refused { kind, what: failure.what },
            }
        }
    })
}

#[cfg(test)]
mod tests;
