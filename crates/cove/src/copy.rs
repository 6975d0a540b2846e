//! `cp`: files into a project and out of it, merging as `docker cp` does.

mod landing;
mod local;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cove_btrfs::FileKind;
use cove_client::{Breaker, Client, ClientError, Download, Place, Upload};
use cove_content::archive::{self, PackOptions};
use cove_types::wire::FilesReply;
use cove_types::{At, Classify, ErrorKind, FileReference, Slug, TreePath, escape_bytes};

use self::landing::{Landed, Stoppable};
use self::local::Local;
use crate::failure::Failure;
use crate::output;
use crate::progress::Bar;
use crate::signals;

/// How many symbolic links one name may lead through: as many as the kernel follows.
const LINKS_MAX: usize = 40;

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
        (Source::File, Target::File) if ends_with_slash => Err("is a file, not a directory"),
        (Source::File, Target::Missing | Target::File) => Ok(Landing::As),
        (Source::Directory | Source::Contents, Target::Missing) => Ok(Landing::As),
        (Source::Directory | Source::Contents, Target::File) => {
            Err("is a file, and a directory does not replace it")
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
    /// A tar stream on standard input or output.
    Stream,
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
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        let end = bytes.iter().position(|byte| *byte == b'/').unwrap_or(bytes.len());
        match bytes[..end].contains(&b':') {
            true => Ok(Self::Project(text(written).parse()?)),
            false => Ok(Self::Local(PathBuf::from(written))),
        }
    }
}

fn shown(path: &Path) -> String {
    escape_bytes(path.as_os_str().as_bytes())
}

/// How messages name a path of a project.
pub fn named(project: &Slug, path: &TreePath) -> String {
    format!("{project}:/{path}")
}

/// A file where a directory was asked for by a slash at the end.
fn no_directory(what: &str) -> Failure {
    Failure::new(ErrorKind::Precondition, format!("{what} is a file, not a directory"))
}

/// How packing ended.
pub enum Packed {
    /// All was handed over; what was not taken as it is.
    Whole(Vec<String>),
    /// The call ended first, and tells why.
    CutOff,
}

/// The end of packing; a failure is one of what was read.
pub type Packing = tokio::task::JoinHandle<Result<Packed, Failure>>;

/// Packs a path in a thread of its own; the body breaks off when packing fails.
fn pack(
    local: Local,
    name: Vec<u8>,
    leave_out: Vec<(u64, u64)>,
    breaker: Breaker,
    bar: &Bar,
) -> (Upload, Packing) {
    let (mut writer, upload) = Upload::channel(breaker);
    if bar.is_watched() {
        // Beside the copy: looking is much faster, and nobody waits for it.
        let (path, leave_out, bar) = (local.path(), leave_out.clone(), bar.clone());
        drop(tokio::task::spawn_blocking(move || {
            let (entries, bytes) = local::measure(&path, &leave_out);
            bar.expect(entries, bytes);
        }));
    }
    let bar = bar.clone();
    let packing = tokio::task::spawn_blocking(move || {
        let options = PackOptions { leave_out, sockets: false };
        let failed = |error: &archive::PackError| {
            let what = format!("failed to read {}", shown(&local.parent));
            Failure::caused(what, error, error.kind())
        };
        let progress = |files, bytes| bar.copied("copying in", files, bytes);
        match archive::pack(&local.dir, &local.name, &name, &mut writer, &options, &progress) {
            Ok(remarks) if writer.finish().is_ok() => Ok(Packed::Whole(remarks)),
            Ok(_) | Err(archive::PackError::Stream { .. }) => Ok(Packed::CutOff),
            Err(error) => Err(failed(&error)),
        }
    });
    (upload, packing)
}

/// A directory with everything below, as the archive that a project is made of.
pub fn pack_directory(
    path: &Path,
    leave_out: Vec<(u64, u64)>,
    breaker: Breaker,
    bar: &Bar,
) -> Result<(Upload, Packing), Failure> {
    // `new --from link` means the directory behind it.
    let local = match std::fs::canonicalize(path) {
        Ok(real) => Local::open(&real)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = format!("directory {} does not exist", shown(path));
            return Err(Failure::new(ErrorKind::NotFound, what));
        }
        Err(error) => return Err(Failure::io(format!("failed to open {}", shown(path)), &error)),
    };
    if !local.is_directory() {
        return Err(no_directory(&shown(path)));
    }
    Ok(pack(local, b".".to_vec(), leave_out, breaker, bar))
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
        (Ok(reply), Ok(Packed::Whole(remarks))) => Ok((reply, remarks)),
        (Ok(_), Ok(Packed::CutOff)) => {
            Err(Failure::new(ErrorKind::Internal, "the call ended before all was sent"))
        }
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
    follow_link: bool,
    leave_out: Vec<(u64, u64)>,
    breaker: Breaker,
    bar: &Bar,
) -> Result<FilesReply, Failure> {
    refuse_entry(target)?;
    let written = Local::open(source)?;
    let name = written.name.name().unwrap_or(b".").to_vec();
    let local = match follow_link {
        true => Local::open_behind(source)?,
        false => written,
    };
    let Some(found) = &local.found else {
        return Err(Failure::new(ErrorKind::NotFound, format!("{} does not exist", shown(source))));
    };
    let bytes = source.as_os_str().as_bytes();
    let kind = match found.kind {
        FileKind::Directory if bytes.ends_with(b"/.") || bytes == b"." => Source::Contents,
        FileKind::Directory => Source::Directory,
        _ if local.ends_with_slash => return Err(no_directory(&shown(source))),
        _ => Source::File,
    };
    let project = &target.project.project;
    let reached = reach(client, project, &At::Now, &target.path).await?;
    let landing = plan(kind, reached.there, target.is_directory).map_err(|why| {
        Failure::new(ErrorKind::Precondition, format!("{} {why}", named(project, &target.path)))
    })?;
    let (below, name) = match landing {
        Landing::Inside => (reached.path, name),
        Landing::Merged => (reached.path, b".".to_vec()),
        Landing::As => {
            let (parent, name) = split(&reached.path)?;
            (directory(client, project, &parent).await?, name)
        }
    };
    let (upload, packing) = pack(local, name, leave_out, breaker, bar);
    let call = client.extract(project, &below, upload).await;
    let (mut reply, remarks) = outcome(call, packing).await?;
    reply.remarks.splice(0..0, remarks);
    Ok(reply)
}

/// Extracts a tar stream on standard input in a directory of a project.
pub async fn stream_in(
    client: &Client,
    target: &FileReference,
    breaker: Breaker,
) -> Result<FilesReply, Failure> {
    refuse_entry(target)?;
    let project = &target.project.project;
    let below = directory(client, project, &target.path).await?;
    let upload = Upload::reader(tokio::io::stdin(), breaker);
    Ok(client.extract(project, &below, upload).await?)
}

/// Awaits a call that sends a body. A signal breaks the body off, and then nothing was written; where all
/// of it was sent, it is waited for a moment for what became of it.
pub async fn sent<T>(
    call: impl Future<Output = Result<T, Failure>>,
    breaker: &Breaker,
    bar: &Bar,
) -> Result<T, Failure> {
    let mut call = Box::pin(call);
    let by_signal = tokio::select! {
        biased;
        by_signal = signals::ended() => by_signal,
        ended = &mut call => return ended,
    };
    bar.end();
    if breaker.break_off() {
        output::warn(NOTHING_WRITTEN);
        return Err(by_signal);
    }
    match tokio::time::timeout(ANSWER_MAX, call).await {
        // It was done before it heard of it.
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(refusal)) => Err(refusal.after(&by_signal)),
        Err(_) => {
            output::warn("interrupted; it is not known whether it was written");
            Err(by_signal)
        }
    }
}

/// What is said of an interrupted copy that left nothing.
const NOTHING_WRITTEN: &str = "interrupted; nothing was written";
/// How long an interrupted copy whose body was sent whole waits for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// A path of a project as a tar stream.
pub async fn stream_out(
    client: &Client,
    source: &FileReference,
    follow_link: bool,
) -> Result<Download, Failure> {
    let (path, _) = source_of(client, source, follow_link).await?;
    let place = Place { project: &source.project.project, at: &source.project.at, path: &path };
    Ok(client.archive(place).await?)
}

fn refuse_entry(target: &FileReference) -> Result<(), Failure> {
    if target.project.at == At::Now {
        return Ok(());
    }
    let here = named(&target.project.project, &target.path);
    Err(Failure::new(ErrorKind::Invalid, "an entry does not change")
        .hint(format!("copy into the present state: {here}")))
}

/// A path as its parent and its last name.
fn split(path: &TreePath) -> Result<(TreePath, Vec<u8>), Failure> {
    match (path.parent(), path.name()) {
        (Some(parent), Some(name)) => Ok((parent, name.to_vec())),
        _ => Err(Failure::new(ErrorKind::Precondition, "the project's root has no other name")),
    }
}

/// A path of a project behind the links that stand under its last name.
struct Reached {
    path: TreePath,
    there: Target,
}

/// Follows the links under the last name of a path; a project's links lead nowhere else.
async fn reach(
    client: &Client,
    project: &Slug,
    at: &At,
    path: &TreePath,
) -> Result<Reached, Failure> {
    let mut path = path.clone();
    for _ in 0..LINKS_MAX {
        if path.is_top() {
            return Ok(Reached { path, there: Target::Directory });
        }
        let file = match client.stat(Place { project, at, path: &path }).await {
            Ok(reply) => reply.files.into_iter().next(),
            Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let Some(file) = file else {
            // It may be the project that is not there.
            client.show(project).await?;
            return Ok(Reached { path, there: Target::Missing });
        };
        match (file.kind.as_str(), &file.target) {
            ("directory", _) => return Ok(Reached { path, there: Target::Directory }),
            ("symlink", Some(target)) => {
                path = behind(&path, target).ok_or_else(|| {
                    let link = named(project, &path);
                    let what = format!("{link} is a symbolic link that points out of the project");
                    Failure::new(ErrorKind::Precondition, what)
                })?;
            }
            _ => return Ok(Reached { path, there: Target::File }),
        }
    }
    let what = format!("{} leads through more than {LINKS_MAX} links", named(project, &path));
    Err(Failure::new(ErrorKind::Precondition, what))
}

/// Where the link at `path` points to; `None` when that is outside of the project.
fn behind(path: &TreePath, target: &str) -> Option<TreePath> {
    let target = cove_types::unescape_text(target).ok()?;
    if target.starts_with(b"/") {
        return None;
    }
    let parent = path.parent()?;
    let mut names: Vec<&[u8]> = parent.names().collect();
    for name in target.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()?),
            name => names.push(name),
        }
    }
    match names.is_empty() {
        true => Some(TreePath::top()),
        false => TreePath::from_bytes(&names.join(&b'/')).ok(),
    }
}

/// A directory of a project that must be there, behind links.
async fn directory(client: &Client, project: &Slug, path: &TreePath) -> Result<TreePath, Failure> {
    let reached = reach(client, project, &At::Now, path).await?;
    let name = named(project, path);
    match reached.there {
        Target::Directory => Ok(reached.path),
        Target::File => Err(no_directory(&name)),
        Target::Missing => {
            let what = format!("directory {name} does not exist");
            Err(Failure::new(ErrorKind::NotFound, what)
                .hint(format!("make it with `cove files mkdir {name}`")))
        }
    }
}

/// The path that is copied out of a project, and whether it is a directory.
async fn source_of(
    client: &Client,
    source: &FileReference,
    follow_link: bool,
) -> Result<(TreePath, bool), Failure> {
    let (project, at) = (&source.project.project, &source.project.at);
    let name = || named(project, &source.path);
    // A slash after a link asks for the directory behind it.
    if follow_link || source.is_directory {
        let reached = reach(client, project, at, &source.path).await?;
        return match reached.there {
            Target::Directory => Ok((reached.path, true)),
            Target::File if source.is_directory => Err(no_directory(&name())),
            Target::File => Ok((reached.path, false)),
            Target::Missing => {
                Err(Failure::new(ErrorKind::NotFound, format!("{} does not exist", name())))
            }
        };
    }
    let reply = client.stat(Place { project, at, path: &source.path }).await?;
    let is_directory = reply.files.first().is_some_and(|file| file.kind == "directory");
    Ok((source.path.clone(), is_directory))
}

/// Copies a path of a project to a local path.
pub async fn copy_out(
    client: &Client,
    source: &FileReference,
    contents_only: bool,
    target: &Path,
    follow_link: bool,
    bar: &Bar,
) -> Result<FilesReply, Failure> {
    let (path, is_directory) = source_of(client, source, follow_link).await?;
    let kind = match is_directory {
        true if contents_only || source.path.is_top() => Source::Contents,
        true => Source::Directory,
        false => Source::File,
    };
    let local = Local::open_behind(target)?;
    let landing = plan(kind, local.target(), local.ends_with_slash)
        .map_err(|why| Failure::new(ErrorKind::Precondition, format!("{} {why}", shown(target))))?;
    let place = Place { project: &source.project.project, at: &source.project.at, path: &path };
    let download = client.archive(place).await?;
    let remarks = download.remarks.clone();
    let reader = tokio_util::io::SyncIoBridge::new(download.reader());
    let landed = Landed {
        local,
        landing,
        name: source.path.name().map(<[u8]>::to_vec),
        // The names in the stream begin with this one.
        top: path.name().unwrap_or(b".").to_vec(),
    };
    let interrupted = bar.clone();
    let (bar, stop) = (bar.clone(), Arc::new(AtomicBool::new(false)));
    let wanted = Arc::clone(&stop);
    // Before anything is made: what was begun is to be swept away, and a terminal that closes may tell twice.
    let mut came = signals::put_off();
    let mut written = tokio::task::spawn_blocking(move || {
        let progress = |files, bytes| bar.copied("copying out", files, bytes);
        landed.extract(Stoppable { reader, stop: &wanted }, &progress)
    });
    let ended = tokio::select! {
        ended = &mut written => ended,
        by_signal = signals::ended_since(&mut came) => {
            stop.store(true, Ordering::Relaxed);
            match tokio::time::timeout(SWEEP_MAX, &mut written).await {
                // It was done before it heard of it.
                Ok(Ok(Ok(reply))) => return Ok(reply),
                ended => {
                    interrupted.end();
                    if ended.is_ok() {
                        output::warn(NOTHING_WRITTEN);
                    }
                    return Err(by_signal);
                }
            }
        }
    };
    let mut reply = ended.map_err(|error| {
        Failure::new(ErrorKind::Internal, format!("extracting ended early: {error}"))
    })??;
    reply.remarks.splice(0..0, remarks.lines().iter().cloned());
    Ok(reply)
}

/// How long an interrupted copy may take to remove what it has extracted.
const SWEEP_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
