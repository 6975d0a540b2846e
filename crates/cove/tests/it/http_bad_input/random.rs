//! Requests that chance has changed: none is answered with 5xx, none is never answered, and none
//! that is refused changes anything.

use cove_testkit::proof::{self, Chance};
use serde_json::{Value, json};

use super::caller::{Call, End, Over, Victim};
use super::document::{Body, Operation, escaped, operations};
use super::values;
use crate::harness::poll;

/// How many requests are looked at together.
const ROUND: usize = 20;

/// A call that may be lawful, of the names that the project has.
fn likely(operation: &Operation, entry: &str, chance: &mut Chance) -> Call {
    let mut parts = operation.parts(entry);
    let value = |name: &str, chance: &mut Chance| -> String {
        let lawful: &[&str] = match name {
            "slug" | "as" | "project" => &["shop", "other", "third", "gone", "none"],
            "path" | "from" | "to" => &["a.txt", "dir/b.txt", "/", "new", "dir", "n/e/w"],
            "at" | "entry" => &["~1", "now", "~2", "l1"],
            "label" => &["l1", "l2"],
            "before" | "after" => &["shop", "shop@~1", "shop@now", "other"],
            "state" => &["live", "trashed"],
            "until" => &["saved", "captured"],
            "kind" => &["file", "directory"],
            "wait_ms" => &["0", "1", "50"],
            "all" | "recursive" | "regex" | "ignore_case" => &["true", "false"],
            "pattern" | "name" => &["a", "alpha|beta", "*.txt", "[a-z]", "("],
            "id" => &["00000000000000000000000000000001"],
            "message" => &["m", "two\nlines", "\u{202e}m"],
            _ => &["1"],
        };
        let unlawful = values::unlawful(name);
        match chance.below(6) {
            0 if !unlawful.is_empty() => {
                let at = chance.index(unlawful.len());
                String::from_utf8_lossy(&unlawful[at]).into_owned()
            }
            _ => lawful[chance.index(lawful.len())].to_owned(),
        }
    };
    for (name, old) in &mut parts.path {
        *old = match name.as_str() {
            "slug" if chance.below(3) > 0 => "shop".to_owned(),
            name => escaped(value(name, chance).as_bytes()),
        };
    }
    parts.query.clear();
    for parameter in operation.parameters.iter().filter(|one| one.place == "query") {
        let name = parameter.name.as_str();
        // By itself it waits for a minute.
        if parameter.is_required || name == "wait_ms" || chance.below(2) == 0 {
            parts.query.push((name.to_owned(), escaped(value(name, chance).as_bytes())));
        }
    }
    if let (Some(Body::Json(fields)), Some(json)) = (&operation.body, &mut parts.json) {
        for field in fields {
            if !field.is_required && chance.below(2) == 0 {
                continue;
            }
            let is = |kind: &str| field.types.iter().any(|known| known == kind);
            let random = if is("string") {
                json!(value(&field.name, chance))
            } else if is("boolean") {
                json!(chance.below(2) == 0)
            } else if is("integer") {
                json!(chance.below(4))
            } else if is("array") {
                json!([value(&field.name, chance)])
            } else {
                json!({ "part": chance.below(3), "of": chance.below(3) })
            };
            json.insert(field.name.clone(), random);
        }
    }
    operation.call(&parts)
}

/// Changes some of a request's bytes.
fn mutated(mut bytes: Vec<u8>, chance: &mut Chance) -> Vec<u8> {
    const PIECES: [&[u8]; 12] = [
        b"%00",
        b"%2F..%2F",
        b"\xff",
        b"\0",
        b"\r\n",
        b"\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: 5\r\n",
        b"{}",
        b"null",
        b"99999999999999999999",
        "\u{202e}".as_bytes(),
    ];
    for _ in 0..chance.below(4) {
        let at = chance.index(bytes.len().max(1));
        match chance.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
            1 => bytes.truncate(at),
            2 => {
                let piece = PIECES[chance.index(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            3 => {
                let end = (at + chance.index(30)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + chance.index(200)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let count = chance.index(20);
                let random = chance.bytes(count);
                bytes.splice(at..at, random);
            }
        }
    }
    bytes
}

/// Brings back what chance took away.
fn mended(victim: &Victim) {
    let shop = victim.send(Over::Socket, &Call::new("GET", "/v1/projects/shop"));
    if shop.status != 200 {
        let create = Call::new("POST", "/v1/projects?wait_ms=60000&until=captured");
        let created = victim.send(Over::Socket, &create.json(&json!({ "slug": "shop" })));
        assert!(matches!(created.status, 201 | 409), "{}", created.json());
    }
}

/// The state when nothing goes on any more that a caller who went away has begun.
fn settled(victim: &Victim) -> Value {
    let mut last = victim.state();
    let mut same = 0;
    poll("calls that were left end", || {
        let now = victim.state();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        if same >= 3 { Ok(last.clone()) } else { Err("it changes".to_owned()) }
    })
}

#[test]
fn what_chance_makes_of_requests_is_answered_and_refusals_change_nothing() {
    let seed = proof::seed("random requests");
    let mut chance = Chance::new(seed);
    let Some(victim) = Victim::start_with("1s") else { return };
    let calls: Vec<Operation> = operations()
        .into_iter()
        // The one ends the server; the other takes every project away for a while.
        .filter(|operation| !matches!(operation.id.as_str(), "down" | "recover"))
        .collect();
    let rounds = proof::rounds(300, 5_000) / ROUND;
    let (mut taken, mut refused, mut unspoken) = (0, 0, 0);
    let mut before: Value = victim.state();
    for round in 0..rounds {
        let (mut changed, mut is_gone) = (false, false);
        let mut sent = Vec::new();
        for _ in 0..ROUND {
            let operation = &calls[chance.index(calls.len())];
            let call = likely(operation, &victim.entry, &mut chance);
            let bytes = mutated(victim.bytes(&call), &mut chance);
            let over = if chance.below(2) == 0 { Over::Tcp } else { Over::Socket };
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(1_500)]).into_owned();
            // What is not whole waits for its rest, unless its sender says that this is all.
            let answer = victim.raw(over, &bytes, End::Silent);
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            let where_ = format!("seed {seed}, round {round}, {over:?}: {shown}");
            assert!(answer.status < 500, "{where_}\n{} {said}", answer.status);
            match answer.status {
                0 => unspoken += 1,
                200..=399 => taken += 1,
                _ => {
                    refused += 1;
                    if answer.header("content-type").is_some() && !shown.starts_with("HEAD") {
                        victim.is_problem(&where_, &answer);
                    }
                }
            }
            // A caller who is gone before the answer may still have been heard.
            changed |= answer.status < 400 && !shown.starts_with("GET");
            // Chance may have made two calls of one.
            let rest = String::from_utf8_lossy(&answer.rest);
            assert!(!rest.contains("HTTP/1.1 5"), "{where_}\n{rest}");
            changed |= rest.contains("HTTP/1.1 2");
            is_gone |= answer.status == 0;
            sent.push(where_);
        }
        let after = victim.state();
        if changed {
            mended(&victim);
            before = if is_gone { settled(&victim) } else { victim.state() };
        } else {
            assert_eq!(after, before, "after:\n{}", sent.join("\n---\n"));
        }
    }
    let health = victim.send(Over::Tcp, &Call::new("GET", "/v1/health"));
    assert_eq!(health.status, 200, "it is alive");
    eprintln!("{taken} taken, {refused} refused, {unspoken} not spoken to");
    assert!(refused > taken / 20, "chance makes bad calls too");
    proof::figure("random requests answered, none with 5xx", rounds * ROUND);
}
