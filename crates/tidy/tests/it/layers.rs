//! A crate uses crates of lower layers only.

use crate::assert_none;
use crate::repository::{Package, packages};

/// The layers, lowest first. A crate may use crates of lower layers and not of
/// its own, so two crates of one layer cannot grow into each other.
const LAYERS: &[(&str, &[&str])] = &[
    ("vocabulary", &["cove-types"]),
    ("vocabulary", &["cove-env"]),
    ("adapters", &["cove-btrfs", "cove-objects", "cove-database"]),
    ("domain", &["cove-content"]),
    ("domain", &["cove-node", "cove-hub", "cove-workspace"]),
    ("transport", &["cove-unix-grpc"]),
    ("transport", &["cove-http", "cove-client", "cove-hub-grpc", "cove-node-grpc", "cove-csi"]),
    ("programs", &["cove"]),
    ("tests", &["cove-testkit", "cove-tidy"]),
    // They start the program and what tests need of the world, and are part of no release.
    ("repository", &["cove-xtask", "cove-bench"]),
];

/// What tests of any layer may use, although nothing else may.
const FOR_TESTS: &str = "cove-testkit";

fn height(name: &str) -> Option<usize> {
    LAYERS.iter().position(|(_, crates)| crates.contains(&name))
}

fn faults(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for Package { name, uses, tests_use, .. } in packages {
        let Some(own) = height(name) else {
            faults.push(format!("{name} is in no layer"));
            continue;
        };
        let ours = |used: &&String| packages.iter().any(|package| package.name == **used);
        let below = |used: &str| height(used).is_some_and(|other| other < own);
        for used in uses.iter().filter(ours).filter(|used| !below(used)) {
            faults.push(format!("{name} uses {used}, which is not below it"));
        }
        let above = |used: &&String| *used != FOR_TESTS && !below(used);
        for used in tests_use.iter().filter(ours).filter(above) {
            faults.push(format!("the tests of {name} use {used}, which is not below it"));
        }
    }
    for name in LAYERS.iter().flat_map(|(_, crates)| *crates) {
        if !packages.iter().any(|package| package.name == *name) {
            faults.push(format!("{name} has a layer and is no crate"));
        }
    }
    faults
}

#[test]
fn a_crate_uses_lower_layers_only() {
    assert_none(&faults(&packages()));
}

#[test]
fn a_use_upwards_or_sideways_is_noticed() {
    let names = LAYERS.iter().flat_map(|(_, crates)| *crates);
    let mut packages: Vec<Package> =
        names.map(|name| Package { name: (*name).to_owned(), ..Package::default() }).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    let of = |packages: &[Package], name: &str| {
        packages.iter().position(|package| package.name == name).unwrap()
    };
    let types = of(&packages, "cove-types");
    packages[types].uses.push("cove-env".to_owned());
    let node = of(&packages, "cove-node");
    packages[node].uses.push("cove-workspace".to_owned());
    let content = of(&packages, "cove-content");
    packages[content].uses.push("cove-testkit".to_owned());
    packages[content].tests_use.push("cove-node".to_owned());
    packages.push(Package { name: "cove-new".to_owned(), ..Package::default() });
    let tidy = of(&packages, "cove-tidy");
    packages.remove(tidy);

    assert_eq!(
        faults(&packages),
        [
            "cove-content uses cove-testkit, which is not below it",
            "the tests of cove-content use cove-node, which is not below it",
            "cove-node uses cove-workspace, which is not below it",
            "cove-types uses cove-env, which is not below it",
            "cove-new is in no layer",
            "cove-tidy has a layer and is no crate",
        ]
    );
}
