//! What it means to a person that files of a project were not reached or changed.
//!
//! The node names what the kernel refused; which directory is missing, or which link leads out, is
//! looked for here, only once something has failed.

use cove_content::volumes::{FileEdit, Moment, VolumeError, Volumes};
use cove_types::{Classify, ErrorKind, Slug, TreePath, VolumeId};

use crate::WorkspaceError;
use crate::error::is_quota;

/// What a call did with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) slug: Slug,
    pub(crate) volume: VolumeId,
    pub(crate) moment: Moment,
    pub(crate) path: TreePath,
    /// Where something was to be made, if it was.
    pub(crate) made: Option<TreePath>,
}

impl Reach {
    pub(crate) fn read(slug: &Slug, volume: &VolumeId, moment: &Moment, path: &TreePath) -> Self {
        let (slug, volume) = (slug.clone(), volume.clone());
        Self { slug, volume, moment: moment.clone(), path: path.clone(), made: None }
    }

    pub(crate) fn edit(slug: &Slug, volume: &VolumeId, edit: &FileEdit) -> Self {
        let (path, made) = match edit {
            FileEdit::Put(path, _) | FileEdit::MakeDirectory(path) | FileEdit::Extract(path, _) => {
                (path, Some(path))
            }
            FileEdit::Remove { path, .. } => (path, None),
            FileEdit::Move { from, to } => (from, Some(to)),
        };
        let reach = Self::read(slug, volume, &Moment::Now, path);
        Self { made: made.cloned(), ..reach }
    }

    /// Says why it failed.
    pub(crate) async fn failed(self, volumes: &dyn Volumes, error: VolumeError) -> WorkspaceError {
        let Self { slug, volume, moment, path, made } = self;
        let look = async |path: &TreePath| volumes.file(&volume, &moment, path).await;
        match &error {
            VolumeError::WrongKind { path, found, wanted } => {
                return WorkspaceError::WrongKind {
                    shown: shown(&slug, path),
                    found: article(found),
                    wanted,
                };
            }
            VolumeError::NoPath { path: missing } => {
                for above in above(made.as_ref().filter(|made| *made == missing)) {
                    match look(&above).await {
                        Ok(found) if found.kind == "directory" => {}
                        Ok(found) => {
                            return WorkspaceError::WrongKind {
                                shown: shown(&slug, &above),
                                found: article(found.kind),
                                wanted: "a directory",
                            };
                        }
                        Err(VolumeError::NoPath { .. }) => {
                            let path = made.and_then(|made| made.parent()).unwrap_or(above);
                            return WorkspaceError::NoDirectory { slug, path };
                        }
                        Err(_) => break,
                    }
                }
            }
            error if error.kind() == ErrorKind::Denied => {
                for path in [Some(&path), made.as_ref()] {
                    let mut link = None;
                    for above in above(path) {
                        match look(&above).await {
                            Ok(found) if found.kind == "symlink" => link = Some(above),
                            Ok(_) => {}
                            Err(_) => break,
                        }
                    }
                    if let Some(path) = link {
                        return WorkspaceError::PointsOut { path };
                    }
                }
            }
            error if error.kind() == ErrorKind::Exhausted => match made {
                path if is_quota(error) => return WorkspaceError::QuotaUsedUp { slug, path },
                Some(path) => return WorkspaceError::PoolFull { slug, path },
                None => {}
            },
            _ => {}
        }
        WorkspaceError::OfProject { slug, source: error }
    }
}

/// The directories above a path, the highest first.
fn above(path: Option<&TreePath>) -> Vec<TreePath> {
    let parent = |path: &TreePath| path.parent().filter(|parent| !parent.is_top());
    let first = path.and_then(parent);
    let mut above: Vec<TreePath> = std::iter::successors(first, |path| parent(path)).collect();
    above.reverse();
    above
}

/// A path in a sentence; the root has no name of its own.
fn shown(slug: &Slug, path: &TreePath) -> String {
    if path.is_top() { format!("{slug}:/") } else { path.to_string() }
}

/// A kind of file in a sentence.
fn article(kind: &'static str) -> &'static str {
    match kind {
        "directory" => "a directory",
        "file" => "a file",
        "symlink" => "a symbolic link",
        "fifo" => "a named pipe",
        "socket" => "a socket",
        "device" => "a device",
        told => told,
    }
}
