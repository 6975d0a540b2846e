//! As much of HTTP/1.1 as a caller of Cove's API needs who counts every microsecond.

use anyhow::{Context, Result, bail, ensure};

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Where an API is, and as whom it is called.
#[derive(Debug, Clone)]
pub struct Server {
    /// `address:port`.
    pub address: String,
    /// The token.
    pub token: String,
}

impl Server {
    /// The bytes of a request on a connection that stays.
    pub fn request(&self, method: &str, target: &str, kind: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            self.token,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Bytes of the head, with the empty line.
    pub head_bytes: usize,
    /// Bytes of the body.
    pub body_bytes: usize,
}

/// Reads the head that `bytes` begin with; `None` while it is not whole.
///
/// # Errors
///
/// It is no head of an answer with a length.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head>> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        ensure!(bytes.len() <= HEAD_BYTES_MAX, "the head of an answer is over 16 KiB");
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..end]).context("the head of an answer is no text")?;
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|_| first.starts_with("HTTP/1.")) else {
        bail!("an answer begins with {first:?}");
    };
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, length)| length.trim().parse::<usize>());
    let length = match length {
        Some(length) => length.context("the length of an answer is no number")?,
        None if matches!(status, 204 | 304) => 0,
        None => bail!("an answer with status {status} has no length"),
    };
    Ok(Some(Head { status, head_bytes: end + 4, body_bytes: length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.1 201 Created\r\ncontent-LENGTH: 5\r\nx: y\r\n\r\nhello";
        for cut in 0..answer.len() - 5 {
            assert_eq!(parse_head(&answer[..cut]).unwrap(), None, "{cut}");
        }
        let head = Head { status: 201, head_bytes: answer.len() - 5, body_bytes: 5 };
        assert_eq!(parse_head(answer).unwrap(), Some(head));
    }

    #[test]
    fn what_is_no_answer_with_a_length_is_refused() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for bytes in
            [&chunked[..], b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"]
        {
            parse_head(bytes).unwrap_err();
        }
        parse_head(&[b'x'; HEAD_BYTES_MAX + 1]).unwrap_err();
        assert_eq!(parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body_bytes, 0);
    }

    #[test]
    fn a_request_says_host_token_and_length() {
        let server = Server { address: "127.0.0.1:1".into(), token: "t".into() };
        let text = String::from_utf8(server.request("PUT", "/v1/x", "a/b", b"abc")).unwrap();
        assert_eq!(
            text,
            "PUT /v1/x HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: Bearer t\r\n\
             Content-Type: a/b\r\nContent-Length: 3\r\n\r\nabc"
        );
    }
}
