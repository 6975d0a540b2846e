//! `docs/mission.md` claims only what can be looked up.

use crate::assert_none;
use crate::documents::quoted_paths;
use crate::repository::{exists, read};

const FILE: &str = "docs/mission.md";
const ROWS: usize = 24;
const STATES: [&str; 3] = ["works", "partly", "not yet"];

/// The cells of the rows `| M1 | … |`.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with("| M"));
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

fn faults(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    let rows = rows(text);
    for number in 1..=ROWS {
        let id = format!("M{number}");
        if rows.iter().filter(|row| row[0] == id).count() != 1 {
            faults.push(format!("{FILE} has not exactly one row {id}"));
        }
    }
    for row in &rows {
        let [id, _what, _command, code, test, state] = row[..] else {
            faults.push(format!("{FILE}: row {} has not six cells", row[0]));
            continue;
        };
        if !STATES.contains(&state) {
            faults.push(format!("{FILE}: {id} is `{state}`, which is none of {STATES:?}"));
        }
        for path in quoted_paths(code).chain(quoted_paths(test)).filter(|path| !exists(path)) {
            faults.push(format!("{FILE}: {id} names {path}, which does not exist"));
        }
        for (cell, what) in [(code, "code"), (test, "test")] {
            if state == "works" && quoted_paths(cell).next().is_none() {
                faults.push(format!("{FILE}: {id} works and names no {what}"));
            }
        }
    }
    faults
}

#[test]
fn the_mission_claims_only_what_exists() {
    assert_none(&faults(&read(FILE), exists));
}

#[test]
fn an_empty_claim_is_noticed() {
    let mut text: String =
        (4..=ROWS).map(|n| format!("| M{n} | a | – | – | – | not yet |\n")).collect();
    text += "| M1 | a | `cove a` | `crates/a` | `crates/gone` | works |\n";
    text += "| M2 | a | – | – | `crates/a` | works |\n";
    text += "| M2 | a | – | – | – | soon |\n";
    assert_eq!(
        faults(&text, |path| path == "crates/a"),
        [
            "docs/mission.md has not exactly one row M2",
            "docs/mission.md has not exactly one row M3",
            "docs/mission.md: M1 names crates/gone, which does not exist",
            "docs/mission.md: M2 works and names no code",
            "docs/mission.md: M2 is `soon`, which is none of [\"works\", \"partly\", \"not yet\"]",
        ]
    );
}
