//! What all binary formats of this crate share: why bytes are refused, and a
//! reader that cannot leave them.

use cove_types::{Classify, Digest, ErrorKind};

/// Why bytes are not what they should be.
///
/// Nothing is believed of such bytes and nothing is repaired from them.
#[expect(missing_docs, reason = "the messages name the fields")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A newer Cove wrote it and said that an older one must not touch it.
    #[error("the {what} needs features {features:#x}, which this version of cove does not know")]
    UnknownFeatures { what: &'static str, features: u64 },
    /// A newer Cove wrote it in another format.
    #[error("the {what} has format {found}; this version of cove knows {known}")]
    UnknownFormat { what: &'static str, found: u32, known: u32 },
    /// It is not what was written.
    #[error("the {what} is damaged: {reason}")]
    Damaged { what: &'static str, reason: String },
    /// The bytes are lawful, but not those that the digest names.
    #[error("the {what} {expected} is damaged: its digest is {found}")]
    OtherContent { what: &'static str, expected: Digest, found: Digest },
}

impl DecodeError {
    pub(crate) fn damaged(what: &'static str, reason: impl Into<String>) -> Self {
        Self::Damaged { what, reason: reason.into() }
    }
}

impl Classify for DecodeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownFeatures { .. } | Self::UnknownFormat { .. } => ErrorKind::Precondition,
            Self::Damaged { .. } | Self::OtherContent { .. } => ErrorKind::Corrupt,
        }
    }
}

/// Refuses bits of `must` that are not in `known`.
pub(crate) fn check_features(what: &'static str, must: u64, known: u64) -> Result<(), DecodeError> {
    match must & !known {
        0 => Ok(()),
        features => Err(DecodeError::UnknownFeatures { what, features }),
    }
}

/// Takes fields from the front of bytes; integers are little-endian.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let Some((field, rest)) = self.rest.split_at_checked(length) else {
            return Err(DecodeError::damaged(self.what, "it ends too early"));
        };
        self.rest = rest;
        Ok(field)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, DecodeError> {
        self.array().map(Digest)
    }

    /// Takes `expected` and nothing else.
    pub(crate) fn literal(&mut self, expected: &[u8], reason: &str) -> Result<(), DecodeError> {
        match self.take(expected.len())? == expected {
            true => Ok(()),
            false => Err(DecodeError::damaged(self.what, reason)),
        }
    }
}
