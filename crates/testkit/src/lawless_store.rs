//! An S3-like server that does not keep conditional writes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Which conditions of a write the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Neither `If-None-Match` nor `If-Match`, as older servers do.
    Nothing,
    /// `If-None-Match` alone: it creates once, and updates blindly.
    Creation,
    /// Both, as the law is.
    Both,
}

/// Objects in memory behind as much of S3 as a client needs to write, read, delete and list; it
/// believes every signature. For what a bucket may do wrong, not in place of a real server. It ends
/// with this process.
#[derive(Debug)]
pub struct LawlessStore {
    /// `http://127.0.0.1:port`.
    pub endpoint: String,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl LawlessStore {
    /// Starts one that keeps these conditions.
    ///
    /// # Panics
    ///
    /// Loopback has no free port.
    #[must_use]
    pub fn start(keeps: Keeps) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let objects = Arc::new(Mutex::new(BTreeMap::new()));
        let kept = Arc::clone(&objects);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    // A caller that goes away ends its connection.
                    let _ = serve(&stream, &kept, keeps);
                });
            }
        });
        Self { endpoint: format!("http://{address}"), objects }
    }

    /// The names of the objects that lie there, bucket first.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

fn serve(
    stream: &TcpStream,
    objects: &Mutex<BTreeMap<String, Vec<u8>>>,
    keeps: Keeps,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let (status, etag, body, range) = {
            let mut objects = objects.lock().unwrap_or_else(PoisonError::into_inner);
            let (status, etag, body) = answer(&mut objects, keeps, &request);
            let whole = objects.get(&request.path).map_or(0, Vec::len);
            (status, etag, body, part(&request, whole).map(|(first, end)| (first, end, whole)))
        };
        let mut etag = etag.map_or_else(String::new, |etag| format!("ETag: {etag}\r\n"));
        if let (206, Some((first, end, whole))) = (status, range) {
            etag.push_str(&format!("Content-Range: bytes {first}-{}/{whole}\r\n", end - 1));
        }
        let mut answer = format!(
            "HTTP/1.1 {status} x\r\n{etag}Content-Length: {}\r\n\
             Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if request.method != "HEAD" {
            answer.extend_from_slice(&body);
        }
        (&*stream).write_all(&answer)?;
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.trim_matches('/').to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, query, headers, body }))
}

fn answer(
    objects: &mut BTreeMap<String, Vec<u8>>,
    keeps: Keeps,
    request: &Request,
) -> (u16, Option<String>, Vec<u8>) {
    let refused = |status: u16, code: &str| {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        (status, None, body.into_bytes())
    };
    let is_bucket = !request.path.contains('/');
    match request.method.as_str() {
        "PUT" => {
            let found = objects.get(&request.path).map(|bytes| etag(bytes));
            let is_create = request.headers.contains_key("if-none-match");
            let stale =
                request.headers.get("if-match").is_some_and(|want| Some(want) != found.as_ref());
            if keeps != Keeps::Nothing && is_create && found.is_some() {
                return refused(412, "PreconditionFailed");
            }
            if keeps == Keeps::Both && stale {
                return refused(412, "PreconditionFailed");
            }
            objects.insert(request.path.clone(), request.body.clone());
            (200, Some(etag(&request.body)), Vec::new())
        }
        "DELETE" => {
            objects.remove(&request.path);
            (204, None, Vec::new())
        }
        "GET" if is_bucket && request.query.contains("list-type") => {
            (200, None, list(objects, &request.path, &request.query))
        }
        "GET" if is_bucket => refused(404, "NoSuchConfiguration"),
        "GET" | "HEAD" => match objects.get(&request.path) {
            Some(bytes) => match part(request, bytes.len()) {
                Some((first, end)) => (206, Some(etag(bytes)), bytes[first..end].to_vec()),
                None => (200, Some(etag(bytes)), bytes.clone()),
            },
            None => refused(404, "NoSuchKey"),
        },
        _ => refused(405, "MethodNotAllowed"),
    }
}

/// The range of an object that was asked for, if one was and it is there.
fn part(request: &Request, bytes: usize) -> Option<(usize, usize)> {
    let (first, last) = request.headers.get("range")?.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) => (first, (last + 1).min(bytes)),
        (Ok(first), Err(_)) => (first, bytes),
        (Err(_), last) => (bytes.saturating_sub(last.ok()?), bytes),
    };
    (first < end).then_some((first, end))
}

fn list(objects: &BTreeMap<String, Vec<u8>>, bucket: &str, query: &str) -> Vec<u8> {
    let prefix = query
        .split('&')
        .find_map(|one| one.strip_prefix("prefix="))
        .unwrap_or_default()
        .replace("%2F", "/");
    let mut body = format!("<?xml version=\"1.0\"?><ListBucketResult><Name>{bucket}</Name>");
    for (name, bytes) in objects {
        let Some(key) = name.strip_prefix(bucket).and_then(|name| name.strip_prefix('/')) else {
            continue;
        };
        if key.starts_with(&prefix) {
            body.push_str(&format!(
                "<Contents><Key>{key}</Key><Size>{}</Size><ETag>{}</ETag>\
                 <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>",
                bytes.len(),
                etag(bytes).replace('"', "&quot;"),
            ));
        }
    }
    body.push_str("<IsTruncated>false</IsTruncated></ListBucketResult>");
    body.into_bytes()
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &LawlessStore, condition: &str) -> String {
        let address = store.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "PUT /b/k HTTP/1.1\r\n{condition}\r\nContent-Length: 1\r\n\r\nx").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn conditions_are_kept_as_far_as_was_asked() {
        let (create, update) = ("If-None-Match: *", "If-Match: \"stale\"");
        for (keeps, expected) in [
            (Keeps::Nothing, ["200", "200", "200"]),
            (Keeps::Creation, ["200", "412", "200"]),
            (Keeps::Both, ["200", "412", "412"]),
        ] {
            let store = LawlessStore::start(keeps);
            assert_eq!([create, create, update].map(|one| put(&store, one)), expected, "{keeps:?}");
            assert_eq!(store.names(), ["b/k"]);
        }
    }
}
