//! The program as a process: started, called, killed, stopped.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{
    Cove, NOT_KNOWN, Objects, Settings, get, loop_devices_of, poll, run, same_trees,
};

#[test]
fn over_tcp_every_call_needs_the_token_and_no_foreign_page_may_call() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let (address, token) = cove.tcp();
    let mode = |name: &str| fs::symlink_metadata(cove.home.join(name)).unwrap().mode() & 0o777;
    assert_eq!((mode("token"), mode("cove.sock")), (0o600, 0o600));
    let host = format!("Host: {address}");
    let bearer = format!("Authorization: Bearer {token}");
    let projects = |headers: &[&str]| get(&address, "/v1/projects", headers);

    let (status, answer) = projects(&[&host]);
    assert_eq!(status, 401, "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    assert_eq!(projects(&[&host, "Authorization: Bearer cove_0000"]).0, 401);
    let (status, answer) = projects(&[&host, &bearer]);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("\"slug\":\"shop\""), "{answer}");
    for path in ["/v1/projects/shop", "/v1/doctor", "/v1/trash", "/", "/v1/nothing"] {
        let (status, answer) = get(&address, path, &[&host]);
        assert_eq!(status, 401, "{path}: {answer}");
    }
    assert_eq!(projects(&[&host, "Host: evil.example", &bearer]).0, 400);
    // Whoever has the token from a foreign page all the same.
    for foreign in ["evil.example", "evil.example:80", "127.0.0.1.nip.io"] {
        let (status, answer) = projects(&[&format!("Host: {foreign}"), &bearer]);
        assert!((400..500).contains(&status), "{foreign}: {answer}");
        assert!(!answer.contains("\"slug\""), "{answer}");
    }
    for header in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        let (status, answer) = projects(&[&host, &bearer, header]);
        assert!((400..500).contains(&status), "{header}: {answer}");
        assert!(!answer.contains("\"slug\""), "{answer}");
    }
    assert_eq!(projects(&[&host, &bearer, &format!("Origin: http://{address}")]).0, 200);

    // The program itself, by address and token.
    let call = |token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cove"));
        command.env("COVE_URL", format!("http://{address}")).env("COVE_TOKEN", token);
        run(command.args(["ls", "--quiet"]), b"")
    };
    assert_eq!(call(&token).success().stdout, "shop\n");
    assert_eq!(call("cove_wrong").code, 9);
}

#[test]
fn a_second_cove_on_the_same_home_is_refused() {
    let Some(cove) = Cove::start(Objects::Directory) else { return };
    cove.json(&["new", "shop"]);
    let second = run(&mut cove.refused_up(), b"");
    assert_eq!(second.code, 4, "{}", second.stderr);
    assert!(second.stderr.contains("error: ") && second.stderr.contains("hint: "));
    let second = run(cove.refused_up().arg("--detach"), b"");
    assert_eq!(second.code, 4, "{}", second.stderr);
    assert!(second.stderr.starts_with("error: "), "{}", second.stderr);
    assert_eq!(cove.text(&["ls", "--quiet"]), "shop\n", "the first one is unharmed");
}

#[test]
fn it_starts_in_the_background_and_stops() {
    let Some(cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    for _ in 0..2 {
        let started = run(cove.up_command().arg("--detach"), b"").success();
        assert!(started.stderr.contains("ready on http://127.0.0.1:"), "{}", started.stderr);
        assert!(cove.home.join("cove.log").exists());
        assert_eq!(cove.json(&["ls"]), json!({ "projects": [] }));
        cove.cove(&["down"]).success();
        assert!(!crate::harness::is_mounted(&cove.home.join("pool")));
        // What is stopped already is no failure.
        let again = cove.cove(&["down"]).success();
        let home = cove.home.display();
        assert_eq!(again.stderr, format!("no Cove is running in {home}\n"));
        assert_eq!(cove.json(&["down"]), json!({ "stopped": null }));
    }
    fs::remove_dir_all(&cove.home).unwrap();
}

#[test]
fn a_start_tells_what_is_not_as_it_was_asked_for() {
    let Some(mut first) = Cove::start(Objects::Directory) else { return };
    assert!(first.stop().success());
    let asked = Settings { pool_bytes: "1GiB", ..Settings::with(Objects::Directory) };
    let Some(mut again) = Cove::prepare(asked) else { return };
    (again.home, again.objects) = (first.home.clone(), first.objects.clone());
    let started = run(again.up_command().arg("--detach"), b"").success();
    let kept =
        "the pool is there and stays 537 MB large: --pool-bytes is the first size of a new one\n";
    assert!(started.stderr.starts_with(kept), "{}", started.stderr);
    assert!(started.stderr.contains("cove new"), "{}", started.stderr);

    let Some(other) = Cove::prepare(Settings::with(Objects::Url(first.objects.clone()))) else {
        return;
    };
    let started = run(other.up_command().arg("--detach"), b"").success();
    let held = format!("the store {} is held by another Cove: ", first.objects);
    assert!(started.stderr.starts_with(&held), "{}", started.stderr);
    assert!(started.stderr.contains("  cove recover --take"), "{}", started.stderr);
    assert!(!started.stderr.contains("cove new"), "nothing is written there: {}", started.stderr);
    for one in [&other, &again] {
        one.cove(&["down"]).success();
    }
}

#[test]
fn a_start_with_another_store_says_where_the_last_one_is() {
    let Some(mut first) = Cove::start(Objects::Directory) else { return };
    first.json(&["new", "shop"]);
    assert!(first.stop().success());
    let elsewhere = format!("file://{}", first.dir.path().join("elsewhere").display());
    let Some(mut other) = Cove::prepare(Settings::with(Objects::Url(elsewhere.clone()))) else {
        return;
    };
    other.home = first.home.clone();
    let told = |cove: &Cove| {
        let started = run(cove.up_command().arg("--detach"), b"").success();
        cove.cove(&["down"]).success();
        started.stderr
    };
    let change = |now: &str, before: &str| format!("the store is {now} now and was {before}: ");
    let said = told(&other);
    assert!(said.starts_with(&change(&elsewhere, &first.objects)), "{said}");
    assert!(said.contains(&format!("`cove up --objects {}`", first.objects)), "{said}");
    let said = told(&other);
    assert!(said.starts_with("ready on "), "it is the last one now: {said}");
    let said = told(&first);
    assert!(said.starts_with(&change(&first.objects, &elsewhere)), "{said}");
}

#[test]
fn a_home_with_a_long_path_works() {
    let Some(mut cove) = Cove::prepare(Settings::with(Objects::Directory)) else { return };
    cove.home = cove.dir.path().join("deep-".repeat(20)).join("er-".repeat(30)).join("home");
    cove.up();
    cove.json(&["new", "shop"]);
    assert!(cove.path("shop").is_dir());
    cove.json(&["snapshot", "shop"]);
}

#[test]
fn after_a_kill_the_next_start_repairs_by_itself() {
    let Some(mut cove) = Cove::start(Objects::Directory) else { return };
    let source = cove.make_dir("source");
    crate::story::make_project(&source);
    cove.json(&["new", "shop", "--from", "source"]);
    let entry = cove.snapshot("shop", "kept");
    let root = cove.path("shop");
    fs::write(root.join("written"), "and fsynced").unwrap();
    File::open(root.join("written")).unwrap().sync_all().unwrap();
    cove.kill9();
    cove.up();
    assert_eq!(cove.text(&["files", "cat", "shop:/written"]), "and fsynced");
    assert_eq!(cove.timeline("shop")[0]["id"], entry.as_str());
    cove.json(&["restore", "shop", &entry]);
    same_trees("after a kill", &source, &cove.path("shop"));
    assert!(cove.stop().success());
    cove.up();
    assert_eq!(cove.json(&["verify", "--level", "2"])["problems"], json!([]));
}

#[test]
fn interrupted_waiting_leaves_the_entry_and_its_upload_alive() {
    let Some(cove) = Cove::start(Objects::S3) else { return };
    cove.json(&["new", "shop"]);
    let root = cove.path("shop");
    let bytes: Vec<u8> = (0..8_000_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    fs::write(root.join("large"), bytes).unwrap();
    let mut snapshot = cove.program_of(&["snapshot", "shop", "-m", "interrupted"]);
    let child = snapshot.spawn().unwrap();
    poll("the entry is captured", || {
        let timeline = cove.timeline("shop");
        if timeline.is_empty() { Err("no entry".to_owned()) } else { Ok(()) }
    });
    let pid = rustix::process::Pid::from_child(&child);
    // It may have ended meanwhile, saved.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    let told = std::time::Instant::now();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    match ended.status.code() {
        Some(0) => {}
        // nobody knows where Cove did not answer within the second that it has for that
        Some(130) if told.elapsed().as_secs() >= 1 && said.contains(NOT_KNOWN) => {}
        Some(130) => assert!(said.contains("cove wait shop"), "{said}"),
        other => panic!("{other:?}: {said}"),
    }
    cove.json(&["wait", "shop"]);
    let timeline = cove.timeline("shop");
    assert_eq!(timeline.len(), 1);
    assert_eq!(timeline[0]["durability"], "saved");
}

#[test]
fn a_signal_while_it_starts_leaves_nothing_mounted() {
    // A store that takes connections and never answers: the start waits for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = Settings::with(Objects::Url("s3://nobody/x".to_owned()));
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    settings.variables = vec![("AWS_ENDPOINT_URL", endpoint)];
    let Some(cove) = Cove::prepare(settings) else { return };
    let pool = cove.home.join("pool");
    let is_mounted = || {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        mounts.contains(&format!(" {} ", pool.display()))
    };
    let mut child = cove.up_command().stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    poll("the pool is mounted", || if is_mounted() { Ok(()) } else { Err("it is not".to_owned()) });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    poll("it ends", || child.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(0), "{said}");
    assert!(!is_mounted(), "{said}");
    assert_eq!(loop_devices_of(&cove.home.join("pool.img")), Vec::<std::path::PathBuf>::new());
}
