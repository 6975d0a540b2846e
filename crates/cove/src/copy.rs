//! `cp`: files into a project and out of it, merging as `docker cp` does.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use cove_btrfs::{Dir, FileKind, Metadata};
use cove_client::{Client, ClientError, Place, Upload};
use cove_content::archive::{self, ExtractOptions, Extracted, Limits, PackOptions};
use cove_env::Env;
use cove_types::wire::{self, FilesReply};
use cove_types::{At, Classify, ErrorKind, FileReference, Slug, TreePath, escape_bytes};

use crate::failure::Failure;
use crate::progress::Bar;

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A directory with its name.
    Directory,
    /// What is in a directory: written with `/.` at its end.
    Contents,
    /// Anything else.
    File,
}

/// What is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nothing.
    Missing,
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// Where the copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// Into the target, under the source's name.
    Inside,
    /// Into the target, without a name.
    Merged,
    /// To where the target's name is, under that name.
    As,
}

/// Where a copy goes, by what it is and what is there.
pub fn plan(
    source: Source,
    target: Target,
    ends_with_slash: bool,
) -> Result<Landing, &'static str> {
    match (source, target) {
        (Source::File | Source::Directory, Target::Directory) => Ok(Landing::Inside),
        (Source::Contents, Target::Directory) => Ok(Landing::Merged),
        (Source::File, Target::Missing) if ends_with_slash => Err("is no directory that is there"),
        (Source::File, Target::File) if ends_with_slash => Err("is no directory"),
        (Source::File, Target::Missing | Target::File) => Ok(Landing::As),
        (Source::Directory | Source::Contents, Target::Missing) => Ok(Landing::As),
        (Source::Directory | Source::Contents, Target::File) => {
            Err("is no directory, and a directory does not replace it")
        }
    }
}

/// One side of a copy, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// On this machine.
    Local(PathBuf),
    /// In a project.
    Project(FileReference),
}

/// Text that a person wrote, bytes that are not UTF-8 escaped.
pub fn text(written: &OsStr) -> String {
    let mut text = String::new();
    for chunk in written.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

impl Side {
    /// A colon before the first slash makes it a project's.
    pub fn parse(written: &OsStr) -> Result<Self, Failure> {
        let bytes = written.as_bytes();
        let end = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
        match bytes[..end].contains(&b':') {
            true => Ok(Self::Project(text(written).parse()?)),
            false => Ok(Self::Local(PathBuf::from(written))),
        }
    }
}

/// A local path as a directory and one name in it, and what is there.
struct Local {
    dir: Dir,
    /// The directory, for messages and to say what was made.
    parent: PathBuf,
    name: TreePath,
    ends_with_slash: bool,
    found: Option<Metadata>,
}

fn shown(path: &Path) -> String {
    escape_bytes(path.as_os_str().as_bytes())
}

impl Local {
    /// Splits `path`; links in its parents are followed, they are the caller's own.
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed =
            |error: &std::io::Error| Failure::io(format!("failed to open {}", shown(path)), error);
        let bytes = path.as_os_str().as_bytes();
        let ends_with_slash = bytes.ends_with(b"/") || bytes.ends_with(b"/.") || bytes == b".";
        let ends_with_parent = bytes == b".." || bytes.ends_with(b"/..");
        let whole = match ends_with_parent {
            true => std::fs::canonicalize(path).map_err(|error| failed(&error))?,
            false => std::path::absolute(path).map_err(|error| failed(&error))?,
        };
        let (parent, name) = match (whole.parent(), whole.file_name()) {
            (Some(parent), Some(name)) => {
                (parent.to_owned(), TreePath::from_bytes(name.as_bytes())?)
            }
            _ => (whole.clone(), TreePath::top()),
        };
        let dir = Dir::from_path(&parent).map_err(|error| {
            Failure::caused(format!("failed to open {}", shown(&parent)), &error, error.kind())
        })?;
        let mut found = dir.find(&name).map_err(|error| {
            Failure::caused(format!("failed to look at {}", shown(path)), &error, error.kind())
        })?;
        // A slash after a link asks for the directory behind it.
        let is_link = found.as_ref().is_some_and(|found| found.kind == FileKind::Symlink);
        if is_link && ends_with_slash {
            let behind = std::fs::canonicalize(path).map_err(|error| failed(&error))?;
            return Self::open(&behind).map(|local| Self { ends_with_slash, ..local });
        }
        if name.is_top() {
            found = Some(dir.metadata(&name).map_err(|error| {
                Failure::caused(format!("failed to look at {}", shown(path)), &error, error.kind())
            })?);
        }
        Ok(Self { dir, parent, name, ends_with_slash, found })
    }

    fn is_directory(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.kind == FileKind::Directory)
    }
}

/// What a pack or an extraction tells a bar.
fn report(bar: &Bar, step: &'static str) -> impl Fn(u64, u64) + Send + 'static {
    let bar = bar.clone();
    move |files, bytes| {
        bar.show(&wire::Progress {
            step: step.to_owned(),
            done_bytes: bytes,
            total_bytes: None,
            done_files: files,
            total_files: None,
        });
    }
}

/// The end of packing: what was not taken as it is.
pub type Packing = tokio::task::JoinHandle<Result<Vec<String>, Failure>>;

/// Packs a path in a thread of its own; the body breaks off when packing fails.
fn pack(local: Local, name: Vec<u8>, leave_out: Vec<(u64, u64)>, bar: &Bar) -> (Upload, Packing) {
    let (mut writer, upload) = Upload::channel();
    let progress = report(bar, "copying in");
    let packing = tokio::task::spawn_blocking(move || {
        let options = PackOptions { leave_out, sockets: false };
        let failed = |error: &archive::PackError| {
            let what = format!("failed to read {}", shown(&local.parent));
            Failure::caused(what, error, error.kind())
        };
        let remarks =
            archive::pack(&local.dir, &local.name, &name, &mut writer, &options, &progress)
                .map_err(|error| failed(&error))?;
        writer.finish().map_err(|error| failed(&archive::PackError::Stream { source: error }))?;
        Ok(remarks)
    });
    (upload, packing)
}

/// A directory with everything below, as the archive that a project is made of.
pub fn pack_directory(
    path: &Path,
    leave_out: Vec<(u64, u64)>,
    bar: &Bar,
) -> Result<(Upload, Packing), Failure> {
    // `new --from link` means the directory behind it.
    let real = std::fs::canonicalize(path)
        .map_err(|error| Failure::io(format!("failed to open {}", shown(path)), &error))?;
    let local = Local::open(&real)?;
    if !local.is_directory() {
        let what = format!("{} is not a directory", shown(path));
        return Err(Failure::new(ErrorKind::Precondition, what));
    }
    Ok(pack(local, b".".to_vec(), leave_out, bar))
}

/// The failure of a call whose body was being packed: packing's own, when that came first.
pub async fn outcome<T>(
    call: Result<T, ClientError>,
    packing: Packing,
) -> Result<(T, Vec<String>), Failure> {
    let packed = packing.await.map_err(|error| {
        Failure::new(ErrorKind::Internal, format!("packing ended early: {error}"))
    })?;
    match (call, packed) {
        (Ok(reply), Ok(remarks)) => Ok((reply, remarks)),
        // Cove's own words tell more than that it stopped listening.
        (Err(error @ ClientError::Problem(_)), _) => Err(error.into()),
        (_, Err(failure)) => Err(failure),
        (Err(error), Ok(_)) => Err(error.into()),
    }
}

/// Copies a local path into a project.
pub async fn copy_in(
    client: &Client,
    source: &Path,
    target: &FileReference,
    leave_out: Vec<(u64, u64)>,
    bar: &Bar,
) -> Result<FilesReply, Failure> {
    if target.project.at != At::Now {
        return Err(Failure::new(ErrorKind::Invalid, "an entry does not change")
            .hint("copy into the present state: NAME:/path"));
    }
    let local = Local::open(source)?;
    let Some(found) = &local.found else {
        return Err(Failure::new(ErrorKind::NotFound, format!("{} does not exist", shown(source))));
    };
    let bytes = source.as_os_str().as_bytes();
    let kind = match found.kind {
        FileKind::Directory if bytes.ends_with(b"/.") || bytes == b"." => Source::Contents,
        FileKind::Directory => Source::Directory,
        _ => Source::File,
    };
    let project = &target.project.project;
    let there = remote(client, project, &target.project.at, &target.path).await?;
    let landing =
        plan(kind, there, target.is_directory).map_err(|why| refused(&target.path, why))?;
    let (below, name) = match landing {
        Landing::Inside => (target.path.clone(), local.name.name().unwrap_or(b".").to_vec()),
        Landing::Merged => (target.path.clone(), b".".to_vec()),
        Landing::As => split(&target.path)?,
    };
    let (upload, packing) = pack(local, name, leave_out, bar);
    let call = client.extract(project, &below, upload).await;
    let (mut reply, remarks) = outcome(call, packing).await?;
    reply.remarks.splice(0..0, remarks);
    Ok(reply)
}

fn refused(path: &TreePath, why: &str) -> Failure {
    Failure::new(ErrorKind::Precondition, format!("/{path} {why}"))
}

/// A path as its parent and its last name.
fn split(path: &TreePath) -> Result<(TreePath, Vec<u8>), Failure> {
    match (path.parent(), path.name()) {
        (Some(parent), Some(name)) => Ok((parent, name.to_vec())),
        _ => Err(refused(path, "is the project's root")),
    }
}

/// What is at a path of a project.
async fn remote(
    client: &Client,
    project: &Slug,
    at: &At,
    path: &TreePath,
) -> Result<Target, Failure> {
    if path.is_top() {
        return Ok(Target::Directory);
    }
    match client.stat(Place { project, at, path }).await {
        Ok(reply) if reply.files.first().is_some_and(|file| file.kind == "directory") => {
            Ok(Target::Directory)
        }
        Ok(_) => Ok(Target::File),
        Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::NotFound => {
            // It may be the project that is not there.
            client.show(project).await?;
            Ok(Target::Missing)
        }
        Err(error) => Err(error.into()),
    }
}

/// Copies a path of a project to a local path.
pub async fn copy_out(
    client: &Client,
    source: &FileReference,
    contents_only: bool,
    target: &Path,
    bar: &Bar,
) -> Result<FilesReply, Failure> {
    let project = &source.project.project;
    let at = &source.project.at;
    let place = Place { project, at, path: &source.path };
    let is_directory = source.path.is_top()
        || client.stat(place).await?.files.first().is_some_and(|file| file.kind == "directory");
    let kind = match is_directory {
        true if contents_only || source.path.is_top() => Source::Contents,
        true => Source::Directory,
        false => Source::File,
    };
    let local = Local::open(target)?;
    let there = match &local.found {
        None => Target::Missing,
        Some(_) if local.is_directory() => Target::Directory,
        Some(_) => Target::File,
    };
    let landing = plan(kind, there, local.ends_with_slash)
        .map_err(|why| Failure::new(ErrorKind::Precondition, format!("{} {why}", shown(target))))?;
    let download = client.archive(place).await?;
    let reader = tokio_util::io::SyncIoBridge::new(download.reader());
    // The names in the stream begin with this one.
    let top = source.path.name().unwrap_or(b".").to_vec();
    let progress = report(bar, "copying out");
    let written = tokio::task::spawn_blocking(move || {
        let landed = Landed { local, landing, top };
        landed.extract(reader, &progress)
    });
    written.await.map_err(|error| {
        Failure::new(ErrorKind::Internal, format!("extracting ended early: {error}"))
    })?
}

/// An archive on its way to its place.
struct Landed {
    local: Local,
    landing: Landing,
    top: Vec<u8>,
}

impl Landed {
    fn extract(
        &self,
        mut tar: impl std::io::Read,
        progress: &dyn Fn(u64, u64),
    ) -> Result<FilesReply, Failure> {
        let Local { dir, name, .. } = &self.local;
        let has_name = self.top != b".";
        match self.landing {
            // Under the names that the archive has.
            Landing::Inside => self.unpack(&mut tar, dir, name, progress),
            Landing::Merged if !has_name => self.unpack(&mut tar, dir, name, progress),
            // Under another name: beside it first, then in place.
            Landing::As | Landing::Merged => {
                let random: [u8; 8] = Env::system().random();
                let beside = format!(".cove-copying-{:016x}", u64::from_be_bytes(random));
                let beside = TreePath::from_bytes(beside.as_bytes())?;
                dir.create_dir(&beside, 0o700).map_err(|error| self.failed(&error))?;
                let from = match has_name {
                    true => beside.join(&self.top)?,
                    false => beside.clone(),
                };
                let placed = self.unpack(&mut tar, dir, &beside, progress).and_then(|mut reply| {
                    merge(dir, &from, name)?;
                    reply.files = self.files(std::slice::from_ref(name))?;
                    Ok(reply)
                });
                let swept = dir.remove(&beside, true).map_err(|error| self.failed(&error));
                placed.and_then(|reply| swept.map(|_| reply))
            }
        }
    }

    fn unpack(
        &self,
        tar: &mut dyn std::io::Read,
        dir: &Dir,
        at: &TreePath,
        progress: &dyn Fn(u64, u64),
    ) -> Result<FilesReply, Failure> {
        let options = ExtractOptions {
            owner: None,
            limits: Limits { entries: u64::MAX, bytes: u64::MAX, depth: cove_types::DEPTH_MAX },
            new_names_only: false,
        };
        let Extracted { files, remarks, .. } = archive::extract(tar, dir, at, &options, progress)
            .map_err(|error| {
            let what = format!("failed to write below {}", shown(&self.local.parent));
            Failure::caused(what, &error, error.kind())
        })?;
        let first = files.iter().filter_map(TreePath::name);
        let files: Result<Vec<TreePath>, _> = first.map(|name| at.join(name)).collect();
        Ok(FilesReply { files: self.files(&files?)?, remarks })
    }

    /// What is at local paths now, under their absolute names.
    fn files(&self, paths: &[TreePath]) -> Result<Vec<wire::File>, Failure> {
        let file = |path: &TreePath| {
            let dir = &self.local.dir;
            let found = dir.metadata(path).map_err(|error| self.failed(&error))?;
            let target = match found.kind {
                FileKind::Symlink => dir.read_link(path).ok().map(|target| escape_bytes(&target)),
                _ => None,
            };
            let below = PathBuf::from(std::ffi::OsString::from_vec(path.as_bytes().to_vec()));
            Ok(wire::File {
                path: shown(&self.local.parent.join(below)),
                kind: word(found.kind).to_owned(),
                bytes: if found.kind == FileKind::File { found.size } else { 0 },
                mode: format!("{:04o}", found.mode & 0o7777),
                modified: found.mtime.to_string(),
                target,
            })
        };
        paths.iter().map(file).collect()
    }

    fn failed(&self, error: &cove_btrfs::PathError) -> Failure {
        let what = format!("failed to write in {}", shown(&self.local.parent));
        Failure::caused(what, error, error.kind())
    }
}

/// A kind as the wire has it.
fn word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::File => "file",
        FileKind::Symlink => "symlink",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
        FileKind::Device => "device",
    }
}

/// Moves what is at `from` to `to`: a directory that is there takes in the names of another,
/// a file replaces what is no directory.
fn merge(dir: &Dir, from: &TreePath, to: &TreePath) -> Result<(), Failure> {
    let failed = |error: cove_btrfs::PathError| {
        Failure::caused("failed to put the copy in its place", &error, error.kind())
    };
    let is_directory = dir.metadata(from).map_err(failed)?.kind == FileKind::Directory;
    let there = dir.find(to).map_err(failed)?.map(|found| found.kind == FileKind::Directory);
    match (is_directory, there) {
        (true, Some(true)) => {
            for (name, _) in dir.list(from).map_err(failed)? {
                merge(dir, &from.join(&name)?, &to.join(&name)?)?;
            }
            Ok(())
        }
        (false, Some(true)) => Err(refused(to, "is a directory, and a file does not replace it")),
        (true, Some(false)) => {
            Err(refused(to, "is no directory, and a directory does not replace it"))
        }
        (_, None) | (false, Some(false)) => dir.rename(from, to).map_err(failed),
    }
}

#[cfg(test)]
mod tests;
