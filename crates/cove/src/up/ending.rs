//! The signals that end it.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The signals that end this Cove in order; watched from before anything is mounted.
pub(super) struct Ending {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Ending {
    /// Watches for them from now on, in place of what they do to a program that does not.
    pub(super) fn watch() -> Result<Self, Failure> {
        let on =
            |kind| signal(kind).map_err(|error| Failure::io("failed to watch for signals", &error));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    /// Returns when one of them has come; one that came before this was called counts.
    pub(super) async fn wait(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // a terminal that closes does not stop a Cove that serves others
                _ = self.hang_up.recv() => {}
            }
        }
    }
}
