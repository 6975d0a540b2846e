//! `up --detach`: the program once more, in the background.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use cove_types::ErrorKind;
use serde_json::json;

use super::home::{cannot_be_made, make_home, open_own, runs_already};
use super::listen::CSI_IS_AT;
use super::{HELD_BY_ANOTHER, moment, pause};
use crate::args::{CsiFlags, UpArgs};
use crate::environment;
use crate::failure::Failure;
use crate::output::{self, Output};

/// How long a detached start may take: a pool's image is allocated in it.
const DETACH_WAIT: Duration = Duration::from_secs(300);

/// Starts this program again in the background and waits until it serves.
pub(super) fn detach(args: &UpArgs, output: Output) -> anyhow::Result<ExitCode> {
    let caller = environment::caller()?;
    make_home(&args.home, caller)?;
    // What a second one has to say is not for the log of the first.
    if environment::is_running_in(&args.home) {
        return Err(runs_already(&args.home).into());
    }
    let log_place = args.home.join("cove.log");
    let log = open_own(&log_place, caller, std::fs::OpenOptions::new().read(true).append(true))
        .map_err(|error| cannot_be_made(&log_place, &error))?;
    let begins = log.metadata().map_or(0, |metadata| metadata.len());
    let child = spawn(args, &log).map_err(|error| Failure::io("failed to start", &error))?;
    wait_until_ready(child, args, &log_place, Said::new(log, begins), output)
}

#[expect(clippy::disallowed_methods, reason = "the program starts itself again")]
fn spawn(args: &UpArgs, log: &File) -> std::io::Result<Child> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("up").arg("--home").arg(&args.home);
    command.arg("--listen").arg(args.listen.to_string());
    if let Some(bytes) = args.pool_bytes {
        command.arg("--pool-bytes").arg(bytes.to_string());
    }
    if let Some(pool) = &args.pool {
        command.arg("--pool").arg(pool);
    }
    if let Some(objects) = &args.objects {
        command.arg("--objects").arg(objects);
    }
    command.arg("--store-every").arg(format!("{}ms", args.store_every.as_millis()));
    command.arg("--store-timeout").arg(format!("{}ms", args.store_timeout.as_millis()));
    let CsiFlags {
        csi_endpoint,
        csi_controller_endpoint,
        csi_compat,
        csi_volumes_max,
        csi_registration,
        csi_healthz,
        node_id,
    } = &args.csi;
    for (flag, path) in
        [("--csi-endpoint", csi_endpoint), ("--csi-controller-endpoint", csi_controller_endpoint)]
    {
        if let Some(path) = path {
            let mut endpoint = OsString::from("unix://");
            endpoint.push(path);
            command.arg(flag).arg(endpoint);
        }
    }
    command.arg("--csi-compat").arg(csi_compat.to_string());
    if let Some(most) = csi_volumes_max {
        command.arg("--csi-volumes-max").arg(most.to_string());
    }
    if let Some(directory) = csi_registration {
        command.arg("--csi-registration").arg(directory);
    }
    if let Some(address) = csi_healthz {
        command.arg("--csi-healthz").arg(address.to_string());
    }
    if let Some(node) = node_id {
        command.arg("--node-id").arg(node.to_string());
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.process_group(0);
    command.spawn()
}

/// What a start says in the log, which earlier ones have said more in.
struct Said {
    log: File,
    /// Where what is not read yet begins in it.
    at: u64,
    bytes: Vec<u8>,
}

impl Said {
    fn new(log: File, begins: u64) -> Self {
        Self { log, at: begins, bytes: Vec::new() }
    }

    /// All of it up to now; what cannot be read now is read the next time.
    fn text(&mut self) -> String {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = self.log.read_at(&mut piece, self.at) {
            self.bytes.extend_from_slice(&piece[..length]);
            self.at += length as u64;
        }
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

fn wait_until_ready(
    mut child: Child,
    args: &UpArgs,
    log: &Path,
    mut said: Said,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let until = moment() + DETACH_WAIT;
    loop {
        let log_text = said.text();
        if let Some(line) = log_text.lines().find(|line| line.starts_with("ready on ")) {
            let is_warning = |line: &&str| {
                ["the store ", "the pool "].iter().any(|subject| line.starts_with(subject))
            };
            let warnings: Vec<&str> = log_text.lines().filter(is_warning).collect();
            for warning in &warnings {
                output::warn(warning);
            }
            let is_held = warnings.iter().any(|warning| warning.contains(HELD_BY_ANOTHER));
            output.say(line);
            for line in log_text.lines().filter(|line| line.starts_with(CSI_IS_AT)) {
                output.say(line);
            }
            output.say(&first_commands(log, is_held));
            let url = line.split_whitespace().nth(2).unwrap_or_default().to_owned();
            let socket = args.home.join("cove.sock");
            let cove = json!({ "url": url, "socket": socket, "home": args.home, "log": log });
            output.show(&json!({ "cove": cove }), [url], String::new)?;
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) =
            child.try_wait().map_err(|error| Failure::io("failed to start", &error))?
        {
            let text = said.text();
            let from = text.find("error: ").unwrap_or(0);
            output::warn_raw(&text[from..]);
            if status.success() {
                return Err(Failure::new(
                    ErrorKind::Unavailable,
                    "Cove was stopped before it served",
                )
                .into());
            }
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Ok(ExitCode::from(code));
        }
        if moment() > until {
            return Err(Failure::new(ErrorKind::TimedOut, "Cove does not serve yet")
                .hint(format!("look into {}", log.display()))
                .into());
        }
        pause(Duration::from_millis(20));
    }
}

/// What to try with a Cove that has just started, which writes nothing into a store that another holds.
fn first_commands(log: &Path, is_held: bool) -> String {
    let commands = match is_held {
        true => [
            "To work with the projects in that store:",
            "",
            "  cove recover          # brings them here; the other Cove stops saving there",
            "  cove recover --take   # also when that one was there within the last 60 s",
        ]
        .as_slice(),
        false => &[
            "Try:",
            "",
            "  cove new shop --from ./some-project",
            "  cove show shop",
            "  cove snapshot shop -m \"first\"",
            "  cove timeline shop",
            "  cd \"$(cove path shop)\"",
        ],
    };
    format!("\nThe log is {}. {}", log.display(), commands.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_earlier_starts_have_said_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = File::options();
        let mut log =
            options.create(true).read(true).append(true).open(dir.path().join("log")).unwrap();
        log.write_all(b"ready on an earlier day\n").unwrap();
        let begins = log.metadata().unwrap().len();
        let mut said = Said::new(log.try_clone().unwrap(), begins);
        assert_eq!(said.text(), "");
        log.write_all(b"the pool").unwrap();
        assert_eq!(said.text(), "the pool");
        let line = " is there".repeat(1000);
        log.write_all(line.as_bytes()).unwrap();
        assert_eq!(said.text(), format!("the pool{line}"));
    }
}
