//! Whether the driver can work: whether the Hub tells what room its node has.

use std::sync::Arc;
use std::time::Duration;

use crate::csi::Driver;
use crate::status::CallError;

/// How long the Hub may take to tell the node's room.
const ROOM_WITHIN: Duration = Duration::from_secs(3);

/// Why the driver cannot work.
#[derive(Debug)]
pub(crate) enum Unwell {
    /// The Hub gives an error.
    Refused(CallError),
    /// Asking broke down.
    Broken,
    /// The Hub has not answered within [`ROOM_WITHIN`].
    Silent,
}

impl Unwell {
    /// The reason in words that anybody may read: an error's own are in the log.
    pub(crate) fn line(&self) -> &'static str {
        match self {
            Self::Refused(_) => "the Hub does not tell what room this node has: the log says why",
            Self::Broken => "the Hub failed to tell what room this node has: the log says why",
            Self::Silent => "the Hub does not tell within 3 s what room this node has",
        }
    }

    /// The reason as callers of the interface are told it.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Refused(error) => error.told(),
            Self::Broken | Self::Silent => self.line().to_owned(),
        }
    }
}

impl Driver {
    /// Looks whether the driver can work, and logs why it cannot. Answers within 3 s. Of a pool that hangs one
    /// question hangs, and not one for each who asks.
    pub(crate) async fn check_well(self: &Arc<Self>) -> Result<(), Unwell> {
        let asked = tokio::time::timeout(ROOM_WITHIN, self.ask_room()).await;
        let unwell = match asked {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => {
                tracing::warn!(error = error.text(), "not well: the Hub does not tell its room");
                Unwell::Refused(error)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "not well: the Hub was not asked to the end");
                Unwell::Broken
            }
            Err(_) => {
                tracing::warn!("not well: the Hub does not answer");
                Unwell::Silent
            }
        };
        Err(unwell)
    }

    /// Asks the Hub for the node's room, when nobody else does. The question goes on although whoever asked gives up.
    async fn ask_room(self: &Arc<Self>) -> Result<Result<(), CallError>, tokio::task::JoinError> {
        let turn = Arc::clone(&self.asking).lock_owned().await;
        let driver = Arc::clone(self);
        let asked = tokio::spawn(async move {
            let told = driver.hub.capacity(Some(driver.options.node.clone())).await;
            drop(turn);
            told.map(|_| ()).map_err(CallError::from)
        });
        asked.await
    }
}

#[cfg(test)]
mod tests {
    use cove_hub::HubError;
    use cove_types::ErrorKind;

    use super::*;

    #[test]
    fn callers_are_told_what_went_wrong_unless_it_went_wrong_inside() {
        let told = |kind| {
            let error = HubError::Remote { kind, message: "/home/secret broke".into() };
            Unwell::Refused(error.into()).told()
        };
        assert_eq!(told(ErrorKind::Unavailable), "/home/secret broke");
        assert_eq!(told(ErrorKind::Internal), "internal error: the log of the driver says more");
    }
}
