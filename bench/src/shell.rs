//! Other programs, run to their end.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// A program with its arguments.
pub fn command<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A script of bash in which a pipe fails when a part of it does; `$1`, `$2` … are the arguments.
pub fn script<S: AsRef<OsStr>>(text: &str, arguments: &[S]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", text, "bench"]).args(arguments);
    command
}

/// Runs it to its end, which must be success, and returns what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    interrupt::check()?;
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {program}"))?;
    interrupt::check()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let all = format!("{command:?}");
        let shown: String = all.chars().take(400).collect();
        bail!("{shown} ended with {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same for how long it took, in milliseconds.
pub fn time(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    run(command)?;
    Ok(milliseconds(began))
}

/// Since a moment.
pub fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
