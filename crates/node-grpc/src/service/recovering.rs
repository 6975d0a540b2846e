//! The recovery of a store, in two looks.

use cove_content::volumes::{FoundLost, Progress, Recovered, VolumeError};
use tonic::Streaming;
use tracing::Instrument;

use super::telling::{Steps, Telling};
use super::{Service, refuse};
use crate::failure::status;
use crate::pb;
use crate::pb::Mark;
use crate::pb::recover_request::Ask;
use crate::request::never;

impl Service {
    /// Takes the store over, whatever becomes of the caller; and looks for what is lost once that is asked for.
    pub(super) fn recover_store(
        &self,
        take: bool,
        mut asked: Streaming<pb::RecoverRequest>,
    ) -> Steps<pb::RecoverResponse> {
        const RPC: &str = "Recover";
        let progress = Progress::default();
        let (mut telling, steps) = Telling::new(RPC, vec![progress.clone()]);
        let (volumes, running) = (self.volumes(), self.ending.running.clone());
        let (run, stopped) = (running.one_more(), self.stopped());
        let task = async move {
            let recovered = telling.until(volumes.recover(take, progress)).await;
            drop(run);
            let Recovered { volumes, lost, rest } = match recovered {
                Ok(recovered) => recovered,
                Err(status) => return telling.fail(status).await,
            };
            let here = FoundLost { volumes, lost, rebuilt: Vec::new() };
            if !telling.say(here, Mark::Captured).await {
                return;
            }
            let ask = tokio::select! {
                ask = asked.message() => ask,
                () = telling.unheard() => return,
                () = stopped => return telling.fail(status(RPC, &VolumeError::Stopping)).await,
            };
            match ask {
                Ok(Some(pb::RecoverRequest { ask: Some(Ask::Look(true)) })) => {}
                Ok(Some(_)) => return telling.fail(refuse(never("look"))).await,
                // nobody wants to know
                Ok(None) | Err(_) => return,
            }
            let run = running.one_more();
            let found = telling.until(rest).await;
            drop(run);
            match found {
                Ok(found) => {
                    telling.say(found, Mark::Saved).await;
                }
                Err(status) => telling.fail(status).await,
            }
        };
        tokio::spawn(task.instrument(tracing::info_span!("node", rpc = RPC)));
        steps
    }
}
