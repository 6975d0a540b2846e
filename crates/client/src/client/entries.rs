//! The timeline of a project.

use cove_types::wire;
use cove_types::{At, Label, Slug, TreePath};
use serde_json::json;

use super::{Client, Payload};
use crate::target::Target;
use crate::{ClientError, Finished, Wait, routes};

impl Client {
    /// The timeline, newest first; with what lies in the trash when `all`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn timeline(
        &self,
        project: &Slug,
        all: bool,
    ) -> Result<wire::EntriesReply, ClientError> {
        let target = Target::new(routes::TIMELINE, &[project.as_str()]);
        self.get(target.query_some("all", all.then_some(true))).await
    }

    /// Makes an entry of the present state.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn snapshot(
        &self,
        project: &Slug,
        message: Option<&str>,
        label: Option<&Label>,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::EntryReply>, ClientError> {
        let seq = self.seq(project).await?;
        let mut body = json!({});
        if let Some(message) = message {
            body["message"] = json!(message);
        }
        if let Some(label) = label {
            body["label"] = json!(label);
        }
        let target = Target::new(routes::SNAPSHOT, &[project.as_str()]);
        self.follow(target, seq, Payload::json(&body), wait).await
    }

    /// Sets whether retention leaves an entry alone.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn pin(
        &self,
        project: &Slug,
        at: &At,
        pinned: bool,
    ) -> Result<wire::EntryReply, ClientError> {
        let body = json!({ "pinned": pinned });
        self.change(routes::EDIT_ENTRY, project, &[&at.to_string()], body).await
    }

    /// Gives an entry a name, or takes it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn label(
        &self,
        project: &Slug,
        at: &At,
        label: Option<&Label>,
    ) -> Result<wire::EntryReply, ClientError> {
        let body = json!({ "label": label });
        self.change(routes::EDIT_ENTRY, project, &[&at.to_string()], body).await
    }

    /// Goes back to an entry, whole or only `paths`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn restore(
        &self,
        project: &Slug,
        entry: &At,
        paths: &[TreePath],
        force: bool,
        wait: Wait<'_>,
    ) -> Result<Finished<wire::ProjectReply>, ClientError> {
        let seq = self.seq(project).await?;
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let body = json!({ "entry": entry.to_string(), "paths": paths, "force": force });
        let target = Target::new(routes::RESTORE, &[project.as_str()]);
        self.follow(target, seq, Payload::json(&body), wait).await
    }

    /// Moves an entry to the trash.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. One that is pinned is refused.
    pub async fn trash_entry(
        &self,
        project: &Slug,
        at: &At,
    ) -> Result<wire::EntryReply, ClientError> {
        let key = self.key(project).await?;
        let target = Target::new(routes::TRASH_ENTRY, &[project.as_str(), &at.to_string()]);
        self.once(&target, key, Payload::Nothing).await
    }

    /// What differs between two moments.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn diff(
        &self,
        before: (&Slug, &At),
        after: (&Slug, &At),
    ) -> Result<wire::ChangesReply, ClientError> {
        let target = Target::new(routes::DIFF, &[])
            .query("before", format!("{}@{}", before.0, before.1))
            .query("after", format!("{}@{}", after.0, after.1));
        self.get(target).await
    }
}
