//! What the lock file may not hold.

use crate::assert_none;
use crate::repository::read;

/// Packages of which two versions in one program would be a mistake that shows
/// only when it runs: two cryptographic providers, two clients, two runtimes.
const SINGLE: &[&str] = &["ring", "rustls", "rustls-webpki", "tokio", "hyper", "reqwest"];

/// Packages that have no place in the tree, and what stands there instead.
const UNWANTED: &[(&str, &str)] = &[
    ("openssl-sys", "rustls with ring"),
    ("aws-lc-sys", "rustls with ring"),
    ("aws-lc-rs", "rustls with ring"),
];

const PUBLIC: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn faults(lock: &toml::Table) -> Vec<String> {
    let empty = Vec::new();
    let packages = lock.get("package").and_then(toml::Value::as_array).unwrap_or(&empty);
    let field = |package: &toml::Value, name: &str| {
        package.get(name).and_then(toml::Value::as_str).map(ToOwned::to_owned)
    };
    let mut faults = Vec::new();
    for name in SINGLE {
        let versions: Vec<String> = packages
            .iter()
            .filter(|package| field(package, "name").as_deref() == Some(name))
            .filter_map(|package| field(package, "version"))
            .collect();
        if versions.len() > 1 {
            faults.push(format!("{name} is there more than once: {}", versions.join(", ")));
        }
    }
    for package in packages {
        let name = field(package, "name").unwrap_or_default();
        if let Some((_, instead)) = UNWANTED.iter().find(|(unwanted, _)| *unwanted == name) {
            faults.push(format!("{name} is in the tree; we use {instead}"));
        }
        if let Some(source) = field(package, "source")
            && source != PUBLIC
        {
            faults.push(format!("{name} does not come from the public registry"));
        }
    }
    faults
}

#[test]
fn the_lock_file_holds_one_of_each_and_only_what_is_public() {
    assert_none(&faults(&read("Cargo.lock").parse().unwrap()));
}

#[test]
fn a_second_version_is_noticed() {
    let lock = format!(
        "[[package]]\nname = \"ring\"\nversion = \"0.16.0\"\nsource = \"{PUBLIC}\"\n\
         [[package]]\nname = \"ring\"\nversion = \"0.17.0\"\nsource = \"{PUBLIC}\"\n\
         [[package]]\nname = \"aws-lc-sys\"\nversion = \"1.0.0\"\nsource = \"git+https://a.example\"\n"
    );
    assert_eq!(
        faults(&lock.parse().unwrap()),
        [
            "ring is there more than once: 0.16.0, 0.17.0",
            "aws-lc-sys is in the tree; we use rustls with ring",
            "aws-lc-sys does not come from the public registry",
        ]
    );
}
