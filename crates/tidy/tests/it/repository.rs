//! What there is to look at: the crates and the files of this repository.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the repository begins.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is in crates/tidy").to_path_buf()
}

/// One crate of the workspace and what it uses.
#[derive(Debug, Clone, Default)]
pub struct Package {
    pub name: String,
    /// Its directory, relative to the root of the repository.
    pub directory: String,
    /// What it is built from: normal and build dependencies.
    pub uses: Vec<String>,
    /// What only its tests use.
    pub tests_use: Vec<String>,
}

/// The crates of the workspace, sorted by name.
///
/// Only manifests are read (`--no-deps`): a machine that has built the tests
/// does not hold the packages of other platforms, and `--offline` would fail.
pub fn packages() -> Vec<Package> {
    #[expect(clippy::disallowed_methods, reason = "cargo alone knows what its manifests mean")]
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");

    let mut packages: Vec<Package> = array(&metadata["packages"]).iter().map(package).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages
}

fn package(value: &serde_json::Value) -> Package {
    let mut package = Package { name: text(&value["name"]), ..Package::default() };
    let manifest = PathBuf::from(text(&value["manifest_path"]));
    let directory = manifest.parent().expect("a manifest is in a directory");
    package.directory = relative(directory);
    for dependency in array(&value["dependencies"]) {
        let name = text(&dependency["name"]);
        if dependency["kind"] == "dev" {
            package.tests_use.push(name);
        } else {
            package.uses.push(name);
        }
    }
    package
}

fn array(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().expect("cargo metadata has a list here")
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().expect("cargo metadata has a text here").to_owned()
}

/// One file of the repository.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative to the root of the repository.
    pub path: String,
    /// Its text; files that are not UTF-8 are not in the list.
    pub text: String,
}

impl File {
    pub fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// Every text file, sorted by path; what builds and tests leave behind is not looked at.
pub fn files() -> Vec<File> {
    let mut files = Vec::new();
    let mut pending = vec![root()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).expect("the repository can be read") {
            let entry = entry.expect("the repository can be read");
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // a directory, or the file of a work tree that says where its directory is
            if name == ".git" {
                continue;
            }
            let kind = entry.file_type().expect("a file has a kind");
            if kind.is_dir() {
                if !matches!(&*name, "target" | "proof" | "node_modules") {
                    pending.push(entry.path());
                }
            } else if kind.is_file() && !name.ends_with(".tmp") {
                // A file that another program removes meanwhile is no file.
                if let Ok(text) = fs::read_to_string(entry.path()) {
                    files.push(File { path: relative(&entry.path()), text });
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The text of one file that must be there.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether the repository has this file or directory.
pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).expect("the path is in the repository");
    path.to_string_lossy().into_owned()
}
