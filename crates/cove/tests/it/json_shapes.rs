//! What `--json` prints, member by member, for every verb.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::harness::{Cove, Objects, is_a_time, list, poll, text};

/// What a value must be.
#[derive(Debug)]
enum Is {
    Text,
    /// RFC 3339 in UTC.
    Time,
    Number,
    Flag,
    /// Four octal digits.
    Mode,
    /// One of these words.
    Word(&'static [&'static str]),
    Null,
    Or(&'static Is, &'static Is),
    ListOf(&'static Is),
    /// Members that are there; members that may be there besides; no others.
    Object(&'static [(&'static str, Is)], &'static [(&'static str, Is)]),
}

use Is::{Flag, ListOf, Mode, Null, Number, Object, Or, Text, Time, Word};

const TEXT_OR_NULL: Is = Or(&Text, &Null);
const NUMBER_OR_NULL: Is = Or(&Number, &Null);
const TIME_OR_NULL: Is = Or(&Time, &Null);
const DURABILITY: Is = Word(&["saved", "on_this_node"]);

const NOT_CAPTURED: Is = Object(&[("path", Text), ("what", Text)], &[]);

const HEALTH: Is = Object(
    &[
        ("state", Word(&["ok", "attention", "at_risk"])),
        (
            "problems",
            ListOf(&Object(
                &[("what", Text), ("since", Time), ("who_acts", Text), ("hint", TEXT_OR_NULL)],
                &[],
            )),
        ),
        ("node", Text),
        ("saved_at", TIME_OR_NULL),
        ("unsaved_bytes", NUMBER_OR_NULL),
        ("store", Word(&["reachable", "unreachable", "held_by_another", "unknown"])),
        ("last_verify", Or(&Object(&[("at", Time), ("problems", Number)], &[]), &Null)),
        ("not_captured", ListOf(&NOT_CAPTURED)),
        ("not_captured_count", Number),
    ],
    &[],
);

const PROJECT: Is = Object(
    &[
        ("quota_bytes", NUMBER_OR_NULL),
        ("name", Text),
        ("slug", Text),
        ("id", Text),
        ("volume", Text),
        ("path", TEXT_OR_NULL),
        (
            "forked_from",
            Or(&Object(&[("project", Text), ("entry", TEXT_OR_NULL), ("tree", Text)], &[]), &Null),
        ),
        ("durability", DURABILITY),
        ("saved_at", TIME_OR_NULL),
        ("saved_to", Text),
        ("unsaved_bytes", NUMBER_OR_NULL),
        ("bytes", Object(&[("logical", Number), ("unique", Number), ("shared", Number)], &[])),
        ("health", HEALTH),
    ],
    &[
        ("state", Word(&["live", "trashed"])),
        ("created_at", Time),
        ("trashed_at", TIME_OR_NULL),
        ("seq", Number),
        ("entries", Number),
    ],
);

const VOLUME: Is = Object(
    &[
        ("id", Text),
        ("name", Text),
        ("project", TEXT_OR_NULL),
        ("quota_bytes", NUMBER_OR_NULL),
        ("bytes", Object(&[("logical", Number), ("unique", Number), ("shared", Number)], &[])),
        ("durability", DURABILITY),
        (
            "health",
            Object(
                &[
                    ("state", Word(&["ok", "attention", "at_risk"])),
                    (
                        "problems",
                        ListOf(&Object(
                            &[
                                ("what", Text),
                                ("since", Time),
                                ("who_acts", Text),
                                ("hint", TEXT_OR_NULL),
                            ],
                            &[],
                        )),
                    ),
                ],
                &[],
            ),
        ),
        ("snapshots", Number),
    ],
    &[
        ("node", Text),
        ("path", TEXT_OR_NULL),
        ("saved_at", TIME_OR_NULL),
        ("saved_to", Text),
        ("unsaved_bytes", NUMBER_OR_NULL),
        ("labels", Object(&[], &[])),
        ("parameters", Object(&[], &[])),
        ("source", TEXT_OR_NULL),
        ("created_at", Time),
        ("seq", Number),
        ("epoch", Number),
    ],
);
const VOLUMES: Is = Object(&[("volumes", ListOf(&VOLUME))], &[]);
const A_VOLUME: Is = Object(&[("volume", VOLUME)], &[]);

const ENTRY: Is = Object(
    &[
        ("id", Text),
        ("kind", Word(&["manual", "before-restore", "rescue"])),
        ("message", TEXT_OR_NULL),
        ("label", TEXT_OR_NULL),
        ("author", Text),
        ("time", Time),
        ("pinned", Flag),
        ("consistency", Word(&["instant", "frozen", "not_one_instant"])),
        ("durability", DURABILITY),
        ("captured_ms", Number),
        ("saved_ms", NUMBER_OR_NULL),
        ("tree", TEXT_OR_NULL),
        ("tree_entries", NUMBER_OR_NULL),
        ("logical_bytes", NUMBER_OR_NULL),
        ("volume_snapshot", Null),
    ],
    &[("state", Word(&["live", "trashed"]))],
);

const FILE: Is = Object(
    &[
        ("path", Text),
        ("kind", Word(&["file", "directory", "symlink", "fifo", "socket"])),
        ("bytes", Number),
        ("mode", Mode),
        ("modified", Time),
    ],
    &[("target", Text)],
);

const CHANGE: Is = Object(
    &[("path", Text), ("change", Word(&["added", "removed", "modified", "renamed", "metadata"]))],
    &[
        ("from", Text),
        ("bytes_before", Number),
        ("bytes_after", Number),
        ("mode_before", Mode),
        ("mode_after", Mode),
    ],
);

const A_PROJECT: Is =
    Object(&[("project", PROJECT)], &[("entry", ENTRY), ("remarks", ListOf(&Text))]);
const PROJECTS: Is = Object(&[("projects", ListOf(&PROJECT))], &[]);
const AN_ENTRY: Is = Object(&[("entry", ENTRY), ("rolled_off", ListOf(&ENTRY))], &[]);
const ENTRIES: Is = Object(&[("entries", ListOf(&ENTRY))], &[]);
const CHANGES: Is = Object(&[("changes", ListOf(&CHANGE))], &[]);
const FILES: Is = Object(&[("files", ListOf(&FILE))], &[("remarks", ListOf(&Text))]);
const MATCHES: Is = Object(
    &[("matches", ListOf(&Object(&[("path", Text), ("line", Number), ("text", Text)], &[])))],
    &[],
);
const PATH: Is = Object(&[("path", Text)], &[]);
const RECOVERED: Is = Object(
    &[
        ("projects", ListOf(&PROJECT)),
        ("lost", ListOf(&Object(&[("what", Text), ("why", Text)], &[]))),
    ],
    &[
        ("volumes", Number),
        (
            "rebuilt",
            ListOf(&Object(
                &[
                    ("project", Text),
                    ("volume", Text),
                    ("lost_volume", Text),
                    ("recorded_at", Time),
                ],
                &[],
            )),
        ),
    ],
);
const VERIFIED: Is = Object(
    &[
        (
            "problems",
            ListOf(&Object(
                &[
                    ("what", Text),
                    ("project", TEXT_OR_NULL),
                    ("entry", TEXT_OR_NULL),
                    ("object", TEXT_OR_NULL),
                    ("paths", ListOf(&Text)),
                    ("nearest_good", TEXT_OR_NULL),
                ],
                &[("volume", Text)],
            )),
        ),
        (
            "checked",
            Object(
                &[
                    ("projects", Number),
                    ("volumes", Number),
                    ("entries", Number),
                    ("chunks", Number),
                    ("packs_read", Number),
                    ("bytes_read", Number),
                ],
                &[],
            ),
        ),
        ("not_captured", ListOf(&NOT_CAPTURED)),
    ],
    &[],
);
const CHECKS: Is = Object(
    &[(
        "checks",
        ListOf(&Object(&[("name", Text), ("ok", Flag), ("what", Text)], &[("hint", Text)])),
    )],
    &[],
);

/// What is wrong with a value, with where that is.
fn faults(at: &str, value: &Value, shape: &Is, found: &mut Vec<String>) {
    let mut expect = |is: bool| {
        if !is {
            found.push(format!("{at}: {value} is not {shape:?}"));
        }
    };
    match shape {
        Text => expect(value.is_string()),
        Time => match std::panic::catch_unwind(|| is_a_time(value)) {
            Ok(()) => {}
            Err(_) => expect(false),
        },
        Number => expect(value.is_u64()),
        Flag => expect(value.is_boolean()),
        Null => expect(value.is_null()),
        Mode => expect(value.as_str().is_some_and(|mode| {
            mode.len() == 4 && mode.bytes().all(|digit| (b'0'..b'8').contains(&digit))
        })),
        Word(words) => expect(value.as_str().is_some_and(|word| words.contains(&word))),
        Or(one, other) => {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            faults(at, value, one, &mut first);
            faults(at, value, other, &mut second);
            if !first.is_empty() && !second.is_empty() {
                found.extend(first);
            }
        }
        ListOf(one) => match value.as_array() {
            None => expect(false),
            Some(values) => {
                for (n, value) in values.iter().enumerate() {
                    faults(&format!("{at}[{n}]"), value, one, found);
                }
            }
        },
        Object(members, others) => match value.as_object() {
            None => expect(false),
            Some(object) => {
                for (name, shape) in members.iter() {
                    match object.get(*name) {
                        None => found.push(format!("{at}.{name} is missing")),
                        Some(value) => faults(&format!("{at}.{name}"), value, shape, found),
                    }
                }
                for (name, value) in object {
                    if members.iter().any(|(known, _)| known == name) {
                        continue;
                    }
                    match others.iter().find(|(known, _)| known == name) {
                        None => found.push(format!("{at}.{name} is nowhere described")),
                        Some((_, shape)) => {
                            faults(&format!("{at}.{name}"), value, shape, found);
                        }
                    }
                }
            }
        },
    }
}

#[test]
fn every_verb_prints_the_object_that_is_described() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    for dir in ["src", "dist"] {
        fs::create_dir(source.join(dir)).unwrap();
    }
    fs::write(source.join("src/app.ts"), "// TODO: all of it\n").unwrap();
    fs::write(source.join("dist/app.js"), "minified").unwrap();
    symlink("src/app.ts", source.join("link")).unwrap();
    fs::write(cove.dir.path().join("one"), "one").unwrap();
    let mut found = Vec::new();
    let mut look = |arguments: &[&str], shape: &Is| {
        let value = cove.json_with(arguments, 0, b"from standard input");
        faults(&arguments.join(" "), &value, shape, &mut found);
        value
    };

    look(&["ls"], &PROJECTS);
    look(&["new", "shop", "--from", "source"], &A_PROJECT);
    look(&["new", "empty"], &A_PROJECT);
    look(&["new", "later", "--no-wait"], &A_PROJECT);
    look(&["ls"], &PROJECTS);
    look(&["show", "shop"], &A_PROJECT);
    look(&["path", "shop"], &PATH);
    let volumes = look(&["volume", "ls"], &VOLUMES);
    assert_eq!(list(&volumes["volumes"]).len(), 3);
    look(&["volume", "status", &text(&volumes["volumes"][0]["id"])], &A_VOLUME);
    let one = look(&["snapshot", "shop", "-m", "one", "--label", "v1"], &AN_ENTRY);
    let one = text(&one["entry"]["id"]);
    look(&["snapshot", "shop", "--no-wait"], &AN_ENTRY);
    look(&["wait", "shop"], &A_PROJECT);
    look(&["timeline", "shop"], &ENTRIES);
    look(&["timeline", "shop", "--all"], &ENTRIES);
    let at = format!("shop@{one}");
    look(&["pin", &at], &AN_ENTRY);
    look(&["unpin", &at], &AN_ENTRY);
    look(&["label", &at, "v2"], &AN_ENTRY);
    look(&["label", &at, "--remove"], &AN_ENTRY);

    for place in ["shop:/".to_owned(), format!("{at}:/")] {
        look(&["files", "ls", &place], &FILES);
        look(&["files", "ls", "-R", &place], &FILES);
        look(&["files", "find", &place], &FILES);
        look(&["files", "find", &place, "*.ts"], &FILES);
        look(&["files", "find", &place, "--name", "*.ts"], &FILES);
        look(&["files", "grep", "TODO", &place], &MATCHES);
        look(&["files", "stat", &format!("{place}link")], &FILES);
    }
    look(&["files", "put", "shop:/new"], &FILES);
    look(&["files", "mkdir", "shop:/a/b"], &FILES);
    look(&["files", "mv", "shop:/new", "shop:/a/newer"], &FILES);
    look(&["files", "rm", "shop:/a/newer"], &FILES);
    look(&["files", "rm", "-r", "shop:/dist"], &FILES);
    look(&["cp", "one", "shop:/one"], &FILES);
    look(&["cp", "source", "shop:/copied"], &FILES);
    look(&["cp", "shop:/src", "copied"], &FILES);
    look(&["cp", &format!("{at}:/src/app.ts"), "app.ts"], &FILES);
    look(&["files", "mv", "shop:/src/app.ts", "shop:/src/moved.ts"], &FILES);
    let changes = look(&["diff", &format!("{at}..shop")], &CHANGES);
    assert!(list(&changes["changes"]).len() > 3, "{changes}");
    look(&["diff", &at], &CHANGES);
    look(&["diff", &at, "shop@now"], &CHANGES);

    look(&["fork", "shop"], &A_PROJECT);
    look(&["fork", &at, "--as", "fork", "--no-wait"], &A_PROJECT);
    look(&["fork", "shop", "--count", "2"], &PROJECTS);
    look(&["restore", "shop", &one], &A_PROJECT);
    look(&["restore", "shop", &format!("@{one}"), "--no-wait"], &A_PROJECT);
    look(&["restore", "shop", &one, "--", "src"], &A_PROJECT);
    look(&["rename", "shop-1", "renamed"], &A_PROJECT);
    look(&["rm", "renamed"], &A_PROJECT);
    look(&["trash"], &PROJECTS);
    look(&["undelete", "renamed"], &A_PROJECT);
    look(&["verify"], &VERIFIED);
    look(&["verify", "shop", "--level", "0"], &VERIFIED);
    look(&["verify", "shop", "--level", "2", "--read", "1/2"], &VERIFIED);
    look(&["doctor"], &CHECKS);
    look(&["recover"], &RECOVERED);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn lists_that_are_empty_are_lists() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    assert_eq!(cove.json(&["ls"]), json!({ "projects": [] }));
    assert_eq!(cove.json(&["trash"]), json!({ "projects": [] }));
    assert_eq!(cove.json(&["verify"])["problems"], json!([]));
    assert_eq!(cove.json(&["verify"])["not_captured"], json!([]));
    cove.json(&["new", "shop"]);
    assert_eq!(cove.json(&["timeline", "shop"]), json!({ "entries": [] }));
    assert_eq!(cove.json(&["files", "ls", "shop:/"]), json!({ "files": [] }));
    assert_eq!(cove.json(&["files", "ls", "-R", "shop:/"]), json!({ "files": [] }));
    assert_eq!(cove.json(&["files", "find", "shop:/", "x"]), json!({ "files": [] }));
    assert_eq!(cove.json(&["files", "grep", "x", "shop:/"]), json!({ "matches": [] }));
    let health = cove.json(&["show", "shop"])["project"]["health"].clone();
    assert_eq!(health["problems"], json!([]), "{health}");
    assert_eq!(health["not_captured"], json!([]));
    let entry = cove.json(&["snapshot", "shop"]);
    assert_eq!(entry["rolled_off"], json!([]));
    assert_eq!(cove.json(&["diff", "shop@~1..shop"]), json!({ "changes": [] }));
    assert_eq!(cove.json(&["recover"])["lost"], json!([]));
}

#[test]
fn a_verb_that_fails_prints_no_object() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    for (code, arguments) in [
        (3, &["show", "nothing", "--json"][..]),
        (2, &["show", "No Name", "--json"]),
        (4, &["new", "shop", "--json"]),
        (3, &["files", "cat", "shop:/nothing", "--json"]),
        (3, &["files", "ls", "shop:/nothing", "--json"]),
        (3, &["diff", "shop@~7..shop", "--json"]),
    ] {
        let output = cove.cove(arguments);
        assert_eq!(output.code, code, "{arguments:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{arguments:?}");
        assert!(output.stderr.starts_with("error: "), "{arguments:?}: {}", output.stderr);
    }
}

#[test]
fn sizes_and_durability_say_what_is_so() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let bytes: Vec<u8> = (0..500_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    cove.cove_with(&["files", "put", "shop:/large"], &bytes).success();
    let entry = cove.json(&["snapshot", "shop"]);
    assert_eq!(entry["entry"]["logical_bytes"], 2_000_000);
    assert_eq!(entry["entry"]["consistency"], "instant");
    assert_eq!(entry["entry"]["durability"], "saved");
    let sizes = |name: &str| cove.json(&["show", name])["project"]["bytes"].clone();
    assert_eq!(sizes("shop")["logical"], 2_000_000);
    cove.json(&["fork", "shop", "--as", "fork"]);
    let fork = poll("the fork's sizes are known", || {
        let sizes = sizes("fork");
        if sizes["logical"] == 2_000_000 { Ok(sizes) } else { Err(sizes.to_string()) }
    });
    assert!(fork["unique"].as_u64().unwrap() < 1_000_000, "it shares its bytes: {fork}");
    assert!(fork["shared"].as_u64().unwrap() > 1_900_000, "{fork}");
    // A hole takes nothing.
    let file = fs::File::create(cove.path("fork").join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    cove.json(&["snapshot", "fork"]);
    let sizes = sizes("fork");
    assert_eq!(sizes["logical"], (1 << 30) + 2_000_000);
    let allocated = sizes["unique"].as_u64().unwrap() + sizes["shared"].as_u64().unwrap();
    assert!(allocated < 4_000_000, "{sizes}");
    let shown = cove.json(&["show", "fork"])["project"].clone();
    assert_eq!((&shown["durability"], &shown["unsaved_bytes"]), (&json!("saved"), &json!(0)));
    let source = cove.json(&["show", "shop"])["project"].clone();
    assert_eq!(shown["forked_from"]["project"], source["id"]);
    assert_eq!(shown["forked_from"]["entry"], Value::Null);
    assert_eq!(shown["forked_from"]["tree"], entry["entry"]["tree"]);
}
