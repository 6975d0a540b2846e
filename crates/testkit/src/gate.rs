//! A door before a server, which a test may shut or make narrow.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How soon those who wait hear that the gate is another.
const STEP: Duration = Duration::from_millis(10);

/// Passes TCP connections on to a server, byte for byte, while it is open.
///
/// Shut, it drops the connections that there are and closes each new one at once, as a server that
/// is going away does. Narrow, it lets so many bytes a second pass, or none, as a line does on which
/// nothing comes through. Holding, it takes connections and bytes and passes none of them on, as one
/// does that hangs. What is signed for the gate's own address stays valid: the bytes are the
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
    /// The width in bytes a second plus one; 0 for any.
    width: AtomicU64,
    /// What passes before all is held; `None` while it does not hold.
    passes: Mutex<Option<Passes>>,
    released: Condvar,
    /// How many pieces have come to a standstill.
    stopped: AtomicU64,
}

/// So many bytes in one direction, and all in the other while there are any left of these.
#[derive(Clone, Copy, Debug)]
struct Passes {
    direction: Direction,
    left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Question,
    Answer,
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

    /// Lets so many bytes a second of each connection pass, in each direction; with 0 nothing does, and
    /// nobody is dropped.
    pub fn narrow(&self, bytes_a_second: u64) {
        self.state.width.store(bytes_a_second.saturating_add(1), Ordering::SeqCst);
    }

    /// Lets so many more bytes of answers pass, then none and no question either: nobody is refused,
    /// and nobody is answered.
    pub fn hold_after(&self, bytes: usize) {
        self.state.let_pass(Passes { direction: Direction::Answer, left: bytes });
    }

    /// Lets so many more bytes of questions pass, and then holds as after answers.
    pub fn hold_after_asked(&self, bytes: usize) {
        self.state.let_pass(Passes { direction: Direction::Question, left: bytes });
    }

    /// Whether all that was let pass has come.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.state.passes().is_some_and(|passes| passes.left == 0)
    }

    /// Lets everybody in again, and passes on what was held, and all of what comes.
    pub fn open(&self) {
        self.state.width.store(0, Ordering::SeqCst);
        self.state.shut.store(false, Ordering::SeqCst);
        *self.state.passes() = None;
        self.state.released.notify_all();
    }
}

impl State {
    /// Takes as long as so many bytes take to pass.
    #[expect(clippy::disallowed_methods, reason = "a slow line is slow in real time")]
    fn squeeze(&self, count: usize) {
        let mut left = count as f64;
        if self.width.load(Ordering::SeqCst) == 1 {
            self.stopped.fetch_add(1, Ordering::SeqCst);
        }
        while left > 0.0 && !self.shut.load(Ordering::SeqCst) {
            match self.width.load(Ordering::SeqCst) {
                0 => return,
                1 => std::thread::sleep(STEP),
                width => {
                    let whole = left / (width - 1) as f64;
                    let wait = whole.min(STEP.as_secs_f64());
                    std::thread::sleep(Duration::from_secs_f64(wait));
                    left -= wait * (width - 1) as f64;
                }
            }
        }
    }

    fn passes(&self) -> std::sync::MutexGuard<'_, Option<Passes>> {
        self.passes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_pass(&self, passes: Passes) {
        *self.passes() = Some(passes);
        self.released.notify_all();
    }

    /// How many of these bytes may pass now; waits while that is none.
    fn may_pass(&self, bytes: usize, direction: Direction) -> usize {
        let mut passes = self.passes();
        if passes.is_some_and(|passes| passes.left == 0) {
            self.stopped.fetch_add(1, Ordering::SeqCst);
        }
        loop {
            match &mut *passes {
                None => return bytes,
                Some(Passes { left: 0, .. }) => {
                    passes = self.released.wait(passes).unwrap_or_else(PoisonError::into_inner);
                }
                Some(passes) if passes.direction != direction => return bytes,
                Some(Passes { left, .. }) => {
                    let some = bytes.min(*left);
                    *left -= some;
                    return some;
                }
            }
        }
    }

    fn pass(self: &Arc<Self>, caller: &TcpStream, server: &TcpStream) -> io::Result<()> {
        let mut through = self.through.lock().unwrap_or_else(PoisonError::into_inner);
        through.extend([caller.try_clone()?, server.try_clone()?]);
        let ways = [(caller, server, Direction::Question), (server, caller, Direction::Answer)];
        for (from, to, direction) in ways {
            let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
            let state = Arc::clone(self);
            std::thread::spawn(move || {
                let mut piece = vec![0; 64 << 10];
                'passing: while let Ok(count @ 1..) = from.read(&mut piece) {
                    state.squeeze(count);
                    let mut rest = &piece[..count];
                    while !rest.is_empty() {
                        let (some, after) = rest.split_at(state.may_pass(rest.len(), direction));
                        if to.write_all(some).is_err() {
                            break 'passing;
                        }
                        rest = after;
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
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
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
        gate.narrow(0);
        let endpoint = gate.endpoint.clone();
        let asking = std::thread::spawn(move || ask(&endpoint).unwrap());
        // What it asked stands in the gate; it can have no answer before that goes on.
        crate::wait_until(|| gate.state.stopped.load(Ordering::SeqCst) == 1);
        assert!(!asking.is_finished());
        gate.narrow(1 << 20);
        assert_eq!(asking.join().unwrap(), "ping answered");
        gate.hold_after(4);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| ask(&gate.endpoint));
            let mut early =
                TcpStream::connect(gate.endpoint.trim_start_matches("http://")).unwrap();
            early.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            early.write_all(b"ping").unwrap();
            let _ = early.read(&mut [0; 64]);
            assert!(!asked.is_finished());
            gate.open();
            // what it asked is through before anything is held again; this server answers one after another, and
            // may have this one first
            early.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            early.shutdown(Shutdown::Write).unwrap();
            early.read_to_end(&mut Vec::new()).unwrap();
            drop(early);
            assert_eq!(asked.join().unwrap().unwrap(), "ping answered");
        });
        gate.hold_after_asked(6);
        assert_eq!(ask(&gate.endpoint).unwrap(), "ping answered");
        assert!(!gate.is_holding());
        let endpoint = gate.endpoint.clone();
        let asking = std::thread::spawn(move || ask(&endpoint).unwrap());
        crate::wait_until(|| gate.is_holding());
        assert!(!asking.is_finished());
        gate.hold_after_asked(64);
        assert_eq!(asking.join().unwrap(), "ping answered");
    }
}
