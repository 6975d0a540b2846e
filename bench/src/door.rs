//! A door before an S3 server at which requests are counted.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

/// Passes connections on, byte for byte, and writes down the first line of each request. It ends
/// with this process.
pub struct Door {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Door {
    /// A door before `endpoint`, which is `http://address:port`.
    pub fn before(endpoint: &str) -> Result<Self> {
        let server: SocketAddr = endpoint
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .context("an endpoint is http://address:port")?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&lines);
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                // What cannot be passed on breaks off for both sides.
                let _ = pass(caller, server, &all);
            }
        });
        Ok(Self { endpoint, lines })
    }

    /// The requests since the last call, without those that renew the hold on the store.
    pub fn take(&self) -> Vec<String> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_hold =
            |line: &String| line.split(' ').nth(1).is_some_and(|to| to.ends_with("/store"));
        std::mem::take(&mut *lines).into_iter().filter(|line| !is_hold(line)).collect()
    }
}

fn pass(
    caller: TcpStream,
    server: TcpStream,
    all: &Arc<Mutex<Vec<String>>>,
) -> std::io::Result<()> {
    caller.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from, mut to) = (server.try_clone()?, caller.try_clone()?);
    std::thread::spawn(move || {
        // Either side may have gone, which ends it.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut caller, mut server, all) = (caller, server, Arc::clone(all));
    std::thread::spawn(move || {
        let mut requests = Requests::default();
        let mut piece = vec![0; 64 << 10];
        while let Ok(count @ 1..) = caller.read(&mut piece) {
            let lines = requests.read(&piece[..count]);
            all.lock().unwrap_or_else(PoisonError::into_inner).extend(lines);
            if server.write_all(&piece[..count]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// Where a connection is in its requests, whose bodies have a length.
#[derive(Debug, Default)]
struct Requests {
    head: Vec<u8>,
    body_bytes: usize,
}

impl Requests {
    /// Reads on, and returns the first lines of the requests whose heads end here.
    fn read(&mut self, mut bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        while !bytes.is_empty() {
            let skipped = self.body_bytes.min(bytes.len());
            self.body_bytes -= skipped;
            bytes = &bytes[skipped..];
            while let Some((byte, rest)) = bytes.split_first() {
                self.head.push(*byte);
                bytes = rest;
                if self.head.ends_with(b"\r\n\r\n") {
                    let text = String::from_utf8_lossy(&self.head).into_owned();
                    self.head.clear();
                    lines.push(text.lines().next().unwrap_or_default().to_owned());
                    let length = text
                        .lines()
                        .filter_map(|line| line.split_once(':'))
                        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                    self.body_bytes =
                        length.and_then(|(_, length)| length.trim().parse().ok()).unwrap_or(0);
                    break;
                }
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::Requests;

    #[test]
    fn requests_are_counted_however_their_bytes_come() {
        let bytes = b"PUT /a HTTP/1.1\r\ncontent-length: 20\r\n\r\nGET /no HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n";
        for piece in 1..bytes.len() {
            let mut requests = Requests::default();
            let lines: Vec<_> = bytes.chunks(piece).flat_map(|some| requests.read(some)).collect();
            assert_eq!(lines, ["PUT /a HTTP/1.1", "GET /b HTTP/1.1"], "{piece}");
        }
    }
}
