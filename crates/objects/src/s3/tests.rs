use std::sync::{Arc, Mutex, OnceLock};

use cove_testkit::S3Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::contract::{self, MAX, Races};

/// The server of all tests here; `None` when they may be skipped.
fn server() -> Option<&'static S3Server> {
    static SERVER: OnceLock<Option<S3Server>> = OnceLock::new();
    SERVER.get_or_init(S3Server::start).as_ref()
}

fn config(server: &S3Server, prefix: &str) -> S3Config {
    S3Config {
        bucket: server.bucket.clone(),
        prefix: prefix.into(),
        region: "us-east-1".into(),
        endpoint: Some(server.endpoint.clone()),
        access_key: server.access_key.clone(),
        secret_key: server.secret_key.clone(),
        session_token: None,
        silence_max: SILENCE_MAX,
    }
}

mod live {
    use super::*;

    #[tokio::test]
    async fn a_real_server_keeps_the_contract() {
        let Some(server) = server() else { return };
        let store = S3Store::open(config(server, "/deep/prefix//"), Env::system()).unwrap();
        contract::keep_all(&store, "contract/", Races { racers: 8, rounds: 3 }).await;
        // The same without a prefix: its keys are the bucket's.
        let whole = S3Store::open(config(server, ""), Env::system()).unwrap();
        contract::a_list_is_in_key_order_and_complete(&whole, "whole/").await;
        let below = whole.list("deep/prefix/contract/create/", None, 10).await.unwrap();
        assert_eq!(below[0].key.as_str(), "deep/prefix/contract/create/once");
    }

    #[tokio::test]
    async fn a_real_server_is_found_fit() {
        let Some(server) = server() else { return };
        let store = S3Store::open(config(server, "fit"), Env::system()).unwrap();
        let found = crate::probe(&store, &Env::system()).await.unwrap();
        assert_eq!(found.racers, 4);
        eprintln!("rules: {:?}", found.rules);
        assert_eq!(store.list("", None, 10).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_bucket_that_is_missing_is_no_empty_store() {
        let Some(server) = server() else { return };
        let config = S3Config { bucket: "no-such-bucket".into(), ..config(server, "") };
        let store = S3Store::open(config, Env::system()).unwrap();
        let found = store.get(&head(), MAX).await;
        assert!(matches!(found, Err(ReadError::Unknown { .. })), "{found:?}");
        let listed = store.list("", None, 10).await;
        assert!(matches!(listed, Err(ReadError::Unknown { .. })), "{listed:?}");
    }

    #[tokio::test]
    async fn a_wrong_key_is_denied() {
        let Some(server) = server() else { return };
        let config = S3Config { secret_key: "wrong".into(), ..config(server, "") };
        let store = S3Store::open(config, Env::system()).unwrap();
        let found = store.get(&head(), MAX).await;
        assert!(matches!(found, Err(ReadError::Denied { .. })), "{found:?}");
        let put = store.put_if_absent(&head(), "x".into()).await;
        assert!(matches!(put, Err(WriteError::Denied { .. })), "{put:?}");
    }
}

/// Answers each connection by `answer` of its number and its request's head, and
/// counts them. An answer without a byte leaves the connection open and silent.
struct Script {
    endpoint: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start(answer: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read_buf(&mut head).await {
                        Ok(0) | Err(_) => break,
                        Ok(_) => {}
                    }
                }
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(String::from_utf8_lossy(&head).into_owned());
                    seen.len() - 1
                };
                let answer = answer(number);
                if answer.is_empty() {
                    silent.push(stream);
                } else {
                    // The client may have enough of it before its end.
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        Self { endpoint, heads }
    }

    fn requests(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn store(&self) -> S3Store {
        self.store_that_may_be_silent(SILENCE_MAX)
    }

    fn store_that_may_be_silent(&self, silence_max: Duration) -> S3Store {
        let config = S3Config {
            bucket: "cove".into(),
            prefix: String::new(),
            region: "us-east-1".into(),
            endpoint: Some(self.endpoint.clone()),
            access_key: "a".into(),
            secret_key: "s".into(),
            session_token: None,
            silence_max,
        };
        S3Store::open_with(config, Env::system(), Duration::from_millis(1)).unwrap()
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

fn error(status: &str, code: &str) -> Vec<u8> {
    answer(status, "", &format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"))
}

/// The silence that is allowed where a script is silent on purpose.
const SILENCE_SHORT: Duration = Duration::from_secs(1);

const HEAD: &str = "ETag: \"e\"\r\nLast-Modified: Wed, 25 Nov 2026 12:00:00 GMT\r\nDate: Wed, 25 Nov 2026 12:01:30 GMT\r\n";

fn head() -> Key {
    Key::parse("volumes/v/head").unwrap()
}

#[tokio::test]
async fn an_object_is_absent_only_when_the_store_says_that_the_key_is() {
    let script = Script::start(|_| error("404 Not Found", "NoSuchKey")).await;
    let found = script.store().get(&head(), MAX).await;
    assert!(matches!(found, Err(ReadError::NotFound { .. })), "{found:?}");
    assert_eq!(script.requests(), 1, "a definite answer is not asked for again");

    for not_said in [
        error("404 Not Found", "NoSuchBucket"),
        answer("404 Not Found", "", "<html>there is nothing here</html>"),
        error("500 Internal Server Error", "InternalError"),
        error("503 Service Unavailable", "SlowDown"),
        error("400 Bad Request", "NoSuchKey"),
        answer("302 Found", "Location: http://127.0.0.1:1/\r\n", ""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"e\"\r\nLast-Modified: Wed, 25 Nov 2026 12:00:00 GMT\r\n\r\nhalf".to_vec(),
        b"nonsense".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&not_said).into_owned();
        let script = Script::start(move |_| not_said.clone()).await;
        let store = script.store();
        let found = store.get(&head(), MAX).await;
        assert!(matches!(found, Err(ReadError::Unknown { .. })), "{shown}: {found:?}");
        let listed = store.list("", None, 10).await;
        assert!(matches!(listed, Err(ReadError::Unknown { .. })), "{shown}: {listed:?}");
        assert_eq!(script.requests(), 2 * READ_ATTEMPTS as usize, "{shown}");
        assert_eq!(store.requests().total(), 2 * u64::from(READ_ATTEMPTS), "{shown}");
        let found = store.get_tail(&head(), 1).await;
        assert!(matches!(found, Err(ReadError::Unknown { .. })), "{shown}: {found:?}");
    }
}

#[tokio::test]
async fn a_write_is_refused_only_by_412_and_asked_once_whatever_the_answer() {
    let version = Version("\"e\"".into());
    for (what, said) in [
        (error("412 Precondition Failed", "PreconditionFailed"), "refused"),
        (error("404 Not Found", "NoSuchKey"), "refused"),
        (error("404 Not Found", "NoSuchBucket"), "unknown"),
        (error("409 Conflict", "ConditionalRequestConflict"), "unknown"),
        (error("304 Not Modified", "NotModified"), "unknown"),
        (error("500 Internal Server Error", "InternalError"), "unknown"),
        (error("503 Service Unavailable", "SlowDown"), "unknown"),
        (error("429 Too Many Requests", "SlowDown"), "unknown"),
        (error("408 Request Timeout", "RequestTimeout"), "unknown"),
        (error("403 Forbidden", "ExpiredToken"), "denied"),
        (error("507 Insufficient Storage", "XMinioStorageFull"), "exhausted"),
        (answer("200 OK", "", ""), "unknown"),
        (answer("200 OK", HEAD, ""), "done"),
        (b"HTTP/1.1 2".to_vec(), "unknown"),
        (b"nonsense".to_vec(), "unknown"),
        (Vec::new(), "unknown"),
    ] {
        let shown = String::from_utf8_lossy(&what).into_owned();
        let silence_max = if what.is_empty() { SILENCE_SHORT } else { SILENCE_MAX };
        let script = Script::start(move |_| what.clone()).await;
        let store = script.store_that_may_be_silent(silence_max);
        for put in [
            store.put_if_absent(&head(), "x".into()).await,
            store.put_if_match(&head(), "x".into(), &version).await,
        ] {
            let is = match put {
                Ok(Put::Done(_)) => "done",
                Ok(Put::Refused) => "refused",
                Err(WriteError::Unknown { .. }) => "unknown",
                Err(WriteError::Denied { .. }) => "denied",
                Err(WriteError::Exhausted { .. }) => "exhausted",
                Err(WriteError::NameIsUsed { .. }) => "the name is used",
            };
            assert_eq!(is, said, "{shown}");
        }
        let heads = script.heads.lock().unwrap();
        assert_eq!(heads.len(), 2, "{shown}: {heads:?}");
        assert!(heads[0].to_lowercase().contains("\r\nif-none-match: *\r\n"), "{}", heads[0]);
        assert!(heads[1].to_lowercase().contains("\r\nif-match: \"e\"\r\n"), "{}", heads[1]);
    }
}

#[tokio::test]
async fn a_read_is_asked_again_after_an_answer_that_says_nothing() {
    let script = Script::start(|number| match number {
        0 => Vec::new(),
        1 => error("503 Service Unavailable", "SlowDown"),
        2 => format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{HEAD}\r\nhalf").into_bytes(),
        _ => answer("200 OK", HEAD, "whole"),
    })
    .await;
    let store = script.store_that_may_be_silent(SILENCE_SHORT);
    let object = store.get(&head(), MAX).await.unwrap();
    assert_eq!(object.bytes, "whole");
    assert_eq!(object.age, Some(Duration::from_secs(90)), "by the store's clock at both ends");
    assert_eq!(script.requests(), 4);
}

#[tokio::test]
async fn an_object_whose_length_is_too_great_is_refused_by_its_headers() {
    // no byte of it comes: whoever waited for the body would find it cut, and ask again
    let script = Script::start(|_| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n{HEAD}\r\n").into_bytes()
    })
    .await;
    let error = script.store().get(&head(), 16 << 10).await.unwrap_err();
    assert!(matches!(error, ReadError::TooLong { size: 5_368_709_120, .. }), "{error:?}");
    assert_eq!(script.requests(), 1);
}

#[tokio::test]
async fn who_is_not_allowed_is_told_so_at_once() {
    let script = Script::start(|_| error("403 Forbidden", "AccessDenied")).await;
    let store = script.store();
    let denied = store.get(&head(), MAX).await;
    assert!(matches!(denied, Err(ReadError::Denied { .. })), "{denied:?}");
    let denied = store.delete(&head()).await;
    assert!(matches!(denied, Err(WriteError::Denied { .. })), "{denied:?}");
    assert_eq!(script.requests(), 2);
}

#[tokio::test]
async fn an_error_names_what_the_store_said_and_no_secret() {
    let script = Script::start(|_| error("403 Forbidden", "AccessDenied")).await;
    let Err(ReadError::Denied { source, .. }) = script.store().get(&head(), MAX).await else {
        panic!("it is denied")
    };
    assert_eq!(source.to_string(), "the store answered 403 (AccessDenied)");
    let shown = format!("{:?}", config_of("very-secret"));
    assert!(!shown.contains("very-secret"), "{shown}");
}

#[tokio::test]
async fn a_store_that_is_away_is_told_once_and_in_one_line() {
    // nobody listens at it, and nobody else is given it
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let at = format!("http://{}", taken.local_addr().unwrap());
    let silence_max = Duration::from_secs(5);
    let config = S3Config { endpoint: Some(at.clone()), silence_max, ..config_of("secret") };
    let store = S3Store::open_with(config, Env::system(), Duration::from_millis(1)).unwrap();
    let said = format!("{at} does not answer: connection refused");
    let read = store.get(&head(), MAX).await.unwrap_err();
    assert_eq!(std::error::Error::source(&read).unwrap().to_string(), said);
    let written = store.put_if_absent(&head(), "a".into()).await.unwrap_err();
    assert_eq!(std::error::Error::source(&written).unwrap().to_string(), said);
    assert_eq!(store.ask_bucket("versioning").await.unwrap_err(), said);
}

fn config_of(secret: &str) -> S3Config {
    S3Config {
        bucket: "cove".into(),
        prefix: String::new(),
        region: "us-east-1".into(),
        endpoint: None,
        access_key: "a".into(),
        secret_key: secret.into(),
        session_token: Some(secret.into()),
        silence_max: SILENCE_MAX,
    }
}

#[tokio::test]
async fn settings_that_name_no_store_are_refused() {
    for (endpoint, prefix) in [(Some("ftp://host"), ""), (None, "a//b"), (None, "../a")] {
        let endpoint = endpoint.map(str::to_owned);
        let config = S3Config { endpoint, prefix: prefix.into(), ..config_of("s") };
        let error = S3Store::open(config, Env::system()).unwrap_err();
        assert_eq!(cove_types::Classify::kind(&error), cove_types::ErrorKind::Invalid);
    }
}
