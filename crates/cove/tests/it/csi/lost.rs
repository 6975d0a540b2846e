//! What stays of a node whose database is lost.

use std::fs;

use super::Driver;
use crate::harness::{poll, run};

#[test]
fn a_node_whose_database_is_damaged_says_how_it_stays_the_node_of_its_volumes() {
    let Some(mut driver) = Driver::start() else { return };
    let volume = driver.make("data", 16);
    let target = driver.publish(&volume, "pod");
    fs::write(target.join("file"), "saved").unwrap();
    driver.snapshot("nightly", &volume).unwrap();
    poll("it is saved", || {
        let told = driver.cove.json(&["volume", "status", &volume])["volume"].clone();
        if told["durability"] == "saved" { Ok(()) } else { Err(told.to_string()) }
    });
    assert!(driver.cove.stop().success());
    // the pod goes on
    fs::write(target.join("file"), "never saved").unwrap();
    let database = driver.cove.home.join("state/node.db");
    fs::write(&database, "this is no database at all".repeat(400)).unwrap();

    let refused = run(&mut driver.cove.refused_up(), b"");
    assert_eq!(refused.code, 8, "{}", refused.stderr);
    let (_, hint) = refused.stderr.split_once("hint: ").unwrap();
    assert!(hint.contains("start with --node-id and its old id"), "{hint}");
    let told_by = format!("`kubectl get nodes -L {}`", cove_csi::TOPOLOGY_NODE);
    assert!(hint.contains(&told_by), "{hint}");

    for name in ["node.db", "node.db-wal", "node.db-shm"] {
        let _ = fs::remove_file(database.with_file_name(name));
    }
    // its flags name the node
    driver.cove.up();
    driver.cove.json(&["recover", "--take"]);
    let told = driver.cove.json(&["volume", "status", &volume])["volume"].clone();
    assert_eq!(told["node"], "n1", "where its PersistentVolume says that it is: {told}");
    // the files are those of this node's volume, and stay under the pod
    assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "never saved");
    driver.stats(&volume, &target).unwrap();
    driver.unpublish(&volume, "pod");
}
