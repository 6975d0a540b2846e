//! The guide does what it says, as its reader would do it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Deserializer, Value, json};

use super::client::{PROTO, grpcurl};
use super::quiet;
use crate::harness::{Cove, run};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/hub.md");

/// A member of an object that is shown with others left out.
const MORE: &str = "…";

/// Commands of the guide, and what it shows of what they say.
#[derive(Debug)]
struct Block {
    line: usize,
    commands: String,
    shown: Option<(String, String)>,
}

fn blocks(guide: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = guide.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let Some(language) = line.strip_prefix("```") else { continue };
        let text: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let text = text.join("\n");
        match (language, blocks.last_mut()) {
            ("sh", _) => blocks.push(Block { line: at + 1, commands: text, shown: None }),
            ("json" | "text", Some(last)) => {
                assert!(last.shown.is_none(), "line {}: what says this?", at + 1);
                last.shown = Some((language.to_owned(), text));
            }
            // a program in another language
            ("python", _) => {}
            _ => panic!("line {}: a block of {language:?}", at + 1),
        }
    }
    blocks
}

/// All objects of a text.
fn objects(text: &str) -> Vec<Value> {
    let objects = Deserializer::from_str(text).into_iter();
    objects.map(|one| one.unwrap_or_else(|error| panic!("{error}: {text}"))).collect()
}

/// Where what is shown differs in form from what is said; what is only another value of a kind does not.
fn differences(place: &str, shown: &Value, said: &Value) -> Vec<String> {
    match (shown, said) {
        (Value::Object(shown), Value::Object(said)) => {
            let mut all: BTreeSet<&str> = shown.keys().map(String::as_str).collect();
            let has_more = all.remove(MORE);
            if !has_more {
                all.extend(said.keys().map(String::as_str));
            }
            let compare = |key: &str| {
                let place = format!("{place}.{key}");
                match (shown.get(key), said.get(key)) {
                    (Some(shown), Some(said)) => differences(&place, shown, said),
                    (shown, _) => vec![format!(
                        "{place} is {} shown",
                        ["not", "only"][usize::from(shown.is_some())]
                    )],
                }
            };
            all.into_iter().flat_map(compare).collect()
        }
        (Value::Array(shown), Value::Array(said)) => {
            if shown.len() != said.len() {
                return vec![format!("{place} has {} items, not {}", said.len(), shown.len())];
            }
            let pairs = shown.iter().zip(said).enumerate();
            pairs.flat_map(|(n, (a, b))| differences(&format!("{place}[{n}]"), a, b)).collect()
        }
        (Value::String(shown), Value::String(said)) => {
            let is_word = |text: &str| text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            let is_name =
                !place.ends_with(".node") && shown.bytes().all(|b| b.is_ascii_lowercase());
            let same_kind = shown.parse::<u64>().is_ok() == said.parse::<u64>().is_ok()
                && shown.parse::<jiff::Timestamp>().is_ok()
                    == said.parse::<jiff::Timestamp>().is_ok()
                && shown.starts_with('/') == said.starts_with('/')
                && shown.contains('@') == said.contains('@');
            match (is_word(shown) || is_name) && shown != said || !same_kind {
                true => vec![format!("{place} is {said:?}, not {shown:?}")],
                false => Vec::new(),
            }
        }
        (shown, said) if std::mem::discriminant(shown) == std::mem::discriminant(said) => {
            Vec::new()
        }
        (shown, said) => vec![format!("{place} is {said}, not {shown}")],
    }
}

#[test]
fn each_command_of_the_guide_works_and_says_what_is_shown() {
    let Some(grpcurl) = grpcurl() else { return };
    let Some(cove) = Cove::start_with(quiet()) else { return };
    let guide = fs::read_to_string(GUIDE).unwrap();
    let blocks = blocks(&guide);
    // one shell for all, as a reader has; what each block says goes to a file of its own
    let mut script = String::from("set -eu\n");
    for (number, block) in blocks.iter().enumerate() {
        script += &format!("echo {number} >at\n{{\n{}\n}} >said-{number} 2>&1\n", block.commands);
    }
    let reader = cove.make_dir("reader");
    let tools = Path::new(&grpcurl).parent().expect("a file is in a directory");
    let path = std::env::var("PATH").unwrap();
    let mut shell = Command::new("timeout");
    shell.args(["600", "sh", "-s"]).current_dir(&reader).env("COVE_HOME", &cove.home);
    shell.env("HOME", &reader).env("PATH", format!("{}:{path}", tools.display()));
    let output = run(&mut shell, script.as_bytes());
    let said = |number: usize| {
        fs::read_to_string(reader.join(format!("said-{number}"))).unwrap_or_default()
    };
    if output.code != 0 {
        let at: usize = fs::read_to_string(reader.join("at")).unwrap().trim().parse().unwrap();
        let (line, said) = (blocks[at].line, said(at));
        panic!("the block at line {line} ends with {}: {said}{}", output.code, output.stderr);
    }
    let mut wrong = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        let (line, said) = (block.line, said(number));
        match &block.shown {
            Some((language, shown)) if language == "json" => {
                // what a call says to people beside its objects
                let said: String = said
                    .lines()
                    .take_while(|line| *line != "ERROR:")
                    .collect::<Vec<_>>()
                    .join("\n");
                let (shown, mut found) = (objects(shown), objects(&said));
                // a watch goes on to tell of what is saved only after `listed`
                if shown.last() == Some(&json!({ "listed": true })) {
                    let listed = found.iter().position(|one| Some(one) == shown.last());
                    found.truncate(listed.map_or(found.len(), |at| at + 1));
                }
                if shown.len() != found.len() {
                    wrong.push(format!(
                        "line {line}: {} objects, not {}: {said}",
                        found.len(),
                        shown.len()
                    ));
                }
                let pairs = shown.iter().zip(&found);
                let found: Vec<String> = pairs.flat_map(|(a, b)| differences("", a, b)).collect();
                if !found.is_empty() {
                    wrong.push(format!("line {line}: {}\n{said}", found.join("; ")));
                }
            }
            Some((_, shown)) if shown.trim() != said.trim() => {
                wrong.push(format!("line {line} shows\n{shown}\nand it says\n{said}"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_guide_has_every_call_of_the_service() {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let commands: Vec<String> = blocks(&guide).into_iter().map(|block| block.commands).collect();
    let commands = commands.join("\n");
    let proto = fs::read_to_string(PROTO).unwrap();
    let calls = proto.lines().filter_map(|line| line.strip_prefix("  rpc ")?.split('(').next());
    for call in calls {
        let is_called =
            commands.contains(&format!("' {call}")) || commands.contains(&format!("/{call}"));
        assert!(is_called, "{call} is in no command of the guide");
    }
}
