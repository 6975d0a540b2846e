//! Who asks, under which key, and what comes of it.

use std::pin::Pin;

use cove_content::volumes::Progress;
use cove_types::{Digest, OperationId};

use crate::WorkspaceError;

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// A call that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The `Idempotency-Key`: 1 to 255 visible ASCII characters. 32 lower-case hexadecimal
    /// digits are the operation id itself.
    pub key: String,
    /// Who asks.
    pub principal: String,
    /// The request, as in the log.
    pub request_id: String,
}

impl Request {
    /// Refuses a request whose key is none.
    ///
    /// # Errors
    ///
    /// The key is empty, too long, or has a character that is not visible ASCII.
    pub fn check(&self) -> Result<(), WorkspaceError> {
        parse_key(&self.key).map(|_| ())
    }
}

/// The end of saving.
pub type Saving<T> = Pin<Box<dyn Future<Output = Result<T, WorkspaceError>> + Send>>;

/// Work whose result is on this node and on its way to the object store.
///
/// Dropping it stops nothing.
pub struct Started<T> {
    /// The operation id, by which [`Workspaces::operation`](crate::Workspaces::operation) knows it.
    pub operation: OperationId,
    /// How far it is.
    pub progress: Progress,
    /// The result as it is on this node; as saved, when it was asked for again after its end.
    pub captured: T,
    /// Ends when it is saved, with the final result, or when that has failed.
    pub saved: Saving<T>,
}

impl<T> std::fmt::Debug for Started<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started").field("operation", &self.operation).finish_non_exhaustive()
    }
}

/// What a key is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// An operation id, with the seq that its maker had last seen.
    Id(OperationId),
    /// Any other text: its operation id is to be made.
    Text,
}

/// Reads a key.
///
/// # Errors
///
/// It is empty, too long, or has a character that is not visible ASCII.
pub(crate) fn parse_key(key: &str) -> Result<Key, WorkspaceError> {
    let lawful =
        (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !lawful {
        return Err(WorkspaceError::Invalid(format!(
            "an idempotency key has 1 to {KEY_BYTES_MAX} visible ASCII characters"
        )));
    }
    Ok(key.parse().map_or(Key::Text, Key::Id))
}

/// The operation id of a key that is none: the head's seq, and 96 bits of the BLAKE3 of
/// principal and key. Bound once, it stays, although the seq grows.
pub(crate) fn operation_of(principal: &str, key: &str, seq: u32) -> OperationId {
    let mut told = Vec::with_capacity(8 + principal.len() + key.len());
    told.extend_from_slice(&(principal.len() as u64).to_be_bytes());
    told.extend_from_slice(principal.as_bytes());
    told.extend_from_slice(key.as_bytes());
    let digest = Digest::of(&told);
    let mut bits = [0; 12];
    bits.copy_from_slice(&digest.0[..12]);
    OperationId::new(seq, bits)
}

/// What a key is bound to: the first 8 bytes of the BLAKE3 of the call's name and its
/// arguments as JSON.
pub(crate) fn request_digest(kind: &str, arguments: &serde_json::Value) -> [u8; 8] {
    let digest = Digest::of(format!("{kind}\n{arguments}").as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.0[..8]);
    bytes
}

#[cfg(test)]
mod tests;
