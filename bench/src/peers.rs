//! What people use today: `btrfs send` through `sha256sum` and `zstd`, and restic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell::{command, run, script, time};

/// `btrfs send | sha256sum | zstd -3` into a file that is durable at the end.
pub struct Pipeline {
    directory: PathBuf,
}

impl Pipeline {
    /// One that keeps its files in a directory.
    pub fn new(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// The file of a name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.zst"))
    }

    /// Stores a read-only snapshot, of what changed since `parent` if there is one.
    pub fn store(&self, name: &str, source: &Path, parent: Option<&Path>) -> Result<f64> {
        let file = self.file(name);
        let text = r#"out=$1 source=$2
            if [ $# -gt 2 ]; then set -- -p "$3"; else set --; fi
            btrfs -q send "$@" "$source" | tee >(sha256sum >"$out.sha256") |
                zstd -q -3 --force -o "$out"
            sync "$out""#;
        let mut command = script(text, &[file.as_path(), source]);
        time(command.args(parent))
    }

    /// Restores what was stored whole into a new subvolume below `into`, and writes it out.
    pub fn restore(&self, name: &str, into: &Path) -> Result<f64> {
        let text = r#"zstd -q -d -c "$1" | btrfs -q receive "$2"; sync -f "$2""#;
        time(&mut script(text, &[self.file(name).as_path(), into]))
    }

    /// Bytes in its files.
    pub fn bytes(&self, name: &str) -> Result<u64> {
        Ok(fs::metadata(self.file(name))?.len())
    }
}

/// restic with a repository and a cache of its own.
pub struct Restic {
    /// Its repository.
    pub repository: PathBuf,
    cache: PathBuf,
}

impl Restic {
    /// Makes the repository in a directory.
    pub fn init(directory: &Path) -> Result<Self> {
        let restic =
            Self { repository: directory.join("repository"), cache: directory.join("cache") };
        fs::create_dir_all(&restic.cache)?;
        run(restic.command().args(["init", "--repository-version", "2"]))?;
        Ok(restic)
    }

    fn command(&self) -> Command {
        let mut command = command("restic", &["--quiet", "--compression", "auto"]);
        command.env("RESTIC_REPOSITORY", &self.repository);
        command.env("RESTIC_CACHE_DIR", &self.cache).env("RESTIC_PASSWORD", "bench");
        command
    }

    /// Stores a directory; what an earlier snapshot of the same directory holds is not read again.
    pub fn store(&self, source: &Path) -> Result<f64> {
        time(self.command().current_dir(source).args(["backup", "--host", "bench", "."]))
    }

    /// Restores the newest snapshot below `into`, and writes it out.
    pub fn restore(&self, into: &Path) -> Result<f64> {
        let mut restore = self.command();
        let took = time(restore.args(["restore", "latest", "--target"]).arg(into))?;
        Ok(took + time(command("sync", &["-f"]).arg(into))?)
    }
}
