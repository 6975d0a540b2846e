//! The verbs of `files`, and `cp`.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};

use cove_client::{Breaker, ClientError, Download, Origin, Place, Upload};
use cove_types::wire::{self, FilesReply};
use cove_types::{At, ErrorKind, FileReference, ProjectReference, TreePath};
use serde_json::json;
use tokio::io::AsyncReadExt;

use super::{Session, parse};
use crate::args::{FilesVerb, GrepFlags, Kind};
use crate::copy::{self, Side};
use crate::environment;
use crate::failure::Failure;
use crate::output;
use crate::render;

impl Session {
    pub(super) async fn copy(
        &self,
        source: &OsStr,
        target: &OsStr,
        follow_link: bool,
    ) -> Result<(), Failure> {
        let ends_in_dot = copy::text(source).ends_with("/.");
        let (client, bar, breaker) = (&self.client, &self.bar, Breaker::default());
        let reply = match (Side::parse(source)?, Side::parse(target)?) {
            (Side::Local(from), Side::Project(to)) => {
                let leave_out = environment::identities(&environment::own_directories());
                let sending = breaker.clone();
                let call = copy::copy_in(client, &from, &to, follow_link, leave_out, sending, bar);
                copy::sent(call, &breaker, bar).await?
            }
            (Side::Project(from), Side::Local(to)) => {
                copy::copy_out(client, &from, ends_in_dot, &to, follow_link, bar).await?
            }
            (Side::Stream, Side::Project(to)) => {
                if std::io::stdin().is_terminal() {
                    let what = "a tar stream is read from standard input, which is a terminal";
                    return Err(Failure::new(ErrorKind::Invalid, what)
                        .hint("such as `tar -c DIR | cove cp - NAME:/path`"));
                }
                copy::sent(copy::stream_in(client, &to, breaker.clone()), &breaker, bar).await?
            }
            (Side::Project(from), Side::Stream) => {
                if self.output.is_json() || std::io::stdout().is_terminal() {
                    let what = "a tar stream is written to standard output and nothing else";
                    return Err(Failure::new(ErrorKind::Invalid, what)
                        .hint("without --json and into a pipe or a file: `> x.tar`"));
                }
                let download = copy::stream_out(client, &from, follow_link).await?;
                return write_out(download).await;
            }
            (Side::Local(_) | Side::Stream, Side::Local(_) | Side::Stream) => {
                return Err(Failure::new(ErrorKind::Invalid, "neither side is a project's")
                    .hint("write the project's side NAME:/path"));
            }
            (Side::Project(_), Side::Project(_)) => {
                return Err(Failure::new(ErrorKind::Invalid, "both sides are projects'")
                    .hint("copy through a local directory, or fork the project"));
            }
        };
        self.bar.end();
        self.show_edit(&reply, "copied")
    }

    fn show_files(&self, reply: &FilesReply) -> Result<(), Failure> {
        let paths = reply.files.iter().map(|file| file.path.clone());
        self.output.show(reply, paths, || match reply.files.is_empty() {
            true => String::new(),
            false => render::files(&reply.files, self.env.now()),
        })?;
        warn_of(&reply.remarks);
        Ok(())
    }

    fn show_edit(&self, reply: &FilesReply, verb: &str) -> Result<(), Failure> {
        let paths = reply.files.iter().map(|file| file.path.clone());
        let line = |file: &wire::File| format!("{}\n", crate::failure::printable(&file.path));
        // On a terminal the one path stands in the sentence about it.
        let one = reply.files.first().filter(|_| reply.files.len() == 1);
        let one = one.filter(|_| self.output.is_one_terminal());
        self.output.show(reply, paths, || match one {
            Some(_) => String::new(),
            None => reply.files.iter().map(line).collect(),
        })?;
        warn_of(&reply.remarks);
        self.output.say(&match one {
            Some(file) => format!("{verb} {}", crate::failure::printable(&file.path)),
            None => verb.to_owned(),
        });
        Ok(())
    }

    pub(super) async fn files(&self, verb: FilesVerb) -> Result<(), Failure> {
        let client = &self.client;
        match verb {
            FilesVerb::Ls { place: written, recursive, .. } => {
                let reference = place(&written)?;
                let reply = client.files(at(&reference), recursive).await?;
                self.show_files(&reply)?;
                if reply.files.is_empty() {
                    let project = &reference.project.project;
                    self.output.say(&format!(
                        "nothing here yet; copy something in with `cove cp DIR {project}:/`"
                    ));
                }
                Ok(())
            }
            FilesVerb::Stat { place: written } => {
                let reference = place(&written)?;
                self.show_files(&client.stat(at(&reference)).await?)
            }
            FilesVerb::Find { place, pattern, name, kind } => {
                self.find(&place, pattern, name, kind).await
            }
            FilesVerb::Grep(flags) => self.grep(&flags).await,
            FilesVerb::Cat { place: written } => {
                let reference: FileReference = parse(&copy::text(&written))?;
                self.cat(&reference).await
            }
            FilesVerb::Put { place: written } => {
                let reference = place_to_change(&written)?;
                refuse_directory(&reference)?;
                let breaker = Breaker::default();
                let content = Upload::reader(tokio::io::stdin(), breaker.clone());
                let project = &reference.project.project;
                let call = async { Ok(client.put(project, &reference.path, content).await?) };
                let reply = copy::sent(call, &breaker, &self.bar).await?;
                self.show_edit(&reply, "written")
            }
            FilesVerb::Rm { place: written, recursive, force } => {
                let reference = place_to_change(&written)?;
                let project = &reference.project.project;
                match client.remove(project, &reference.path, recursive).await {
                    Err(ClientError::Problem(problem))
                        if force && problem.kind == ErrorKind::NotFound =>
                    {
                        // It may be the project that is not there.
                        client.show(project).await?;
                        self.output.show(&no_files(), [], String::new)
                    }
                    other => self.show_edit(&other?, "removed"),
                }
            }
            FilesVerb::Mkdir { place: written, .. } => {
                let reference = place_to_change(&written)?;
                let project = &reference.project.project;
                let reply = client.make_directory(project, &reference.path).await?;
                self.show_edit(&reply, "made")
            }
            FilesVerb::Mv { source, target } => self.move_file(&source, &target).await,
        }
    }

    async fn find(
        &self,
        first: &OsStr,
        pattern: Option<String>,
        name: Option<String>,
        kind: Option<Kind>,
    ) -> Result<(), Failure> {
        let (written, pattern) = match (pattern, name) {
            // Both orders are in use elsewhere.
            (Some(second), None) if second.contains(':') && !copy::text(first).contains(':') => {
                (OsString::from(second), Some(copy::text(first)))
            }
            (pattern, name) => (first.to_owned(), pattern.or(name)),
        };
        let reference = place(&written)?;
        let kind = kind.map(Kind::as_str);
        let reply = self.client.find(at(&reference), pattern.as_deref(), kind).await?;
        self.show_files(&reply)?;
        if reply.files.is_empty() {
            self.output.say("nothing found");
        }
        Ok(())
    }

    async fn grep(&self, flags: &GrepFlags) -> Result<(), Failure> {
        let reference = place(&flags.place)?;
        let (is_expression, ignores_case) = (flags.extended_regexp, flags.ignore_case);
        let call = self.client.grep(at(&reference), &flags.pattern, is_expression, ignores_case);
        let reply = call.await?;
        let paths = reply.matches.iter().map(|found| found.path.clone());
        let mut paths: Vec<String> = paths.collect();
        paths.dedup();
        let names: String =
            paths.iter().map(|path| format!("{}\n", crate::failure::printable(path))).collect();
        let json = json!({ "matches": reply.matches });
        self.output.show(&json, paths, || match flags.files_with_matches {
            true => names,
            false => render::matches(&reply.matches),
        })?;
        if reply.matches.is_empty() {
            self.output.say("nothing found");
        }
        warn_of(&reply.remarks);
        Ok(())
    }

    async fn move_file(&self, source: &OsStr, target: &OsStr) -> Result<(), Failure> {
        let from = place_to_change(source)?;
        let project = &from.project.project;
        let text = copy::text(target);
        let to = match text.split_once(':') {
            Some((name, _)) if !name.contains('/') => place_to_change(target)?,
            _ => parse(&format!("{project}:{text}"))?,
        };
        if to.project.project != *project {
            return Err(Failure::new(ErrorKind::Invalid, "a move stays in one project")
                .hint("copy it with `cove cp` through a local directory"));
        }
        // A slash at the end asks for a directory, or gives a directory a new name that ends so.
        if to.is_directory {
            let kind = async |path: &TreePath| {
                let place = Place { project, at: &At::Now, path };
                match self.client.stat(place).await {
                    Ok(reply) => Ok(reply.files.into_iter().next().map(|file| file.kind)),
                    Err(ClientError::Problem(problem)) if problem.kind == ErrorKind::NotFound => {
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            };
            let is_directory = |kind: Option<String>| kind.is_some_and(|kind| kind == "directory");
            if !is_directory(kind(&to.path).await?) {
                let source = Place { project, at: &At::Now, path: &from.path };
                let moved = self.client.stat(source).await?.files.into_iter().next();
                if !is_directory(moved.map(|file| file.kind)) {
                    return Err(no_directory(&to));
                }
            }
        }
        let reply = self.client.rename_path(project, &from.path, &to.path).await?;
        self.show_edit(&reply, "moved")
    }

    async fn cat(&self, reference: &FileReference) -> Result<(), Failure> {
        let download = self.client.content(at(reference)).await?;
        if !self.output.is_json() {
            return write_out(download).await;
        }
        let mut bytes = Vec::new();
        let origin = download.origin.clone();
        let mut reader = download.reader().take(JSON_BYTES_MAX + 1);
        if let Err(error) = reader.read_to_end(&mut bytes).await {
            return Err(broken_off(&origin, bytes.len() as u64, &error).await);
        }
        if bytes.len() as u64 > JSON_BYTES_MAX {
            let what = format!(
                "{} is over 64 MiB, too long for one JSON object",
                copy::named(&reference.project.project, &reference.path)
            );
            return Err(Failure::new(ErrorKind::Invalid, what).hint("leave out --json"));
        }
        let length = bytes.len();
        let (encoding, data) = match String::from_utf8(bytes) {
            Ok(text) => ("utf-8", text),
            Err(error) => ("base64", base64(error.as_bytes())),
        };
        let content = json!({
            "path": reference.path.to_string(),
            "bytes": length,
            "encoding": encoding,
            "data": data,
        });
        self.output.show(&json!({ "content": content }), [], String::new)
    }
}

/// The longest file that `cat --json` holds in memory, in bytes.
const JSON_BYTES_MAX: u64 = 64 << 20;
/// How much of a file is read before it is written out.
const PIECE_BYTES: usize = 128 << 10;

/// Names what was not taken as it is.
fn warn_of(remarks: &[String]) {
    for remark in remarks {
        output::warn(&crate::failure::printable(remark));
    }
}

/// Why a file or an archive came no further than `offset`: what Cove says of it or, when it reads it
/// now, that the stream broke off.
async fn broken_off(origin: &Origin, offset: u64, error: &std::io::Error) -> Failure {
    if let Some(problem) = ClientError::find_problem(error) {
        return problem.into();
    }
    match origin.find_fault(offset).await {
        Some(fault) => fault.into(),
        None => Failure::caused("the stream broke off", error, ErrorKind::TimedOut)
            .hint("what was printed is right, and not all of the file: repeat the command"),
    }
}

/// Writes what comes to standard output as it comes.
async fn write_out(download: Download) -> Result<(), Failure> {
    let (origin, remarks) = (download.origin.clone(), download.remarks.clone());
    let mut reader = download.reader();
    let mut written = 0;
    let mut piece = vec![0; PIECE_BYTES];
    let mut out = std::io::stdout();
    let failed = |error: &std::io::Error| Failure::io("failed to write to standard output", error);
    loop {
        let count = match reader.read(&mut piece).await {
            Ok(count) => count,
            Err(error) => {
                out.flush().map_err(|error| failed(&error))?;
                return Err(broken_off(&origin, written, &error).await);
            }
        };
        if count == 0 {
            out.flush().map_err(|error| failed(&error))?;
            warn_of(remarks.lines());
            return Ok(());
        }
        out.write_all(&piece[..count]).map_err(|error| failed(&error))?;
        written += count as u64;
    }
}

/// Bytes in base64 (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            match digit <= group.len() {
                true => text.push(char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize])),
                false => text.push('='),
            }
        }
    }
    text
}

/// `{"files": []}`.
fn no_files() -> FilesReply {
    FilesReply { files: Vec::new(), remarks: Vec::new() }
}

/// That a place written with a slash at its end is no directory that is there.
fn no_directory(reference: &FileReference) -> Failure {
    let what = copy::named(&reference.project.project, &reference.path);
    Failure::new(ErrorKind::Precondition, format!("{what} is no directory that is there"))
        .hint(format!("make it with `cove files mkdir {what}`, or leave out the slash at the end"))
}

/// Refuses a place for a file that is written with a slash at its end.
fn refuse_directory(reference: &FileReference) -> Result<(), Failure> {
    if !reference.is_directory {
        return Ok(());
    }
    let what = copy::named(&reference.project.project, &reference.path);
    let text = format!("{what} is written with a slash at its end, as a directory is");
    Err(Failure::new(ErrorKind::Precondition, text)
        .hint("name the file that is to be written, without a slash at its end"))
}

/// Where a call reads.
fn at(reference: &FileReference) -> Place<'_> {
    let project = &reference.project;
    Place { project: &project.project, at: &project.at, path: &reference.path }
}

/// Reads NAME:/path; where only reading is meant, NAME alone is its root.
fn place(written: &OsStr) -> Result<FileReference, Failure> {
    let text = copy::text(written);
    match text.contains(':') {
        true => parse(&text),
        false => parse::<ProjectReference>(&text).and_then(|_| parse(&format!("{text}:/"))),
    }
}

/// Reads NAME:/path of the present state, which can change.
fn place_to_change(written: &OsStr) -> Result<FileReference, Failure> {
    let reference: FileReference = parse(&copy::text(written))?;
    if reference.project.at != At::Now {
        return Err(Failure::new(ErrorKind::Invalid, "an entry does not change")
            .hint("leave out the part after @ to change the present state"));
    }
    Ok(reference)
}

#[cfg(test)]
mod tests;
