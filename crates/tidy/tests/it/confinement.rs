//! What others wrote is known to the crate that adapts it, and to no other.

use crate::assert_none;
use crate::repository::{Package, packages};

/// Packages that only some crates are built from. Tests may use anything.
const CONFINED: &[(&str, &[&str])] = &[
    ("axum", &["cove-http"]),
    ("utoipa-axum", &["cove-http"]),
    ("utoipa", &["cove-http", "cove-types"]),
    ("clap", &["cove", "cove-xtask", "cove-bench"]),
    ("clap_complete", &["cove"]),
    ("clap_mangen", &["cove"]),
    ("anyhow", &["cove", "cove-xtask", "cove-bench"]),
    ("indicatif", &["cove"]),
    ("comfy-table", &["cove"]),
    ("tracing-subscriber", &["cove"]),
    ("sqlx", &["cove-database"]),
    ("object_store", &["cove-objects"]),
    ("reqwest", &["cove-objects"]),
    ("tar", &["cove-content"]),
    ("tonic", &["cove-unix-grpc", "cove-hub-grpc", "cove-node-grpc", "cove-csi", "cove-bench"]),
    ("prost", &["cove-hub-grpc", "cove-node-grpc", "cove-csi"]),
    ("nix", &["cove-node"]),
];

fn faults(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for Package { name, uses, .. } in packages {
        for (confined, allowed) in CONFINED {
            if uses.iter().any(|used| used == confined) && !allowed.contains(&name.as_str()) {
                faults.push(format!("{name} uses {confined}; only {allowed:?} may"));
            }
        }
    }
    faults
}

#[test]
fn what_others_wrote_stays_in_its_crate() {
    assert_none(&faults(&packages()));
}

#[test]
fn a_leak_is_noticed() {
    let leaky = Package {
        name: "cove-node".to_owned(),
        uses: vec!["axum".to_owned(), "tokio".to_owned()],
        tests_use: vec!["sqlx".to_owned()],
        ..Package::default()
    };
    assert_eq!(faults(&[leaky]), [r#"cove-node uses axum; only ["cove-http"] may"#]);
}
