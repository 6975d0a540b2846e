//! What is said of an answer behind its last byte.
//!
//! An answer that was begun has its status sent already. What goes wrong afterwards, and what was
//! not taken as it is, stands in trailers, for callers that ask for them with `TE: trailers`; for
//! others an answer that goes wrong breaks off, so that nobody takes it for whole.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::body::Frame;
use serde::Serialize;

use crate::problem::Problem;

/// Why an answer is not whole: the same object as of an error that comes before.
const PROBLEM: HeaderName = HeaderName::from_static("cove-problem");
/// What was not taken as it is: a list of lines.
const REMARKS: HeaderName = HeaderName::from_static("cove-remarks");
/// Both names, as they are announced.
const NAMES: HeaderValue = HeaderValue::from_static("cove-problem, cove-remarks");

/// How long a trailer is, at most, in bytes. Clients read 16 KiB of trailers in all, hyper's among
/// them, and a name that is not UTF-8 is several times as long here as on disk.
const VALUE_BYTES_MAX: usize = 7 << 10;

/// How one answer ends.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    takes_trailers: bool,
    request_id: String,
}

impl Ending {
    /// How the answer to a request ends.
    pub(crate) fn new(headers: &HeaderMap, request_id: &str) -> Self {
        let lists = headers.get_all(header::TE).into_iter().filter_map(|list| list.to_str().ok());
        let takes_trailers = lists
            .flat_map(|list| list.split(','))
            .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
        Self { takes_trailers, request_id: request_id.to_owned() }
    }

    /// What announces the trailers; nothing to a caller that does not take any.
    pub(crate) fn announcement(&self) -> Option<[(HeaderName, HeaderValue); 1]> {
        self.takes_trailers.then_some([(header::TRAILER, NAMES)])
    }

    /// The last frame of a body: `None` when there is nothing to say, an error when it breaks off.
    pub(crate) fn frame(
        &self,
        ended: &Result<Vec<String>, Problem>,
    ) -> Option<std::io::Result<Frame<Bytes>>> {
        match ended {
            Ok(remarks) if remarks.is_empty() || !self.takes_trailers => None,
            Ok(remarks) => Some(trailer(REMARKS, &fitting(remarks))),
            Err(problem) => {
                problem.log(&self.request_id);
                Some(match self.takes_trailers {
                    true => trailer(PROBLEM, &self.details(problem)),
                    false => Err(std::io::Error::other(problem.detail.clone())),
                })
            }
        }
    }

    /// What a problem says, cut where that is too long for a trailer.
    fn details(&self, problem: &Problem) -> cove_types::wire::ProblemDetails {
        let mut details = problem.details(&self.request_id);
        let mut length = details.detail.len();
        while json(&details).len() > VALUE_BYTES_MAX && length > 0 {
            length = details.detail.floor_char_boundary(length / 2);
            details.detail.truncate(length);
            details.detail.push('…');
        }
        details
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// As many lines as fit, and how many there are besides.
fn fitting(lines: &[String]) -> Vec<String> {
    let mut bytes = 64;
    let fit = lines.iter().take_while(|line| {
        bytes += json(line).len() + 1;
        bytes <= VALUE_BYTES_MAX
    });
    let mut fit: Vec<String> = fit.cloned().collect();
    if fit.len() < lines.len() {
        fit.push(format!("and {} more", lines.len() - fit.len()));
    }
    fit
}

/// JSON has its control characters escaped, so it is always a value of a field.
fn trailer(name: HeaderName, value: &impl Serialize) -> std::io::Result<Frame<Bytes>> {
    let value = HeaderValue::from_bytes(&json(value)).map_err(std::io::Error::other)?;
    Ok(Frame::trailers(HeaderMap::from_iter([(name, value)])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cove_types::ErrorKind;

    fn asked(te: Option<&'static str>) -> Ending {
        let te = te.map(|te| (header::TE, HeaderValue::from_static(te)));
        Ending::new(&HeaderMap::from_iter(te), "r")
    }

    #[test]
    fn who_does_not_ask_for_trailers_sees_the_answer_break_off() {
        let damaged = Err(Problem::new(ErrorKind::Corrupt, "a is damaged"));
        for te in [None, Some("gzip"), Some("")] {
            let ending = asked(te);
            assert!(ending.announcement().is_none());
            assert!(ending.frame(&damaged).unwrap().is_err(), "{te:?}");
            assert!(ending.frame(&Ok(vec!["a: left out".into()])).is_none());
        }
        for te in ["trailers", "gzip, Trailers"] {
            let frame = asked(Some(te)).frame(&damaged).unwrap().unwrap();
            assert_eq!(frame.trailers_ref().unwrap().len(), 1, "{te}");
        }
        assert!(asked(Some("trailers")).frame(&Ok(Vec::new())).is_none());
    }

    #[test]
    fn what_is_said_fits_however_long_the_names_are() {
        let ending = asked(Some("trailers"));
        let name = "\\xff".repeat(4_095);
        let damaged = Err(Problem::new(ErrorKind::Corrupt, format!("failed to read {name}")));
        let remarks = Ok(vec![format!("ä/{}: left out", "b".repeat(300)); 1_000]);
        for ended in [damaged, remarks] {
            let frame = ending.frame(&ended).unwrap().unwrap();
            let value = frame.trailers_ref().unwrap().values().next().unwrap();
            assert!(value.len() <= VALUE_BYTES_MAX, "{}", value.len());
            let said: serde_json::Value = serde_json::from_slice(value.as_bytes()).unwrap();
            if ended.is_ok() {
                let last = said.as_array().unwrap().last().unwrap().as_str().unwrap();
                assert!(last.starts_with("and ") && last.ends_with(" more"), "{last}");
            } else {
                let detail = said["detail"].as_str().unwrap();
                assert!(detail.starts_with("failed to read \\xff"), "{detail}");
            }
        }
    }
}
