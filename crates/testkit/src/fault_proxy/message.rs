//! HTTP/1.1 messages, as much as a proxy needs.

use std::io::{self, BufRead, Read};
use std::ops::Range;

use super::plan::Class;

/// The longest head, in bytes.
const HEAD_BYTES_MAX: u64 = 64 << 10;

/// A request or an answer.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The first line and the headers as they came, with the empty line.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn answer(head: &str, body: Vec<u8>) -> Self {
        Self { head: head.as_bytes().to_vec(), body }
    }

    pub fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body].concat()
    }

    fn text(&self) -> &str {
        str::from_utf8(&self.head).unwrap_or_default()
    }

    /// The word of the first line at this place.
    fn word(&self, at: usize) -> &str {
        let line = self.text().lines().next().unwrap_or_default();
        line.split(' ').nth(at).unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.word(0)
    }

    pub fn target(&self) -> &str {
        self.word(1)
    }

    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap_or_default()
    }

    pub fn class(&self) -> Class {
        Class::of(self.path())
    }

    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.text().lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The part that a request asks for of an object of so many bytes: `None` when it asks for
    /// all, `Some(None)` when the object has none of it or not all.
    pub fn range(&self, bytes: usize) -> Option<Option<Range<usize>>> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        let range = match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) => first..last + 1,
            (Ok(first), Err(_)) => first..bytes,
            (Err(_), Ok(last)) => bytes.saturating_sub(last)..bytes,
            (Err(_), Err(_)) => return Some(None),
        };
        Some((range.start < range.end && range.end <= bytes).then_some(range))
    }
}

/// Reads a request, or an answer to a request of this method; `None` at the end of the stream.
pub(super) fn read_message(
    from: &mut impl BufRead,
    answer_to: Option<&str>,
) -> io::Result<Option<Message>> {
    let mut message = Message { head: read_head(from)?, body: Vec::new() };
    if message.head.is_empty() {
        return Ok(None);
    }
    let status = message.status();
    if answer_to == Some("HEAD") || answer_to.is_some() && matches!(status, 100..=199 | 204 | 304) {
        return Ok(Some(message));
    }
    let is_chunked = message.header("transfer-encoding").is_some();
    let length = message.header("content-length").and_then(|length| length.parse::<u64>().ok());
    match (is_chunked, length) {
        (true, _) => {
            message.body = read_chunked(from)?;
            message.head = with_length(&message);
        }
        (false, Some(length)) => {
            from.take(length).read_to_end(&mut message.body)?;
            if message.body.len() as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        (false, None) if answer_to.is_some() => {
            from.read_to_end(&mut message.body)?;
        }
        (false, None) => {}
    }
    Ok(Some(message))
}

fn read_head(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut from = from.take(HEAD_BYTES_MAX);
    loop {
        let before = head.len();
        let count = from.read_until(b'\n', &mut head)?;
        match &head[before..] {
            b"\r\n" | b"\n" => return Ok(head),
            _ if count == 0 && head.is_empty() => return Ok(head),
            _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

fn read_chunked(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
        let before = body.len() as u64;
        from.take(size).read_to_end(&mut body)?;
        if body.len() as u64 != before + size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        from.read_line(&mut String::new())?;
        if size == 0 {
            return Ok(body);
        }
    }
}

/// The head of a message whose body came in chunks, for a body that goes whole.
fn with_length(message: &Message) -> Vec<u8> {
    let is_other = |line: &&str| !line.to_ascii_lowercase().starts_with("transfer-encoding:");
    let mut head: String =
        message.text().lines().filter(is_other).take_while(|line| !line.is_empty()).fold(
            String::new(),
            |mut head, line| {
                head.push_str(line);
                head.push_str("\r\n");
                head
            },
        );
    head.push_str(&format!("Content-Length: {}\r\n\r\n", message.body.len()));
    head.into_bytes()
}
