//! The store and Cove itself: stopped, recovered, checked.

use std::process::ExitCode;
use std::time::Duration;

use cove_client::{VerifyRequest, Wait};
use cove_types::wire;
use cove_types::{Classify, ErrorKind};
use serde_json::json;

use super::waiting::Followed;
use super::{Session, parse};
use crate::args::WaitFlags;
use crate::environment;
use crate::failure::Failure;
use crate::output;
use crate::render;

/// How often, every 50 ms, it is looked whether Cove has ended.
const STOP_LOOKS: u32 = 600;

impl Session {
    pub(super) async fn down(&self) -> Result<(), Failure> {
        self.client.down().await?;
        // Of one by URL no more is known than that nobody answers.
        while !environment::is_local() && self.client.health().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It lets go of its pool; who starts it again at once must find that done.
        let mut looks = 0;
        while environment::is_local() && environment::is_running() && looks < STOP_LOOKS {
            tokio::time::sleep(Duration::from_millis(50)).await;
            looks += 1;
        }
        if looks == STOP_LOOKS {
            let what = "Cove does not answer any more and has not ended within 30 s";
            return Err(
                Failure::new(ErrorKind::TimedOut, what).hint("see the end of cove.log in its home")
            );
        }
        let address = self.client.address();
        self.output.show(&json!({ "stopped": address }), [], String::new)?;
        self.output
            .say("stopped; everything captured is on this disk, `cove up --detach` starts again");
        Ok(())
    }

    pub(super) async fn recover(&self, take: bool) -> Result<ExitCode, Failure> {
        let client = &self.client;
        let reply = self
            .follow(
                WaitFlags::default(),
                &Followed::work("recovering goes on"),
                |until, pace, bar| async move {
                    let mut progress = |operation: &wire::Operation| {
                        bar.show(&recovering(&operation.progress));
                    };
                    let wait = Wait { until, pace, progress: &mut progress };
                    let recovered = client.recover(take, wait).await.map_err(|error| {
                        let failure = Failure::from(error);
                        match failure.kind() {
                            ErrorKind::Precondition if !take => failure.hint(
                                "when that Cove is gone for good: `cove recover --take`; one that \
                             still runs stops saving there",
                            ),
                            _ => failure,
                        }
                    })?;
                    Ok(recovered.reply)
                },
            )
            .await?;
        let slugs = reply.projects.iter().map(|project| project.slug.clone());
        self.output.show(&reply, slugs, || match reply.projects.is_empty() {
            true => String::new(),
            false => render::projects(&reply.projects, self.env.now()),
        })?;
        let number = render::count(reply.projects.len() as u64, "project", "projects");
        self.output.say(&format!("{number} recovered"));
        for rebuilt in &reply.rebuilt {
            let line = render::rebuilt(rebuilt, self.env.now());
            self.output.say(&crate::failure::printable(&line));
        }
        for lost in &reply.lost {
            let line = format!("not recovered: {}: {}", lost.what, lost.why);
            output::warn(&crate::failure::printable(&line));
        }
        Ok(found(reply.lost.is_empty(), ErrorKind::Corrupt))
    }

    pub(super) async fn verify(
        &self,
        name: Option<&str>,
        level: Option<u8>,
        read: Option<(u32, u32)>,
    ) -> Result<ExitCode, Failure> {
        // A share of the packs is read only where packs are read.
        let level = match (level, read) {
            (None, Some(_)) => Some(2),
            (Some(0 | 1), Some(_)) => {
                return Err(Failure::new(ErrorKind::Invalid, "--read is for --level 2"));
            }
            (level, _) => level,
        };
        let request = VerifyRequest { project: name.map(parse).transpose()?, level, read };
        let (client, request_) = (&self.client, &request);
        let reply = self
            .follow(
                WaitFlags::default(),
                &Followed::work("checking goes on"),
                |until, pace, bar| async move {
                    let mut progress = |operation: &wire::Operation| bar.operation(operation);
                    let wait = Wait { until, pace, progress: &mut progress };
                    Ok(client.verify(request_, wait).await?.reply)
                },
            )
            .await?;
        let ids = reply.problems.iter().map(|problem| problem.what.clone());
        self.output.show(&reply, ids, || render::verify(&reply))?;
        Ok(found(reply.problems.is_empty(), ErrorKind::Corrupt))
    }

    pub(super) async fn doctor(&self) -> Result<ExitCode, Failure> {
        let reply = self.client.doctor().await?;
        let failed = reply.checks.iter().filter(|check| !check.ok).map(|check| check.name.clone());
        self.output.show(&reply, failed, || render::checks(&reply.checks))?;
        Ok(found(reply.checks.iter().all(|check| check.ok), ErrorKind::Precondition))
    }
}

/// How far a recovery is: what it counts are projects.
fn recovering(progress: &wire::Progress) -> wire::Progress {
    let step = match progress.total_files {
        Some(total) => format!("{}, {} of {total} projects", progress.step, progress.done_files),
        None => progress.step.clone(),
    };
    wire::Progress { step, ..wire::Progress::default() }
}

/// The exit status of a check: success only when all is well.
fn found(is_well: bool, kind: ErrorKind) -> ExitCode {
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Failure::new(kind, "").exit_code()),
    }
}
