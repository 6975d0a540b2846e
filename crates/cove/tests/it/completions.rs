//! What shells offer at a tab.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::{Cove, Objects, poll, run};

/// A project with two entries, one of which has a label, and one in the trash. What the label
/// begins with, `v1`, begins no id: their alphabet has no 1.
fn prepare() -> Option<(Cove, String)> {
    let cove = Cove::start(Objects::Directory)?;
    cove.json(&["new", "shop"]);
    let plain = cove.snapshot("shop", "plain");
    cove.json(&["snapshot", "shop", "-m", "named", "--label", "v10"]);
    let trashed = cove.snapshot("shop", "trashed");
    cove.json(&["rm", &format!("shop@{trashed}")]);
    cove.json(&["new", "other"]);
    Some((cove, plain))
}

/// Waits until just this is offered: a completion gives up after half a second, and a busy machine may need longer.
#[track_caller]
fn offers(what: &str, expected: &[&str], found: impl Fn() -> Vec<String>) {
    poll(what, || {
        let found = found();
        if found == expected { Ok(()) } else { Err(format!("{found:?}, not {expected:?}")) }
    });
}

/// A shell in which `cove` is this program.
fn shell(cove: &Cove, program: &str, script: &str) -> Option<String> {
    if run(Command::new("sh").args(["-c", &format!("command -v {program}")]), b"").code != 0 {
        eprintln!("SKIPPED: {program} is not installed");
        return None;
    }
    let built = PathBuf::from(env!("CARGO_BIN_EXE_cove"));
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(program);
    command.args(["-c", script]).current_dir(cove.dir.path());
    command.env("PATH", format!("{}:{path}", built.parent().unwrap().display()));
    command.env("COVE_HOME", &cove.home).env("HOME", cove.dir.path()).env_remove("COVE_URL");
    let output = run(&mut command, b"").success();
    assert_eq!(output.stderr, "", "{script}");
    Some(output.stdout)
}

#[test]
fn bash_offers_projects_and_entries_where_they_are_written() {
    let Some((cove, plain)) = prepare() else { return };
    // `$1` is the line, `$2` its words as bash takes them apart.
    let offered = |line: &str, words: &[&str]| {
        let script = format!(
            "source <(cove completions bash); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; \
             COMP_WORDS=({}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; _cove; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}' ")).collect::<String>()
        );
        let said = shell(&cove, "bash", &script)?;
        Some(said.lines().map(str::to_owned).collect::<Vec<_>>())
    };
    let Some(verbs) = offered("cove ", &["cove", ""]) else { return };
    for (verb, is_there) in [("ls", true), ("timeline", true), ("list", false), ("man", false)] {
        assert_eq!(verbs.contains(&verb.to_owned()), is_there, "{verb}: {verbs:?}");
    }
    let is = |line: &str, words: &[&str], expected: &[&str]| {
        offers(line, expected, || offered(line, words).unwrap());
    };
    is("cove show sh", &["cove", "show", "sh"], &["shop"]);
    is("cove restore sh", &["cove", "restore", "sh"], &["shop@"]);
    is("cove restore shop@", &["cove", "restore", "shop", "@"], &["v10", &plain]);
    is("cove restore shop@v1", &["cove", "restore", "shop", "@", "v1"], &["v10"]);
    is("cove files cat sh", &["cove", "files", "cat", "sh"], &["shop:/"]);
    is("cove files ls shop@v1", &["cove", "files", "ls", "shop", "@", "v1"], &["v10:/"]);
    is("cove cp oth", &["cove", "cp", "oth"], &["other:/"]);
    let both = ["cove", "diff", "shop", "@", "v10..shop", "@", "v1"];
    is("cove diff shop@v10..shop@v1", &both, &["v10"]);
    is("cove rm other sh", &["cove", "rm", "other", "sh"], &["shop"]);
    is("cove restore none@", &["cove", "restore", "none", "@"], &[""]);
    cove.cove(&["down"]).success();
    is("cove show sh", &["cove", "show", "sh"], &[""]);

    // Names of files, which others may have made: each is one word of the line and runs nothing.
    let names = ["x blank", "x$(touch ran)", "x*", "x\"'`touch ran`", "x\nline", "plain"];
    let dir = cove.make_dir("files");
    for name in names {
        std::fs::write(dir.join(name), "").unwrap();
    }
    let completed = |word: &str| {
        let script = format!(
            "source <(cove completions bash); cd files; COMP_LINE='cove cp {word}'; \
             COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=(cove cp '{word}'); COMP_CWORD=2; COMP_TYPE=9; \
             _cove; eval \"taken=(${{COMPREPLY[*]}})\"; printf '%s\\0' \"${{taken[@]}}\""
        );
        let said = shell(&cove, "bash", &script).unwrap();
        let mut taken: Vec<_> = said.split_terminator('\0').map(str::to_owned).collect();
        taken.sort();
        taken
    };
    let mut expected = names[..5].to_vec();
    expected.sort_unstable();
    assert_eq!(completed("x"), expected);
    assert_eq!(completed("pl"), ["plain"]);
    // What was completed before is gone on with.
    std::fs::create_dir(dir.join("my dir")).unwrap();
    std::fs::write(dir.join("my dir/in;side"), "").unwrap();
    assert_eq!(completed("my\\ dir/i"), ["my dir/in;side"]);
    assert!(!dir.join("ran").exists());
}

#[test]
fn fish_offers_projects_and_entries_where_they_are_written() {
    let Some((cove, plain)) = prepare() else { return };
    let offered = |line: &str| {
        let script = format!("cove completions fish | source; complete -C '{line}'");
        let said = shell(&cove, "fish", &script)?;
        let name = |line: &str| line.split('\t').next().unwrap().to_owned();
        Some(said.lines().map(name).collect::<Vec<_>>())
    };
    let Some(verbs) = offered("cove l") else { return };
    assert_eq!(verbs, ["ls", "label"].map(String::from));
    let mut entries = ["shop@v10".to_owned(), format!("shop@{plain}")];
    entries.sort();
    let is = |line: &str, expected: &[&str]| {
        offers(line, expected, || {
            let mut found = offered(line).unwrap();
            found.sort();
            found
        });
    };
    is("cove pin shop@", &entries.each_ref().map(String::as_str));
    is("cove files grep x oth", &["other:/"]);
    is("cove diff shop@v10..sh", &["shop@v10..shop"]);
}
