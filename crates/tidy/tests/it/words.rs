//! The repository stands alone: it names nothing that only its makers have.

use crate::assert_none;
use crate::repository::{File, files};

/// Words that mean something on one machine only. They are written in halves,
/// so that this file does not hold them.
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("DES", "IGN.md"),
    concat!("DES", "IGN §"),
    concat!("STY", "LE.md"),
    concat!("STY", "LE §"),
    concat!("shared/", "facts"),
    concat!("issues", " show"),
    concat!("issues", " note"),
    concat!("bash_", "jobs"),
    concat!("cla", "ude"),
    concat!("anthro", "pic"),
];

/// Characters that show a reader something else than what is there.
fn is_deceptive(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn faults(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for File { path, text } in files {
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let lower = line.to_lowercase();
            for word in FOREIGN.iter().filter(|word| lower.contains(&word.to_lowercase())) {
                faults.push(format!("{path}:{number} names `{word}`"));
            }
            if line.contains(is_deceptive) {
                faults.push(format!("{path}:{number} has a character that cannot be seen"));
            }
        }
    }
    faults
}

#[test]
fn nothing_is_named_that_only_its_makers_have() {
    assert_none(&faults(&files()));
}

#[test]
fn a_foreign_word_is_noticed() {
    let path = concat!("/wo", "rk/main");
    let files = [
        File::new("a.md", &format!("fine\nsee {path}\n")),
        File::new("b.rs", "// /workspace is ours\nlet a = \"\u{202e}\";\n"),
    ];
    let place = FOREIGN[0];
    assert_eq!(
        faults(&files),
        [
            format!("a.md:2 names `{place}`"),
            "b.rs:2 has a character that cannot be seen".to_owned()
        ]
    );
}
