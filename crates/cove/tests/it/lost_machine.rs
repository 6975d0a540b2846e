//! The machine is lost; what was saved is not.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::{Cove, Objects, Settings, keep_copy, list, run, same_trees, text, texts};
use crate::story::make_project;

/// The objects of a directory store, without the signs of life of its holder.
fn stored(cove: &Cove) -> Vec<(PathBuf, Vec<u8>)> {
    let mut objects = cove.stored_objects();
    objects.retain(|(path, _)| !path.ends_with("objects/store"));
    objects
}

/// Everything of a timeline that a recovery must bring back.
fn told(cove: &Cove, project: &str) -> Vec<Value> {
    let whole = |entry: &Value| {
        let members = ["id", "kind", "message", "label", "author", "time", "pinned", "tree"];
        Value::Array(members.iter().map(|member| entry[*member].clone()).collect())
    };
    cove.timeline(project).iter().map(whole).collect()
}

#[test]
fn everything_comes_back_from_a_directory() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    everything_comes_back(cove);
}

#[test]
fn everything_comes_back_from_a_bucket() {
    let Some(cove) = Cove::start(Objects::S3) else { return };
    everything_comes_back(cove);
}

fn everything_comes_back(mut cove: Cove) {
    let source = cove.make_dir("source");
    make_project(&source);
    cove.json(&["new", "shop", "--from", "source"]);
    cove.json(&["snapshot", "shop", "-m", "first", "--label", "v1"]);
    let root = cove.path("shop");
    fs::write(root.join("src/app.ts"), "second\n").unwrap();
    fs::remove_dir_all(root.join("dist")).unwrap();
    let second = cove.snapshot("shop", "second");
    let kept_second = cove.dir.path().join("kept-second");
    keep_copy(&root, &kept_second);
    cove.json(&["pin", &format!("shop@{second}")]);
    cove.json(&["fork", "shop@v1", "--as", "fork-of-v1"]);
    cove.json(&["fork", "shop", "--as", "fork-of-now"]);
    fs::write(cove.path("fork-of-now").join("own"), "of the fork\n").unwrap();
    cove.snapshot("fork-of-now", "its own");
    cove.json(&["restore", "shop", "v1"]);
    cove.json(&["rename", "shop", "store"]);
    cove.json(&["new", "thrown-away", "--from", "source"]);
    cove.json(&["rm", "thrown-away"]);
    for name in ["store", "fork-of-v1", "fork-of-now"] {
        cove.json(&["wait", name]);
    }

    let names = ["store", "fork-of-v1", "fork-of-now"];
    let kept: Vec<PathBuf> = names
        .iter()
        .map(|name| {
            let kept = cove.dir.path().join(format!("kept-{name}"));
            keep_copy(&cove.path(name), &kept);
            kept
        })
        .collect();
    let timelines: Vec<_> = names.iter().map(|name| told(&cove, name)).collect();
    let of = |cove: &Cove, name: &str| {
        let project = cove.json(&["show", name])["project"].clone();
        ["id", "slug", "volume", "forked_from"].map(|member| project[member].clone())
    };
    let projects: Vec<_> = names.iter().map(|name| of(&cove, name)).collect();

    assert!(cove.stop().success());
    cove.lose_home();
    cove.up();
    assert_eq!(cove.json(&["ls"]), json!({ "projects": [] }));
    let recovered = cove.json(&["recover", "--take"]);
    assert_eq!(recovered["lost"], json!([]));
    let mut back = texts(&recovered["projects"], "slug");
    back.retain(|name| name != "thrown-away");
    back.sort();
    assert_eq!(back, ["fork-of-now", "fork-of-v1", "store"]);

    for (n, name) in names.iter().enumerate() {
        assert_eq!(of(&cove, name), projects[n]);
        assert_eq!(told(&cove, name), timelines[n], "the timeline of {name}");
        same_trees(name, &kept[n], &cove.path(name));
    }
    assert_eq!(texts(&cove.json(&["trash"])["projects"], "slug"), ["thrown-away"]);
    cove.json(&["undelete", "thrown-away"]);
    same_trees("from the trash", &source, &cove.path("thrown-away"));
    cove.json(&["restore", "store", &second]);
    same_trees("an entry", &kept_second, &cove.path("store"));
    cove.json(&["restore", "store", "v1"]);
    same_trees("a label", &source, &cove.path("store"));
    for name in names {
        cove.json(&["verify", name, "--level", "2"]);
    }
    // Again is nothing new.
    let again = cove.json(&["recover"]);
    assert_eq!(again["lost"], json!([]));
}

#[test]
fn anothers_store_is_not_written_to_and_is_taken_only_when_that_is_meant() {
    let Some(mut first) = Cove::start(Objects::Directory) else { return };
    first.json(&["new", "shop"]);
    first.cove_with(&["files", "put", "shop:/a"], b"kept").success();
    first.snapshot("shop", "kept");
    first.kill9();

    let url = first.objects.clone();
    let Some(second) = Cove::start(Objects::Url(url)) else { return };
    assert!(second.log().contains("held by another Cove"), "{}", second.log());
    let before = stored(&second);
    assert_eq!(second.json(&["ls"]), json!({ "projects": [] }));
    let doctor = second.json_with(&["doctor"], 4, b"");
    assert!(list(&doctor["checks"]).iter().any(|check| check["ok"] == false), "{doctor}");
    let said = second.refuses(4, &["recover"]);
    assert!(said.contains("--take"), "says how: {said}");
    let said = second.refuses(4, &["new", "meanwhile"]);
    assert!(said.contains("recover"), "{said}");
    assert!(stored(&second) == before, "nothing was written to it");

    let recovered = second.json(&["recover", "--take"]);
    assert_eq!(recovered["lost"], json!([]));
    assert_eq!(second.text(&["files", "cat", "shop:/a"]), "kept");
    second.json(&["new", "meanwhile"]);

    // The one that lost it stops writing there, and says so.
    first.up();
    let before = stored(&first);
    first.cove_with(&["files", "put", "shop:/a"], b"after").success();
    let entry = first.cove(&["snapshot", "shop", "--no-wait", "--json"]);
    assert_ne!(entry.code, 1, "{}", entry.stderr);
    assert!(stored(&first) == before, "the store belongs to another");
    assert!(first.log().contains("held by another Cove"), "{}", first.log());
    assert_eq!(first.text(&["files", "cat", "shop:/a"]), "after", "what is here can be read");
}

#[test]
fn a_machine_that_dies_while_it_works_loses_only_what_was_not_saved() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    make_project(&source);
    cove.json(&["new", "shop", "--from", "source"]);
    let entry = cove.snapshot("shop", "saved");
    let root = cove.path("shop");
    fs::write(root.join("never-saved"), "lost").unwrap();
    cove.lose_home();
    cove.up();
    cove.json(&["recover", "--take"]);
    same_trees("what was saved", &source, &cove.path("shop"));
    assert_eq!(cove.timeline("shop")[0]["id"], entry.as_str());
}

#[test]
fn what_cannot_be_recovered_is_named() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    make_project(&source);
    cove.json(&["new", "whole", "--from", "source"]);
    cove.json(&["new", "broken"]);
    let before = stored(&cove);
    let root = cove.path("broken");
    let bytes: Vec<u8> =
        (0..100_000_u32).flat_map(|n| n.wrapping_mul(n + 7).to_le_bytes()).collect();
    fs::write(root.join("large"), bytes).unwrap();
    cove.snapshot("broken", "to be lost");
    assert!(cove.stop().success());
    let is_old = |path: &PathBuf| before.iter().any(|(old, _)| old == path);
    for (path, _) in stored(&cove).iter().filter(|(path, _)| !is_old(path)) {
        fs::remove_file(path).unwrap();
    }
    cove.lose_home();
    cove.up();
    let output = cove.cove(&["recover", "--take", "--json"]);
    assert_eq!(output.code, 8, "{}{}", output.stdout, output.stderr);
    let recovered: Value = serde_json::from_str(&output.stdout).unwrap();
    let lost = list(&recovered["lost"]);
    assert!(!lost.is_empty(), "{recovered}");
    for one in &lost {
        assert!(!text(&one["what"]).is_empty() && !text(&one["why"]).is_empty(), "{one}");
    }
    same_trees("the other one", &source, &cove.path("whole"));
    let left = run(&mut cove.program_of(&["ls", "--quiet"]), b"");
    assert!(left.stdout.contains("whole\n"), "{}", left.stdout);
}

#[test]
fn an_empty_store_has_nothing_to_recover() {
    let Some(cove) = Cove::start_with(Settings::with(Objects::Directory)) else { return };
    assert_eq!(cove.json(&["recover"]), json!({ "projects": [], "lost": [], "volumes": 0 }));
}

#[test]
fn only_what_came_back_is_called_recovered() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    let says = |cove: &Cove, arguments: &[&str], line: &str| {
        let said = cove.cove(arguments).success().stderr;
        assert!(said.ends_with(line), "{arguments:?}: {said}");
    };
    says(&cove, &["recover"], "nothing to recover: the store names no project\n");
    cove.json(&["new", "shop"]);
    cove.json(&["new", "other"]);
    says(&cove, &["recover"], "nothing to recover: 2 projects are here already\n");
    cove.lose_home();
    cove.up();
    says(&cove, &["recover", "--take"], "2 projects recovered\n");
    says(&cove, &["recover"], "nothing to recover: 2 projects are here already\n");
}
