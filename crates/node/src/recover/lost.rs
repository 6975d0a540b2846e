//! Naming what does not come back.

use std::fmt;

use cove_content::document::ProjectDocument;
use cove_content::restore::Unreadable;
use cove_content::spec::VolumeSpec;
use cove_types::{TreePath, VolumeId, wire};

/// How many paths of a project are named one by one.
const PATHS_MAX: usize = 20;

/// What something that is lost belongs to: the project where that is known, and the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    volume: VolumeId,
    project: Option<String>,
}

impl Subject {
    /// A volume of which no more is known.
    pub fn unknown(volume: &VolumeId) -> Self {
        Self { volume: volume.clone(), project: None }
    }

    /// The document of a volume that is no project's names none.
    pub fn new(volume: &VolumeId, document: Option<&ProjectDocument>, spec: &VolumeSpec) -> Self {
        let document = document.filter(|_| !spec.stands_alone);
        let project = document.map(|document| document.slug.to_string());
        Self { volume: volume.clone(), project }
    }

    /// All of it.
    pub fn lost(&self, why: String) -> wire::Lost {
        wire::Lost { what: self.to_string(), why }
    }

    /// A part of it.
    pub fn lost_part(&self, part: &str, why: String) -> wire::Lost {
        let what = match &self.project {
            Some(project) => format!("project {project}: {part}"),
            None => format!("volume {}: {part}", self.volume),
        };
        wire::Lost { what, why }
    }

    /// Files of it, the first ones by their paths and the others by their number.
    pub fn lost_paths(&self, unreadable: &[Unreadable]) -> Vec<wire::Lost> {
        let named = unreadable.iter().take(PATHS_MAX);
        let mut lost: Vec<wire::Lost> =
            named.map(|lost| self.lost_part(&part(lost), lost.why.clone())).collect();
        let more = unreadable.len().saturating_sub(PATHS_MAX);
        if let Some(last) = unreadable.last().filter(|_| more > 0) {
            lost.push(self.lost_part(&format!("{more} more files"), last.why.clone()));
        }
        lost
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.project {
            Some(project) => write!(f, "project {project} (volume {})", self.volume),
            None => write!(f, "volume {}", self.volume),
        }
    }
}

fn part(lost: &Unreadable) -> String {
    match &lost.until {
        None => shown(&lost.path),
        Some(None) => format!("names from {} on", shown(&lost.path)),
        Some(Some(until)) => format!("names from {} to before {}", shown(&lost.path), shown(until)),
    }
}

/// A path as people write it: from the project's root where it is below that.
fn shown(path: &TreePath) -> String {
    let text = path.to_string();
    format!("/{}", text.strip_prefix("files/").unwrap_or(&text))
}
