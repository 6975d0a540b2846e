//! What is printed for people: errors, hints, and nothing that a terminal obeys.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use cove_types::{EntryId, OperationId};

use crate::harness::{Cove, Objects, Output, Settings, run, text};

/// Every verb that needs a running Cove, with arguments that make sense.
const VERBS: [&[&str]; 30] = [
    &["new", "shop"],
    &["ls"],
    &["show", "shop"],
    &["path", "shop"],
    &["files", "ls", "shop:/"],
    &["files", "cat", "shop:/a"],
    &["files", "put", "shop:/a"],
    &["files", "rm", "shop:/a"],
    &["files", "mv", "shop:/a", "shop:/b"],
    &["files", "mkdir", "shop:/d"],
    &["files", "stat", "shop:/a"],
    &["files", "find", "shop:/"],
    &["files", "grep", "x", "shop:/"],
    &["cp", "shop:/a", "a"],
    &["snapshot", "shop"],
    &["timeline", "shop"],
    &["diff", "shop@~1..shop"],
    &["fork", "shop"],
    &["restore", "shop", "~1"],
    &["pin", "shop@~1"],
    &["unpin", "shop@~1"],
    &["label", "shop@~1", "v1"],
    &["rename", "shop", "other"],
    &["rm", "shop"],
    &["trash"],
    &["undelete", "shop"],
    &["wait", "shop"],
    &["recover"],
    &["verify"],
    &["doctor"],
];

#[test]
fn without_a_running_cove_every_verb_says_how_to_start_one() {
    let Some(mut cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    fs::write(cove.dir.path().join("one"), "one").unwrap();
    // Before the first start, and after an end that left its socket behind.
    for round in ["nothing is there", "a socket is left"] {
        for arguments in VERBS.into_iter().chain([&["cp", "one", "shop:/one"][..]]) {
            for json in [false, true] {
                let all: Vec<&str> =
                    arguments.iter().copied().chain(json.then_some("--json")).collect();
                let output = cove.cove(&all);
                assert_eq!(output.code, 7, "{round}: {all:?}: {}", output.stderr);
                let said = &output.stderr;
                assert!(said.starts_with("error: no Cove is running"), "{round}: {all:?}: {said}");
                assert!(said.contains("\n\nhint: ") && said.contains("cove up --detach"), "{said}");
                assert_eq!(output.stdout, "", "{round}: {all:?}");
            }
        }
        if round == "nothing is there" {
            assert!(!cove.home.exists(), "who only asks makes nothing");
            cove.up();
            cove.kill9();
        }
    }
}

/// Nothing that a terminal would obey, but lines.
#[track_caller]
fn is_plain(what: &[&str], output: &Output) {
    for (stream, text) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let bad = text.chars().find(|one| {
            one.is_control() && !matches!(one, '\n' | '\t')
                || ('\u{202a}'..='\u{202e}').contains(one)
        });
        assert_eq!(bad, None, "{what:?} on {stream}: {text:?}");
    }
}

#[test]
fn what_is_piped_has_nothing_that_a_terminal_obeys() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    let evil = OsStr::from_bytes(b"\x1b[31mred\x1b[0m\x07\r-\xff-\xe2\x80\xaetxt");
    let shown = r"\x1b[31mred\x1b[0m\x07\x0d-\xff-\xe2\x80\xaetxt";
    fs::create_dir(source.join(evil)).unwrap();
    fs::write(source.join(evil).join(evil), "needle \x1b[2J\n").unwrap();
    std::os::unix::fs::symlink(evil, source.join("link")).unwrap();
    let device = run(std::process::Command::new("mkfifo").arg(source.join("fifo\x1b[1m")), b"");
    assert_eq!(device.code, 0, "{}", device.stderr);
    let plain = |arguments: &[&str], code: i32| {
        let output = cove.cove_with(arguments, b"input");
        assert_eq!(output.code, code, "{arguments:?}: {}", output.stderr);
        is_plain(arguments, &output);
        output
    };
    let below = format!("shop:/{shown}");
    let inside = format!("shop:/{shown}/{shown}");

    plain(&["new", "shop", "--from", "source"], 0);
    let entry = plain(&["snapshot", "shop", "-m", "grüße"], 0).stdout.trim().to_owned();
    for arguments in [
        &["ls"][..],
        &["show", "shop"],
        &["timeline", "shop"],
        &["files", "ls", "shop:/"],
        &["files", "ls", "-R", "shop:/"],
        &["files", "ls", &below],
        &["files", "stat", &inside],
        &["files", "find", "shop:/"],
        &["files", "grep", "needle", "shop:/"],
        &["cp", &below, "out"],
        &["files", "put", &inside],
        &["files", "mv", &inside, &format!("{below}/moved")],
        &["diff", &format!("shop@{entry}..shop")],
        &["diff", &format!("shop@{entry}..shop"), "--stat"],
        &["diff", &format!("shop@{entry}..shop"), "--name-status"],
        &["restore", "shop", &entry, "--", shown],
        &["fork", "shop"],
        &["verify"],
        &["doctor"],
        &["recover"],
        &["rm", "shop-1"],
        &["trash"],
        &["undelete", "shop-1"],
        &["--help"],
        &["--version"],
    ] {
        plain(arguments, 0);
    }
    let listed = plain(&["files", "ls", "shop:/"], 0).stdout;
    assert!(listed.contains(shown), "{listed}");
    // Refusals repeat what was said to them.
    plain(&["show", "\x1b[31m"], 2);
    plain(&["files", "cat", "shop:/\x1b[31m"], 3);
    plain(&["files", "cat", &below], 4);
    plain(&["files", "cat", "shop@\x1b[31m:/"], 2);
    plain(&["snapshot", "shop", "-m", "\x1b[31m"], 2);
    plain(&["snapshot", "shop", "--label", "\x1b[31m"], 2);
    plain(&["new", "other", "--from", "\x1b[31m"], 3);
    plain(&["cp", "\x1b[31m", "shop:/x"], 3);
    plain(&["restore", "shop", &entry, "--", "\x1b[31m"], 3);
    plain(&["\x1b[31m"], 2);
}

#[test]
fn a_terminal_without_colours_is_shown_none() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    // `script` runs a program on a terminal of its own.
    let on_a_terminal = |verb: &str, variable: &str| {
        let command = cove.program_of(&[]);
        let program = command.get_program().to_str().unwrap().to_owned();
        let mut script = std::process::Command::new("script");
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("TERM", "xterm-256color").env_remove("NO_COLOR").env(variable, "1");
        script.args(["-qec", &format!("{program} {verb}"), "/dev/null"]);
        run(&mut script, b"").stdout
    };
    // The end of a sequence for colours and weights.
    let has_colours = |text: &str| {
        text.split("\x1b[").skip(1).any(|rest| {
            rest.trim_start_matches(|one: char| one.is_ascii_digit() || one == ';').starts_with('m')
        })
    };
    assert!(has_colours(&on_a_terminal("--help", "ANYTHING")), "there are some to leave out");
    for verb in ["--help", "ls", "show shop", "snapshot shop", "timeline shop", "doctor", "show x"]
    {
        let text = on_a_terminal(verb, "NO_COLOR");
        assert!(!has_colours(&text), "{verb}: {text:?}");
    }
}

#[test]
fn an_ambiguous_prefix_is_refused_with_its_candidates() {
    let variables = vec![("COVE_MAX_SNAPSHOTS_PER_PROJECT", "200".to_owned())];
    let settings = Settings { variables, ..Settings::with(Objects::Directory) };
    let Some(cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    // Two operations whose entries begin alike.
    let entry_of = |operation: &OperationId| EntryId::derive(operation, "snapshot").to_string();
    let operation = |n: u32| {
        OperationId::new(u32::MAX, [&[7; 8][..], &n.to_be_bytes()].concat().try_into().unwrap())
    };
    let mut seen = std::collections::HashMap::new();
    let (one, two) = (0..)
        .find_map(|n| {
            let id = entry_of(&operation(n));
            seen.insert(id[..3].to_owned(), n).map(|before| (operation(before), operation(n)))
        })
        .unwrap();
    const ENTRIES: &str = "/v1/projects/shop/entries?wait_ms=30000";
    for operation in [&one, &two] {
        let key = format!("Idempotency-Key: {operation}");
        let headers = [key.as_str(), "Content-Type: application/json"];
        let (status, body) = cove.call("POST", ENTRIES, &headers, b"{}");
        assert_eq!(status, 201, "{body}");
    }
    let (one, two) = (entry_of(&one), entry_of(&two));
    let ids: Vec<String> = cove.timeline("shop").iter().map(|entry| text(&entry["id"])).collect();
    assert!(ids.contains(&one) && ids.contains(&two), "{ids:?}");
    let common = one.bytes().zip(two.bytes()).take_while(|(a, b)| a == b).count();
    for at in [&one[..3], &one[..common]] {
        for arguments in [
            &["pin", &format!("shop@{at}")][..],
            &["restore", "shop", at],
            &["files", "ls", &format!("shop@{at}:/")],
            &["fork", &format!("shop@{at}")],
            &["diff", &format!("shop@{at}..shop")],
        ] {
            let said = cove.refuses(2, arguments);
            assert!(said.contains(&one) && said.contains(&two), "the candidates: {said}");
            assert!(said.contains("hint: "), "{said}");
        }
    }
    assert_eq!(cove.json(&["ls"])["projects"].as_array().unwrap().len(), 1, "nothing was made");
    cove.json(&["pin", &format!("shop@{}", &one[..=common])]);
    cove.json(&["restore", "shop", &format!("@{}", &two[..=common])]);
    // Fewer than three characters are no prefix, but might be a label.
    cove.refuses(3, &["pin", &format!("shop@{}", &one[..2])]);
}
