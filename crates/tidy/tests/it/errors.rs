//! Every kind of error has a page that tells what to do about it.

use crate::assert_none;
use crate::repository::{files, read};

/// The variants of `ErrorKind`, in kebab case.
fn kinds(source: &str) -> Vec<String> {
    let (_, body) = source.split_once("pub enum ErrorKind {").expect("the enum is in this file");
    let (body, _) = body.split_once("\n}").expect("the enum ends");
    let lines = body.lines().map(str::trim);
    let variants = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    variants.map(|line| kebab(line.trim_end_matches(','))).collect()
}

fn kebab(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// What a page must answer.
const SECTIONS: [&str; 3] = ["## What happened", "## Why, usually", "## What to do"];

fn faults(kinds: &[String], pages: &[(String, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    for kind in kinds {
        let Some((_, text)) = pages.iter().find(|(name, _)| name == kind) else {
            faults.push(format!("docs/errors/{kind}.md is missing"));
            continue;
        };
        for section in SECTIONS.iter().filter(|section| !text.contains(**section)) {
            faults.push(format!("docs/errors/{kind}.md has no `{section}`"));
        }
    }
    for (name, _) in pages.iter().filter(|(name, _)| !kinds.contains(name)) {
        faults.push(format!("docs/errors/{name}.md is about no kind of error"));
    }
    faults
}

#[test]
fn every_kind_of_error_has_a_page() {
    let kinds = kinds(&read("crates/types/src/error.rs"));
    assert!(kinds.contains(&"not-found".to_owned()), "{kinds:?}");
    let pages: Vec<(String, String)> = files()
        .into_iter()
        .filter_map(|file| {
            let name = file.path.strip_prefix("docs/errors/")?.strip_suffix(".md")?;
            (name != "README").then(|| (name.to_owned(), file.text.clone()))
        })
        .collect();
    assert_none(&faults(&kinds, &pages));
}

#[test]
fn a_missing_page_is_noticed() {
    let source = "pub enum ErrorKind {\n    /// Gone.\n    NotFound,\n    TimedOut,\n}\n";
    let kinds = kinds(source);
    assert_eq!(kinds, ["not-found", "timed-out"]);
    let pages = [
        ("not-found".to_owned(), "## What happened\n## What to do\n".to_owned()),
        ("gone".to_owned(), String::new()),
    ];
    assert_eq!(
        faults(&kinds, &pages),
        [
            "docs/errors/not-found.md has no `## Why, usually`",
            "docs/errors/timed-out.md is missing",
            "docs/errors/gone.md is about no kind of error",
        ]
    );
}
