//! One connection to the API that stays open, for calls one after the other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::http1::{Server, parse_head};

/// A connection.
pub struct Connection {
    server: Server,
    stream: TcpStream,
}

impl Connection {
    /// Connects.
    pub fn open(server: Server) -> Result<Self> {
        let stream = TcpStream::connect(&server.address).context("failed to connect to the API")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self { server, stream })
    }

    /// Calls, and returns how long until all of the answer had come, in milliseconds, and the
    /// answer. A status of an error is one.
    pub fn call(&mut self, method: &str, target: &str, body: &Value) -> Result<(f64, Value)> {
        let body = serde_json::to_vec(body)?;
        let request = self.server.request(method, target, "application/json", &body);
        let began = Instant::now();
        self.stream.write_all(&request).context("failed to call the API")?;
        let mut answer = Vec::new();
        let mut piece = [0; 16 << 10];
        let head = loop {
            if let Some(head) = parse_head(&answer)?
                && answer.len() >= head.head_bytes + head.body_bytes
            {
                break head;
            }
            let count = self.stream.read(&mut piece).context("the API does not answer")?;
            ensure!(count > 0, "the API closed the connection within an answer");
            answer.extend_from_slice(&piece[..count]);
        };
        let took = began.elapsed().as_secs_f64() * 1e3;
        let body = &answer[head.head_bytes..head.head_bytes + head.body_bytes];
        let shown = String::from_utf8_lossy(body);
        ensure!((200..300).contains(&head.status), "{method} {target}: {} {shown}", head.status);
        Ok((took, serde_json::from_slice(body).unwrap_or(Value::Null)))
    }
}
