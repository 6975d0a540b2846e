//! Words: of the domain into those of the wire, and back.

use std::io;

use cove_types::{Durability, EntryKind, ErrorKind};

use crate::field::FieldError;
use crate::pb;

/// A word that has to be there, and has to be known here.
fn known<W, T>(
    field: &str,
    number: i32,
    word: Result<W, prost::UnknownEnumValue>,
    parse: impl Fn(W) -> Option<T>,
) -> Result<T, FieldError> {
    let word = word.map_err(|unknown| FieldError::unlawful(field, unknown))?;
    let missing = || match number {
        0 => FieldError::missing(field),
        number => FieldError::unlawful(field, format!("{number} is not sent")),
    };
    parse(word).ok_or_else(missing)
}

pub(crate) fn wire_durability(durability: Durability) -> i32 {
    let durability = match durability {
        Durability::OnThisNode => pb::Durability::OnNode,
        Durability::Saved => pb::Durability::Saved,
    };
    durability.into()
}

pub(crate) fn durability(number: i32) -> Result<Durability, FieldError> {
    known("durability", number, pb::Durability::try_from(number), |word| match word {
        pb::Durability::OnNode => Some(Durability::OnThisNode),
        pb::Durability::Saved => Some(Durability::Saved),
        pb::Durability::Unspecified => None,
    })
}

pub(crate) fn wire_entry_kind(kind: EntryKind) -> i32 {
    let kind = match kind {
        EntryKind::Manual => pb::EntryKind::Manual,
        EntryKind::Hibernation => pb::EntryKind::Hibernation,
        EntryKind::Publish => pb::EntryKind::Publish,
        EntryKind::BeforeRestore => pb::EntryKind::BeforeRestore,
        EntryKind::BeforeMerge => pb::EntryKind::BeforeMerge,
        EntryKind::Rescue => pb::EntryKind::Rescue,
        EntryKind::Graph => pb::EntryKind::Graph,
        EntryKind::Dependencies => pb::EntryKind::Dependencies,
        EntryKind::Files => pb::EntryKind::Files,
        EntryKind::Agent => pb::EntryKind::Agent,
        EntryKind::Install => pb::EntryKind::Install,
        EntryKind::Csi => pb::EntryKind::Csi,
    };
    kind.into()
}

pub(crate) fn entry_kind(number: i32) -> Result<EntryKind, FieldError> {
    known("kind", number, pb::EntryKind::try_from(number), |word| {
        Some(match word {
            pb::EntryKind::Unspecified => return None,
            pb::EntryKind::Manual => EntryKind::Manual,
            pb::EntryKind::Hibernation => EntryKind::Hibernation,
            pb::EntryKind::Publish => EntryKind::Publish,
            pb::EntryKind::BeforeRestore => EntryKind::BeforeRestore,
            pb::EntryKind::BeforeMerge => EntryKind::BeforeMerge,
            pb::EntryKind::Rescue => EntryKind::Rescue,
            pb::EntryKind::Graph => EntryKind::Graph,
            pb::EntryKind::Dependencies => EntryKind::Dependencies,
            pb::EntryKind::Files => EntryKind::Files,
            pb::EntryKind::Agent => EntryKind::Agent,
            pb::EntryKind::Install => EntryKind::Install,
            pb::EntryKind::Csi => EntryKind::Csi,
        })
    })
}

/// The kinds of files, as the domain calls them.
const FILE_KINDS: [(&str, pb::FileKind); 6] = [
    ("file", pb::FileKind::File),
    ("directory", pb::FileKind::Directory),
    ("symlink", pb::FileKind::Symlink),
    ("fifo", pb::FileKind::Fifo),
    ("socket", pb::FileKind::Socket),
    ("device", pb::FileKind::Device),
];

pub(crate) fn wire_file_kind(kind: &str) -> Result<i32, FieldError> {
    let found = FILE_KINDS.iter().find(|(name, _)| *name == kind);
    let unlawful = || FieldError::unlawful("kind", format!("no file is of kind {kind}"));
    found.map(|(_, word)| (*word).into()).ok_or_else(unlawful)
}

pub(crate) fn file_kind(number: i32) -> Result<&'static str, FieldError> {
    known("kind", number, pb::FileKind::try_from(number), |word| {
        FILE_KINDS.iter().find(|(_, each)| *each == word).map(|(name, _)| *name)
    })
}

/// What a path is, or was to be, in an error: the texts that the domain has.
pub(crate) fn path_word(text: &str) -> Option<&'static str> {
    let texts = FILE_KINDS.iter().map(|(name, _)| *name);
    let articled = ["a file", "a directory", "a symlink", "a fifo", "a socket", "a device"];
    texts.chain(articled).chain(["a symbolic link"]).find(|each| *each == text)
}

pub(crate) fn wire_kind(kind: ErrorKind) -> i32 {
    let kind = match kind {
        ErrorKind::Invalid => pb::Kind::Invalid,
        ErrorKind::NotFound => pb::Kind::NotFound,
        ErrorKind::AlreadyExists => pb::Kind::AlreadyExists,
        ErrorKind::Conflict => pb::Kind::Conflict,
        ErrorKind::Precondition => pb::Kind::Precondition,
        ErrorKind::Exhausted => pb::Kind::Exhausted,
        ErrorKind::Unavailable => pb::Kind::Unavailable,
        ErrorKind::Corrupt => pb::Kind::Corrupt,
        ErrorKind::Denied => pb::Kind::Denied,
        ErrorKind::TimedOut => pb::Kind::TimedOut,
        ErrorKind::Internal => pb::Kind::Internal,
    };
    kind.into()
}

/// The kind of an error; none where this version does not know it.
pub(crate) fn kind(number: i32) -> Option<ErrorKind> {
    Some(match pb::Kind::try_from(number).ok()? {
        pb::Kind::Unspecified => return None,
        pb::Kind::Invalid => ErrorKind::Invalid,
        pb::Kind::NotFound => ErrorKind::NotFound,
        pb::Kind::AlreadyExists => ErrorKind::AlreadyExists,
        pb::Kind::Conflict => ErrorKind::Conflict,
        pb::Kind::Precondition => ErrorKind::Precondition,
        pb::Kind::Exhausted => ErrorKind::Exhausted,
        pb::Kind::Unavailable => ErrorKind::Unavailable,
        pb::Kind::Corrupt => ErrorKind::Corrupt,
        pb::Kind::Denied => ErrorKind::Denied,
        pb::Kind::TimedOut => ErrorKind::TimedOut,
        pb::Kind::Internal => ErrorKind::Internal,
    })
}

/// What the system refuses that somebody asks for, or that a person can act on. `Interrupted` is not among them:
/// whoever reads would go on.
const IO_KINDS: [(io::ErrorKind, pb::IoKind); 12] = [
    (io::ErrorKind::Other, pb::IoKind::Other),
    (io::ErrorKind::StorageFull, pb::IoKind::StorageFull),
    (io::ErrorKind::QuotaExceeded, pb::IoKind::QuotaExceeded),
    (io::ErrorKind::NotFound, pb::IoKind::NotFound),
    (io::ErrorKind::AlreadyExists, pb::IoKind::AlreadyExists),
    (io::ErrorKind::PermissionDenied, pb::IoKind::PermissionDenied),
    (io::ErrorKind::InvalidData, pb::IoKind::InvalidData),
    (io::ErrorKind::UnexpectedEof, pb::IoKind::UnexpectedEof),
    (io::ErrorKind::TimedOut, pb::IoKind::TimedOut),
    (io::ErrorKind::ConnectionAborted, pb::IoKind::ConnectionAborted),
    (io::ErrorKind::BrokenPipe, pb::IoKind::BrokenPipe),
    (io::ErrorKind::ReadOnlyFilesystem, pb::IoKind::ReadOnlyFilesystem),
];

pub(crate) fn wire_io_kind(kind: io::ErrorKind) -> i32 {
    let found = IO_KINDS.iter().find(|(each, _)| *each == kind);
    found.map_or(pb::IoKind::Other, |(_, word)| *word).into()
}

/// What the system refused; none when it was not the system.
pub(crate) fn io_kind(number: i32) -> Option<io::ErrorKind> {
    if number == 0 {
        return None;
    }
    let word = pb::IoKind::try_from(number).unwrap_or(pb::IoKind::Other);
    let found = IO_KINDS.iter().find(|(_, each)| *each == word);
    Some(found.map_or(io::ErrorKind::Other, |(kind, _)| *kind))
}
