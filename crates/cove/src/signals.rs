//! The signals that end a verb which waits.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Ends when a person, the system or a terminal that closes wants this verb to end, with what it exits
/// with then.
///
/// One that the caller has this program ignore, as `nohup` does, stays ignored. From the first call on
/// none of the others ends the program by itself.
pub async fn ended() -> Failure {
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
    let kind = tokio::select! {
        () = next(&mut interrupt) => SignalKind::interrupt(),
        () = next(&mut terminate) => SignalKind::terminate(),
        () = next(&mut hang_up) => SignalKind::hangup(),
    };
    Failure::by_signal(kind.as_raw_value())
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
