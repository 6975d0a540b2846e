//! Calls against a server that says what a test wants.

use cove_types::{At, TreePath};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::*;
use crate::Until;

/// Answers one connection after the other; an empty answer closes without a word.
/// Returns what was asked.
async fn serve(listener: UnixListener, answers: Vec<String>) -> Vec<String> {
    let mut asked = Vec::new();
    for answer in answers {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut piece).await.unwrap();
            request.extend_from_slice(&piece[..count]);
        }
        asked.push(String::from_utf8(request).unwrap());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    asked
}

fn answer(status: &str, body: &Value) -> String {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn key_of(request: &str) -> &str {
    let line = request.lines().find(|line| line.starts_with("idempotency-key")).unwrap();
    line.split(": ").nth(1).unwrap()
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_is_repeated_with_the_same_key_and_followed() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("cove.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let running = json!({ "operation": { "id": "x", "state": "running",
        "progress": { "step": "checking", "done_bytes": 1, "done_files": 0 } } });
    let done = json!({ "operation": { "id": "x", "state": "done",
        "progress": { "step": "", "done_bytes": 2, "done_files": 0 },
        "result": { "projects": [], "lost": [], "a_later_field": 1 } } });
    let answers = vec![String::new(), answer("202 Accepted", &running), answer("200 OK", &done)];
    let server = tokio::spawn(serve(listener, answers));
    let mut steps = Vec::new();
    let mut progress = |operation: &wire::Operation| steps.push(operation.progress.step.clone());
    let wait = Wait { until: Until::Saved, pace: Duration::ZERO, progress: &mut progress };
    let finished = Client::unix(&socket).recover(false, wait).await.unwrap();
    assert_eq!(finished.reply.lost, []);
    assert_eq!(steps, ["checking"]);
    let asked = server.await.unwrap();
    assert_eq!(key_of(&asked[0]), key_of(&asked[1]));
    let look = format!("GET /v1/operations/{}?until=saved", key_of(&asked[0]));
    assert!(asked[2].starts_with(&look), "{}", asked[2]);
}

/// What comes of a project that is made of a stream, with a Cove that answers so.
async fn created_from(answers: Vec<String>) -> ClientError {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("cove.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let server = tokio::spawn(serve(listener, answers));
    let wait = Wait { until: Until::Saved, pace: Duration::ZERO, progress: &mut |_| {} };
    let archive = crate::Upload::reader(tokio::io::empty(), crate::Breaker::default());
    let client = Client::unix(&socket);
    let error =
        client.create_from(&"shop".parse().unwrap(), None, archive, wait).await.unwrap_err();
    server.await.unwrap();
    error
}

#[tokio::test]
async fn a_cove_that_forgot_a_stream_made_nothing_of_it() {
    let missing = || {
        let body = json!({ "type": "x", "title": "Not found", "status": 404,
            "kind": "not_found", "detail": "not known", "request_id": "r" });
        answer("404 Not Found", &body)
    };
    let running = || {
        let body = json!({ "operation": { "id": "x", "state": "running",
            "progress": { "step": "copying", "done_bytes": 1, "done_files": 0 } } });
        answer("202 Accepted", &body)
    };
    // Killed while the stream was sent, and while its end was waited for.
    for first in [vec![String::new()], vec![running()], vec![String::new(), running()]] {
        let error = created_from([first, vec![missing(), missing()]].concat()).await;
        assert!(matches!(error, ClientError::Stopped { .. }), "{error}");
        assert_eq!(cove_types::Classify::kind(&error), ErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn why_a_file_breaks_off_is_asked_from_there_on() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("cove.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let body = json!({ "type": "https://cove.dev/errors/corrupt", "title": "Damaged data",
        "status": 500, "kind": "corrupt", "detail": "failed to read a", "request_id": "r" });
    let answers = vec![
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabcd".to_owned(),
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 6\r\n\r\n".to_owned(),
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 2\r\n\r\nef".to_owned(),
        answer("500 Internal Server Error", &body),
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 1\r\n\r\nj".to_owned(),
    ];
    let server = tokio::spawn(serve(listener, answers));
    let (project, path) = ("shop".parse().unwrap(), TreePath::parse("a").unwrap());
    let place = Place { project: &project, at: &At::Now, path: &path };
    let download = Client::unix(&socket).content(place).await.unwrap();
    let origin = download.origin.clone();
    let (mut reader, mut bytes) = (download.reader(), Vec::new());
    reader.read_to_end(&mut bytes).await.unwrap_err();
    assert_eq!(bytes, b"abcd");
    let fault = origin.find_fault(4).await.unwrap();
    assert_eq!(cove_types::Classify::kind(&fault), ErrorKind::Corrupt);
    assert!(origin.find_fault(9).await.is_none(), "what is whole by now has no fault");
    let asked = server.await.unwrap();
    // The second breaks off with nothing in it.
    for (asked, range) in asked[1..].iter().zip(["4-", "4-4099", "6-", "9-"]) {
        assert!(asked.contains(&format!("range: bytes={range}\r\n")), "{asked}");
    }
}

/// What comes of an archive that ends in `trailers`.
async fn archive_that_ends_in(trailers: &str) -> (io::Result<Vec<u8>>, Remarks) {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("cove.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = format!("{head}4\r\nabcd\r\n0\r\n{trailers}\r\n");
    let server = tokio::spawn(serve(listener, vec![answer]));
    let (project, path) = ("shop".parse().unwrap(), TreePath::top());
    let place = Place { project: &project, at: &At::Now, path: &path };
    let download = Client::unix(&socket).archive(place).await.unwrap();
    let remarks = download.remarks.clone();
    let (mut reader, mut bytes) = (download.reader(), Vec::new());
    let read = reader.read_to_end(&mut bytes).await.map(|_| bytes);
    assert!(server.await.unwrap()[0].contains("te: trailers"));
    (read, remarks)
}

#[tokio::test]
async fn an_archive_that_is_not_whole_is_an_error_with_the_reason_behind_it() {
    let problem = json!({ "type": "https://cove.dev/errors/corrupt", "title": "Damaged data",
        "status": 500, "kind": "corrupt", "detail": "failed to read a", "request_id": "r" });
    let (read, _) = archive_that_ends_in(&format!("cove-problem: {problem}\r\n")).await;
    let error = read.unwrap_err();
    let found = ClientError::find_problem(&error).expect("the reason is behind the last byte");
    assert_eq!((found.kind, &*found.detail), (ErrorKind::Corrupt, "failed to read a"));
    // What cannot be read is no end either.
    let (read, _) = archive_that_ends_in("cove-problem: x\r\n").await;
    assert!(ClientError::find_problem(&read.unwrap_err()).is_none());
    let (read, remarks) = archive_that_ends_in("cove-remarks: [\"a: left out\"]\r\n").await;
    assert_eq!(
        (read.unwrap(), remarks.lines()),
        (b"abcd".to_vec(), &["a: left out".to_owned()][..])
    );
    let (read, remarks) = archive_that_ends_in("").await;
    assert!(read.is_ok() && remarks.lines().is_empty());
}

#[tokio::test]
async fn an_error_of_an_unknown_kind_is_internal() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("cove.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let body = json!({ "type": "https://cove.dev/errors/new", "title": "New", "status": 418,
        "kind": "new", "detail": "the pot is a teapot", "request_id": "r" });
    tokio::spawn(serve(listener, vec![answer("418 I'm a teapot", &body)]));
    let error = Client::unix(&socket).doctor().await.unwrap_err();
    assert_eq!(cove_types::Classify::kind(&error), ErrorKind::Internal);
    assert_eq!(error.to_string(), "the pot is a teapot");
}
