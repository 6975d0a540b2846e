//! The map matches the land: what documents name is there.

use crate::assert_none;
use crate::repository::{File, Package, exists, files, packages, read};

const MAP: &str = "ARCHITECTURE.md";

/// Where paths of this repository begin. Others in backticks (`volumes/<id>`)
/// are of pools, stores and machines.
const TOP: &[&str] = &[
    ".ci",
    ".githooks",
    "api",
    "bench",
    "crates",
    "demo",
    "deploy",
    "docs",
    "e2e",
    "openapi",
    "scripts",
    "specs",
    "web",
    "xtask",
];

/// The words between backticks.
pub fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The words between backticks that are paths of this repository.
pub fn quoted_paths(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |word: &&str| {
        let top = word.split('/').next().unwrap_or_default();
        TOP.contains(&top) && word.contains('/') && !word.contains([' ', '<', '*', '{', '…'])
    };
    quoted(text).filter(is_path).map(|path| path.trim_end_matches('/'))
}

/// Faults of the map: crates it does not show, and places that are not there. A
/// section `### crates/x` may name the crate's sources by file name alone.
fn faults_of_map(map: &str, packages: &[Package], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for Package { name, directory, .. } in packages {
        if !map.lines().any(|line| line == format!("### `{directory}`")) {
            faults.push(format!("{MAP} has no section for {name}"));
        }
    }
    let mut section = "";
    for line in map.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            section = quoted(title).next().unwrap_or_default();
        } else if line.starts_with('#') {
            section = "";
        }
        for path in quoted_paths(line).filter(|path| !exists(path)) {
            faults.push(format!("{MAP} names {path}, which does not exist"));
        }
        for file in
            quoted(line).filter(|word| word.ends_with(".rs") && !word.starts_with("crates/"))
        {
            if section.is_empty() || !exists(&format!("{section}/src/{file}")) {
                faults.push(format!("{MAP} names {file} in `{section}`, which has no such source"));
            }
        }
    }
    faults
}

/// Links of documents to files that are not there.
fn dead_links(files: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for File { path, text } in files.iter().filter(|file| file.path.ends_with(".md")) {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains(':') || target.contains(char::is_whitespace) {
                continue;
            }
            if !exists(&joined(directory, target)) {
                faults.push(format!("{path} links to {target}, which does not exist"));
            }
        }
    }
    faults
}

fn joined(directory: &str, target: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Decisions are numbered without gaps and say what they must.
fn faults_of_decisions(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expected = 1;
    for File { path, text } in files.iter().filter(|file| file.path.starts_with("docs/adr/")) {
        let name = path.trim_start_matches("docs/adr/");
        if name == "README.md" {
            continue;
        }
        let number = format!("{expected:04}");
        expected += 1;
        if !name.starts_with(&format!("{number}-")) {
            faults.push(format!("{path} is not number {number}"));
        }
        for part in [
            &format!("# {number} "),
            "Status: ",
            "## Context",
            "## Decision",
            "## Rejected",
            "## Consequences",
        ] {
            if !text.contains(part) {
                faults.push(format!("{path} has no `{part}`"));
            }
        }
    }
    faults
}

#[test]
fn the_map_shows_every_crate_and_no_place_that_is_not_there() {
    assert_none(&faults_of_map(&read(MAP), &packages(), exists));
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    assert_none(&dead_links(&files(), exists));
}

#[test]
fn decisions_are_numbered_and_whole() {
    assert_none(&faults_of_decisions(&files()));
}

#[test]
fn a_wrong_map_is_noticed() {
    let package = |name: &str| Package {
        name: format!("cove-{name}"),
        directory: format!("crates/{name}"),
        ..Package::default()
    };
    let map =
        "### `crates/a`\nStart at `b.rs`, then `gone.rs`. See `docs/lost.md` and `volumes/<id>`.\n";
    let there = ["crates/a", "crates/a/src/b.rs"];
    assert_eq!(
        faults_of_map(map, &[package("a"), package("z")], |path| there.contains(&path)),
        [
            "ARCHITECTURE.md has no section for cove-z",
            "ARCHITECTURE.md names docs/lost.md, which does not exist",
            "ARCHITECTURE.md names gone.rs in `crates/a`, which has no such source",
        ]
    );
}

#[test]
fn a_dead_link_is_noticed() {
    let text = "[a](../b.md#part) [c](c.md) [d](https://d.example) [e](#here)";
    let files = [File::new("docs/a.md", text)];
    assert_eq!(
        dead_links(&files, |path| path == "b.md"),
        ["docs/a.md links to c.md, which does not exist"]
    );
}

#[test]
fn a_gap_in_the_decisions_is_noticed() {
    let text =
        "# 0002 A\nStatus: accepted\n## Context\n## Decision\n## Rejected\n## Consequences\n";
    let faults = faults_of_decisions(&[File::new("docs/adr/0002-a.md", text)]);
    assert_eq!(
        faults,
        ["docs/adr/0002-a.md is not number 0001", "docs/adr/0002-a.md has no `# 0001 `"]
    );
}
