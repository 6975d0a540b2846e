//! A proxy before an S3 server, which fails by plan.

mod message;
mod plan;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::message::{Message, read_message};
pub use self::plan::{Class, Fault, FaultPlan, Seen, Verb};

/// How many objects of each class are kept to be given in place of others.
const KEPT: usize = 8;
/// The longest of them, in bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// In how many pieces a slow body goes, and what is waited before each.
const PIECES: usize = 20;
const PIECE_PAUSE: Duration = Duration::from_millis(5);

/// Passes HTTP/1.1 requests on to a server and their answers back, but for those that its plan
/// names.
///
/// The bytes of a request are the caller's, `Host` included, so that what is signed for the proxy's
/// own address stays valid. It writes down what it saw. It ends with this process.
#[derive(Debug)]
pub struct FaultProxy {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    course: Mutex<Course>,
}

/// What was planned and what came of it.
#[derive(Debug, Default)]
struct Course {
    plan: FaultPlan,
    is_over: bool,
    counted: usize,
    seen: Vec<Seen>,
    /// Objects that were written through here, the newest last.
    kept: BTreeMap<Class, VecDeque<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    path: String,
    etag: String,
    bytes: Vec<u8>,
}

impl FaultProxy {
    /// A proxy before `endpoint`, which is `http://address:port`, without a plan.
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
        let state = Arc::new(State { server, course: Mutex::default() });
        let passing = Arc::clone(&state);
        std::thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let passing = Arc::clone(&passing);
                std::thread::spawn(move || {
                    // A caller or a server that goes away ends the connection.
                    let _ = passing.serve(&caller);
                });
            }
        });
        Self { endpoint: format!("http://{address}"), state }
    }

    /// Follows `plan` from the next request on, and forgets what was seen before.
    pub fn arm(&self, plan: FaultPlan) {
        let mut course = self.state.course();
        (course.plan, course.is_over) = (plan, false);
        (course.counted, course.seen) = (0, Vec::new());
    }

    /// Fails no more and counts no more; what was seen stays.
    pub fn heal(&self) {
        let mut course = self.state.course();
        (course.plan, course.is_over) = (FaultPlan::default(), true);
    }

    /// Keeps an object that lies at `path`, bucket first, to be given in place of others.
    pub fn remember(&self, path: &str, etag: &str, bytes: Vec<u8>) {
        self.state.course().remember(path, etag, bytes);
    }

    /// What was seen since the plan began, in the order in which it came.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.state.course().seen.clone()
    }
}

impl State {
    fn course(&self) -> MutexGuard<'_, Course> {
        // It is whole whenever its holder could panic.
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one caller until either side ends.
    fn serve(&self, caller: &TcpStream) -> io::Result<()> {
        caller.set_nodelay(true)?;
        let mut requests = BufReader::new(caller);
        let mut server: Option<BufReader<TcpStream>> = None;
        while let Some(request) = read_message(&mut requests, None)? {
            let fault = self.course().take(&request);
            match fault {
                None | Some(Fault::Slow) => {
                    let is_slow = fault.is_some();
                    let answer = self.forward(&mut server, &request, is_slow)?;
                    write_paced(caller, &answer.bytes(), is_slow)?;
                }
                Some(Fault::Refused) => return reset(caller),
                Some(Fault::TimeOutBefore) => return wait_for_end(&mut requests),
                Some(Fault::TimeOutAfter) => {
                    self.forward(&mut server, &request, false)?;
                    return wait_for_end(&mut requests);
                }
                Some(Fault::Status(status)) => {
                    (&*caller).write_all(&refusal(status).bytes())?;
                }
                Some(Fault::CutUpload) => {
                    let mut to = TcpStream::connect(self.server)?;
                    to.write_all(&request.head)?;
                    to.write_all(&request.body[..request.body.len() / 2])?;
                    drop(to);
                    return reset(caller);
                }
                Some(Fault::CutAnswer) => {
                    let answer = self.forward(&mut server, &request, false)?;
                    let all = answer.bytes();
                    let end = match answer.body.len() {
                        0 => all.len() / 2,
                        body => all.len() - body.div_ceil(2),
                    };
                    (&*caller).write_all(&all[..end])?;
                    return caller.shutdown(std::net::Shutdown::Both);
                }
                Some(Fault::FlippedByte) => {
                    let mut answer = self.forward(&mut server, &request, false)?;
                    let middle = answer.body.len() / 2;
                    if let Some(byte) = answer.body.get_mut(middle) {
                        *byte ^= 0x10;
                    }
                    (&*caller).write_all(&answer.bytes())?;
                }
                Some(Fault::WrongObject) => {
                    let answer = match self.course().other_object(&request) {
                        Some(answer) => answer,
                        None => self.forward(&mut server, &request, false)?,
                    };
                    (&*caller).write_all(&answer.bytes())?;
                }
            }
        }
        Ok(())
    }

    /// The server's answer to a request.
    fn forward(
        &self,
        server: &mut Option<BufReader<TcpStream>>,
        request: &Message,
        is_slow: bool,
    ) -> io::Result<Message> {
        if server.is_none() {
            let stream = TcpStream::connect(self.server)?;
            stream.set_nodelay(true)?;
            *server = Some(BufReader::new(stream));
        }
        let Some(connection) = server else { return Err(io::ErrorKind::NotConnected.into()) };
        write_paced(connection.get_ref(), &request.bytes(), is_slow)?;
        let answer = read_message(connection, Some(request.method()))?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            *server = None;
        }
        if request.method() == "PUT" && answer.status() == 200 {
            self.course().keep(request, &answer);
        }
        Ok(answer)
    }
}

impl Course {
    /// Writes a request down, and says how it fails.
    fn take(&mut self, request: &Message) -> Option<Fault> {
        if self.is_over {
            return None;
        }
        let (verb, class) = (Verb::of(request.method(), request.target()), request.class());
        let is_counted = self.plan.counts(class);
        let fault = if is_counted { self.plan.fault(self.counted) } else { None };
        let fault = fault.filter(|fault| fault.is_for(verb));
        // where no other object of its class is known, a wrong one cannot be given
        let fault = fault
            .filter(|fault| *fault != Fault::WrongObject || self.other_object(request).is_some());
        let number = is_counted.then_some(self.counted);
        self.seen.push(Seen { number, verb, class, path: request.path().to_owned(), fault });
        self.counted += usize::from(is_counted);
        fault
    }

    fn keep(&mut self, request: &Message, answer: &Message) {
        if request.body.len() <= KEPT_BYTES_MAX {
            let etag = answer.header("etag").unwrap_or_default();
            self.remember(request.path(), etag, request.body.clone());
        }
    }

    fn remember(&mut self, path: &str, etag: &str, bytes: Vec<u8>) {
        let (path, etag) = (path.to_owned(), etag.to_owned());
        let kept = self.kept.entry(Class::of(&path)).or_default();
        kept.retain(|one| one.path != path);
        kept.push_back(Kept { path, etag, bytes });
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// An answer with another object of the class that was asked for, if one is known that has the
    /// part that was asked for.
    fn other_object(&self, request: &Message) -> Option<Message> {
        let kept = self.kept.get(&request.class())?;
        let others = kept.iter().filter(|one| one.path != request.path());
        others.rev().find_map(|other| {
            let Kept { etag, bytes, .. } = other;
            let (status, range, body) = match request.range(bytes.len()) {
                Some(range) => {
                    let range = range?;
                    let line = format!(
                        "Content-Range: bytes {}-{}/{}\r\n",
                        range.start,
                        range.end - 1,
                        bytes.len()
                    );
                    ("206 Partial Content", line, bytes[range].to_vec())
                }
                None => ("200 OK", String::new(), bytes.clone()),
            };
            Some(Message::answer(
                &format!(
                    "HTTP/1.1 {status}\r\nETag: {etag}\r\n{range}Content-Length: {}\r\n\
                     Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                     Date: Thu, 01 Jan 2026 00:00:10 GMT\r\n\r\n",
                    body.len()
                ),
                body,
            ))
        })
    }
}

/// What S3 says with a status.
fn refusal(status: u16) -> Message {
    let (name, code) = match status {
        403 => ("Forbidden", "AccessDenied"),
        404 => ("Not Found", "NoSuchKey"),
        409 => ("Conflict", "ConditionalRequestConflict"),
        503 => ("Slow Down", "SlowDown"),
        _ => ("Internal Server Error", "InternalError"),
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>by plan\
         </Message></Error>"
    );
    let head = format!(
        "HTTP/1.1 {status} {name}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Message::answer(&head, body.into_bytes())
}

/// Ends a connection as a server does that was killed.
fn reset(stream: &TcpStream) -> io::Result<()> {
    let linger = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    linger.map_err(io::Error::from)
}

/// Says nothing until the caller has gone.
fn wait_for_end(caller: &mut impl io::Read) -> io::Result<()> {
    let mut piece = [0; 1024];
    while caller.read(&mut piece)? > 0 {}
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a slow server is slow")]
fn write_paced(mut to: &TcpStream, bytes: &[u8], is_slow: bool) -> io::Result<()> {
    if !is_slow {
        return to.write_all(bytes);
    }
    for piece in bytes.chunks(bytes.len().div_ceil(PIECES).max(1)) {
        std::thread::sleep(PIECE_PAUSE);
        to.write_all(piece)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
