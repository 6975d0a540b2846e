//! What a verb that failed says, and how it exits.

use std::fmt;

use cove_client::ClientError;
use cove_types::wire::ProblemDetails;
use cove_types::{Classify, ErrorKind, ParseError};

use crate::environment::{self, Silent};

/// Why a verb did not do what it was to do, in words for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: ErrorKind,
    what: String,
    hint: Option<String>,
    /// An exit status that is not that of the kind: of a signal, 128 + its number is the custom.
    status: Option<u8>,
    /// All that there is to say was said.
    is_silent: bool,
}

impl Failure {
    /// A failure: one line without a full stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: None, status: None, is_silent: false }
    }

    /// The end by a signal, after what goes on was said.
    pub fn by_signal(number: i32) -> Self {
        let status = u8::try_from(128 + number).unwrap_or(u8::MAX);
        let failure = Self::new(ErrorKind::TimedOut, "interrupted");
        Self { status: Some(status), is_silent: true, ..failure }
    }

    /// This failure, with the exit status of a signal that came before it.
    #[must_use]
    pub fn after(self, by_signal: &Self) -> Self {
        Self { status: by_signal.status, ..self }
    }

    /// The end of a pipe whose reader has enough.
    fn broken_pipe() -> Self {
        let failure = Self::new(ErrorKind::Unavailable, "nobody reads any more");
        Self { status: Some(141), is_silent: true, ..failure }
    }

    /// A failure whose cause is an error, with all of its causes.
    pub fn caused(what: impl fmt::Display, error: &dyn std::error::Error, kind: ErrorKind) -> Self {
        Self::new(kind, format!("{what}: {}", chain(error)))
    }

    /// A failure of the local file system.
    pub fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::broken_pipe();
        }
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                ErrorKind::Exhausted
            }
            std::io::ErrorKind::NotADirectory
            | std::io::ErrorKind::IsADirectory
            | std::io::ErrorKind::ResourceBusy => ErrorKind::Precondition,
            _ => ErrorKind::Internal,
        };
        Self::caused(what, error, kind)
    }

    /// With what a person can do about it, unless something better is known already.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// With one more fact.
    #[must_use]
    pub fn also(mut self, fact: &str) -> Self {
        self.what = format!("{}; {fact}", self.what);
        self
    }

    /// What stands on standard error: the error, a blank line, the hint.
    pub fn message(&self) -> String {
        match &self.hint {
            _ if self.is_silent => String::new(),
            Some(hint) => {
                format!("error: {}\n\nhint: {}\n", self.what, hint.replace('\n', "\n      "))
            }
            None => format!("error: {}\n", self.what),
        }
    }

    /// The program's exit status.
    pub fn exit_code(&self) -> u8 {
        self.status.unwrap_or(exit_code(self.kind))
    }
}

/// The exit status that tells a script what kind of failure it was.
fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Internal => 1,
        ErrorKind::Invalid => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::AlreadyExists | ErrorKind::Precondition => 4,
        ErrorKind::Conflict => 5,
        ErrorKind::Exhausted => 6,
        ErrorKind::Unavailable => 7,
        ErrorKind::Corrupt => 8,
        ErrorKind::Denied => 9,
        ErrorKind::TimedOut => 124,
    }
}

/// An error and its causes in one line; a cause that its error has told already is left out.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    for error in std::iter::successors(Some(error), |error| error.source()) {
        let told = cove_types::escape_bytes(error.to_string().as_bytes());
        match text.is_empty() {
            true => text = told,
            false if text.contains(&told) => {}
            false => text = format!("{text}: {told}"),
        }
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

impl Classify for Failure {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}

impl From<&ProblemDetails> for Failure {
    fn from(problem: &ProblemDetails) -> Self {
        // Details are escaped where they are made; a server that does not is not trusted.
        let failure = Self::new(problem.kind, printable(&problem.detail));
        match &problem.hint {
            Some(hint) => failure.hint(printable(hint)),
            None if problem.kind == ErrorKind::Internal => failure.hint(match environment::log() {
                Some(log) => format!("the log is {}", log.display()),
                None => "the log is what that Cove printed".to_owned(),
            }),
            None if problem.kind == ErrorKind::Exhausted => {
                failure.hint("remove files with `cove files rm`, or make room where the pool lies")
            }
            None => failure,
        }
    }
}

impl From<&clap::Error> for Failure {
    /// A command line that was refused: what is wrong in one line, what to do in the hint.
    fn from(refusal: &clap::Error) -> Self {
        let text = refusal.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let (what, more) = text.split_once("\n\n").unwrap_or((text, ""));
        let what: Vec<&str> = what.lines().map(str::trim).collect();
        let lines = || more.lines().map(str::trim);
        let mut hint: Vec<String> =
            lines().filter_map(|line| line.strip_prefix("tip: ")).map(printable).collect();
        hint.extend(
            lines().find_map(|line| line.strip_prefix("Usage: ")).map(|usage| format!("`{usage}`")),
        );
        hint.push("`--help` tells all of it".to_owned());
        Self::new(ErrorKind::Invalid, printable(what.join(" ").trim())).hint(hint.join("\n"))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let what = match &error {
            ClientError::Unreachable { .. } => error.to_string(),
            _ => chain(&error),
        };
        let failure = Self::new(error.kind(), what);
        match &error {
            ClientError::Problem(problem) if problem.status == 401 => {
                let hint = "COVE_TOKEN is not the token of the Cove at COVE_URL: it is in the file \
                            `token` in that one's home";
                Self::new(problem.kind, printable(&problem.detail)).hint(hint)
            }
            ClientError::Problem(problem) => Self::from(&**problem),
            ClientError::Unreachable { at, .. } => match environment::silent(at) {
                Some(Silent { what, hint }) => Self::new(error.kind(), what).hint(hint),
                None => failure.hint("start it with `cove up --detach`"),
            },
            ClientError::Stopped { .. } => failure
                .hint("what was copied so far is dropped: with Cove running, repeat the command"),
            ClientError::Forbidden { .. } => {
                failure.hint("Cove serves the user who started it, and root")
            }
            ClientError::Lost { .. } => {
                failure.hint("it may have been done: look with `cove show` or `cove timeline`")
            }
            ClientError::Protocol { .. } => {
                failure.hint("the Cove that runs is of another version, or no Cove")
            }
            ClientError::Address { .. } => failure.hint("COVE_URL is http://127.0.0.1:PORT"),
        }
    }
}

/// Text without what a terminal would obey; a backslash stays as it is.
pub fn printable(text: &str) -> String {
    text.split('\\')
        .map(|part| cove_types::escape_bytes(part.as_bytes()))
        .collect::<Vec<_>>()
        .join("\\")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_failure_is_an_error_a_blank_line_and_a_hint() {
        let failure =
            Failure::new(ErrorKind::Precondition, "node (pid 12) has a.txt open for writing")
                .hint("close it, or go on with\n`--force`");
        expect![[r#"
            error: node (pid 12) has a.txt open for writing

            hint: close it, or go on with
                  `--force`
        "#]]
        .assert_eq(&failure.message());
    }

    #[test]
    fn without_a_running_cove_the_hint_is_to_start_it() {
        let source = std::io::ErrorKind::NotFound.into();
        let failure = Failure::from(ClientError::Unreachable { at: "/h/cove.sock".into(), source });
        expect![[r#"
            error: no Cove is running at /h/cove.sock

            hint: start it with `cove up --detach`
        "#]]
        .assert_eq(&failure.message());
        assert_eq!(failure.exit_code(), 7);
    }

    #[test]
    fn a_line_that_is_no_command_is_refused_as_everything_else_is() {
        use clap::Parser;
        let said = |line: &str| {
            let words = line.split(' ');
            let failure = Failure::from(&crate::args::Cli::try_parse_from(words).unwrap_err());
            assert_eq!(failure.exit_code(), 2);
            failure.message()
        };
        expect![[r#"
            error: unrecognized subcommand 'sho'

            hint: a similar subcommand exists: 'show'
                  `cove [OPTIONS] <COMMAND>`
                  `--help` tells all of it
        "#]]
        .assert_eq(&said("cove sho"));
        expect![[r#"
            error: the following required arguments were not provided: <NAME>...

            hint: `cove rm <NAME>...`
                  `--help` tells all of it
        "#]]
        .assert_eq(&said("cove rm"));
        expect![[r#"
            error: invalid value '101' for '--count <N>': 101 is not in 1..=100

            hint: `--help` tells all of it
        "#]]
        .assert_eq(&said("cove fork a --count 101"));
    }

    #[test]
    fn each_kind_has_its_exit_code() {
        let kinds = [
            (ErrorKind::Internal, 1),
            (ErrorKind::Invalid, 2),
            (ErrorKind::NotFound, 3),
            (ErrorKind::AlreadyExists, 4),
            (ErrorKind::Precondition, 4),
            (ErrorKind::Conflict, 5),
            (ErrorKind::Exhausted, 6),
            (ErrorKind::Unavailable, 7),
            (ErrorKind::Corrupt, 8),
            (ErrorKind::Denied, 9),
            (ErrorKind::TimedOut, 124),
        ];
        for (kind, code) in kinds {
            assert_eq!(Failure::new(kind, "x").exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_never_printed() {
        assert_eq!(printable("a\x1b[31m\\x0a"), "a\\x1b[31m\\x0a");
    }
}
