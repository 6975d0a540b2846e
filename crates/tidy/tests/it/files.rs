//! Every file is compiled, under the name where a reader looks for it.

use std::path::Path;

use crate::assert_none;
use crate::repository::{File, files};

/// Source files that no `mod` line names, so that the compiler never sees them:
/// a test that is not compiled never fails.
fn forgotten(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for File { path, .. } in files {
        let Some((stem, directory)) = module(path) else { continue };
        let parents = [
            format!("{directory}.rs"),
            format!("{directory}/main.rs"),
            format!("{directory}/lib.rs"),
        ];
        let line = format!("mod {stem};");
        let named = files.iter().filter(|file| parents.contains(&file.path)).any(|file| {
            file.text.lines().map(str::trim).any(|text| {
                text == line
                    || text.strip_suffix(&line).is_some_and(|before| before.starts_with("pub"))
            })
        });
        if !named {
            faults.push(format!("{path} is compiled by nobody: no `{line}` in {directory}"));
        }
    }
    faults
}

/// A module's name and the directory it is in; `None` for what cargo finds by itself.
fn module(path: &str) -> Option<(&str, &str)> {
    let in_crate = path.strip_prefix("crates/")?.split_once('/')?.1;
    let (directory, name) = path.rsplit_once('/')?;
    let stem = name.strip_suffix(".rs")?;
    let source = in_crate.starts_with("src/") || in_crate.starts_with("tests/it/");
    let found = matches!(stem, "main" | "lib") || in_crate.starts_with("src/bin/");
    (source && !found).then_some((stem, directory))
}

/// Names that this repository does not use.
fn misnamed(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    for File { path, .. } in files {
        let name = Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            "mod.rs" => {
                faults.push(format!("{path} is named after nothing: use the module's name"));
            }
            "utils.rs" | "util.rs" | "helpers.rs" | "helper.rs" | "common.rs" | "misc.rs" => {
                faults.push(format!("{path} has no noun: what is it?"));
            }
            _ => {}
        }
        let parts: Vec<&str> = path.split('/').collect();
        if let ["crates", name, "tests", file] = parts[..]
            && file.ends_with(".rs")
        {
            faults.push(format!("{path} links the tree again: move it to crates/{name}/tests/it/"));
        }
    }
    faults
}

/// Crates without a line of code.
fn shells(files: &[File]) -> Vec<String> {
    let is_root = |path: &str| {
        let parts: Vec<&str> = path.split('/').collect();
        matches!(parts[..], ["crates", _, "src", "lib.rs" | "main.rs"])
    };
    let is_code =
        |line: &&str| !(line.is_empty() || line.starts_with("//") || line.starts_with("#!["));
    let mut faults = Vec::new();
    for File { path, text } in files.iter().filter(|file| is_root(&file.path)) {
        let code: Vec<&str> = text.lines().map(str::trim).filter(is_code).collect();
        if code.is_empty() || code == ["fn main() {}"] {
            faults.push(format!("{path} is an empty shell: a crate begins with its first content"));
        }
    }
    faults
}

#[test]
fn no_file_is_forgotten() {
    assert_none(&forgotten(&files()));
}

#[test]
fn files_are_named_for_what_they_hold() {
    assert_none(&misnamed(&files()));
}

#[test]
fn no_crate_is_an_empty_shell() {
    assert_none(&shells(&files()));
}

#[test]
fn a_forgotten_file_is_noticed() {
    let files = [
        File::new("crates/a/src/lib.rs", "pub mod known;\nmod nested;\n// mod lost;\n"),
        File::new("crates/a/src/known.rs", ""),
        File::new("crates/a/src/lost.rs", ""),
        File::new("crates/a/src/nested.rs", "pub(crate) mod inner;\n"),
        File::new("crates/a/src/nested/inner.rs", ""),
        File::new("crates/a/src/nested/tests.rs", ""),
        File::new("crates/a/src/bin/tool.rs", ""),
        File::new("crates/a/tests/it/main.rs", "mod kept;\n"),
        File::new("crates/a/tests/it/kept.rs", ""),
        File::new("crates/a/tests/it/dropped.rs", ""),
    ];
    let faults = forgotten(&files);
    let paths: Vec<&str> = faults.iter().filter_map(|fault| fault.split(' ').next()).collect();
    assert_eq!(
        paths,
        ["crates/a/src/lost.rs", "crates/a/src/nested/tests.rs", "crates/a/tests/it/dropped.rs"]
    );
}

#[test]
fn a_wrong_name_is_noticed() {
    let files = ["crates/a/src/b/mod.rs", "crates/a/src/utils.rs", "crates/a/tests/b.rs"];
    let faults = misnamed(&files.map(|path| File::new(path, "")));
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn an_empty_shell_is_noticed() {
    let files = [
        File::new("crates/a/src/lib.rs", "//! Placeholder.\n"),
        File::new("crates/b/src/main.rs", "//! A program.\n\nfn main() {}\n"),
        File::new("crates/c/src/lib.rs", "//! Something.\n\nmod thing;\n"),
    ];
    assert_eq!(shells(&files).len(), 2);
}
