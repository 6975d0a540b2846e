//! A store that is away, refuses, or does not keep the law.

use std::fs;

use cove_testkit::{Gate, Keeps, LawlessStore};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{
    Cove, Objects, Settings, is_mounted, list, loop_devices_of, poll, run, s3, text,
};

/// A Cove that saves by itself, in a bucket behind a gate.
fn behind_a_gate() -> Option<(Cove, Gate)> {
    let server = s3()?;
    let gate = Gate::before(&server.endpoint);
    let mut settings = Settings { store_every: "1s", ..Settings::with(Objects::S3) };
    settings.variables.push(("AWS_ENDPOINT_URL", gate.endpoint.clone()));
    Some((Cove::prepare(settings)?, gate))
}

/// Waits until a project is saved by itself.
#[track_caller]
fn is_saved_by_itself(cove: &Cove, name: &str) {
    poll("it is saved by itself", || {
        let shown = cove.json(&["show", name]);
        let project = &shown["project"];
        let is_saved = project["durability"] == "saved" && project["unsaved_bytes"] == 0;
        if is_saved { Ok(()) } else { Err(shown.to_string()) }
    });
}

/// The problems of a project, as one text.
fn problems(shown: &Value) -> String {
    let problems = list(&shown["project"]["health"]["problems"]);
    let told = problems.iter().map(|one| format!("{} {}", text(&one["what"]), one["hint"]));
    told.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_bucket_without_conditional_writes_is_refused() {
    for keeps in [Keeps::Nothing, Keeps::Creation] {
        let store = LawlessStore::start(keeps);
        let mut settings = Settings::with(Objects::Url("s3://bucket/prefix".to_owned()));
        settings.variables.push(("AWS_ENDPOINT_URL", store.endpoint.clone()));
        let Some(cove) = Cove::prepare(settings) else { return };
        let output = run(&mut cove.refused_up(), b"");
        assert_eq!(output.code, 4, "{keeps:?}: {}", output.stderr);
        let said = &output.stderr;
        assert!(said.contains("error: ") && said.contains("conditional writes"), "{said}");
        assert!(said.contains("hint: "), "{said}");
        assert!(loop_devices_of(&cove.home.join("pool.img")).is_empty(), "nothing stays attached");
        assert_eq!(store.names(), [""; 0], "nothing of ours stays there");
    }
}

#[test]
fn a_server_that_keeps_the_law_is_accepted_whatever_it_is() {
    let store = LawlessStore::start(Keeps::Both);
    let mut settings = Settings::with(Objects::Url("s3://bucket".to_owned()));
    settings.variables.push(("AWS_ENDPOINT_URL", store.endpoint.clone()));
    let Some(mut cove) = Cove::start_with(settings) else { return };
    cove.json(&["new", "shop"]);
    cove.cove_with(&["files", "put", "shop:/a"], b"a").success();
    let entry = cove.snapshot("shop", "a");
    let names = store.names();
    assert!(names.iter().all(|name| name.starts_with("bucket/")), "{names:?}");
    // With slashes at its end it is the same bucket.
    assert!(cove.stop().success());
    cove.objects = "s3://bucket//".to_owned();
    cove.up();
    assert_eq!(cove.timeline("shop")[0]["id"], entry.as_str());
    cove.snapshot("shop", "b");
    assert!(store.names().iter().all(|name| !name.contains("//")), "{:?}", store.names());
}

#[test]
fn a_store_that_goes_away_and_comes_back_is_caught_up_with() {
    let Some((mut cove, gate)) = behind_a_gate() else { return };
    cove.up();
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    fs::write(root.join("a"), "before").unwrap();
    let before = cove.snapshot("shop", "before");
    gate.shut();

    fs::write(root.join("a"), "meanwhile").unwrap();
    let said = cove.cove(&["snapshot", "shop", "--no-wait", "-m", "meanwhile"]).success();
    assert!(said.stderr.contains("on this node"), "{}", said.stderr);
    let id = said.stdout.trim().to_owned();
    assert_eq!(cove.timeline("shop")[0]["durability"], "on_this_node");
    cove.json(&["fork", "shop", "--as", "fork", "--no-wait"]);
    cove.json(&["new", "fresh", "--no-wait"]);
    // Whatever needs no store goes on.
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{id}:/a")]), "meanwhile");
    fs::write(root.join("a"), "later").unwrap();
    let restored = cove.json(&["restore", "shop", &before, "--no-wait"]);
    assert_eq!(restored["project"]["durability"], "on_this_node");
    assert_eq!(fs::read(cove.path("shop").join("a")).unwrap(), b"before");
    let told = poll("health says that the store is away", || {
        let shown = cove.json(&["show", "shop"]);
        match problems(&shown) {
            told if told.contains("store") => Ok(shown),
            _ => Err(shown.to_string()),
        }
    });
    assert_ne!(told["project"]["health"]["state"], "ok", "{told}");
    assert_ne!(told["project"]["durability"], "saved", "{told}");
    let doctor = cove.cove(&["doctor", "--json"]);
    assert_ne!(doctor.code, 0, "{}", doctor.stdout);

    gate.open();
    for name in ["shop", "fork", "fresh"] {
        is_saved_by_itself(&cove, name);
    }
    let timeline = cove.timeline("shop");
    assert!(timeline.iter().all(|entry| entry["durability"] == "saved"), "{timeline:?}");
    let shown = cove.json(&["show", "shop"]);
    assert_eq!(shown["project"]["health"]["problems"], json!([]), "{shown}");
    // And it is there.
    cove.lose_and_recover();
    assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "before");
    assert_eq!(cove.text(&["files", "cat", "fork:/a"]), "meanwhile");
    assert_eq!(cove.text(&["files", "cat", &format!("shop@{id}:/a")]), "meanwhile");
}

#[test]
fn a_store_that_comes_back_is_caught_up_with_also_after_the_terminal_is_closed() {
    let settings = Settings { store_every: "1s", ..Settings::with(Objects::Directory) };
    let Some(mut cove) = Cove::prepare(settings) else { return };
    let (terminal, stderr) = std::io::pipe().unwrap();
    cove.up_saying(stderr);
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    // nobody reads any more what it says
    drop(terminal);
    let pid = Pid::from_raw(cove.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    let (store, aside) = (cove.dir.path().join("objects"), cove.dir.path().join("aside"));
    fs::rename(&store, &aside).unwrap();
    fs::write(root.join("a"), "meanwhile").unwrap();
    poll("health says that it is not saved", || {
        let shown = cove.json(&["show", "shop"]);
        match problems(&shown) {
            told if told.contains("not saved: ") => Ok(()),
            _ => Err(shown.to_string()),
        }
    });
    fs::rename(&aside, &store).unwrap();
    is_saved_by_itself(&cove, "shop");
    let shown = cove.json(&["show", "shop"]);
    assert_eq!(shown["project"]["health"]["problems"], json!([]), "{shown}");
    assert!(cove.stop().success());
    assert!(!is_mounted(&cove.home.join("pool")), "it ended in order");
    cove.lose_and_recover();
    assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "meanwhile");
}

#[test]
fn a_store_that_is_away_at_the_start_is_used_when_it_comes() {
    let Some((mut cove, gate)) = behind_a_gate() else { return };
    gate.shut();
    cove.up();
    let said = cove.cove(&["new", "shop", "--no-wait"]).success();
    assert!(said.stderr.contains("on this node"), "{}", said.stderr);
    cove.cove_with(&["files", "put", "shop:/a"], b"early").success();
    let said = cove.cove(&["snapshot", "shop", "--no-wait"]).success();
    assert!(said.stderr.contains("on this node"), "{}", said.stderr);
    let recover = cove.cove(&["recover"]);
    assert_eq!(recover.code, 7, "{}", recover.stderr);
    assert!(recover.stderr.contains("error: "), "{}", recover.stderr);
    gate.open();
    is_saved_by_itself(&cove, "shop");
    assert_eq!(cove.timeline("shop")[0]["durability"], "saved");
}

#[test]
fn a_store_that_refuses_the_credentials_is_used_once_they_are_right() {
    let Some(server) = s3() else { return };
    let mut settings = Settings { store_every: "1s", ..Settings::with(Objects::S3) };
    settings.variables.push(("AWS_SECRET_ACCESS_KEY", "wrong".to_owned()));
    let Some(mut cove) = Cove::start_with(settings) else { return };
    let said = cove.cove(&["new", "shop", "--no-wait"]).success();
    assert!(said.stderr.contains("on this node"), "{}", said.stderr);
    cove.cove_with(&["files", "put", "shop:/a"], b"early").success();
    let said = cove.cove(&["snapshot", "shop", "--no-wait"]).success();
    assert!(said.stderr.contains("on this node"), "{}", said.stderr);
    let shown = cove.json(&["show", "shop"]);
    assert_eq!(shown["project"]["durability"], "on_this_node");
    assert!(problems(&shown).contains("store"), "{shown}");
    assert!(cove.stop().success());
    cove.set_variable("AWS_SECRET_ACCESS_KEY", &server.secret_key);
    cove.up();
    is_saved_by_itself(&cove, "shop");
    assert_eq!(cove.timeline("shop")[0]["durability"], "saved");
    cove.lose_and_recover();
    assert_eq!(cove.text(&["files", "cat", "shop:/a"]), "early");
}

#[test]
fn an_entry_that_is_on_this_node_alone_can_be_restored_and_forked() {
    let Some((mut cove, gate)) = behind_a_gate() else { return };
    cove.up();
    cove.json(&["new", "shop"]);
    gate.shut();
    let root = cove.path("shop");
    fs::write(root.join("a"), "meanwhile").unwrap();
    let entry = cove.json(&["snapshot", "shop", "--no-wait"]);
    let id = text(&entry["entry"]["id"]);
    fs::write(root.join("a"), "later").unwrap();
    let fork = cove.json(&["fork", &format!("shop@{id}"), "--as", "fork", "--no-wait"]);
    assert_eq!(fork["project"]["durability"], "on_this_node");
    let restored = cove.json(&["restore", "shop", &id, "--no-wait"]);
    assert_eq!(restored["project"]["durability"], "on_this_node");
    assert_eq!(fs::read(cove.path("shop").join("a")).unwrap(), b"meanwhile");
    gate.open();
    is_saved_by_itself(&cove, "shop");
    is_saved_by_itself(&cove, "fork");
}

#[test]
fn a_change_that_waits_for_the_store_says_so_and_is_done_when_it_answers() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let (store, aside) = (cove.dir.path().join("objects"), cove.dir.path().join("aside"));
    fs::rename(&store, &aside).unwrap();
    let mut renamed = cove.program_of(&["rename", "shop", "store"]).spawn().unwrap();
    let mut said = std::io::BufReader::new(renamed.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    assert_eq!(line, "waiting for the store: it is done when the store answers\n");
    fs::rename(&aside, &store).unwrap();
    assert!(renamed.wait().unwrap().success());
    cove.json(&["show", "store"]);
}
