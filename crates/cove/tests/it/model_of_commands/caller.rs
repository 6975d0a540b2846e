//! How commands reach a Cove: over its socket, or by the program.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::command::{Call, Request};
use super::tree::Refusal;
use crate::harness::{Cove, run};

/// How long an answer may take on a machine under load.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// An answer over the socket.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What came of a command.
#[derive(Debug)]
pub enum Outcome {
    /// It was done; the reply.
    Done(Value),
    /// It was refused as this one would be; what was said.
    Refused(Refusal, String),
    /// Anything else.
    Other(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(reply) => write!(f, "done: {reply}"),
            Self::Refused(refusal, told) => write!(f, "refused as {}: {told}", refusal.kind()),
            Self::Other(told) => write!(f, "failed: {told}"),
        }
    }
}

/// A connection to a Cove's socket, kept open between calls.
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    pub fn open(cove: &Cove) -> Self {
        // The path may be too long for an address; the descriptor's is not.
        let home = std::fs::File::open(&cove.home).unwrap();
        let place = format!("/proc/self/fd/{}/cove.sock", home.as_raw_fd());
        let stream = UnixStream::connect(place).unwrap();
        stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a request, under a key if there is one, and waits for its answer.
    pub fn send(&mut self, request: &Request, key: Option<&str>) -> Answer {
        let Request { method, target, body } = request;
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        if let Some(key) = key {
            head.push_str(&format!("Idempotency-Key: {key}\r\n"));
        }
        let (media_type, bytes) =
            body.as_ref().map_or(("", &[][..]), |(media_type, bytes)| (*media_type, &bytes[..]));
        if !media_type.is_empty() {
            head.push_str(&format!("Content-Type: {media_type}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", bytes.len()));
        let stream = self.0.get_mut();
        stream.write_all(&[head.as_bytes(), bytes].concat()).unwrap();
        self.answer().unwrap_or_else(|error| panic!("no answer to {method} {target}: {error}"))
    }

    fn answer(&mut self) -> std::io::Result<Answer> {
        let broken = || std::io::Error::other("the answer is broken");
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(broken)?;
        let mut length = None;
        loop {
            line.clear();
            self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            }
        }
        let mut body = vec![0; length.ok_or_else(broken)?];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }
}

/// What an answer over the socket comes to.
pub fn outcome_of_answer(answer: &Answer) -> Outcome {
    let said = answer.json();
    if (200..300).contains(&answer.status) && answer.status != 202 {
        return Outcome::Done(said);
    }
    let all = [Refusal::Invalid, Refusal::NotFound, Refusal::AlreadyExists, Refusal::Precondition];
    let known = all.into_iter().find(|refusal| said["kind"] == refusal.kind());
    let told = format!("{} {said}", answer.status);
    match known {
        Some(refusal) if refusal.status() == answer.status => Outcome::Refused(refusal, told),
        _ => Outcome::Other(told),
    }
}

/// Calls the program; `wanted` tells two refusals of one exit status apart.
pub fn call_program(cove: &Cove, call: &Call, wanted: Option<Refusal>) -> Outcome {
    let output = run(cove.program().args(&call.arguments), &call.input);
    if output.code == 0 {
        return match serde_json::from_str(&output.stdout) {
            Ok(reply) => Outcome::Done(reply),
            Err(error) => Outcome::Other(format!("{error}: {}", output.stdout)),
        };
    }
    let told = format!("exit status {}: {}", output.code, output.stderr);
    let all = [Refusal::Invalid, Refusal::NotFound, Refusal::Precondition];
    let known = wanted.into_iter().chain(all).find(|refusal| refusal.exit() == output.code);
    match known {
        Some(refusal) if told.contains("error: ") => Outcome::Refused(refusal, told),
        _ => Outcome::Other(told),
    }
}
