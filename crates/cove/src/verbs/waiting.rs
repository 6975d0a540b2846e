//! Following work until it is saved, and what is said meanwhile.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use cove_client::{Breaker, Until};
use cove_types::Slug;
use cove_types::wire::{Operation, Project};

use super::Session;
use crate::args::WaitFlags;
use crate::failure::{Failure, printable};
use crate::output;
use crate::progress::Bar;
use crate::render;
use crate::signals;

/// How long saving takes before it is said what is waited for.
pub(super) const SAY_AFTER: Duration = Duration::from_secs(3);
/// How often it is looked whether there is more to say.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long who ended the waiting waits to be told what there is.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// How long, of that, work that is known may take until it is refused or its result is on this node.
const REFUSED_WITHIN: Duration = Duration::from_millis(300);
/// How soon it is asked again for what Cove does not know yet.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What a call makes, for who waits for it.
pub(super) struct Followed<'a> {
    /// Whose health tells why saving takes long.
    pub project: Option<&'a Slug>,
    /// What interrupting leaves once the result is on this node.
    pub goes_on: String,
    /// What it leaves before that, once it has begun.
    pub before: String,
    /// What it leaves when nothing was sent.
    pub unsent: &'static str,
    /// What breaks off the stream that is sent.
    pub stream: Option<Breaker>,
    /// What is said of the waiting when it is the store that is waited for.
    pub waits: Option<&'static str>,
}

/// Of a change that was not sent.
pub(super) const UNCHANGED: &str = "nothing was changed";
/// Of a change that takes effect when the store has it.
const STORED: &str = "waiting for the store: it is done when the store answers";

impl<'a> Followed<'a> {
    /// A change of a project that is there.
    pub fn of(project: &'a Slug, goes_on: String, before: String) -> Self {
        Self {
            project: Some(project),
            goes_on,
            before,
            unsent: UNCHANGED,
            stream: None,
            waits: None,
        }
    }

    /// Work that makes no project.
    pub fn work(goes_on: &str) -> Self {
        let (goes_on, before) = (goes_on.to_owned(), goes_on.to_owned());
        Self { project: None, goes_on, before, unsent: UNCHANGED, stream: None, waits: None }
    }

    /// A change of what is stored, which goes on when nobody waits for it.
    pub fn stored(project: &'a Slug) -> Self {
        let left = "it is done when the store answers";
        Self { waits: Some(STORED), ..Self::of(project, left.to_owned(), left.to_owned()) }
    }

    /// A question that the store may have to answer.
    pub fn asked(project: &'a Slug) -> Self {
        let left = UNCHANGED;
        Self {
            waits: Some("waiting for the store"),
            ..Self::of(project, left.to_owned(), left.to_owned())
        }
    }
}

/// Why a project is not saved, as far as its health tells.
fn reason(project: &Project) -> Option<String> {
    let health = &project.health;
    match health.problems.first() {
        Some(problem) => {
            let hint = problem.hint.as_deref().map(|hint| format!("\n  hint: {}", printable(hint)));
            let what = printable(&render::in_short(&problem.what));
            Some(format!("{what}{}", hint.unwrap_or_default()))
        }
        None if health.store == "unreachable" => Some("the store does not answer".to_owned()),
        None => None,
    }
}

/// What is left of work that Cove knows, or why it refused it.
fn left_of(followed: &Followed<'_>, operation: &Operation) -> Result<String, Failure> {
    match (&operation.error, operation.state.as_str()) {
        (Some(refusal), _) => Err(Failure::from(refusal)),
        (None, "captured" | "done") => Ok(followed.goes_on.clone()),
        (None, _) => Ok(followed.before.clone()),
    }
}

impl Session {
    /// Waits for a call that ends when the store answers, saying so when that takes long.
    pub(super) async fn wait_for<T>(
        &self,
        followed: &Followed<'_>,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.follow(WaitFlags::default(), followed, |_, _, _| call).await
    }

    /// Follows a call with the bar, as far as the flags want. After some seconds it says what is
    /// waited for, and why; ended by a signal, it says what goes on.
    pub(super) async fn follow<T, F>(
        &self,
        flags: WaitFlags,
        followed: &Followed<'_>,
        call: impl FnOnce(Until, Duration, Bar) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let until = if flags.no_wait { Until::Captured } else { Until::Saved };
        let mut call = Box::pin(call(until, self.bar.pace(), self.bar.clone()));
        let result = tokio::select! {
            biased;
            result = &mut call => result,
            never = self.explain(until, followed) => match never {},
            ended = signals::ended() => {
                self.bar.end();
                return match self.left(followed, call.as_mut()).await {
                    Ok(left) => {
                        output::warn(&format!("interrupted; {left}"));
                        Err(ended)
                    }
                    Err(refusal) => {
                        output::warn("interrupted; it was refused:");
                        Err(refusal.after(&ended))
                    }
                };
            }
        };
        self.bar.end();
        result
    }

    /// What interrupting a call leaves, or why it was refused meanwhile.
    ///
    /// What was sent goes on for a moment: only Cove knows whether it has begun.
    async fn left<T>(
        &self,
        followed: &Followed<'_>,
        call: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<String, Failure> {
        // Nobody drives the call here, so what it has not sent by now it does not send.
        let is_broken_off = followed.stream.as_ref().is_some_and(Breaker::break_off);
        if is_broken_off || self.client.sent().is_none() {
            return Ok(followed.unsent.to_owned());
        }
        let mut known = pin!(self.known());
        let left = tokio::time::timeout(LAST_LOOK, async {
            tokio::select! {
                biased;
                ended = call => ended.map(|_| "it was done by then".to_owned()),
                operation = &mut known => left_of(followed, &operation),
            }
        });
        left.await.unwrap_or_else(|_| {
            let tells = followed.project.map(|project| format!("; `cove show {project}` tells"));
            Ok(format!("it is not known whether it began{}", tells.unwrap_or_default()))
        })
    }

    /// What is known of what was sent, once something is: until it is refused or its result is on this
    /// node, for a moment.
    async fn known(&self) -> Operation {
        loop {
            if let Some(key) = self.client.sent()
                && let Ok(Some(operation)) = self.client.find_operation(key, REFUSED_WITHIN).await
            {
                return operation;
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Says what is waited for, as long as it is; never ends.
    async fn explain(&self, until: Until, followed: &Followed<'_>) -> Infallible {
        tokio::time::sleep(SAY_AFTER).await;
        let mut told = Vec::new();
        let mut tell = |line: String| {
            if !self.output.is_quiet() && !told.contains(&line) {
                self.bar.say(&line);
                told.push(line);
            }
        };
        if let Some(waits) = followed.waits {
            tell(waits.to_owned());
        }
        // Where a bar stands it shows how far the work is.
        if followed.waits.is_none() && !self.bar.is_captured() && !self.bar.is_watched() {
            let so_far = self.bar.so_far();
            let so_far = if so_far.is_empty() { String::new() } else { format!(": {so_far}") };
            tell(format!("still at it{so_far}"));
        }
        loop {
            if let Some(slug) = followed.project
                && (self.bar.is_captured() && until == Until::Saved || followed.waits.is_some())
                && let Ok(reply) = self.client.show(slug).await
            {
                if followed.waits.is_none() {
                    let place = render::place(&reply.project.saved_to);
                    tell(format!(
                        "it is on this node; waiting until it is saved {place} (ctrl-C ends the \
                         waiting, not the saving)"
                    ));
                }
                if let Some(reason) = reason(&reply.project) {
                    tell(reason);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
