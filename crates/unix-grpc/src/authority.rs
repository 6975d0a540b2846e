//! Requests that name a socket's path as their authority.
//!
//! A gRPC client that was given the path of a socket and no name of a host sends the path as `:authority`:
//! `/var/lib/…`, or `%2Fvar%2Flib…` in newer ones. So do the clients in C, Python and Ruby, and kubelet's plugin
//! manager. Neither is the name of a host, and the server here resets such a request before anybody sees it. So the
//! bytes of a connection are looked through on their way in, and each value of `:authority` is replaced by one letter;
//! nobody reads it.
//!
//! ```text
//! frame    0  length   u24  bytes of payload
//!          3  type     u8   1 = HEADERS
//!          4  flags    u8   END_HEADERS, PADDED, PRIORITY
//!          5  stream   u32
//!          9  payload  [padding u8] [priority 5 bytes] block [padding]
//! ```
//!
//! A block is a sequence of fields, each an index into a table or a literal with names and values, whose first bits
//! tell which. `:authority` is entry 1 of the table that everybody has; clients in C and Python write the name out all
//! the same. Beside that name lengths are all that has to be understood: no text is decoded. A value becomes shorter or
//! stays as long as it was, so that what the sender thinks is in the table that both keep is in it.
//!
//! Source: RFC 9113, sections 3.4, 4.1 and 6.2; RFC 7541, sections 4.1, 5 and 6.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;

/// What a client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const FRAME_HEAD_BYTES: usize = 9;

/// The longest payload that is looked at: what a server accepts when it has not said that it takes more. A longer
/// frame goes on as it is, and is refused there.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;

const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The entry `:authority` of the table that everybody has.
const AUTHORITY: usize = 1;
/// The name with its length before it, as it is written out and in the code of Huffman.
const AUTHORITY_TEXTS: [&[u8]; 2] = [b"\x0a:authority", b"\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f"];

/// What replaces a value, with its length before it: one letter.
const LETTER: [u8; 2] = [1, b'k'];

/// Where a number ends and what it is, when its first byte has `bits` of it at `at`.
fn number(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1_usize << bits) - 1;
    let first = usize::from(*block.get(at)?) & most;
    let mut at = at + 1;
    if first < most {
        return Some((at, first));
    }
    let mut value = most;
    // three bytes hold any length in a payload
    for shift in [0, 7, 14] {
        let byte = *block.get(at)?;
        value += usize::from(byte & 0x7f) << shift;
        at += 1;
        if byte & 0x80 == 0 {
            return Some((at, value));
        }
    }
    None
}

/// Where the text at `at` ends, and how many bytes it has.
fn text(block: &[u8], at: usize) -> Option<(usize, usize)> {
    let (start, length) = number(block, at, 7)?;
    let end = start.checked_add(length).filter(|end| *end <= block.len())?;
    Some((end, length))
}

/// A block with other values of `:authority`; none when it is no block.
fn replace(block: &[u8]) -> Option<Vec<u8>> {
    let mut replaced = Vec::with_capacity(block.len());
    let mut at = 0;
    while at < block.len() {
        let start = at;
        let bits = match block[at] {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let (next, index) = number(block, at, bits)?;
        at = next;
        if matches!(bits, 7 | 5) {
            // an entry of the table, or its size
            replaced.extend_from_slice(&block[start..at]);
            continue;
        }
        let mut is_authority = index == AUTHORITY;
        if index == 0 {
            (at, _) = text(block, at)?;
            is_authority = AUTHORITY_TEXTS.contains(&&block[next..at]);
        }
        let (end, length) = text(block, at)?;
        if is_authority && length > 0 {
            replaced.extend_from_slice(&block[start..at]);
            replaced.extend_from_slice(&LETTER);
        } else {
            replaced.extend_from_slice(&block[start..end]);
        }
        at = end;
    }
    Some(replaced)
}

/// The payload of a frame of headers with another authority; none when it is no such payload.
fn replace_in_payload(flags: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let (mut start, mut end) = (0, payload.len());
    if flags & PADDED != 0 {
        start += 1;
        end = end.checked_sub(usize::from(*payload.first()?))?;
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let block = replace(payload.get(start..end)?)?;
    Some([&payload[..start], &block, &payload[end..]].concat())
}

/// What is next in the bytes of a client.
#[derive(Debug, Clone, Copy)]
enum Next {
    Preface,
    Frame,
    /// So many bytes that go on as they are.
    Rest(usize),
    /// It does not speak HTTP/2: all goes on as it is.
    Anything,
}

/// The bytes of one client.
#[derive(Debug)]
struct Requests {
    next: Next,
    /// What came and is not whole yet: less than a frame.
    partial: Vec<u8>,
    /// What can be read, from `read` on.
    ready: Vec<u8>,
    read: usize,
}

impl Requests {
    fn new() -> Self {
        Self { next: Next::Preface, partial: Vec::new(), ready: Vec::new(), read: 0 }
    }

    /// Takes what the client sent.
    fn push(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(length) = self.step() {
            self.partial.drain(..length);
        }
    }

    /// Takes what the client sent at its end, whole or not.
    fn end(&mut self) {
        self.ready.append(&mut self.partial);
    }

    /// Moves what is whole from the beginning of `partial` to `ready` and tells how long it was; none when more is
    /// to come.
    fn step(&mut self) -> Option<usize> {
        let partial = &self.partial;
        let whole = match self.next {
            Next::Preface => {
                let seen = partial.len().min(PREFACE.len());
                if partial[..seen] != PREFACE[..seen] {
                    self.next = Next::Anything;
                    return Some(0);
                }
                let whole = partial.get(..PREFACE.len())?;
                self.next = Next::Frame;
                whole
            }
            Next::Frame => {
                let head = partial.get(..FRAME_HEAD_BYTES)?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let (kind, flags) = (head[3], head[4]);
                if kind != HEADERS || flags & END_HEADERS == 0 || length > PAYLOAD_BYTES_MAX {
                    self.next = Next::Rest(FRAME_HEAD_BYTES + length);
                    return Some(0);
                }
                let whole = partial.get(..FRAME_HEAD_BYTES + length)?;
                if let Some(payload) = replace_in_payload(flags, &whole[FRAME_HEAD_BYTES..]) {
                    // it is not longer than it was, so that three bytes hold its length
                    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
                    self.ready.extend_from_slice(&length[1..]);
                    self.ready.extend_from_slice(&whole[3..FRAME_HEAD_BYTES]);
                    self.ready.extend_from_slice(&payload);
                    return Some(whole.len());
                }
                whole
            }
            Next::Rest(0) => {
                self.next = Next::Frame;
                return Some(0);
            }
            Next::Rest(_) | Next::Anything if partial.is_empty() => return None,
            Next::Rest(length) => {
                let seen = partial.len().min(length);
                self.next = Next::Rest(length - seen);
                &partial[..seen]
            }
            Next::Anything => partial,
        };
        self.ready.extend_from_slice(whole);
        Some(whole.len())
    }

    /// Whether nothing can be read.
    fn is_empty(&self) -> bool {
        self.read == self.ready.len()
    }

    /// How many of the bytes that come next go on as they are.
    fn rest(&self) -> usize {
        match self.next {
            Next::Rest(length) => length,
            Next::Anything => usize::MAX,
            Next::Preface | Next::Frame => 0,
        }
    }

    /// Notes that so many of those went on.
    fn pass(&mut self, length: usize) {
        if let Next::Rest(rest) = self.next {
            self.next = Next::Rest(rest - length);
        }
    }

    /// Hands on what fits.
    fn read(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = &self.ready[self.read..];
        let length = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..length]);
        self.read += length;
        if self.is_empty() {
            self.ready.clear();
            self.read = 0;
        }
    }
}

/// A connection whose requests may name a path as their authority.
#[derive(Debug)]
pub(crate) struct AnyAuthority {
    /// The connection itself, into which answers are written as they are.
    pub(crate) stream: UnixStream,
    requests: Requests,
}

impl AnyAuthority {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, requests: Requests::new() }
    }
}

impl AsyncRead for AnyAuthority {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.requests.is_empty() && buffer.remaining() > 0 {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            let came = buffer.filled().len() - before;
            if came == 0 {
                self.requests.end();
                break;
            }
            // what is in messages is not copied again
            let passed = self.requests.rest().min(came);
            self.requests.pass(passed);
            self.requests.push(&buffer.filled()[before + passed..]);
            buffer.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        self.requests.read(buffer);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
