//! What a person sees on a terminal.

use std::fs;

use serde_json::Value;

use crate::harness::{Cove, Objects};

#[test]
fn results_stand_alone_on_a_terminal() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    cove.cove_with(&["files", "put", "shop:/end"], b"the end").success();
    cove.snapshot("shop", "first");
    for columns in [80, 200] {
        let cat = cove.on_terminal(columns, "files cat shop:/end");
        assert_eq!(without_echo(&cat), "the end", "{columns} columns");
        for verb in [
            "ls",
            "ls --json",
            "timeline shop",
            "path shop",
            "files ls shop:/",
            "diff shop@~1..shop",
        ] {
            let piped = cove.text(&verb.split(' ').collect::<Vec<_>>());
            let seen = cove.on_terminal(columns, verb).replace("\r\n", "\n");
            assert!(!seen.contains('\u{1b}'), "{verb} draws: {seen:?}");
            let words = |line: &str| without_ages(line).join(" ");
            let seen = without_echo(&seen);
            if verb.contains("--json") {
                // what it takes on the disk changes between two calls
                let lasting = |text: &str| {
                    let mut shown: Value = serde_json::from_str(text).unwrap();
                    for project in shown["projects"].as_array_mut().unwrap() {
                        assert!(project.as_object_mut().unwrap().remove("bytes").is_some());
                    }
                    shown
                };
                assert_eq!(lasting(&seen), lasting(&piped), "{verb}");
                assert_eq!(seen.lines().count(), piped.lines().count(), "{verb}");
                continue;
            }
            let first = |text: &str| text.lines().next().map(words);
            assert_eq!(first(&seen), first(&piped).or(Some("no difference".into())), "{verb}");
        }
    }
}

#[test]
fn a_bar_is_gone_before_the_result_stands_there() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    for n in 0..40_u32 {
        let bytes: Vec<u8> = (0..500_000_u32).flat_map(|m| (m * n).to_le_bytes()).collect();
        fs::write(source.join(format!("file-{n}")), bytes).unwrap();
    }
    let seen = cove.on_terminal(80, "new shop --from source");
    // What was drawn before the result was cleared: from there on there are lines only.
    let result = seen.rsplit("\u{1b}[2K").next().unwrap();
    assert!(
        result.starts_with("made shop (80.0 MB), saved") || !seen.contains('\u{1b}'),
        "{seen:?}"
    );
}

/// What was drawn without the echo of the end of the input, which comes before, between or behind.
fn without_echo(seen: &str) -> String {
    seen.replace("^D\u{8}\u{8}", "")
}

/// The words of a line without how long ago something was, which goes on between two calls, and
/// without the spaces of columns, which are as wide as that is.
fn without_ages(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        match (word, words.len().checked_sub(2)) {
            ("ago", Some(number)) => words.truncate(number),
            _ => words.push(word),
        }
    }
    words.retain(|word| !["just", "now"].contains(word));
    words
}
