//! A call that runs to its end, and what is told of it meanwhile.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use cove_content::volumes::{Captured, Progress, VolumeError};
use cove_types::wire;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument;

use crate::failure::{internal, status};
use crate::pb::Mark;
use crate::service::Service;
use crate::steps::{Parts, Reply};
use cove_unix_grpc::is_true;

/// How many steps may wait to be sent.
const STEPS_MAX: usize = 16;

/// How long passes between two times that it is said how far a call is.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// The steps of a reply.
pub(super) type Steps<R> = BoxStream<'static, Result<R, Status>>;

/// Who is told of a call.
pub(super) struct Telling<R> {
    rpc: &'static str,
    to: mpsc::Sender<Result<R, Status>>,
    /// How far the call is, each with what was said of it last.
    progress: Vec<(Progress, wire::Progress)>,
}

impl<R: Reply> Telling<R> {
    pub(super) fn new(rpc: &'static str, progress: Vec<Progress>) -> (Self, Steps<R>) {
        let (to, from) = mpsc::channel(STEPS_MAX);
        let unsaid = |progress| (progress, wire::Progress::default());
        let progress = progress.into_iter().map(unsaid).collect();
        (Self { rpc, to, progress }, ReceiverStream::new(from).boxed())
    }

    /// Awaits a call that changes something. Whether anybody listens does not matter.
    pub(super) async fn until<T>(
        &mut self,
        call: impl Future<Output = Result<T, VolumeError>>,
    ) -> Result<T, Status> {
        let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
        let mut ticks = tokio::time::interval(PROGRESS_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut call => break ended,
                _ = ticks.tick() => self.say_progress(),
            }
        };
        match ended {
            Ok(ended) => ended.map_err(|error| status(self.rpc, &error)),
            Err(_) => Err(internal(self.rpc, "it panicked")),
        }
    }

    /// Says how far it is, unless that was said or who listens is slow.
    fn say_progress(&mut self) {
        for (index, (progress, said)) in self.progress.iter_mut().enumerate() {
            let now = progress.look();
            if now != *said && self.to.try_send(Ok(R::progress(index, now.clone()))).is_ok() {
                *said = now;
            }
        }
    }

    /// Says what a call came to; false when that was the last.
    pub(super) async fn say(&mut self, value: impl Parts<R>, mark: Mark) -> bool {
        self.say_progress();
        let parts = match value.parts() {
            Ok(parts) => parts,
            Err(error) => {
                self.fail(internal(self.rpc, &error.to_string())).await;
                return false;
            }
        };
        for part in parts.into_iter().map(R::part).chain([R::mark(mark)]) {
            if self.to.send(Ok(part)).await.is_err() {
                return false;
            }
        }
        true
    }

    pub(super) async fn fail(&self, status: Status) {
        // Nobody hears it when the caller has gone away.
        drop(self.to.send(Err(status)).await);
    }

    /// Ends when nobody listens any more.
    pub(super) async fn unheard(&self) {
        self.to.closed().await;
    }
}

impl Service {
    /// Runs a call that captures something, to that point whatever becomes of its caller; and waits until it is
    /// saved, as long as somebody listens: that stops nothing.
    pub(super) fn captured<R, T>(
        &self,
        rpc: &'static str,
        progress: Vec<Progress>,
        call: impl Future<Output = Result<Captured<T>, VolumeError>> + Send + 'static,
    ) -> Steps<R>
    where
        R: Reply,
        T: Parts<R> + Send + 'static,
    {
        let (mut telling, steps) = Telling::new(rpc, progress);
        let (run, stopping) = (self.ending.running.one_more(), self.ending.stopping.clone());
        let task = async move {
            let captured = telling.until(call).await;
            drop(run);
            let Captured { value, saved } = match captured {
                Ok(captured) => captured,
                Err(status) => return telling.fail(status).await,
            };
            if !telling.say(value, Mark::Captured).await {
                return;
            }
            let unheard = telling.to.clone();
            let saved = async {
                tokio::select! {
                    saved = saved => saved,
                    () = is_true(stopping) => Err(VolumeError::Stopping),
                }
            };
            let saved = tokio::select! {
                saved = telling.until(saved) => saved,
                () = unheard.closed() => return,
            };
            match saved {
                Ok(value) => {
                    telling.say(value, Mark::Saved).await;
                }
                Err(status) => telling.fail(status).await,
            }
        };
        tokio::spawn(task.instrument(tracing::info_span!("node", rpc)));
        steps
    }

    /// Runs a call that returns when it is saved, as long as somebody listens: what it has captured, or has its turn
    /// for, is saved all the same.
    pub(super) fn saved<R, T>(
        &self,
        rpc: &'static str,
        progress: Progress,
        call: impl Future<Output = Result<T, VolumeError>> + Send + 'static,
    ) -> Steps<R>
    where
        R: Reply,
        T: Parts<R> + Send + 'static,
    {
        let (mut telling, steps) = Telling::new(rpc, vec![progress]);
        let run = self.ending.running.one_more();
        let task = async move {
            let unheard = telling.to.clone();
            let ended = tokio::select! {
                ended = telling.until(call) => ended,
                () = unheard.closed() => return,
            };
            drop(run);
            match ended {
                Ok(value) => {
                    telling.say(value, Mark::Saved).await;
                }
                Err(status) => telling.fail(status).await,
            }
        };
        tokio::spawn(task.instrument(tracing::info_span!("node", rpc)));
        steps
    }
}
