//! A door before a server, which a test may shut.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Passes TCP connections on to a server, byte for byte, while it is open.
///
/// Shut, it drops the connections that there are and closes each new one at once, as a server that
/// is going away does. What is signed for the gate's own address stays valid: the bytes are the
/// caller's. It ends with this process.
#[derive(Debug)]
pub struct Gate {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    shut: AtomicBool,
    through: Mutex<Vec<TcpStream>>,
}

impl Gate {
    /// An open gate before `endpoint`, which is `http://address:port`.
    ///
    /// # Panics
    ///
    /// The endpoint has another form, or loopback has no free port.
    #[must_use]
    pub fn before(endpoint: &str) -> Self {
        let server: SocketAddr = endpoint
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok())
            .expect("an endpoint is http://address:port");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State::default());
        let passing = Arc::clone(&state);
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                if passing.shut.load(Ordering::SeqCst) {
                    let _ = caller.shutdown(Shutdown::Both);
                    continue;
                }
                // A server that refuses is one that the caller hears nothing of.
                if let Ok(server) = TcpStream::connect_timeout(&server, Duration::from_secs(5)) {
                    let _ = passing.pass(&caller, &server);
                }
            }
        });
        Self { endpoint: format!("http://{address}"), state }
    }

    /// Drops who is inside and lets nobody in.
    pub fn shut(&self) {
        self.state.shut.store(true, Ordering::SeqCst);
        let mut through = self.state.through.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in through.drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        self.state.shut.store(false, Ordering::SeqCst);
    }
}

impl State {
    fn pass(&self, caller: &TcpStream, server: &TcpStream) -> io::Result<()> {
        let mut through = self.through.lock().unwrap_or_else(PoisonError::into_inner);
        through.extend([caller.try_clone()?, server.try_clone()?]);
        for (from, to) in [(caller, server), (server, caller)] {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            std::thread::spawn(move || {
                let mut piece = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from.read(&mut piece) {
                    if to.write_all(&piece[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        // One that was shut meanwhile has not seen these.
        if self.shut.load(Ordering::SeqCst) {
            for stream in through.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(endpoint: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://"))?;
        stream.write_all(b"ping")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn bytes_pass_while_it_is_open_and_nobody_while_it_is_shut() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", server.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                let mut asked = String::new();
                let _ = stream.read_to_string(&mut asked);
                let _ = stream.write_all(format!("{asked} answered").as_bytes());
            }
        });
        let gate = Gate::before(&endpoint);
        assert_eq!(ask(&gate.endpoint).unwrap(), "ping answered");
        gate.shut();
        assert!(!matches!(ask(&gate.endpoint), Ok(answer) if !answer.is_empty()));
        gate.open();
        assert_eq!(ask(&gate.endpoint).unwrap(), "ping answered");
    }
}
