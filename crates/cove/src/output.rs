//! Data on standard output, prose on standard error.

use std::io::{self, IsTerminal, Write};

use cove_types::ErrorKind;
use serde::Serialize;

use crate::args::OutputFlags;
use crate::failure::Failure;

/// Where results go and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    flags: OutputFlags,
}

impl Output {
    /// An output as the flags want it.
    pub fn new(flags: OutputFlags) -> Self {
        Self { flags }
    }

    /// Whether a person looks at standard error and wants to see more than ids.
    pub fn is_watched(&self) -> bool {
        !self.flags.quiet && io::stderr().is_terminal()
    }

    /// Whether the result is one JSON object.
    pub fn is_json(&self) -> bool {
        self.flags.json
    }

    /// Whether only names and ids are wanted.
    pub fn is_quiet(&self) -> bool {
        self.flags.quiet
    }

    /// Whether one terminal shows both results and prose, so that a bare name before a sentence
    /// about it would be said twice.
    pub fn is_one_terminal(&self) -> bool {
        !self.flags.quiet && io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Shows one result: as JSON, as bare ids one a line, or as text for a person.
    pub fn show(
        &self,
        json: &impl Serialize,
        ids: impl IntoIterator<Item = String>,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.flags.json {
            let mut line = serde_json::to_string(json)
                .map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))?;
            line.push('\n');
            return write(line.as_bytes());
        }
        if self.flags.quiet {
            let lines: String = ids.into_iter().map(|id| format!("{id}\n")).collect();
            return write(lines.as_bytes());
        }
        write(text().as_bytes())
    }

    /// Shows the results of several calls as one JSON object; in other forms each was shown by itself.
    pub fn show_json(&self, json: &impl Serialize) -> Result<(), Failure> {
        if self.flags.json { self.show(json, [], String::new) } else { Ok(()) }
    }

    /// Says something to a person, whatever the form of the result.
    pub fn say(&self, line: &str) {
        if !self.flags.quiet && !self.flags.json {
            warn(line);
        }
    }
}

/// Says something that must not be missed.
pub fn warn(line: &str) {
    // in one piece: whoever reads along sees whole lines
    warn_raw(&format!("{line}\n"));
}

/// Says text that has its own line ends.
pub fn warn_raw(text: &str) {
    // Where standard error is closed nobody reads it; the exit status tells, and what serves goes on.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Writes to standard output.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::io("failed to write to standard output", &error))
}
