//! What a request expects of the file that it is about: `If-Match`, `If-None-Match` and
//! `If-Range` (RFC 9110, section 13).
//!
//! A file's tag is made of its size and of its time in nanoseconds, as web servers do it. It is
//! taken for a strong one: two contents of one size within one tick of the kernel's clock, a few
//! milliseconds, are not told apart.

use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use cove_types::{ErrorKind, wire};
use futures::executor::block_on;
use tokio::sync::OwnedMutexGuard;

use crate::body::Refusal;
use crate::problem::Problem;

/// What a file is known by: it changes with its size and its time.
pub(crate) fn etag(file: &wire::File) -> String {
    let time: String = file.modified.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("\"{time}-{}\"", file.bytes)
}

/// The tags that a header names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    /// `*`: any file at all.
    Any,
    /// As they were written, with their quotes and their `W/`.
    Of(Vec<String>),
}

impl Tags {
    fn parse(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, Problem> {
        let refused =
            || Problem::invalid(format!("header {name} is * or a list of \"tags\" in quotes"));
        let mut tags = Vec::new();
        let mut is_any = false;
        for value in headers.get_all(name) {
            let mut rest = value.to_str().map_err(|_| refused())?.trim();
            while !rest.is_empty() {
                if let Some(after) = rest.strip_prefix('*') {
                    is_any = true;
                    rest = after;
                } else {
                    let weak = if rest.starts_with("W/") { 2 } else { 0 };
                    let text = rest[weak..].strip_prefix('"').ok_or_else(refused)?;
                    let length = text.find('"').ok_or_else(refused)?;
                    let (tag, after) = rest.split_at(weak + length + 2);
                    tags.push(tag.to_owned());
                    rest = after;
                }
                rest = rest.trim_start().trim_start_matches(',').trim_start();
            }
        }
        match (is_any, tags.is_empty()) {
            (true, true) => Ok(Some(Self::Any)),
            (false, false) => Ok(Some(Self::Of(tags))),
            (false, true) if !headers.contains_key(name) => Ok(None),
            _ => Err(refused()),
        }
    }

    /// Whether one of them is the tag of the file that is there. A weak one is as good as another
    /// only where nothing is changed.
    fn name(&self, present: Option<&str>, weak_counts: bool) -> bool {
        let Some(present) = present else { return false };
        match self {
            Self::Any => true,
            Self::Of(tags) => tags.iter().any(|tag| match tag.strip_prefix("W/") {
                Some(tag) => weak_counts && tag == present,
                None => tag == present,
            }),
        }
    }
}

/// What a request expects of the file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    matches: Option<Tags>,
    matches_none: Option<Tags>,
}

impl Expected {
    /// # Errors
    ///
    /// A header is not what RFC 9110 says.
    pub(crate) fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            matches: Tags::parse(headers, &header::IF_MATCH)?,
            matches_none: Tags::parse(headers, &header::IF_NONE_MATCH)?,
        })
    }

    /// Whether anything is expected.
    pub(crate) fn is_something(&self) -> bool {
        self.matches.is_some() || self.matches_none.is_some()
    }

    /// Whether `If-Match` does not speak against the file that is there, or against its absence.
    pub(crate) fn is_match(&self, present: Option<&str>) -> bool {
        self.matches.as_ref().is_none_or(|tags| tags.name(present, false))
    }

    /// Whether `If-None-Match` does not.
    pub(crate) fn is_news(&self, present: Option<&str>) -> bool {
        self.matches_none.as_ref().is_none_or(|tags| !tags.name(present, true))
    }
}

/// The answer 412.
pub(crate) fn failed(path: &str, is_there: bool) -> Problem {
    let what = match is_there {
        true => format!("{path} is not what the call expects: it has changed or is there already"),
        false => format!("{path} is not what the call expects: it does not exist"),
    };
    Problem::new(ErrorKind::Conflict, what)
        .status(StatusCode::PRECONDITION_FAILED)
        .hint("read it again; its ETag is what If-Match takes")
}

/// How many files at most are replaced at once by bodies that have come to their ends.
const TURNS: usize = 64;

/// Whose turn it is to replace a file, so that none is replaced between the look of another and
/// its own replacement.
#[derive(Debug)]
pub(crate) struct Turns {
    locks: Vec<Arc<tokio::sync::Mutex<()>>>,
    hash: std::hash::RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        let locks = (0..TURNS).map(|_| Arc::default()).collect();
        Self { locks, hash: std::hash::RandomState::new() }
    }
}

impl Turns {
    /// Waits for the turn of a file, which ends with the value.
    pub(crate) async fn wait(&self, project: &str, path: &str) -> OwnedMutexGuard<()> {
        let mut hasher = self.hash.build_hasher();
        hasher.write(project.as_bytes());
        hasher.write_u8(0);
        hasher.write(path.as_bytes());
        let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        Arc::clone(&self.locks[at]).lock_owned().await
    }
}

/// A body, at whose end is looked once more whether it may replace the file. What looks gives the
/// turn, which is kept until the reader is dropped: the file is replaced by then.
pub(crate) struct CheckedBody<R, F> {
    body: R,
    /// Absent once the end was reached.
    look: Option<F>,
    turn: Option<OwnedMutexGuard<()>>,
    refusal: Refusal,
}

impl<R, F> CheckedBody<R, F> {
    /// `refusal` is told what `look` says.
    pub(crate) fn new(body: R, look: F, refusal: Refusal) -> Self {
        Self { body, look: Some(look), turn: None, refusal }
    }
}

impl<R, F, L> Read for CheckedBody<R, F>
where
    R: Read,
    F: FnOnce() -> L,
    L: Future<Output = Result<OwnedMutexGuard<()>, Problem>>,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        if let Some(look) = self.look.take() {
            match block_on(look()) {
                Ok(turn) => self.turn = Some(turn),
                Err(problem) => {
                    let text = problem.detail.clone();
                    self.refusal.set(problem);
                    return Err(io::Error::other(text));
                }
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(headers: &[(HeaderName, &'static str)]) -> Result<Expected, Problem> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), axum::http::HeaderValue::from_static(value)));
        Expected::parse(&headers.collect())
    }

    #[test]
    fn a_match_is_strong_and_news_are_weak() {
        let matching = expected(&[(header::IF_MATCH, "\"a\", W/\"b\"")]).unwrap();
        for (present, is_match) in
            [(Some("\"a\""), true), (Some("\"b\""), false), (Some("\"c\""), false), (None, false)]
        {
            assert_eq!(matching.is_match(present), is_match, "{present:?}");
            assert!(matching.is_news(present));
        }
        let none = expected(&[(header::IF_NONE_MATCH, "W/\"a\" , \"b,c\"")]).unwrap();
        for (present, is_news) in
            [(Some("\"a\""), false), (Some("\"b,c\""), false), (Some("\"d\""), true), (None, true)]
        {
            assert_eq!(none.is_news(present), is_news, "{present:?}");
        }
    }

    #[test]
    fn a_star_means_that_something_is_there() {
        let there = expected(&[(header::IF_MATCH, "*")]).unwrap();
        assert!(there.is_match(Some("\"a\"")) && !there.is_match(None));
        let absent = expected(&[(header::IF_NONE_MATCH, "*")]).unwrap();
        assert!(!absent.is_news(Some("\"a\"")) && absent.is_news(None));
        assert!(!expected(&[]).unwrap().is_something());
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for text in ["a", "\"a", "W/a", "*, \"a\"", "", "W/"] {
            let refused = expected(&[(header::IF_MATCH, text)]).unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Invalid, "{text}");
        }
    }
}
