//! The signals that end a verb which waits.

use std::sync::OnceLock;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Failure;

/// The last signal that came; who waits for the next one is a receiver.
static CAME: OnceLock<watch::Sender<Option<SignalKind>>> = OnceLock::new();

/// Ends when a person, the system or a terminal that closes wants this verb to end, with what it exits
/// with then.
///
/// One that the caller has this program ignore, as `nohup` does, stays ignored. From the first call on
/// the others end the program by themselves only while nobody awaits this: by then a verb may be
/// printing into a pipe that nobody reads.
pub async fn ended() -> Failure {
    ended_since(&mut put_off()).await
}

/// The same, of a signal that came since `came` was made.
pub async fn ended_since(came: &mut watch::Receiver<Option<SignalKind>>) -> Failure {
    // The sender is as lasting as the program.
    let _ = came.changed().await;
    let kind = came.borrow().unwrap_or(SignalKind::interrupt());
    Failure::by_signal(kind.as_raw_value())
}

/// No signal ends the program by itself while what this returns lives, also after [`ended`] has.
pub fn put_off() -> watch::Receiver<Option<SignalKind>> {
    CAME.get_or_init(watch_all).subscribe()
}

/// Watches the signals in a task of its own for as long as the program runs.
fn watch_all() -> watch::Sender<Option<SignalKind>> {
    let ignored = ignored();
    let watch = |kind: SignalKind| {
        let number = u32::try_from(kind.as_raw_value()).unwrap_or(0);
        let is_ignored = number > 0 && ignored >> (number - 1) & 1 == 1;
        // Where it cannot be watched for it does what it does to a program that does not.
        (!is_ignored).then(|| signal(kind).ok()).flatten()
    };
    let mut interrupt = watch(SignalKind::interrupt());
    let mut terminate = watch(SignalKind::terminate());
    let mut hang_up = watch(SignalKind::hangup());
    let came = watch::Sender::new(None);
    let tell = came.clone();
    tokio::spawn(async move {
        loop {
            let kind = tokio::select! {
                () = next(&mut interrupt) => SignalKind::interrupt(),
                () = next(&mut terminate) => SignalKind::terminate(),
                () = next(&mut hang_up) => SignalKind::hangup(),
            };
            if tell.send(Some(kind)).is_err() {
                // Nobody awaits it.
                std::process::exit(128 + kind.as_raw_value());
            }
        }
    });
    came
}

async fn next(watched: &mut Option<Signal>) {
    match watched {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// The signals that this process ignores, a bit each, the lowest for signal 1 (`SigIgn` in proc(5));
/// none where that cannot be read.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
