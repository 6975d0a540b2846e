//! `NAME@x` and `NAME@x:/path`, as written on a command line and in a query.

use std::str::FromStr;

use crate::{At, ParseError, Slug, TreePath};

/// A project at a moment: `NAME` or `NAME@x`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectReference {
    /// The project.
    pub project: Slug,
    /// The moment; [`At::Now`] where none is written.
    pub at: At,
}

impl FromStr for ProjectReference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once('@') {
            Some((name, at)) => Ok(Self { project: name.parse()?, at: at.parse()? }),
            None => Ok(Self { project: text.parse()?, at: At::Now }),
        }
    }
}

/// A file of a project at a moment: `NAME:/path` or `NAME@x:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReference {
    /// The project and the moment.
    pub project: ProjectReference,
    /// The path from the project's root.
    pub path: TreePath,
    /// Whether the path was written with a slash at its end or names the root:
    /// as a target, what is copied goes into it.
    pub is_directory: bool,
}

impl FromStr for FileReference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (project, path) = text
            .split_once(':')
            .ok_or_else(|| ParseError("a file is written NAME:/path or NAME@x:/path".into()))?;
        let is_directory = path.is_empty() || path.ends_with('/') || path.ends_with("/.");
        Ok(Self { project: project.parse()?, path: TreePath::parse(path)?, is_directory })
    }
}
