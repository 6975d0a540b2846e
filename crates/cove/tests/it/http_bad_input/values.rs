//! What is lawful and what is not in the parameters and fields of calls, and the walk over all of
//! them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use super::caller::{Answer, Call, Over, Victim};
use super::document::{Body, Field, Operation, Parts, escaped, operations};
use crate::harness::text;

/// A value that a call would take. For one that is new here, say what it is, and in
/// [`unlawful`] what it is not.
pub fn lawful(name: &str, entry: &str) -> String {
    match name {
        "slug" => "shop".to_owned(),
        "at" | "entry" => entry.to_owned(),
        "id" => "00000000000000000000000000000001".to_owned(),
        "path" | "from" => "a.txt".to_owned(),
        "to" => "b.txt".to_owned(),
        "before" => format!("shop@{entry}"),
        "after" => "shop".to_owned(),
        "pattern" => "alpha".to_owned(),
        "volume" => "vol-none".to_owned(),
        other => panic!("no lawful value is known of {other:?}"),
    }
}

/// Texts that a parameter or a field does not take.
pub fn unlawful(name: &str) -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let long = |count: usize| "a".repeat(count);
    match name {
        "slug" | "as" | "project" => {
            for text in ["", "Shop", "-a", "a-", "a--b", "a/b", "..", "../shop", "a b", "ä"] {
                texts.push(text.into());
            }
            for text in ["a\0", "a\u{202e}b", "a\u{1b}[2J", "\u{feff}shop", "shop\n", "shop@~1"] {
                texts.push(text.into());
            }
            texts.extend([long(41).into(), long(20_000).into()]);
        }
        "at" | "entry" | "label" => {
            for text in ["a b", "../x", "a/b", "ä", "a\0", "a\u{202e}b", "~", "~0", "~-1", "~x"] {
                texts.push(text.into());
            }
            texts.extend([b"".to_vec(), b"~99999999999999999999".to_vec(), long(65).into()]);
            if name == "label" {
                texts.push(b"now".to_vec());
            } else {
                // lawful, and not there
                texts.extend([b"~999".to_vec(), b"nothing".to_vec(), long(64).into()]);
            }
        }
        "before" | "after" => {
            for text in ["", "@", "shop@", "@~1", "shop@a b", "shop@~0", "Shop", "none", "a:b"] {
                texts.push(text.into());
            }
            texts.push(b"shop@nothing".to_vec());
        }
        "id" => {
            for text in ["none", "0", "g0000000000000000000000000000001", "\0", "../x", "ä"] {
                texts.push(text.into());
            }
            texts.extend([long(33).into(), b"ABCDEF00000000000000000000000001".to_vec()]);
        }
        "path" | "paths" | "from" | "to" => {
            for text in ["..", "../etc/passwd", "a/../../b", "/..", "a\0b", "\\x00", "\\xZZ", "\\"]
            {
                texts.push(text.into());
            }
            texts.extend([long(256).into(), "a/".repeat(300).into()]);
            texts.push(format!("{}/", long(250)).repeat(20).into());
        }
        "volume" => {
            for text in ["", "Vol-a", "-a", "a/b", "..", "a b", "ä", "a\0", "a\u{202e}b", "vol@x"]
            {
                texts.push(text.into());
            }
            texts.extend([long(64).into(), long(20_000).into()]);
        }
        "message" => {
            texts.extend([long(64 << 10).into(), long(1_001).into()]);
            for text in ["\u{1b}[2J", "a\0b", "\u{7f}", "a\u{85}b"] {
                texts.push(text.into());
            }
        }
        "state" | "kind" | "until" => {
            for text in ["", "none", "LIVE", "File", "saved ", "live,trashed"] {
                texts.push(text.into());
            }
        }
        "wait_ms" => {
            for text in ["", "-1", "1.5", "60001", "1e3", "NaN", "Infinity", "0x10", "+1", " 1"] {
                texts.push(text.into());
            }
            for text in ["9223372036854775808", "18446744073709551616", "1e400", "٣", "null"] {
                texts.push(text.into());
            }
        }
        "quota_bytes" => {
            for text in ["", "-1", "1.5", "1048575", "2e6", "NaN", "0x200000", "2MiB", " 2097152"] {
                texts.push(text.into());
            }
            for text in ["1152921504606846977", "18446744073709551616", "1e400", "٣", "null"] {
                texts.push(text.into());
            }
        }
        "all" | "recursive" | "regex" | "ignore_case" => {
            for text in ["", "1", "0", "yes", "TRUE", "null", "true "] {
                texts.push(text.into());
            }
        }
        "pattern" => texts.push(long(1_001).into()),
        "name" => texts.push(long(1_001).into()),
        // Numbers, flags and objects: another type is all that a text can be.
        "count" | "level" | "pinned" | "take" | "force" | "read" => {}
        other => panic!("no unlawful value is known of {other:?}"),
    }
    texts
}

/// Values of its own type that a field does not take.
fn out_of_range(name: &str) -> Vec<Value> {
    match name {
        "count" => vec![json!(0), json!(101), json!(u32::MAX), json!(-1), json!(1.5)],
        "quota_bytes" => vec![
            json!(0),
            json!((1 << 20) - 1),
            json!(-1),
            json!(1.5),
            json!((1_u64 << 60) + 1),
            json!(u64::MAX),
        ],
        "level" => vec![json!(3), json!(-1), json!(256), json!(1.5), json!(1_u64 << 63)],
        "read" => vec![
            json!({}),
            json!({ "part": 1 }),
            json!({ "part": 1, "of": 1 }),
            json!({ "part": 0, "of": 1 }),
            json!({ "part": 2, "of": 1 }),
            json!({ "part": "1", "of": 1 }),
            json!({ "part": 1, "of": 1, "more": 1 }),
            json!([1, 1]),
        ],
        "paths" => vec![json!([5]), json!([null]), json!([["a"]]), json!([{ "a": 1 }])],
        // neither the one nor the other
        "pinned" => vec![json!(null)],
        _ => Vec::new(),
    }
}

/// One value of each type.
fn of_each_type() -> Vec<(&'static str, Value)> {
    vec![
        ("null", json!(null)),
        ("boolean", json!(true)),
        ("integer", json!(5)),
        ("integer", json!(-5)),
        ("number", json!(1.5)),
        ("number", json!(1e300)),
        ("string", json!("7")),
        ("array", json!([])),
        ("array", json!([["shop"]])),
        ("object", json!({})),
        ("object", json!({ "slug": { "slug": "shop" } })),
    ]
}

/// What a name stands for, as refusals say it that are not of this API alone.
fn words(name: &str) -> &'static [&'static str] {
    match name {
        "slug" | "as" | "to" => &["a project's name"],
        "at" | "entry" | "before" | "after" => &["after @ comes", "after ~ comes"],
        "idempotency-key" => &["an idempotency key"],
        "count" => &["1 to 100 forks"],
        "id" => &["an operation id"],
        "message" => &["a message has"],
        "name" | "pattern" => &["a pattern has"],
        "content-encoding" => &["without content-encoding"],
        "content-type" => &["content-type"],
        _ => &[],
    }
}

/// A bad call, with what is bad about it.
struct Case {
    what: String,
    call: Call,
    statuses: &'static [u16],
    /// The name that a refusal says, where one is to blame.
    name: Option<String>,
}

impl Case {
    /// That a refusal says what is to blame. One that finds no such thing says of what thing.
    fn is_named(&self, answer: &Answer) {
        let Some(name) = self.name.as_deref().filter(|_| answer.status == 400) else { return };
        let detail = text(&answer.json()["detail"]).to_lowercase();
        let name = name.to_lowercase();
        let is_said = detail.contains(&format!("\"{name}"))
            || detail.contains(&format!("header {name}"))
            || words(&name).iter().any(|words| detail.contains(words));
        assert!(is_said, "{}: {name} is not in {detail:?}", self.what);
    }
}

/// All bad calls of one operation.
fn cases(operation: &Operation, entry: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let base = operation.parts(entry);
    let mut add = |what: String,
                   statuses: &'static [u16],
                   name: Option<&str>,
                   change: &dyn Fn(&mut Parts)| {
        let mut parts = base.clone();
        change(&mut parts);
        let (call, name) = (operation.call(&parts), name.map(str::to_owned));
        cases.push(Case { what: format!("{}: {what}", operation.id), call, statuses, name });
    };
    let put = |parts: &mut Parts, name: &str, value: String| {
        parts.query.retain(|(known, _)| known != name);
        parts.query.push((name.to_owned(), value));
    };
    add("an unknown parameter".to_owned(), &[400], Some("colour"), &|parts| {
        put(parts, "colour", "1".into());
    });
    add("an unknown name that hides".to_owned(), &[400], None, &|parts| {
        put(parts, "%E2%80%AE%00%1B", "1".into());
    });
    add("a name that is not UTF-8".to_owned(), &[400], None, &|parts| {
        put(parts, "%FF", "1".into());
    });
    for parameter in &operation.parameters {
        let name = parameter.name.as_str();
        match parameter.place.as_str() {
            "path" => {
                for text in unlawful(name) {
                    // An empty name is another path.
                    if text.is_empty() || text == b".." {
                        continue;
                    }
                    // Behind a slash begins another name, unless it is escaped.
                    let value = escaped(&text).replace('/', "%2F");
                    let what =
                        format!("{name} in the path is {:.60}", String::from_utf8_lossy(&text));
                    add(what, &[400, 404], Some(name), &|parts| {
                        // It is refused for the name in its path, and for nothing else.
                        if let Some(json) = parts.json.as_mut()
                            && operation.id == "edit_entry"
                        {
                            json.insert("pinned".to_owned(), json!(true));
                        }
                        for (known, old) in &mut parts.path {
                            if known == name {
                                old.clone_from(&value);
                            }
                        }
                    });
                }
                for value in ["%FF", "%C3%28", "%zz", "%00", "%2e%2e", "%2F..%2F..%2Fetc"] {
                    add(format!("{name} in the path is {value}"), &[400, 404], None, &|parts| {
                        for (known, old) in &mut parts.path {
                            if known == name {
                                value.clone_into(old);
                            }
                        }
                    });
                }
            }
            "query" => {
                for text in unlawful(name) {
                    if operation.id == "create_project" && name == "slug" {
                        // It goes with an archive; see below.
                        continue;
                    }
                    let what = format!("{name} is {:.60}", String::from_utf8_lossy(&text));
                    add(what, &[400, 404], Some(name), &|parts| {
                        put(parts, name, escaped(&text));
                    });
                }
                for value in ["%FF", "a%C3%28", "%ED%A0%80", "%zz", "%1", "%"] {
                    add(format!("{name} is {value}"), &[400], Some(name), &|parts| {
                        put(parts, name, value.to_owned());
                    });
                }
                add(format!("{name} is there twice"), &[400], Some(name), &|parts| {
                    for _ in 0..2 {
                        parts.query.push((name.to_owned(), "shop".to_owned()));
                    }
                });
                if parameter.is_required {
                    add(format!("{name} is missing"), &[400], Some(name), &|parts| {
                        parts.query.retain(|(known, _)| known != name);
                    });
                }
            }
            "header" => headers(name, &mut add),
            place => panic!("a parameter in the {place}"),
        }
    }
    if let Some(Body::Json(fields)) = &operation.body {
        for field in fields {
            members(field, &mut add);
        }
        add("an unknown member".to_owned(), &[400], Some("colour"), &|parts| {
            parts.json.as_mut().unwrap().insert("colour\u{202e}\u{1b}".into(), json!(1));
        });
        bodies(operation, &base, fields, &mut cases);
    }
    cases
}

type Add<'a> = dyn FnMut(String, &'static [u16], Option<&str>, &dyn Fn(&mut Parts)) + 'a;

/// A header that is not what it should be.
fn headers(name: &str, add: &mut Add<'_>) {
    let values: Vec<Vec<u8>> = match name {
        "Idempotency-Key" => vec![
            b"".to_vec(),
            b"a b".to_vec(),
            b"k\xff".to_vec(),
            "schlüssel".into(),
            vec![b'k'; 256],
            vec![b'k'; 5_000],
        ],
        "If-Match" | "If-None-Match" => {
            vec![
                b"a".to_vec(),
                b"\"a".to_vec(),
                b"*, \"a\"".to_vec(),
                b"".to_vec(),
                b"\"\xff".to_vec(),
            ]
        }
        // Whatever is no range of bytes does not count (RFC 9110, section 14.2).
        "Range" | "If-Range" | "TE" => Vec::new(),
        other => panic!("no unlawful value is known of the header {other}"),
    };
    for value in values {
        let line = [name.as_bytes(), b": ", &value].concat();
        let what = format!("{name} is {:.40}", String::from_utf8_lossy(&value));
        add(what, &[400], Some(name), &|parts| parts.headers.push(line.clone()));
    }
    if !matches!(name, "TE" | "If-Match" | "If-None-Match") {
        add(format!("{name} is there twice"), &[400], Some(name), &|parts| {
            parts.headers.push(format!("{name}: a").into_bytes());
            parts.headers.push(format!("{name}: a").into_bytes());
        });
    }
}

/// A member of a body that is not what it should be.
fn members(field: &Field, add: &mut Add<'_>) {
    let name = field.name.as_str();
    let mut values = out_of_range(name);
    for (kind, value) in of_each_type() {
        if !field.types.iter().any(|known| known == kind) {
            values.push(value);
        }
    }
    if field.types.iter().any(|kind| kind == "string") {
        let texts = unlawful(name).into_iter();
        values.extend(texts.map(|text| json!(String::from_utf8(text).unwrap())));
    }
    if name == "paths" {
        let texts = unlawful(name).into_iter();
        values.extend(texts.map(|text| json!([String::from_utf8(text).unwrap()])));
    }
    for value in values {
        let shown = value.to_string();
        add(format!("{name} is {shown:.60}"), &[400, 404], Some(name), &|parts| {
            parts.json.as_mut().unwrap().insert(name.to_owned(), value.clone());
        });
    }
    if field.is_required {
        add(format!("{name} is missing"), &[400], Some(name), &|parts| {
            parts.json.as_mut().unwrap().remove(name);
        });
    }
}

/// A body that is not what it should be, as a whole.
fn bodies(operation: &Operation, base: &Parts, fields: &[Field], cases: &mut Vec<Case>) {
    let lawful = operation.call(base);
    let good = lawful.body.clone().unwrap_or_default();
    let head = Call { body: None, headers: Vec::new(), ..lawful };
    let name = fields.first().map_or("slug", |field| field.name.as_str());
    let mut add = |what: &str, statuses: &'static [u16], kind: &str, body: Vec<u8>| {
        let what = format!("{}: the body is {what}", operation.id);
        cases.push(Case { what, call: head.clone().body(kind, body), statuses, name: None });
    };
    let json = "application/json";
    for text in ["[]", "null", "5", "true", "\"shop\"", "[\"shop\"]", "[{}]"] {
        add(text, &[400], json, text.into());
    }
    for text in ["{", "{}{}", "{} x", "{,}", "{'slug':'a'}", "{slug:1}", " ", "\u{feff}{}", "//"] {
        add(text, &[400], json, text.into());
    }
    for value in ["NaN", "1e400", "-Infinity", "01", "\"\\ud800\"", "\"\\x\"", "\"\u{1}\"", ""] {
        let text = format!("{{\"{name}\":{value}}}");
        add(&text, &[400], json, text.clone().into());
    }
    add("twice the same", &[400], json, format!("{{\"{name}\":null,\"{name}\":null}}").into());
    add("not UTF-8", &[400], json, [b"{\"", name.as_bytes(), b"\":\"\xff\"}"].concat());
    add("UTF-16", &[400], json, "{}".encode_utf16().flat_map(u16::to_be_bytes).collect());
    add("deep", &[400], json, "[".repeat(100_000).into());
    add("deep within", &[400], json, format!("{{\"{name}\":{}", "[".repeat(10_000)).into());
    add("10 MB", &[413], json, format!("{{\"{name}\":\"{}\"}}", "a".repeat(10 << 20)).into());
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        add(&format!("said to be {kind:?}"), &[400], kind, good.clone());
    }
    for kind in ["application/jsonp", "application/octet-stream", "json", "\u{1}"] {
        add(&format!("said to be {kind:?}"), &[400], kind, good.clone());
    }
    let packed = head.clone().body(json, good.clone()).header("Content-Encoding: gzip");
    let what = format!("{}: the body is packed", operation.id);
    let name = Some("content-encoding".to_owned());
    cases.push(Case { what, call: packed, statuses: &[415], name });
    let twice = head.body(json, good).header("Content-Type: text/plain");
    let what = format!("{}: the body is of two types", operation.id);
    let name = Some("content-type".to_owned());
    cases.push(Case { what, call: twice, statuses: &[400], name });
}

#[test]
fn every_parameter_and_field_is_refused_by_its_name_and_nothing_is_changed() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    let objects = victim.objects();
    let (mut count, mut failed) = (0, 0);
    for operation in operations() {
        for (n, case) in cases(&operation, &victim.entry).into_iter().enumerate() {
            let over = if n % 4 == 0 { Over::Socket } else { Over::Tcp };
            let answer = victim.send(over, &case.call);
            // The parser of HTTP refuses what is no header before it is a call.
            let is_unspoken = answer.status == 400 && answer.body.is_empty();
            if is_unspoken && case.call.headers.iter().any(|line| line.contains(&1)) {
                continue;
            }
            // Each that fails says so; the others are looked at all the same.
            let check = || {
                victim.refused(&case.what, case.statuses, &answer);
                case.is_named(&answer);
            };
            failed += usize::from(catch_unwind(AssertUnwindSafe(check)).is_err());
            count += 1;
        }
        assert_eq!(victim.state(), before, "after the bad calls of {}", operation.id);
    }
    victim.print_details();
    assert_eq!(failed, 0, "of {count}; each is told above");
    assert_eq!(victim.objects(), objects, "the store holds what it held");
    assert!(count > 1_000, "{count}");
    cove_testkit::proof::figure("bad calls of every kind refused, nothing changed", count);
}

#[test]
fn an_archive_under_a_bad_name_and_a_range_of_nothing_are_refused() {
    let Some(victim) = Victim::start() else { return };
    let before = victim.state();
    for text in unlawful("slug") {
        let target = format!("/v1/projects?slug={}", escaped(&text));
        let call = Call::new("POST", &target).body("application/x-tar", vec![0; 1_024]);
        victim.refused(&target, &[400], &victim.send(Over::Tcp, &call));
    }
    let tar = || Call::new("POST", "/v1/projects").body("application/x-tar", vec![0; 1_024]);
    victim.refused("no name", &[400], &victim.send(Over::Tcp, &tar()));
    let both = Call::new("POST", "/v1/projects?slug=other").json(&json!({ "slug": "other" }));
    victim.refused("two names", &[400], &victim.send(Over::Tcp, &both));
    for body in [b"no archive at all".to_vec(), vec![0x5a; 4_096]] {
        let call = Call::new("POST", "/v1/projects?slug=other").body("application/x-tar", body);
        victim.refused("no archive", &[400], &victim.send(Over::Tcp, &call));
    }
    let content = "/v1/projects/shop/files/content?path=a.txt";
    let read = |range: &str| {
        let call = Call::new("GET", content).header(format!("Range: {range}"));
        victim.send(Over::Tcp, &call)
    };
    for range in
        ["bytes=5-2", "bytes=13-", "bytes=99-100", "bytes=-0", "bytes=18446744073709551615-"]
    {
        let answer = read(range);
        victim.refused(range, &[416], &answer);
        assert_eq!(answer.header("content-range"), Some("bytes */13"), "{range}");
    }
    for range in [
        "bytes=0-0,2-3",
        "lines=1-2",
        "bytes=a-b",
        "bytes=",
        "bytes=1",
        "bytes=99999999999999999999-",
    ] {
        let answer = read(range);
        assert_eq!((answer.status, answer.body.len()), (200, 13), "{range} does not count");
    }
    for (name, status) in [("If-Match: \"other\"", 412), ("If-None-Match: *", 412)] {
        let call = Call::new("PUT", content).header(name).body("", "replaced");
        victim.refused(name, &[status], &victim.send(Over::Tcp, &call));
    }
    assert_eq!(victim.state(), before);
}
