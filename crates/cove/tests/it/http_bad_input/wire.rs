//! What is no call: other methods and paths, no HTTP at all, bodies that are too long, too slow
//! or not whole, and requests that mean two things.

use std::io::{Read, Write};

use cove_testkit::proof;
use serde_json::json;

use super::caller::{Answer, Call, End, Over, Victim};
use super::document::{Body, operations, paths};
use super::values::lawful;
use crate::harness::text;

const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];

#[test]
fn another_method_is_refused_with_those_that_there_are_and_another_path_is_not_found() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    for (path, methods) in paths() {
        let mut target = path.clone();
        while let Some(begin) = target.find('{') {
            let end = target.find('}').unwrap();
            let value = lawful(&target[begin + 1..end], &victim.entry);
            target.replace_range(begin..=end, &value);
        }
        for method in METHODS {
            let is_known = methods.iter().any(|known| known == method);
            if is_known || (method == "HEAD" && methods.iter().any(|known| known == "GET")) {
                continue;
            }
            let answer = victim.send(Over::Tcp, &Call::new(method, &target));
            let what = format!("{method} {path}");
            if method == "HEAD" {
                assert_eq!((answer.status, answer.body.len()), (405, 0), "{what}");
            } else {
                victim.refused(&what, &[405], &answer);
            }
            let allow = answer.header("allow").unwrap_or_else(|| panic!("{what}: no Allow"));
            let mut allowed: Vec<&str> =
                allow.split(',').map(str::trim).filter(|method| *method != "HEAD").collect();
            allowed.sort_unstable();
            let mut known: Vec<&str> = methods.iter().map(String::as_str).collect();
            known.sort_unstable();
            assert_eq!(allowed, known, "{what}");
        }
    }
    let long = format!("/v1/{}", "a".repeat(20_000));
    for target in [
        "/",
        "/v1",
        "/v1/",
        "/v2/projects",
        "/v1/projects/",
        "/v1/projects/shop/",
        "/V1/projects",
        "//v1/projects",
        "/v1//projects",
        "/v1/projects/../health",
        "/v1/projects/shop/none",
        "/v1/projects/shop/files/none",
        "/v1/projects/shop/entries/a/b",
        "/v1/%2e%2e/etc/passwd",
        "/v1/projects/shop/files/content/etc",
        "/.env",
        "/index.html",
        long.as_str(),
    ] {
        for method in ["GET", "POST", "DELETE"] {
            let answer = victim.send(Over::Tcp, &Call::new(method, target));
            victim.refused(&format!("{method} {target:.60}"), &[404], &answer);
        }
    }
    for (target, length) in [("content?path=a.txt", 13), ("content?path=none", 0)] {
        let target = format!("/v1/projects/shop/files/{target}");
        let head = victim.send(Over::Tcp, &Call::new("HEAD", &target));
        let get = victim.send(Over::Tcp, &Call::new("GET", &target));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{target}");
        assert!(length == 0 || head.header("content-length") == Some("13"), "{target}");
    }
    assert_eq!(victim.state(), before);
    victim.print_details();
}

/// Heads and bodies that are none, each with a name.
fn no_http(victim: &Victim) -> Vec<(&'static str, Vec<u8>)> {
    let lawful = victim.lawful();
    let with = |line: &str| {
        format!(
            "POST /v1/projects HTTP/1.1\r\n{lawful}Content-Type: application/json\r\n{line}\r\n"
        )
    };
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 501]].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let many: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
    let body = r#"{"slug":"evil"}"#;
    let chunks = |size: &str| {
        format!(
            "{}\r\n{size}\r\n{body}\r\n0\r\n\r\n",
            with("Transfer-Encoding: chunked").trim_end()
        )
        .replace("chunked\r\n", "chunked\r\n\r\n")
    };
    let mut all: Vec<(&'static str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("line ends", b"\r\n\r\n\n\n\r\r".to_vec()),
        ("NULs", vec![0; 1_000]),
        ("random bytes", cove_testkit::proof::Chance::new(7).bytes(10_000)),
        ("HTTP/0.9", b"GET /v1/projects\r\n".to_vec()),
        ("HTTP/9.9", format!("GET /v1/projects HTTP/9.9\r\n{lawful}\r\n").into()),
        ("no version", format!("GET /v1/projects\r\n{lawful}\r\n").into()),
        ("TLS", hello),
        ("the preface of HTTP/2, cut", preface[..10].to_vec()),
        ("HTTP/2 without frames", preface.clone()),
        ("HTTP/2 with garbage", [preface, vec![0xff; 300]].concat()),
        ("SSH", b"SSH-2.0-OpenSSH_9.7\r\n".to_vec()),
        (
            "a proxy's line",
            format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n{lawful}\r\n").into(),
        ),
        ("CONNECT", format!("CONNECT evil.example:443 HTTP/1.1\r\n{lawful}\r\n").into()),
        ("a head that breaks off", with("X-Half: ").into_bytes()[..60].to_vec()),
        ("many headers", with(&many).into()),
        ("a long header", with(&format!("X-Long: {}\r\n", "a".repeat(100 << 10))).into()),
        ("a long name", with(&format!("{}: a\r\n", "X".repeat(100 << 10))).into()),
        ("a long target", format!("GET /{} HTTP/1.1\r\n{lawful}\r\n", "a".repeat(80 << 10)).into()),
    ];
    for (what, line) in [
        ("no colon", "X-None\r\n"),
        ("a space before the colon", "Content-Length : 15\r\n"),
        ("a folded header", "X-A: a\r\n b\r\n"),
        ("a NUL in a header", "X-A: a\0b\r\n"),
        ("a bare CR", "X-A: a\rContent-Length: 15\r\n"),
        ("a length below 0", "Content-Length: -1\r\n"),
        ("a length that is none", "Content-Length: many\r\n"),
        ("a length in hex", "Content-Length: 0xf\r\n"),
        ("a length beyond all numbers", "Content-Length: 99999999999999999999\r\n"),
        ("two lengths", "Content-Length: 15\r\nContent-Length: 3\r\n"),
        ("two lengths in one", "Content-Length: 15, 3\r\n"),
        ("a coding that is none", "Transfer-Encoding: xchunked\r\n"),
        ("chunked, but not at last", "Transfer-Encoding: chunked, identity\r\n"),
        ("gzip", "Transfer-Encoding: gzip\r\n"),
    ] {
        all.push((what, format!("{}{body}", with(line)).into()));
    }
    for (what, size) in [
        ("a chunk of no size", "zz"),
        ("a chunk beyond all numbers", "fffffffffffffffff"),
        ("a chunk longer than the body", "ffff"),
        ("a chunk below 0", "-1"),
        ("a chunk with too much said", &*format!("f;{}", "a".repeat(100 << 10))),
    ] {
        all.push((what, chunks(size).into()));
    }
    all
}

#[test]
fn what_is_no_http_ends_its_connection_and_nothing_else() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    for (what, bytes) in no_http(&victim) {
        for over in [Over::Tcp, Over::Socket] {
            let answer = victim.raw(over, &bytes, End::Silent);
            let is_refused = answer.status == 0 || (400..500).contains(&answer.status);
            // Where only the end of a head is in doubt, it may be a call with no body.
            assert!(
                is_refused,
                "{what}: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            if !answer.body.is_empty() && answer.status != 0 {
                victim.is_problem(what, &answer);
            }
            match what {
                "many headers" | "a long header" | "a long name" => {
                    assert_eq!(answer.status, 431, "{what}");
                }
                "a long target" => assert!(matches!(answer.status, 414 | 431), "{what}"),
                _ => {}
            }
        }
        let health = victim.send(Over::Tcp, &Call::new("GET", "/v1/health"));
        assert_eq!(health.status, 200, "after {what}");
    }
    assert_eq!(victim.state(), before);
}

#[test]
fn a_request_that_means_two_things_is_none() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    let lawful = victim.lawful();
    let hidden = format!("DELETE /v1/projects/shop HTTP/1.1\r\n{lawful}\r\n");
    let head = "POST /v1/projects HTTP/1.1\r\nContent-Type: application/json\r\n";
    // Of two lengths the chunks' counts, and what lies behind them is no call (RFC 9112, section 6.3).
    let said = r#"{"slug":"No Name"}"#;
    let chunk = format!("{:x}\r\n{said}\r\n0\r\n\r\n", said.len());
    let lengths = ["Content-Length: 4\r\n", "Transfer-Encoding: chunked\r\n"];
    for [one, other] in [[0, 1], [1, 0]] {
        let (one, other) = (lengths[one], lengths[other]);
        let both = format!("{head}{lawful}{one}{other}\r\n{chunk}{hidden}");
        let answer = victim.raw(Over::Tcp, both.as_bytes(), End::Late);
        victim.refused("two lengths", &[400], &answer);
        let detail = text(&answer.json()["detail"]);
        assert!(detail.contains("No Name"), "the chunk was read, whole: {detail}");
        assert!(answer.rest.is_empty(), "{}", String::from_utf8_lossy(&answer.rest));
        assert_eq!(victim.state(), before, "what lay behind it was no call");
    }
    // What is in a body is never a call.
    let size = hidden.len();
    for text in [
        format!("{head}{lawful}Content-Length: {size}\r\n\r\n{hidden}"),
        format!(
            "{head}{lawful}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{hidden}\r\n0\r\n\r\n"
        ),
        format!("{head}{lawful}Connection: close\r\nContent-Length: 0\r\n\r\n{hidden}"),
        format!("GET /v1/none HTTP/1.1\r\n{lawful}X-A: a\r\n {hidden}"),
    ] {
        let answer = victim.raw(Over::Tcp, text.as_bytes(), End::Late);
        assert!((400..500).contains(&answer.status), "{text}: {}", answer.status);
        assert_eq!(victim.state(), before, "{text}");
    }
    // Several calls in one piece are several calls, in their order.
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\n{lawful}{more}\r\n");
    let three = [
        get("/v1/projects/none", ""),
        get("/v1/health", ""),
        get("/v1/health", "Connection: close\r\n"),
    ];
    let answer = victim.raw(Over::Tcp, three.concat().as_bytes(), End::Never);
    let all = String::from_utf8_lossy(&answer.rest).into_owned();
    assert_eq!((answer.status, all.matches("HTTP/1.1 200").count()), (404, 2), "{all}");
    assert_eq!(victim.state(), before);
}

/// Sends a head and then a body without an end, until there is an answer.
fn endless(victim: &Victim, head: &str, piece: &[u8], pieces_max: usize) -> Answer {
    let mut stream = victim.tcp();
    let reader = stream.try_clone().unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let reading = std::thread::spawn(move || {
        let mut reader = reader;
        let mut answer = Vec::new();
        let mut buffer = [0; 4_096];
        while let Ok(count) = reader.read(&mut buffer) {
            answer.extend_from_slice(&buffer[..count]);
            if count == 0 || answer.ends_with(b"}") {
                break;
            }
        }
        answer
    });
    for _ in 0..pieces_max {
        if reading.is_finished() || stream.write_all(piece).is_err() {
            break;
        }
    }
    let answer = reading.join().unwrap();
    assert!(!answer.is_empty(), "an answer to {head}");
    Answer::parse(&answer)
}

#[test]
fn a_body_that_is_too_long_is_refused_at_its_limit_and_one_that_breaks_off_changes_nothing() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    let lawful = victim.lawful();
    for operation in operations() {
        let call = operation.call(&operation.parts(&victim.entry));
        let is_json = match &operation.body {
            Some(Body::Json(_)) => true,
            Some(Body::Bytes(_)) => false,
            None => continue,
        };
        let kind = if is_json { "application/json" } else { "application/octet-stream" };
        let head =
            format!("{} {} HTTP/1.1\r\n{lawful}Content-Type: {kind}\r\n", call.method, call.target);
        let id = operation.id.as_str();
        if is_json {
            for more in ["", "Expect: 100-continue\r\n"] {
                // Not one byte of it is sent.
                let declared = format!("{head}{more}Content-Length: 10000000000\r\n\r\n");
                victim.refused(id, &[413], &endless(&victim, &declared, b"", 0));
            }
            let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
            let piece = [b"10000\r\n".to_vec(), vec![b'['; 1 << 16], b"\r\n".to_vec()].concat();
            victim.refused(id, &[413], &endless(&victim, &chunked, &piece, 1_000));
        }
        for part in ["", "{", "{\"", "half of something"] {
            for length in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
                let text = match length.starts_with("Content") {
                    true => format!("{head}{length}\r\n\r\n{part}"),
                    false => format!("{head}{length}\r\n\r\n40\r\n{part}"),
                };
                let answer = victim.raw(Over::Tcp, text.as_bytes(), End::AtOnce);
                assert!(
                    answer.status < 500 && !(200..300).contains(&answer.status),
                    "{id}: {text}"
                );
            }
        }
        assert_eq!(victim.state(), before, "after the bodies of {id}");
    }
    let archive = crate::bad_input::header(b"half", b'0', b"", 1 << 20);
    for target in ["/v1/projects?slug=half", "/v1/projects/shop/files/archive?path=/"] {
        let method = if target.contains('?') && target.contains("slug") { "POST" } else { "PUT" };
        let head = format!(
            "{method} {target} HTTP/1.1\r\n{lawful}Content-Type: application/x-tar\r\n\
             Content-Length: 1049600\r\n\r\n"
        );
        let bytes = [head.as_bytes(), &archive, &[b'a'; 5_000]].concat();
        let answer = victim.raw(Over::Tcp, &bytes, End::AtOnce);
        // Nobody may be told, who does not wait for the answer.
        assert!(matches!(answer.status, 0 | 400), "{target}: {}", answer.status);
    }
    assert_eq!(victim.state(), before);
}

/// Sends all of a request, reads its answer, and sends a call on the same connection.
fn send_and_go_on<S: Read + Write>(mut stream: S, request: &[u8], next: &[u8]) -> [Answer; 2] {
    [request, next].map(|bytes| {
        stream.write_all(bytes).expect("a refused body is read to its end");
        let mut read = Vec::new();
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            read.extend_from_slice(&byte);
            let answer = Answer::parse(&read);
            if answer.header("content-length") == Some(&*answer.body.len().to_string()) {
                return answer;
            }
        }
    })
}

#[test]
fn a_body_that_is_refused_before_it_is_read_is_read_to_its_end() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    let body = vec![b'b'; 10 << 20];
    let kind = "application/octet-stream";
    let put = |target: &str| Call::new("PUT", target).body(kind, body.clone());
    let content = "/v1/projects/shop/files/content?path=/b";
    let unread = [
        ("a name that is none", 400, put("/v1/projects/Not_A_Name/files/content?path=/b")),
        ("no such project", 404, put("/v1/projects/none/files/content?path=/b")),
        ("no such call", 404, put("/v1/none")),
        ("no such method", 405, put("/v1/health")),
        ("a body that is packed", 415, put(content).header("Content-Encoding: gzip")),
        ("a page of another site", 403, put(content).header("Origin: http://evil.example")),
    ];
    let health = victim.request(&Call::new("GET", "/v1/health"), "keep-alive");
    for (what, status, call) in &unread {
        let request = victim.request(call, "keep-alive");
        let mut answers = vec![send_and_go_on(victim.tcp(), &request, &health)];
        if *status != 403 {
            answers.push(send_and_go_on(victim.socket(), &request, &health));
        }
        for [refusal, next] in answers {
            victim.refused(what, &[*status], &refusal);
            assert_eq!(next.status, 200, "after {what}: the connection goes on");
        }
    }
    assert_eq!(victim.state(), before);
}

#[test]
fn callers_who_send_nothing_more_hold_up_nobody() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    let lawful = victim.lawful();
    let head = |first: &str| format!("{first} HTTP/1.1\r\n{lawful}");
    let json = "Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{\"slug\":";
    let bytes = "Content-Length: 50\r\n\r\nsome of it";
    let slow = [
        format!("{}X-Half", head("GET /v1/projects")),
        format!("{}{json}", head("POST /v1/projects")),
        format!("{}{bytes}", head("PUT /v1/projects/shop/files/content?path=a.txt")),
        format!("{}{bytes}", head("PUT /v1/projects/shop/files/archive?path=/")),
    ];
    // As many bodies as are read at once are not on their way: others would wait for their turn.
    let mut held = Vec::new();
    for n in 0..proof::rounds(160, 400) {
        let mut stream = victim.tcp();
        stream.write_all(slow[n % slow.len()].as_bytes()).unwrap();
        held.push(stream);
    }
    for _ in 0..10 {
        assert_eq!(victim.state(), before, "reading goes on");
    }
    let target = "/v1/projects/shop/entries?until=captured&wait_ms=60000";
    victim.succeeds(&Call::new("POST", target).json(&json!({ "message": "meanwhile" })));
    let put = Call::new("PUT", "/v1/projects/shop/files/content?path=c.txt").body("", "c");
    victim.succeeds(&put);
    let after = victim.state();
    if proof::is_full() {
        let mut json = held.swap_remove(1);
        let mut head = held.swap_remove(0);
        assert_eq!(head.read(&mut [0; 1]).unwrap_or(0), 0, "a head has 15 s");
        let mut answer = [0; 1_024];
        let count = json.read(&mut answer).unwrap();
        let answer = Answer::parse(&answer[..count]);
        victim.refused("a JSON body has 30 s", &[408], &answer);
    }
    drop(held);
    assert_eq!(victim.state(), after, "what broke off changed nothing");
}
