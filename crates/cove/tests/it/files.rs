//! What `files` reads and changes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::json;

use crate::harness::{Cove, Objects, list, texts};

#[test]
fn an_entry_is_read_searched_and_copied_without_restoring_it() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    fs::create_dir_all(source.join("src/deep")).unwrap();
    fs::write(source.join("src/deep/app.ts"), "// TODO: first\nline\n// TODO: second\n").unwrap();
    fs::write(source.join("top.ts"), "nothing to do\n").unwrap();
    cove.json(&["new", "shop", "--from", source.to_str().unwrap()]);
    let entry = cove.snapshot("shop", "all");
    cove.json(&["files", "rm", "-r", "shop:/src"]);
    let at = |path: &str| format!("shop@{entry}:{path}");

    cove.refuses(3, &["files", "ls", "shop:/src"]);
    assert_eq!(texts(&cove.json(&["files", "ls", &at("/src")])["files"], "path"), ["src/deep"]);
    assert_eq!(
        texts(&cove.json(&["files", "ls", "-R", &at("/")])["files"], "path"),
        ["src", "src/deep", "src/deep/app.ts", "top.ts"]
    );
    let found = cove.json(&["files", "find", &at("/"), "*.ts"]);
    assert_eq!(texts(&found["files"], "path"), ["src/deep/app.ts", "top.ts"]);
    let matches = cove.json(&["files", "grep", "TODO", &at("/src")]);
    let lines: Vec<_> = list(&matches["matches"]).iter().map(|one| one["line"].clone()).collect();
    assert_eq!(lines, [1, 3]);
    assert_eq!(cove.json(&["files", "stat", &at("/src")])["files"][0]["kind"], "directory");
    cove.json(&["cp", &at("/src"), "out"]);
    same_contents(&source.join("src"), &cove.dir.path().join("out"));
    // The same after nothing of it is on this node any more.
    assert_eq!(cove.text(&["files", "cat", &at("/top.ts")]), "nothing to do\n");
}

#[track_caller]
fn same_contents(expected: &std::path::Path, found: &std::path::Path) {
    let contents = |dir: &std::path::Path| -> Vec<_> {
        let below = |path: std::path::PathBuf| path.strip_prefix(dir).unwrap().to_owned();
        crate::harness::contents(dir)
            .into_iter()
            .map(|(path, bytes)| (below(path), bytes))
            .collect()
    };
    assert_eq!(contents(expected), contents(found));
}

#[test]
fn files_are_searched_with_the_flags_of_grep_and_find() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let put = |path: &str, bytes: &[u8]| {
        cove.cove_with(&["files", "put", &format!("shop:{path}")], bytes).success();
    };
    cove.json(&["files", "mkdir", "-p", "shop:/src/deep"]);
    put("/src/deep/app.ts", b"// TODO: (a)\n// todo b\n");
    put("/src/data", b"TODO\0");
    let grep = |arguments: &[&str]| {
        let all: Vec<&str> = [&["files", "grep"], arguments, &["shop:/"]].concat();
        cove.text(&all)
    };
    assert_eq!(grep(&["(a)"]), "src/deep/app.ts:1:// TODO: (a)\n");
    assert_eq!(grep(&["-rnF", "(a)"]), grep(&["(a)"]));
    assert_eq!(grep(&["-E", "TODO: .a.$"]), grep(&["(a)"]));
    assert_eq!(grep(&["-i", "todo"]).lines().count(), 2);
    assert_eq!(grep(&["-il", "todo"]), "src/deep/app.ts\n");
    let none = cove.cove(&["files", "grep", "nowhere", "shop:/"]).success();
    assert!(none.stderr.contains("1 binary file was not searched"), "{}", none.stderr);
    cove.refuses(2, &["files", "grep", "-E", "(", "shop:/"]);
    let find = |arguments: &[&str]| {
        let all: Vec<&str> = [&["files", "find", "shop:/"], arguments].concat();
        texts(&cove.json(&all)["files"], "path")
    };
    assert_eq!(find(&["-name", "*.ts"]), ["src/deep/app.ts"]);
    assert_eq!(find(&["-type", "d"]), ["src", "src/deep"]);
    assert_eq!(find(&["*/deep/*"]), ["src/deep/app.ts"]);
    assert_eq!(cove.json(&["files", "rm", "-f", "shop:/none"])["files"], json!([]));
    let text = cove.json(&["files", "cat", "shop:/src/data"]);
    assert_eq!(text["content"]["data"], "TODO\0");
    put("/bytes", &[0xff, 0xfe, 0xfd]);
    let bytes = cove.json(&["files", "cat", "shop:/bytes"]);
    let expected = json!({ "path": "bytes", "bytes": 3, "encoding": "base64", "data": "//79" });
    assert_eq!(bytes, json!({ "content": expected }));
}

#[test]
fn a_file_that_is_put_keeps_the_mode_of_the_one_it_replaces() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let put = |path: &str, bytes: &[u8]| {
        let output = cove.cove_with(&["files", "put", &format!("shop:{path}")], bytes).success();
        assert_eq!(output.stdout, format!("{}\n", &path[1..]));
    };
    put("/run.sh", b"#!/bin/sh\n");
    let found = fs::metadata(root.join("run.sh")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o644, 1000, 1000));
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o4750)).unwrap();
    put("/run.sh", b"#!/bin/bash\n");
    let found = fs::metadata(root.join("run.sh")).unwrap();
    assert_eq!(found.mode() & 0o777, 0o750);
    put("/empty", b"");
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    put("/large", &bytes);
    assert_eq!(cove.cove(&["files", "cat", "shop:/large"]).success().bytes, bytes);
    cove.refuses(3, &["files", "put", "shop:/no/such/directory"]);
    cove.json(&["files", "mkdir", "shop:/dir"]);
    cove.refuses(4, &["files", "put", "shop:/dir"]);
    assert_eq!(
        texts(&cove.json(&["files", "ls", "-R", "shop:/"])["files"], "path"),
        ["dir", "empty", "large", "run.sh"],
        "temporary files of ours are never in the workspace"
    );
}

#[test]
fn paths_are_escaped_in_what_is_printed_and_may_be_written_so() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let name = OsStr::from_bytes(b"bell\x07-\xff-back\\slash-\xe2\x80\xaebidi");
    fs::write(root.join(name), "found").unwrap();
    let escaped = r"bell\x07-\xff-back\\slash-\xe2\x80\xaebidi";
    let listed = cove.json(&["files", "ls", "shop:/"]);
    assert_eq!(texts(&listed["files"], "path"), [escaped]);
    assert!(cove.text(&["files", "ls", "shop:/"]).contains(escaped));
    assert_eq!(cove.text(&["files", "cat", &format!("shop:/{escaped}")]), "found");
    cove.refuses(2, &["snapshot", "shop", "-m", "\u{1b}[31mred\u{1b}[0m"]);
    let entry = cove.snapshot("shop", "names");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{entry}:/{escaped}")]), "found");
    fs::remove_file(root.join(name)).unwrap();
    let changes = cove.json(&["diff", &format!("shop@{entry}..shop")]);
    assert_eq!(changes["changes"][0]["path"], escaped);
    cove.json(&["restore", "shop", &entry, "--", escaped]);
    assert_eq!(fs::read(root.join(name)).unwrap(), b"found");
}

#[test]
fn a_move_goes_into_a_directory_once_and_a_directory_replaces_nothing() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    for path in ["d/x", "e", "x"] {
        cove.json(&["files", "mkdir", &format!("shop:/{path}")]);
    }
    cove.cove_with(&["files", "put", "shop:/file"], b"content").success();
    let paths = || texts(&cove.json(&["files", "ls", "-R", "shop:/"])["files"], "path");
    let before = paths();

    // A directory of its name is there: it was moved into that one.
    let said = cove.refuses(4, &["files", "mv", "shop:/x", "shop:/d"]);
    assert!(said.contains("d/x exists already"), "{said}");
    // This said that the file, which is there, does not exist.
    let said = cove.refuses(4, &["files", "mv", "shop:/d", "shop:/file"]);
    assert!(said.contains("file is a file, not a directory"), "{said}");
    cove.refuses(4, &["files", "mv", "shop:/e", "shop:/file/"]);
    assert_eq!(paths(), before, "nothing has changed");

    cove.json(&["files", "mv", "shop:/d/x", "shop:/e"]);
    cove.json(&["files", "mv", "shop:/e/x", "shop:/d/"]);
    cove.json(&["files", "mv", "shop:/e", "shop:/d/e/"]);
    cove.json(&["files", "mv", "shop:/d/e", "shop:/"]);
    assert_eq!(paths(), before);
    let body = br#"{"from": "d/x", "to": "/"}"#;
    let json = "Content-Type: application/json";
    let (status, said) = cove.call("POST", "/v1/projects/shop/files/move", &[json], body);
    assert_eq!(status, 409, "{said}");
    assert!(said.contains("x exists already"), "{said}");
}
