//! Who may call: hosts, origins and tokens, over TCP and over the socket.

use serde_json::json;

use super::caller::{Call, End, Over, Victim};
use super::document::operations;

#[test]
fn no_call_is_answered_without_the_token() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    let host = format!("Host: {}\r\n", victim.address());
    for operation in operations() {
        let call = operation.call(&operation.parts(&victim.entry));
        let body = String::from_utf8(call.body.clone().unwrap_or_default()).unwrap();
        let text = format!(
            "{} {} HTTP/1.1\r\n{host}Connection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            call.method,
            call.target,
            body.len()
        );
        let answer = victim.raw(Over::Tcp, text.as_bytes(), End::Never);
        victim.refused(&operation.id, &[401], &answer);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{}", operation.id);
    }
    assert_eq!(victim.state(), before);
    let token = victim.token().to_owned();
    let other: String = token.chars().rev().collect();
    let post = |headers: &str, query: &str| {
        let body = r#"{"slug":"evil"}"#;
        let text = format!(
            "POST /v1/projects{query} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        victim.raw(Over::Tcp, text.as_bytes(), End::Never)
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for headers in [
        bearer(&other),
        bearer(&token[1..]),
        bearer(&format!("{token}0")),
        bearer(""),
        bearer(&"a".repeat(30_000)),
        bearer(&format!("{token}, Bearer {token}")),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        format!("Authorization: Bearer{token}\r\n"),
        "Authorization: Bearer \u{e4}\r\n".to_owned(),
        format!("Cookie: token={token}\r\nX-Token: {token}\r\n"),
    ] {
        let answer = post(&headers, "");
        victim.refused(&format!("{headers:.60}"), &[401], &answer);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!said.contains(&token), "an answer does not tell the token");
    }
    for query in [format!("?token={token}"), format!("?access_token={token}")] {
        victim.refused("a token in the query", &[401], &post("", &query));
    }
    for pair in [[&token, &other], [&other, &token], [&token, &token]] {
        let headers = pair.map(|token| bearer(token)).concat();
        // the first one counts, and the second is too many
        victim.refused("two tokens", &[400, 401], &post(&headers, ""));
    }
    assert_eq!(victim.state(), before);
    for lawful in [bearer(&token), format!("authorization: bEARER   {token} \r\n")] {
        let text = format!("GET /v1/health HTTP/1.1\r\n{host}{lawful}Connection: close\r\n\r\n");
        assert_eq!(victim.raw(Over::Tcp, text.as_bytes(), End::Never).status, 200, "{lawful}");
    }
    let plain = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(
        victim.raw(Over::Socket, plain.as_bytes(), End::Never).status,
        200,
        "the socket's owner"
    );
    victim.print_details();
}

#[test]
fn a_foreign_host_or_site_is_refused_with_the_token_too() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    let token = format!("Authorization: Bearer {}\r\n", victim.token());
    let port = victim.port().to_owned();
    let post = |target: &str, headers: &[u8]| {
        let body = r#"{"slug":"evil"}"#;
        let head = format!("POST {target} HTTP/1.1\r\n{token}Connection: close\r\n");
        let rest = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        victim.raw(Over::Tcp, &[head.as_bytes(), headers, rest.as_bytes()].concat(), End::Never)
    };
    let mut hosts: Vec<Vec<u8>> = vec![Vec::new()];
    for host in [
        "",
        "evil.example",
        "evil.example:PORT",
        "localhost.evil.example",
        "127.0.0.1.nip.io:PORT",
        "localhost:PORT.evil.example",
        "localhost@evil.example",
        "evil.example@localhost:PORT:1",
        "2130706433",
        "127.1",
        "0.0.0.0:PORT",
        "[::1",
        "[::ffff:127.0.0.1]",
        "::1",
        "localhost.",
        "xlocalhost",
        "127.0.0.1:PORT, evil.example",
        "l\u{f6}calhost",
        "localhost/",
        ":PORT",
    ] {
        hosts.push(format!("Host: {}\r\n", host.replace("PORT", &port)).into());
    }
    for host in hosts {
        let what = String::from_utf8_lossy(&host).into_owned();
        victim.refused(&what, &[421], &post("/v1/projects", &host));
    }
    let ours = format!("Host: 127.0.0.1:{port}\r\n");
    let twice = format!("{ours}Host: evil.example\r\n");
    victim.refused("two hosts", &[400], &post("/v1/projects", twice.as_bytes()));
    let whole = "http://evil.example/v1/projects";
    victim.refused("a foreign target", &[421], &post(whole, ours.as_bytes()));
    let old = format!("GET /v1/projects HTTP/1.0\r\n{token}\r\n");
    victim.refused("HTTP/1.0", &[421], &victim.raw(Over::Tcp, old.as_bytes(), End::Never));
    for line in [
        "Origin: null",
        "Origin: http://evil.example",
        "Origin: https://evil.example:PORT",
        "Origin: http://127.0.0.1.evil.example:PORT",
        "Origin: http://shop.localhost:PORT",
        "Origin: http://localhost@evil.example",
        "Origin: file://",
        "Origin: chrome-extension://abcdefgh",
        "Origin: localhost",
        "Origin: ",
        "Origin: http://l\u{f6}calhost",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let headers = format!("{ours}{}\r\n", line.replace("PORT", &port));
        victim.refused(line, &[403], &post("/v1/projects", headers.as_bytes()));
    }
    let two = format!("{ours}Origin: http://localhost\r\nOrigin: http://evil.example\r\n");
    victim.refused("two origins", &[400], &post("/v1/projects", two.as_bytes()));
    assert_eq!(victim.state(), before);
    // This machine's own pages may call when they have the token, and not without it.
    for origin in ["http://localhost:PORT", "http://127.0.0.1:1", "https://localhost"] {
        let origin = format!("Origin: {}", origin.replace("PORT", &port));
        let call = Call::new("GET", "/v1/health").header(&origin);
        assert_eq!(victim.send(Over::Tcp, &call).status, 200, "{origin}");
        let text = format!("GET /v1/health HTTP/1.0\r\n{ours}{origin}\r\n\r\n");
        victim.refused(&origin, &[401], &victim.raw(Over::Tcp, text.as_bytes(), End::Never));
    }
    // Over the socket the kernel says who calls; bad calls are as bad as over TCP.
    let call = Call::new("POST", "/v1/projects").json(&json!({ "slug": "Evil" }));
    victim.refused("over the socket", &[400], &victim.send(Over::Socket, &call));
    assert_eq!(victim.state(), before);
    victim.print_details();
}
