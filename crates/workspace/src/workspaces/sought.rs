//! Changes of files that an interrupted attempt may have made already.

use cove_content::volumes::{FileEdit, Moment, VolumeError};
use cove_types::{TreePath, VolumeId, wire};

use super::Inner;
use crate::shape;

/// What a change of files is to lead to, for the attempt after one that was interrupted.
pub(crate) enum Sought {
    Removed(TreePath),
    Made(TreePath),
    Moved { from: TreePath, to: TreePath },
}

impl Sought {
    pub(crate) fn of(edit: &FileEdit) -> Option<Self> {
        match edit {
            FileEdit::Remove { path, .. } => Some(Self::Removed(path.clone())),
            FileEdit::MakeDirectory(path) => Some(Self::Made(path.clone())),
            FileEdit::Move { from, to } => Some(Self::Moved { from: from.clone(), to: to.clone() }),
            FileEdit::Put(..) | FileEdit::Extract(..) => None,
        }
    }

    /// The reply, when what `error` tells of is that it is so already.
    pub(crate) async fn already(
        &self,
        inner: &Inner,
        volume: &VolumeId,
        error: &VolumeError,
    ) -> Option<wire::FilesReply> {
        let there = async |path: &TreePath| inner.volumes.file(volume, &Moment::Now, path).await;
        let files = match (self, error) {
            (Self::Removed(path), VolumeError::NoPath { path: missing }) if path == missing => {
                Vec::new()
            }
            (Self::Made(path), VolumeError::PathExists { .. }) => {
                let found = there(path).await.ok().filter(|found| found.kind == "directory");
                vec![shape::file(&found?)]
            }
            (Self::Moved { from, to }, VolumeError::NoPath { path: missing })
                if from == missing =>
            {
                vec![shape::file(&there(to).await.ok()?)]
            }
            _ => return None,
        };
        let remarks = vec!["an attempt that was interrupted had done it already".to_owned()];
        Some(wire::FilesReply { files, remarks })
    }
}
