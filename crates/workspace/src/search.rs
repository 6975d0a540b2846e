//! Finding names and lines.

use std::io::{self, BufRead, BufReader, Read};

use cove_types::{escape_bytes, wire};
use regex::bytes::{Regex, RegexBuilder};

use crate::WorkspaceError;

/// Files longer than this are not searched, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 16 << 20;
/// What is shown of a line, in bytes.
const LINE_BYTES_MAX: usize = 500;
/// How many matches a search gives.
pub(crate) const MATCHES_MAX: usize = 10_000;
/// How much of a file's beginning is looked at for a NUL, which makes it binary.
const BINARY_BYTES: usize = 8 << 10;
/// The longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1_000;

/// What names are looked for: a glob with `*`, `?` and `[…]` over the whole name, or, without
/// any of them, a part of it. One with a slash is compared with the path from the project's
/// root, and its wild cards stand for slashes too, as those of `find -path` do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamePattern {
    bytes: Vec<u8>,
    is_glob: bool,
    of_path: bool,
}

impl NamePattern {
    /// Reads a pattern, escaped as paths are.
    ///
    /// # Errors
    ///
    /// It is empty or too long.
    pub(crate) fn parse(text: &str) -> Result<Self, WorkspaceError> {
        let mut bytes = pattern_bytes(text)?;
        let is_glob = bytes.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['));
        let of_path = bytes.contains(&b'/');
        // A path is written with a slash before it or without; its bytes have none.
        if is_glob && bytes.starts_with(b"/") {
            bytes.remove(0);
        }
        Ok(Self { bytes, is_glob, of_path })
    }

    /// Whether it means what has this path.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        match (self.is_glob, self.of_path) {
            (true, false) => matches_glob(&self.bytes, name),
            (false, false) => contains(name, &self.bytes),
            (true, true) => matches_glob(&self.bytes, path),
            (false, true) => contains(&[b"/", path].concat(), &self.bytes),
        }
    }
}

/// What lines are looked for.
#[derive(Debug, Clone)]
pub struct LinePattern(Regex);

/// How large a compiled pattern may be, in bytes: one of some words takes a few kilobytes, and
/// a hostile one could take all memory.
const COMPILED_BYTES_MAX: usize = 4 << 20;

impl LinePattern {
    /// Reads a text, escaped as paths are, or a regular expression in the syntax of the crate
    /// `regex`, which takes time in proportion to what is searched, whatever the expression.
    ///
    /// # Errors
    ///
    /// It is empty or too long, or no regular expression.
    pub fn parse(
        text: &str,
        is_expression: bool,
        ignores_case: bool,
    ) -> Result<Self, WorkspaceError> {
        let bytes = pattern_bytes(text)?;
        let expression = if is_expression { text.to_owned() } else { literal(&bytes) };
        RegexBuilder::new(&expression)
            .case_insensitive(ignores_case)
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|error| {
                // The last line says why; those before it point into the expression.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                WorkspaceError::Invalid(format!(
                    "\"{}\" is no regular expression: {why}",
                    escape_bytes(text.as_bytes())
                ))
            })
    }

    fn is_in(&self, line: &[u8]) -> bool {
        self.0.is_match(line)
    }
}

/// The regular expression of these bytes alone.
fn literal(bytes: &[u8]) -> String {
    let mut expression = String::new();
    for chunk in bytes.utf8_chunks() {
        expression.push_str(&regex::escape(chunk.valid()));
        for byte in chunk.invalid() {
            expression.push_str(&format!("(?-u:\\x{byte:02x})"));
        }
    }
    expression
}

/// What a search of one file gave.
#[derive(Debug, PartialEq)]
pub(crate) enum Lines {
    Found(Vec<wire::Match>),
    /// Its beginning holds a NUL, so it has no lines.
    Binary,
}

/// The bytes of a pattern as a person writes it; a lone backslash stands for itself.
pub(crate) fn pattern_bytes(text: &str) -> Result<Vec<u8>, WorkspaceError> {
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
        return Err(WorkspaceError::Invalid(format!(
            "a pattern has 1 to {PATTERN_BYTES_MAX} bytes, found {}",
            text.len()
        )));
    }
    Ok(cove_types::unescape_text(text).unwrap_or_else(|_| text.as_bytes().to_vec()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether the whole of `name` is what `glob` says. Goes back only to the last `*`, so it takes
/// at most the product of both lengths.
fn matches_glob(glob: &[u8], name: &[u8]) -> bool {
    let (mut g, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if glob.get(g) == Some(&b'*') {
            star = Some((g + 1, n));
            g += 1;
            continue;
        }
        if let Some(length) = matches_one(&glob[g..], name[n]) {
            g += length;
            n += 1;
            continue;
        }
        match star {
            Some((after, from)) => {
                star = Some((after, from + 1));
                (g, n) = (after, from + 1);
            }
            None => return false,
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

/// How many bytes of `glob` stand for one `byte`, when they do.
fn matches_one(glob: &[u8], byte: u8) -> Option<usize> {
    match glob {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => match class(rest) {
            Some((set, negated, length)) => {
                let within = |set: &[u8]| {
                    let mut at = 0;
                    while at < set.len() {
                        let (from, to) = match set[at..] {
                            [from, b'-', to, ..] => (from, to),
                            _ => (set[at], set[at]),
                        };
                        if (from..=to).contains(&byte) {
                            return true;
                        }
                        at += if set.get(at + 1) == Some(&b'-') && at + 2 < set.len() {
                            3
                        } else {
                            1
                        };
                    }
                    false
                };
                (within(set) != negated).then_some(length + 1)
            }
            // A bracket that is never closed is itself.
            None => (byte == b'[').then_some(1),
        },
        [first, ..] => (*first == byte).then_some(1),
        [] => None,
    }
}

/// The set after a `[`, whether it is negated, and its length with the closing bracket.
fn class(rest: &[u8]) -> Option<(&[u8], bool, usize)> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    // A closing bracket that comes first belongs to the set.
    let end = rest.iter().skip(start + 1).position(|byte| *byte == b']')? + start + 1;
    Some((&rest[start..end], negated, end + 1))
}

/// The lines of a file that match, at most `room` of them.
///
/// Never holds more than one line's beginning: of a line over 1 MiB only that much is searched.
pub(crate) fn lines_with(
    path: &str,
    reader: impl Read,
    pattern: &LinePattern,
    room: usize,
) -> io::Result<Lines> {
    const SEARCHED_MAX: u64 = 1 << 20;
    let mut reader = BufReader::with_capacity(BINARY_BYTES, reader);
    let mut matches = Vec::new();
    if reader.fill_buf()?.contains(&0) {
        return Ok(Lines::Binary);
    }
    let mut line = Vec::new();
    let mut number = 0;
    while matches.len() < room {
        line.clear();
        number += 1;
        if reader.by_ref().take(SEARCHED_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() as u64 == SEARCHED_MAX {
            skip_line(&mut reader)?;
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if pattern.is_in(&line) {
            let shown = &line[..shown_bytes(&line)];
            matches.push(wire::Match { path: path.to_owned(), line: number, text: escaped(shown) });
        }
    }
    Ok(Lines::Found(matches))
}

/// A line as it is shown: with its TABs, and all else escaped.
fn escaped(line: &[u8]) -> String {
    let parts: Vec<String> = line.split(|byte| *byte == b'\t').map(escape_bytes).collect();
    parts.join("\t")
}

/// How much of a line is shown: no character is cut.
fn shown_bytes(line: &[u8]) -> usize {
    if line.len() <= LINE_BYTES_MAX {
        return line.len();
    }
    let is_inner = |at: usize| line[at] & 0xc0 == 0x80;
    (LINE_BYTES_MAX - 3..=LINE_BYTES_MAX).rev().find(|at| !is_inner(*at)).unwrap_or(LINE_BYTES_MAX)
}

fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                reader.consume(at + 1);
                return Ok(());
            }
            None => {
                let length = buffer.len();
                reader.consume(length);
            }
        }
    }
}

#[cfg(test)]
mod tests;
