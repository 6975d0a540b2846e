//! Many calls at once, over connections that stay open.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http1::parse_head;

/// What a load came to.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Calls that were answered.
    pub calls: u64,
    /// How long it lasted.
    pub took: Duration,
}

impl Load {
    /// Calls a second.
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

/// Sends requests on each connection one after the other for so long: the n-th connection those of
/// `requests[n]`, round and round. All of it runs on one thread, which leaves the other processors
/// to the server.
///
/// # Errors
///
/// A connection fails, or an answer has another status than 200.
pub fn run(address: &str, requests: Vec<Vec<Vec<u8>>>, lasts: Duration) -> Result<Load> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = address.to_owned();
    runtime.block_on(async move {
        let mut streams = Vec::new();
        for requests in requests {
            let stream = TcpStream::connect(&address).await.context("failed to connect")?;
            stream.set_nodelay(true)?;
            streams.push((stream, requests));
        }
        let began = Instant::now();
        let until = began + lasts;
        let mut callers = JoinSet::new();
        for (stream, requests) in streams {
            callers.spawn(call(stream, requests, until));
        }
        let mut calls = 0;
        while let Some(ended) = callers.join_next().await {
            calls += ended.context("a caller ended without a result")??;
        }
        Ok(Load { calls, took: began.elapsed() })
    })
}

async fn call(mut stream: TcpStream, requests: Vec<Vec<u8>>, until: Instant) -> Result<u64> {
    let mut calls = 0;
    let mut buffer = vec![0; 64 << 10];
    for request in requests.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            if let Some(head) = parse_head(&buffer[..filled])? {
                let shown = || String::from_utf8_lossy(&buffer[..filled.min(400)]).into_owned();
                ensure!(head.status == 200, "a call of the load was answered with {}", shown());
                let answer_bytes = head.head_bytes + head.body_bytes;
                ensure!(answer_bytes <= buffer.len(), "an answer of the load is over 64 KiB");
                if filled >= answer_bytes {
                    break;
                }
            }
            let count = stream.read(&mut buffer[filled..]).await?;
            ensure!(count > 0, "the server closed a connection of the load");
            filled += count;
        }
        calls += 1;
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor_server;
    use crate::http1::Server;

    #[test]
    fn calls_are_counted_as_the_server_counts_them() {
        let server = floor_server::spawn_thread().unwrap();
        let to = Server { address: server.address.clone(), token: "t".into() };
        let requests: Vec<_> = (0..7)
            .map(|n: u8| {
                vec![to.request("PUT", "/", "a/b", &[n; 4096]), to.request("GET", "/", "a/b", b"")]
            })
            .collect();
        let load = run(&server.address, requests, Duration::from_millis(200)).unwrap();
        assert!(load.calls >= 7, "each connection calls once at least");
        assert_eq!(load.calls, server.calls.load(std::sync::atomic::Ordering::SeqCst));
    }
}
