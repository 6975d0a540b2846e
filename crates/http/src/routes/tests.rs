use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use cove_content::volumes::Volumes;
use cove_database::ServerDatabase;
use cove_env::{ManualClock, SeededChance};
use cove_hub::Hub;
use cove_workspace::fake::Fake;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tower::ServiceExt;

use super::*;
use crate::guard::Peer;

/// An API over volumes in memory.
struct Server {
    router: Router,
    fake: Fake,
    down: Arc<Notify>,
    _directory: tempfile::TempDir,
}

/// An answer that was read whole.
struct Read {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
    text: String,
}

impl Server {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-11-25T12:00:00Z".parse().unwrap()));
        let env = Env::new(clock, Arc::new(SeededChance::new(7)));
        let fake = Fake::new(env.clone());
        let database = ServerDatabase::open(&directory.path().join("server.db")).await.unwrap();
        let volumes: Arc<dyn Volumes> = Arc::new(fake.clone());
        let hub = Hub::new(vec![("n1".parse().unwrap(), volumes)], env.clone());
        let workspaces = Workspaces::new(
            Arc::new(fake.clone()),
            database,
            env.clone(),
            cove_workspace::Options {
                keep: 3,
                node: "n1".parse().unwrap(),
                saved_to: "this_disk".into(),
            },
        );
        let down = Arc::new(Notify::new());
        let options = Options {
            token_sha256: Sha256::digest(b"secret").into(),
            hosts: vec!["cove.lan".into()],
            version: "0.0.0".into(),
            down: Arc::clone(&down),
            env,
        };
        let router = router(Arc::new(workspaces), Arc::new(hub), options);
        Self { router, fake, down, _directory: directory }
    }

    async fn send(&self, request: Request<Body>) -> Read {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Read { status: parts.status, headers: parts.headers, body, text }
    }

    /// A call of the owner's through the socket.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Read {
        let mut request = Request::builder().method(method).uri(format!("/v1{path}"));
        request = request.extension(Peer::Owner);
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    async fn get(&self, path: &str) -> Read {
        self.call(Method::GET, path, None).await
    }

    async fn create(&self, slug: &str) -> Read {
        let body = json!({ "slug": slug });
        self.call(Method::POST, "/projects?wait_ms=10000", Some(body)).await
    }

    /// A call over TCP with these headers.
    async fn over_tcp(&self, headers: &[(&str, &str)]) -> Read {
        let mut request = Request::builder().uri("/v1/health");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_every_call_needs_the_token() {
    let server = Server::new().await;
    let host = ("host", "127.0.0.1:7070");
    let refused = server.over_tcp(&[host]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.headers["www-authenticate"], "Bearer");
    assert_eq!(refused.body["kind"], "denied");
    for wrong in ["Bearer other", "Basic secret", "secret", "Bearer "] {
        let refused = server.over_tcp(&[host, ("authorization", wrong)]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    let served = server.over_tcp(&[host, ("authorization", "Bearer secret")]).await;
    assert_eq!(served.status, StatusCode::OK);
    // Who may not call is not told what is wrong with the call.
    let two = [("content-type", "text/plain"), ("content-type", "text/html")];
    let refused = server.over_tcp(&[host, two[0], two[1]]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.text);
    let allowed = [host, two[0], two[1], ("authorization", "Bearer secret")];
    let refused = server.over_tcp(&allowed).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_host_or_origin_is_refused_before_the_token_is_looked_at() {
    let server = Server::new().await;
    let token = ("authorization", "Bearer secret");
    let host = ("host", "localhost:7070");
    for headers in [&[token][..], &[token, ("host", "evil.example")]] {
        assert_eq!(server.over_tcp(headers).await.status, StatusCode::MISDIRECTED_REQUEST);
    }
    for (name, value) in
        [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
    {
        let refused = server.over_tcp(&[host, token, (name, value)]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{name}: {value}");
    }
    for host in ["localhost", "cove.lan:7070", "[::1]:7070"] {
        let headers = [token, ("host", host), ("origin", "http://localhost:5173")];
        assert_eq!(server.over_tcp(&headers).await.status, StatusCode::OK, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_a_problem_with_its_page_and_the_id_of_its_request() {
    let server = Server::new().await;
    let missing = server.get("/projects/shop").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.headers["content-type"], "application/problem+json");
    assert_eq!(missing.body["type"], "https://cove.dev/errors/not-found");
    assert_eq!(missing.body["detail"], "project shop does not exist");
    assert_eq!(missing.body["request_id"], missing.headers["x-request-id"].to_str().unwrap());
    assert!(missing.body["hint"].as_str().unwrap().contains("cove ls"));
    let unknown = server.get("/nothing").await;
    assert_eq!(
        (unknown.status, &unknown.body["kind"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
    let method = server.call(Method::PUT, "/projects", None).await;
    assert_eq!(
        (method.status, &method.body["kind"]),
        (StatusCode::METHOD_NOT_ALLOWED, &json!("invalid"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_says_when_to_come_back_and_what_is_ours_stays_in_the_log() {
    let server = Server::new().await;
    server.fake.fail_next(ErrorKind::Unavailable, false);
    let away = server.create("shop").await;
    assert_eq!(away.status, StatusCode::SERVICE_UNAVAILABLE, "{}", away.text);
    assert_eq!(away.headers["retry-after"], "5");
    assert_eq!(away.body["retry_after_s"], 5);
    server.fake.fail_next(ErrorKind::Internal, false);
    let ours = server.create("shop").await;
    assert_eq!(ours.status, StatusCode::INTERNAL_SERVER_ERROR);
    let id = ours.headers["x-request-id"].to_str().unwrap();
    let detail = format!("internal error; the log has it as request {id}");
    assert_eq!(ours.body["detail"], detail.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_is_refused_with_the_fields_name() {
    let server = Server::new().await;
    let detail = |read: Read| {
        assert_eq!(read.status, StatusCode::BAD_REQUEST, "{}", read.text);
        read.body["detail"].as_str().unwrap().to_owned()
    };
    let post = |body: Value| server.call(Method::POST, "/projects", Some(body));
    assert!(
        detail(post(json!({ "slug": "shop", "colour": 1 })).await)
            .contains("\"colour\" is unknown")
    );
    assert!(detail(post(json!({})).await).contains("field \"slug\" is missing"));
    assert!(detail(post(json!({ "slug": "Shop\u{1b}" })).await).contains("field \"slug\""));
    let long = post(json!({ "slug": "a".repeat(2 << 20) })).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", long.text);
    let query = server.call(Method::POST, "/projects?until=later", Some(json!({}))).await;
    assert!(detail(query).contains("captured"), "the values are named");
    assert!(detail(server.get("/projects?colour=1").await).contains("\"colour\" is unknown"));
    assert!(detail(server.get("/projects/Shop").await).contains("a project's name"));
    server.create("shop").await;
    assert!(detail(server.get("/projects/shop/files?path=../x").await).contains("field \"path\""));
    assert!(detail(server.get("/projects/shop/files?at=a%20b").await).contains("field \"at\""));
    let edit = server.call(Method::PATCH, "/projects/shop/entries/abc", Some(json!({}))).await;
    assert!(detail(edit).contains("\"pinned\""));
    let plain =
        Request::post("/v1/projects").extension(Peer::Owner).body(Body::from("{}")).unwrap();
    assert!(detail(server.send(plain).await).contains("content-type"));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_answered_with_its_operation_and_followed_by_its_key() {
    let server = Server::new().await;
    server.create("shop").await;
    server.fake.let_save(false);
    let key = "00000001000000000000000000000000";
    let ask = |wait: &str, until: &str| {
        let uri = format!("/v1/projects/shop/entries?wait_ms={wait}&until={until}");
        let request = Request::post(uri)
            .extension(Peer::Owner)
            .header("idempotency-key", key)
            .header(header::CONTENT_TYPE, "application/json");
        request.body(Body::from(r#"{"message":"m"}"#)).unwrap()
    };
    let goes = server.send(ask("0", "saved")).await;
    assert_eq!(goes.status, StatusCode::ACCEPTED, "{}", goes.text);
    assert_eq!(goes.body["operation"]["id"], key);
    let captured = server.send(ask("10000", "captured")).await;
    assert_eq!(captured.status, StatusCode::CREATED, "{}", captured.text);
    assert_eq!(captured.body["entry"]["durability"], "on_this_node");
    let look = format!("/operations/{key}?until=captured&wait_ms=10000");
    assert_eq!(server.get(&look).await.body["operation"]["state"], "captured");
    server.fake.let_save(true);
    let look = format!("/operations/{key}?until=saved&wait_ms=10000");
    let done = server.get(&look).await.body;
    assert_eq!(done["operation"]["state"], "done");
    assert_eq!(done["operation"]["result"]["entry"]["durability"], "saved");
    assert_eq!(done["operation"]["result"]["entry"]["id"], captured.body["entry"]["id"]);
    let unknown = server.get("/operations/ffffffffffffffffffffffffffffffff").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_for_another_request_is_a_conflict() {
    let server = Server::new().await;
    let ask = |slug: &str| {
        let request = Request::post("/v1/projects?wait_ms=10000")
            .extension(Peer::Owner)
            .header("idempotency-key", "mine")
            .header(header::CONTENT_TYPE, "application/json");
        request.body(Body::from(json!({ "slug": slug }).to_string())).unwrap()
    };
    let first = server.send(ask("shop")).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text);
    let again = server.send(ask("shop")).await;
    assert_eq!(again.body["project"]["id"], first.body["project"]["id"]);
    let other = server.send(ask("store")).await;
    assert_eq!((other.status, &other.body["kind"]), (StatusCode::CONFLICT, &json!("conflict")));
}

/// A body whose sender says `pieces` and then, if `breaks`, goes away.
fn body_of(pieces: &[&'static str], breaks: bool) -> Body {
    let mut pieces: Vec<std::io::Result<&'static str>> =
        pieces.iter().map(|piece| Ok(*piece)).collect();
    if breaks {
        pieces.push(Err(std::io::ErrorKind::ConnectionReset.into()));
    }
    Body::from_stream(futures::stream::iter(pieces))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_becomes_a_project_and_a_broken_one_does_not() {
    let server = Server::new().await;
    let ask = |slug: &str, body: Body| {
        Request::post(format!("/v1/projects?slug={slug}&wait_ms=10000"))
            .extension(Peer::Owner)
            .header(header::CONTENT_TYPE, "application/x-tar")
            .body(body)
            .unwrap()
    };
    let made = server.send(ask("shop", body_of(&["a=on", "e\nb/c=two\n"], false))).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let content = server.get("/projects/shop/files/content?path=a").await;
    assert_eq!(content.text, "one");
    let broken = server.send(ask("half", body_of(&["a=one\n"], true))).await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST, "{}", broken.text);
    assert_eq!(broken.body["detail"], "the body broke off");
    assert_eq!(server.get("/projects/half").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_body_breaks_off_is_the_callers_error_and_stays() {
    let server = Server::new().await;
    server.create("shop").await;
    let put = |body: Body| {
        let request = Request::put("/v1/projects/shop/files/content?path=a");
        request.extension(Peer::Owner).body(body).unwrap()
    };
    server.send(put(Body::from("whole"))).await;
    let broken = server.send(put(body_of(&["half"], true))).await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST, "{}", broken.text);
    assert_eq!(broken.body["detail"], "the body broke off");
    assert_eq!(server.get("/projects/shop/files/content?path=a").await.text, "whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_files_bytes_are_read_whole_in_ranges_and_not_again() {
    let server = Server::new().await;
    server.create("shop").await;
    let put = Request::put("/v1/projects/shop/files/content?path=a.txt")
        .extension(Peer::Owner)
        .body(body_of(&["0123", "456789"], false))
        .unwrap();
    let put = server.send(put).await;
    assert_eq!(put.body["files"][0]["bytes"], 10, "{}", put.text);
    let read = |name: &str, value: &str| {
        Request::get("/v1/projects/shop/files/content?path=a.txt")
            .extension(Peer::Owner)
            .header(name, value)
            .body(Body::empty())
            .unwrap()
    };
    let part = server.send(read("range", "bytes=2-4")).await;
    assert_eq!((part.status, part.text.as_str()), (StatusCode::PARTIAL_CONTENT, "234"));
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
    let behind = server.send(read("range", "bytes=10-")).await;
    assert_eq!(behind.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let whole = server.get("/projects/shop/files/content?path=a.txt").await;
    assert_eq!(
        (whole.text.as_str(), &whole.headers["content-length"]),
        ("0123456789", &"10".parse().unwrap())
    );
    let tag = whole.headers["etag"].to_str().unwrap();
    assert_eq!(server.send(read("if-none-match", tag)).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(
        server.send(read("if-match", "\"other\"")).await.status,
        StatusCode::PRECONDITION_FAILED
    );
    for (tag, status) in [(tag, StatusCode::PARTIAL_CONTENT), ("\"other\"", StatusCode::OK)] {
        let mut part = read("range", "bytes=2-4");
        part.headers_mut().insert("if-range", tag.parse().unwrap());
        assert_eq!(server.send(part).await.status, status, "{tag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_damaged_is_named_before_its_first_byte_and_breaks_off_later() {
    let server = Server::new().await;
    server.create("shop").await;
    let content = "/projects/shop/files/content?path=a.txt";
    let put = Request::put(format!("/v1{content}")).extension(Peer::Owner);
    let bytes = vec![b'x'; 400_000];
    server.send(put.body(Body::from(bytes.clone())).unwrap()).await;
    let damaged = cove_types::TreePath::parse("a.txt").unwrap();
    let read = |from: usize| {
        let request = Request::get(format!("/v1{content}")).extension(Peer::Owner);
        let request = request.header(header::RANGE, format!("bytes={from}-"));
        server.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    server.fake.damage(&damaged, 300_000);
    let mut body = read(0).await.unwrap().into_body();
    let mut got = Vec::new();
    let broke = loop {
        match body.frame().await {
            Some(Ok(frame)) => got.extend_from_slice(&frame.into_data().unwrap()),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broke, "it ended as if it were whole");
    assert_eq!(got, bytes[..300_000]);
    for from in [300_000, 399_999] {
        let answer = read(from).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body: Value =
            serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes())
                .unwrap();
        assert_eq!(body["kind"], "corrupt");
        let detail = body["detail"].as_str().unwrap();
        assert!(detail.starts_with("failed to read a.txt: chunk "), "{detail}");
        let hint = body["hint"].as_str().unwrap();
        assert!(hint.contains("`cove verify shop`"), "{hint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_replaced_only_while_it_is_what_the_caller_expects() {
    let server = Server::new().await;
    server.create("shop").await;
    let put = async |name: &str, value: &str, content: &'static str| {
        let mut request =
            Request::put("/v1/projects/shop/files/content?path=a.txt").extension(Peer::Owner);
        if !name.is_empty() {
            request = request.header(name, value);
        }
        server.send(request.body(body_of(&[content], false)).unwrap()).await
    };
    let content = async || server.get("/projects/shop/files/content?path=a.txt").await.text;
    let refused = |read: &Read| {
        assert_eq!(read.status, StatusCode::PRECONDITION_FAILED, "{}", read.text);
        assert_eq!(read.body["kind"], "conflict");
    };
    refused(&put("if-match", "*", "1").await);
    let first = put("if-none-match", "*", "1").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    refused(&put("if-none-match", "*", "22").await);
    assert_eq!(content().await, "1");
    let tag = first.headers["etag"].to_str().unwrap();
    let second = put("if-match", tag, "22").await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.text);
    refused(&put("if-match", tag, "333").await);
    assert_eq!(content().await, "22");
    assert_eq!(put("if-match", "no tag", "333").await.status, StatusCode::BAD_REQUEST);

    // Replaced by somebody else while the body is on its way.
    let (mut sender, body) = tokio::io::duplex(64);
    let tag = second.headers["etag"].to_str().unwrap().to_owned();
    let request = Request::put("/v1/projects/shop/files/content?path=a.txt")
        .extension(Peer::Owner)
        .header("if-match", tag)
        .body(Body::from_stream(tokio_util::io::ReaderStream::new(body)))
        .unwrap();
    let router = server.router.clone();
    let slow = tokio::spawn(async move { router.oneshot(request).await.unwrap().status() });
    tokio::io::AsyncWriteExt::write_all(&mut sender, b"late").await.unwrap();
    // Only once the first look is over does the body move on.
    for piece in 0..32 {
        tokio::io::AsyncWriteExt::write_all(&mut sender, &[b'0' + piece % 10; 64]).await.unwrap();
    }
    assert_eq!(put("", "", "4444").await.status, StatusCode::OK);
    drop(sender);
    assert_eq!(slow.await.unwrap(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(content().await, "4444");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_a_minute_at_most() {
    let server = Server::new().await;
    server.create("shop").await;
    for path in ["/projects/shop/wait?wait_ms=60001", "/operations/x?wait_ms=70000"] {
        let refused = server.get(path).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.text);
        assert!(refused.text.contains("is 0 to 60,000 ms, found "), "{}", refused.text);
    }
    assert_eq!(server.get("/projects/shop/wait?wait_ms=60000").await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_an_archive_come_back_as_one() {
    let server = Server::new().await;
    server.create("shop").await;
    let extract = Request::put("/v1/projects/shop/files/archive?path=src")
        .extension(Peer::Owner)
        .body(body_of(&["a=1\n"], false))
        .unwrap();
    let extract = server.send(extract).await;
    assert_eq!(extract.status, StatusCode::OK, "{}", extract.text);
    let archive = server.get("/projects/shop/files/archive?path=src").await;
    assert_eq!(archive.headers["content-type"], "application/x-tar");
    assert!(archive.text.contains("a=1"), "{}", archive.text);
    let missing = server.get("/projects/shop/files/archive?path=nothing").await;
    assert_eq!(
        (missing.status, &missing.body["kind"]),
        (StatusCode::NOT_FOUND, &json!("not_found"))
    );
}

/// The bytes of an archive, and how it ends: what stands in its trailers, or an error.
async fn archive_of(server: &Server, te: Option<&'static str>) -> (usize, Result<Value, String>) {
    let mut request = Request::get("/v1/projects/shop/files/archive").extension(Peer::Owner);
    if let Some(te) = te {
        request = request.header(header::TE, te);
    }
    let response = server.router.clone().oneshot(request.body(Body::empty()).unwrap()).await;
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().contains_key(header::TRAILER), te.is_some());
    let (mut body, mut bytes, mut last) = (response.into_body(), 0, Value::Null);
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(piece)) => bytes += piece.len(),
            Ok(Err(frame)) => {
                let trailers = frame.into_trailers().unwrap();
                let value = trailers.values().next().unwrap();
                last = serde_json::from_slice(value.as_bytes()).unwrap();
            }
            Err(error) => return (bytes, Err(error.to_string())),
        }
    }
    (bytes, Ok(last))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_not_whole_says_why_behind_its_last_byte_or_breaks_off() {
    let server = Server::new().await;
    let made = server.create("shop").await;
    for (name, length) in [("a", 400_000), ("b", 4)] {
        let put = Request::put(format!("/v1/projects/shop/files/content?path={name}"));
        let put = put.extension(Peer::Owner).body(Body::from(vec![b'x'; length])).unwrap();
        assert_eq!(server.send(put).await.status, StatusCode::OK);
    }
    let whole = 400_000 + 4 + "a=\nb=\n".len();
    assert_eq!(archive_of(&server, None).await, (whole, Ok(Value::Null)));
    let volume = made.body["project"]["volume"].as_str().unwrap().parse().unwrap();
    server.fake.link_out(&volume, &cove_types::TreePath::parse("l").unwrap());
    let remark = json!(["l: it is a symbolic link, left out"]);
    assert_eq!(archive_of(&server, Some("trailers")).await, (whole, Ok(remark)));
    assert_eq!(archive_of(&server, None).await, (whole, Ok(Value::Null)));

    server.fake.damage(&cove_types::TreePath::parse("b").unwrap(), 0);
    let (bytes, ended) = archive_of(&server, None).await;
    assert!(ended.is_err(), "it ended as if it were whole: {ended:?}");
    assert_eq!(bytes, 400_000 + "a=\n".len());
    let (_, ended) = archive_of(&server, Some("trailers")).await;
    let problem = ended.unwrap();
    assert_eq!(problem["kind"], "corrupt", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("failed to read b"), "{problem}");
    assert_eq!(problem["type"], "https://cove.dev/errors/corrupt");
    // Before the first byte it is an error as every other.
    server.fake.damage(&cove_types::TreePath::parse("a").unwrap(), 0);
    let refused = server.get("/projects/shop/files/archive").await;
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(refused.body["kind"], "corrupt");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_listed_found_moved_and_removed() {
    let server = Server::new().await;
    server.create("shop").await;
    let post = |path: &'static str, body: Value| server.call(Method::POST, path, Some(body));
    let made = post("/projects/shop/files/directory", json!({ "path": "src" })).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.text);
    let put = Request::put("/v1/projects/shop/files/content?path=src/a.txt")
        .extension(Peer::Owner)
        .body(Body::from("needle\n"))
        .unwrap();
    server.send(put).await;
    let moved =
        post("/projects/shop/files/move", json!({ "from": "src/a.txt", "to": "src/b.txt" }));
    assert_eq!(moved.await.status, StatusCode::OK);
    let paths = |read: &Read| read.body["files"][0]["path"].as_str().unwrap_or_default().to_owned();
    assert_eq!(paths(&server.get("/projects/shop/files?path=src").await), "src/b.txt");
    assert_eq!(paths(&server.get("/projects/shop/files/find?name=*.txt").await), "src/b.txt");
    assert_eq!(paths(&server.get("/projects/shop/files/stat?path=/src/b.txt").await), "src/b.txt");
    let found = server.get("/projects/shop/files/grep?pattern=needle").await;
    assert_eq!(found.body["matches"][0]["line"], 1, "{}", found.text);
    let removed = server.call(Method::DELETE, "/projects/shop/files?path=src&recursive=true", None);
    assert_eq!(removed.await.status, StatusCode::OK);
    assert_eq!(server.get("/projects/shop/files").await.body["files"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_forked_labelled_restored_renamed_and_brought_back() {
    let server = Server::new().await;
    server.create("shop").await;
    let call = |method: Method, path: &'static str, body: Value| {
        let path = format!("{path}{}wait_ms=10000", if path.contains('?') { "&" } else { "?" });
        let server = &server;
        async move {
            let has_wait = matches!(method, Method::POST) && !path.contains("undelete");
            let path = if has_wait { path.as_str() } else { path.split('?').next().unwrap() };
            let read = server.call(method, path, Some(body)).await;
            assert!(read.status.is_success(), "{path}: {}", read.text);
            read.body
        }
    };
    let entry = call(Method::POST, "/projects/shop/entries", json!({ "message": "m" })).await;
    let id = entry["entry"]["id"].as_str().unwrap().to_owned();
    let path = format!("/projects/shop/entries/{id}");
    let label = server.call(Method::PATCH, &path, Some(json!({ "label": "v1" })));
    assert_eq!(label.await.body["entry"]["label"], "v1");
    let pinned = call(Method::PATCH, "/projects/shop/entries/v1", json!({ "pinned": true })).await;
    assert_eq!(pinned["entry"]["pinned"], true);
    let unlabelled =
        call(Method::PATCH, "/projects/shop/entries/v1", json!({ "label": null })).await;
    assert_eq!(unlabelled["entry"]["label"], Value::Null);
    let forks = call(Method::POST, "/projects/shop/fork", json!({ "at": "~1", "count": 2 })).await;
    assert_eq!(forks["projects"][1]["slug"], "shop-2");
    let restored = call(Method::POST, "/projects/shop/restore", json!({ "entry": "~1" })).await;
    assert_eq!(restored["project"]["slug"], "shop");
    let renamed = call(Method::PATCH, "/projects/shop", json!({ "slug": "store" })).await;
    assert_eq!(renamed["project"]["slug"], "store");
    let removed = server.call(Method::DELETE, "/projects/store/entries/~1", None).await;
    assert_eq!(
        (removed.status, &removed.body["entry"]["state"]),
        (StatusCode::CONFLICT, &Value::Null)
    );
    let path = format!("/projects/store/entries/{id}");
    server.call(Method::PATCH, &path, Some(json!({ "pinned": false }))).await;
    let removed = server.call(Method::DELETE, &path, None).await;
    assert_eq!(removed.body["entry"]["state"], "trashed", "{}", removed.text);
    assert_eq!(removed.body["rolled_off"], json!([]));
    server.call(Method::POST, "/projects/store/undelete", Some(json!({ "entry": id }))).await;
    call(Method::DELETE, "/projects/store", json!({})).await;
    assert_eq!(server.get("/projects?state=trashed").await.body["projects"][0]["slug"], "store");
    call(Method::POST, "/projects/store/undelete", json!({})).await;
    assert_eq!(server.get("/projects/store/wait").await.status, StatusCode::OK);
    let diff = server.get("/diff?before=store@~1&after=store").await;
    assert_eq!(diff.body["changes"], json!([]), "{}", diff.text);
    let timeline = server.get("/projects/store/entries?all=true").await;
    assert!(timeline.body["entries"].is_array());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_checked_and_recovered_as_operations() {
    let server = Server::new().await;
    server.create("shop").await;
    let post = |path: &'static str, body: Value| server.call(Method::POST, path, Some(body));
    let verified = post("/verify?wait_ms=10000", json!({ "project": "shop", "level": 0 })).await;
    assert_eq!(verified.body["checked"]["projects"], 1, "{}", verified.text);
    let refused = post("/verify", json!({ "read": { "part": 1, "of": 2 } })).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    let missing = post("/verify?wait_ms=10000", json!({ "project": "nothing" })).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    server.fake.lose("volume v", "its head is cut");
    let recovered = post("/recover?wait_ms=10000", json!({ "take": true })).await;
    assert_eq!(recovered.body["lost"][0]["why"], "its head is cut", "{}", recovered.text);
    assert!(server.get("/doctor").await.body["checks"].is_array());
}

#[tokio::test(flavor = "multi_thread")]
async fn down_is_told_to_the_program() {
    let server = Server::new().await;
    let down = server.call(Method::POST, "/down", None).await;
    assert_eq!(down.status, StatusCode::ACCEPTED);
    tokio::time::timeout(std::time::Duration::from_secs(5), server.down.notified()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_its_owners_and_a_port_is_not() {
    let server = Server::new().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cove.sock");
    let unix = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = directory.path().join("other.sock");
    let foreign = tokio::net::UnixListener::bind(&other).unwrap();
    let own = rustix::process::geteuid().as_raw();
    async fn serve_to(
        unix: tokio::net::UnixListener,
        router: Router,
        users: Vec<u32>,
        until: impl Future<Output = ()> + Send,
    ) {
        crate::serve_unix(unix, router, &users, until).await;
    }
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let stop = Arc::new(Notify::new());
    let until = |stop: &Arc<Notify>| {
        let stop = Arc::clone(stop);
        async move { stop.notified().await }
    };
    let serving = [
        tokio::spawn(serve_to(unix, server.router.clone(), vec![own], until(&stop))),
        tokio::spawn(serve_to(foreign, server.router.clone(), vec![own + 1], until(&stop))),
        tokio::spawn(crate::serve_tcp(tcp, server.router.clone(), until(&stop))),
    ];
    let request = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    async fn ask(
        mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
        request: &[u8],
    ) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
    let answer = ask(tokio::net::UnixStream::connect(&socket).await.unwrap(), request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = ask(tokio::net::UnixStream::connect(&other).await.unwrap(), request).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let answer = ask(tokio::net::TcpStream::connect(address).await.unwrap(), request).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    stop.notify_waiters();
    for server in serving {
        tokio::time::timeout(std::time::Duration::from_secs(10), server).await.unwrap().unwrap();
    }
}
