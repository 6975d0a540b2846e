//! What a user does through the doors, from the start of Cove to projects on volumes that programs made.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{Driver, MIB};
use crate::harness::{Cove, run};
use crate::hub::client::grpcurl;

/// What the Hub answers `grpcurl`.
#[track_caller]
fn grpcurl_says(cove: &Cove, arguments: &[&str]) -> String {
    let program = grpcurl().expect("it was there before");
    let mut command = Command::new(program);
    command.arg("-plaintext");
    let socket = format!("unix://{}", cove.home.join("hub.sock").display());
    if let [request, verb] = arguments {
        command.args(["-d", request, &socket, verb]);
    } else {
        command.arg(&socket).args(arguments);
    }
    run(&mut command, b"").success().stdout
}

/// The volumes as the command line lists them, by their names.
#[track_caller]
fn listed(cove: &Cove) -> Vec<Value> {
    let mut volumes = cove.json(&["volume", "ls"])["volumes"].as_array().unwrap().clone();
    volumes.sort_by_key(|volume| volume["name"].to_string());
    volumes
}

#[test]
fn volumes_that_programs_made_are_listed_become_workspaces_and_come_back() {
    if grpcurl().is_none() {
        return;
    }
    let Some(mut driver) = Driver::start() else { return };

    // Kubernetes makes one, and a pod writes into it
    let claim = driver.make("pvc-1", 64);
    let target = driver.publish(&claim, "pod");
    fs::create_dir(target.join("src")).unwrap();
    fs::write(target.join("src/index.js"), "from a pod").unwrap();
    let snapshot = driver.snapshot("nightly", &claim).unwrap().snapshot_id;
    driver.unpublish(&claim, "pod");

    // another program makes one by the Hub
    assert!(grpcurl_says(&driver.cove, &["list"]).contains("cove.hub.v1.VolumeHub"));
    let wanted = json!({
        "name": "team data",
        "op_id": format!("{:032x}", 7),
        "source": { "snapshot": snapshot },
        "quota_bytes": (128 * MIB).to_string(),
        "labels": { "team": "data" },
        "wait_saved": true,
    });
    let create = "cove.hub.v1.VolumeHub/CreateVolume";
    let made = grpcurl_says(&driver.cove, &[&wanted.to_string(), create]);
    let made: Value = serde_json::from_str(&made).unwrap();
    let copy = made["volume"]["id"].as_str().unwrap().to_owned();

    let volumes = listed(&driver.cove);
    let told = |volume: &Value, key: &str| volume[key].clone();
    for key in ["bytes", "durability"] {
        assert!(!volumes[0][key].is_null(), "{key}: {}", volumes[0]);
    }
    assert_eq!(volumes.len(), 2);
    for (volume, expected) in volumes.iter().zip([
        json!([claim, "pvc-1", null, 64 * MIB, 1]),
        json!([copy, "team data", null, 128 * MIB, 0]),
    ]) {
        let shown = ["id", "name", "project", "quota_bytes", "snapshots"];
        assert_eq!(json!(shown.map(|key| told(volume, key))), expected, "{volume}");
        assert_eq!(volume["health"], json!({ "state": "ok", "problems": [] }));
    }
    let status = driver.cove.text(&["volume", "status", "team data"]);
    for shown in [copy.as_str(), "team data", "134 MB", "on this disk only", "team=data"] {
        assert!(status.contains(shown), "{shown}: {status}");
    }
    assert!(driver.cove.text(&["volume", "ls"]).contains(", on this disk only"));
    let refused = driver.cove.refuses(3, &["volume", "status", "no such"]);
    assert!(refused.contains("volume no such does not exist"), "{refused}");
    driver.cove.refuses(3, &["volume", "status", "vol-none"]);

    // one becomes a project's workspace, and no other project's after that
    driver.cove.json(&["new", "shop", "--volume", "pvc-1"]);
    assert_eq!(driver.cove.text(&["files", "cat", "shop:/src/index.js"]), "from a pod");
    assert_eq!(listed(&driver.cove)[0]["project"], "shop");
    let refused = driver.cove.refuses(4, &["new", "other", "--volume", &claim]);
    assert!(refused.contains("shop"), "{refused}");
    driver.cove.snapshot("shop", "as a project");
    let said = driver.cove.cove(&["recover"]).success().stderr;
    assert!(said.ends_with(": 1 project and 1 volume are here already\n"), "{said}");
    driver.cove.json(&["new", "data", "--volume", &copy]);
    driver.cove.json(&["wait", "shop"]);
    driver.cove.json(&["wait", "data"]);

    // what was saved comes back without the machine: projects, quotas and what Kubernetes snapshotted
    driver.cove.lose_and_recover();
    assert_eq!(driver.cove.text(&["files", "cat", "data:/src/index.js"]), "from a pod");
    let volumes = listed(&driver.cove);
    let projects: Vec<_> = volumes.iter().map(|volume| told(volume, "project")).collect();
    let quotas: Vec<_> = volumes.iter().map(|volume| told(volume, "quota_bytes")).collect();
    assert_eq!(json!([projects, quotas]), json!([["shop", "data"], [64 * MIB, 128 * MIB]]));
    assert_eq!(driver.snapshots(), [snapshot]);
}
