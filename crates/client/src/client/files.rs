//! Files, of now and of any entry.

use cove_types::wire;
use cove_types::{At, Slug, TreePath};
use serde_json::json;

use super::{Client, Download, Payload, TAR};
use crate::target::Target;
use crate::{ClientError, Upload, routes};

/// What a file's bytes are announced as.
const BYTES: &str = "application/octet-stream";

/// A path of a project at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project.
    pub project: &'a Slug,
    /// When.
    pub at: &'a At,
    /// Where.
    pub path: &'a TreePath,
}

impl Place<'_> {
    fn target(&self, route: routes::Route) -> Target {
        Target::new(route, &[self.project.as_str()]).query("path", self.path).query("at", self.at)
    }
}

impl Client {
    /// The children of a directory, or everything below it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn files(
        &self,
        place: Place<'_>,
        recursive: bool,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = place.target(routes::FILES);
        self.get(target.query_some("recursive", recursive.then_some(true))).await
    }

    /// One file.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn stat(&self, place: Place<'_>) -> Result<wire::FilesReply, ClientError> {
        self.get(place.target(routes::STAT)).await
    }

    /// What lies below a path whose names match a pattern of `*`, `?` and `[…]`, of one kind or any.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn find(
        &self,
        place: Place<'_>,
        name: Option<&str>,
        kind: Option<&str>,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = place.target(routes::FIND).query_some("name", name);
        self.get(target.query_some("kind", kind)).await
    }

    /// The lines below a path that hold a text, or match a regular expression.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn grep(
        &self,
        place: Place<'_>,
        pattern: &str,
        is_expression: bool,
        ignores_case: bool,
    ) -> Result<wire::MatchesReply, ClientError> {
        let target = place
            .target(routes::GREP)
            .query("pattern", pattern)
            .query_some("regex", is_expression.then_some(true))
            .query_some("ignore_case", ignores_case.then_some(true));
        self.get(target).await
    }

    /// A file's bytes.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn content(&self, place: Place<'_>) -> Result<Download, ClientError> {
        self.download(place.target(routes::READ)).await
    }

    /// A path with everything below as a tar stream; names in it begin with the path's last
    /// name, `.` for the root.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn archive(&self, place: Place<'_>) -> Result<Download, ClientError> {
        self.download(place.target(routes::EXPORT)).await
    }

    /// Replaces a file by what the body holds.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. A body that breaks off leaves the file as it was.
    pub async fn put(
        &self,
        project: &Slug,
        path: &TreePath,
        content: Upload,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = Target::new(routes::PUT, &[project.as_str()]).query("path", path);
        let response = self.send(&target, Some(self.key(project).await?), content.0, BYTES).await?;
        self.read(&target, response).await
    }

    /// Extracts a tar stream below a directory, merging directories.
    ///
    /// # Errors
    ///
    /// [`ClientError`]. Then nothing was changed.
    pub async fn extract(
        &self,
        project: &Slug,
        path: &TreePath,
        archive: Upload,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = Target::new(routes::EXTRACT, &[project.as_str()]).query("path", path);
        let response = self.send(&target, Some(self.key(project).await?), archive.0, TAR).await?;
        self.read(&target, response).await
    }

    /// Removes a path; a directory that is not empty only when `recursive`.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn remove(
        &self,
        project: &Slug,
        path: &TreePath,
        recursive: bool,
    ) -> Result<wire::FilesReply, ClientError> {
        let target = Target::new(routes::REMOVE, &[project.as_str()])
            .query("path", path)
            .query_some("recursive", recursive.then_some(true));
        self.once(&target, self.key(project).await?, Payload::Nothing).await
    }

    /// Moves a path.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn rename_path(
        &self,
        project: &Slug,
        from: &TreePath,
        to: &TreePath,
    ) -> Result<wire::FilesReply, ClientError> {
        let body = json!({ "from": from.to_string(), "to": to.to_string() });
        self.change(routes::MOVE, project, &[], body).await
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    ///
    /// [`ClientError`].
    pub async fn make_directory(
        &self,
        project: &Slug,
        path: &TreePath,
    ) -> Result<wire::FilesReply, ClientError> {
        let body = json!({ "path": path.to_string() });
        self.change(routes::MAKE_DIRECTORY, project, &[], body).await
    }
}
