//! The store, and Cove itself.

use cove_types::Slug;
use cove_types::wire;
use serde_json::{Value, json};

use super::{Client, Payload};
use crate::target::Target;
use crate::{ClientError, Finished, Wait, routes};

/// How deep `verify` looks.
#[derive(Debug, Clone, Default)]
pub struct VerifyRequest {
    /// One project; all of them when absent.
    pub project: Option<Slug>,
    /// 0, 1 or 2; the server's default when absent.
    pub level: Option<u8>,
    /// Which part of how many parts of the packs is read at level 2.
    pub read: Option<(u32, u32)>,
}

impl Client {
    /// Whether it serves, and its version.
    ///
    /// # Errors
    ///
    /// As every call: [`ClientError`].
    pub async fn health(&self) -> Result<Value, ClientError> {
        self.get(Target::new(routes::HEALTH, &[])).await
    }

    /// Stops it. Returns when it has begun to stop.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn down(&self) -> Result<(), ClientError> {
        let target = Target::new(routes::DOWN, &[]);
        self.once::<Value>(&target, self.env.operation_id(0), Payload::Nothing).await.map(drop)
    }

    /// Checks what is stored.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. What it finds is in the reply, not here.
    pub async fn verify(
        &self,
        request: &VerifyRequest,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::VerifyReply>, ClientError> {
        let mut body = json!({});
        if let Some(project) = &request.project {
            body["project"] = json!(project);
        }
        if let Some(level) = request.level {
            body["level"] = json!(level);
        }
        if let Some((part, of)) = request.read {
            body["read"] = json!({ "part": part, "of": of });
        }
        self.follow(Target::new(routes::VERIFY, &[]), 0, Payload::json(&body), wait).await
    }

    /// What is well and what is not.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn doctor(&self) -> Result<wire::DoctorReply, ClientError> {
        self.get(Target::new(routes::DOCTOR, &[])).await
    }

    /// Takes the store over and makes copies of all its projects here.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. What was lost is in the reply, not here.
    pub async fn recover(
        &self,
        take: bool,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::RecoverReply>, ClientError> {
        let body = Payload::json(&json!({ "take": take }));
        self.follow(Target::new(routes::RECOVER, &[]), 0, body, wait).await
    }
}
