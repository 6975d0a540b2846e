//! All projects of a server, and what is asked of them.

mod changes;
mod faults;
mod reads;
mod sought;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use cove_content::entry::{EntryRecord, LATE_WRITES};
use cove_content::retention::{self, ResolveError};
use cove_content::volumes::{EntryView, Moment, Progress, VolumeError, VolumeStatus, Volumes};
use cove_database::{ProjectRow, ProjectState, ServerDatabase};
use cove_env::Env;
use cove_types::{
    At, Classify, EntryKind, ErrorKind, NodeId, ProjectReference, Slug, VolumeId, wire,
};
use tokio::time::Instant;

use crate::error::is_quota;
use crate::operations::{Operations, Target};
use crate::shape::{self, Place};
use crate::{WorkspaceError, names};

/// How long the entries of projects, of one or of all, are waited for when only their health asks.
const ENTRIES_WITHIN: std::time::Duration = std::time::Duration::from_millis(500);

/// Until when the entries of projects are waited for from now on.
fn within() -> Instant {
    Instant::now() + ENTRIES_WITHIN
}

/// An error of what followed once the call on a project had taken effect.
pub(crate) fn took_effect(slug: &Slug) -> impl FnOnce(WorkspaceError) -> WorkspaceError {
    let slug = slug.clone();
    move |source| WorkspaceError::Unread { slug, source: Box::new(source) }
}

/// An error of a volume as one of its project's.
pub(crate) fn about(slug: &Slug) -> impl FnOnce(VolumeError) -> WorkspaceError {
    let slug = slug.clone();
    move |source| match source {
        VolumeError::NotHere { .. } => WorkspaceError::NotHere { slug },
        source if is_quota(&source) => WorkspaceError::QuotaUsedUp { slug, path: None },
        source => WorkspaceError::OfProject { slug, source },
    }
}

/// What is the same for all projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many counted entries a project keeps, 1 to 200.
    pub keep: u32,
    /// The node that holds the volumes.
    pub node: NodeId,
    /// Where saved states are: `this_disk` or the URL of the object store.
    pub saved_to: String,
}

/// The projects of a server. Cloning shares them.
///
/// Projects are named by their slugs. What changes something takes a [`Request`](crate::Request)
/// and is done at most once for its key; what is asked for at a past moment only reads.
#[derive(Clone)]
pub struct Workspaces(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) volumes: Arc<dyn Volumes>,
    pub(crate) database: ServerDatabase,
    pub(crate) env: Env,
    pub(crate) keep: u32,
    place: RwLock<Place>,
    pub(crate) operations: Arc<Operations>,
    /// Held while names are chosen and taken.
    pub(crate) naming: tokio::sync::Mutex<()>,
    /// Names that a rename or an undelete is about to take.
    pub(crate) reserved: Mutex<HashSet<Slug>>,
    /// Held while what a check found is laid over what the one before it found.
    pub(crate) verifying: tokio::sync::Mutex<()>,
    /// How far the recovery is that runs.
    recovering: Mutex<Option<Progress>>,
}

/// A recovery that runs as long as this lives.
pub(crate) struct Recovering(Arc<Inner>);

impl Drop for Recovering {
    fn drop(&mut self) {
        *self.0.recovering() = None;
    }
}

/// A name that nobody else takes while this lives.
pub(crate) struct Reserved {
    inner: Arc<Inner>,
    slug: Slug,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.inner.reserved().remove(&self.slug);
    }
}

impl Workspaces {
    /// The projects that `database` knows, with their bytes in `volumes`.
    #[must_use]
    pub fn new(
        volumes: Arc<dyn Volumes>,
        database: ServerDatabase,
        env: Env,
        options: Options,
    ) -> Self {
        let Options { keep, node, saved_to } = options;
        let operations = Arc::new(Operations::new(database.clone(), env.clone()));
        Self(Arc::new(Inner {
            volumes,
            database,
            env,
            keep: keep.clamp(1, retention::KEEP_MAX),
            place: RwLock::new(Place { node, saved_to }),
            operations,
            naming: tokio::sync::Mutex::default(),
            reserved: Mutex::default(),
            verifying: tokio::sync::Mutex::default(),
            recovering: Mutex::default(),
        }))
    }

    /// Where saved states are: `this_disk` or the URL of the object store.
    #[must_use]
    pub fn saved_to(&self) -> String {
        self.0.place().saved_to.clone()
    }

    /// Has projects say from now on that they are on `node` and saved to `saved_to`: the node was started anew, with
    /// another store or under another name.
    pub fn put_place(&self, node: NodeId, saved_to: String) {
        *self.0.place.write().unwrap_or_else(PoisonError::into_inner) = Place { node, saved_to };
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl std::fmt::Debug for Workspaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Workspaces")
    }
}

impl Inner {
    /// The volumes that are workspaces: those that stand alone, and what is left of deleted ones, are nobody's
    /// project.
    pub(crate) async fn workspaces(&self) -> Result<Vec<VolumeStatus>, WorkspaceError> {
        let mut statuses = self.volumes.list().await.map_err(WorkspaceError::OfStore)?;
        statuses.retain(|status| !status.is_deleted && !status.spec.stands_alone);
        Ok(statuses)
    }

    /// Where projects are and what saves them, as of now.
    fn place(&self) -> RwLockReadGuard<'_, Place> {
        self.place.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserved(&self) -> std::sync::MutexGuard<'_, HashSet<Slug>> {
        // A set is whole whenever its holder could panic.
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recovering(&self) -> std::sync::MutexGuard<'_, Option<Progress>> {
        // What is told of a recovery is whole whenever its holder could panic.
        self.recovering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a recovery for as long as the answer lives.
    pub(crate) fn tell_of_recovery(self: &Arc<Self>, progress: Progress) -> Recovering {
        *self.recovering() = Some(progress);
        Recovering(Arc::clone(self))
    }

    /// How far the recovery is that runs, in words.
    pub(crate) fn recovery(&self) -> Option<String> {
        Some(self.recovering().as_ref()?.look().of_recovery())
    }

    /// That there is no project of this name, unless a recovery may bring it yet.
    fn no_project(&self, slug: &Slug) -> WorkspaceError {
        let slug = slug.clone();
        match self.recovery() {
            Some(recovery) => WorkspaceError::NotRecovered { slug, recovery },
            None => WorkspaceError::NoProject { slug },
        }
    }

    /// The project that has this name.
    pub(crate) async fn live(&self, slug: &Slug) -> Result<ProjectRow, WorkspaceError> {
        self.live_row(slug, self.database.find_named(slug).await?)
    }

    /// The row of this name, when it is of a project that is there.
    fn live_row(&self, slug: &Slug, row: Option<ProjectRow>) -> Result<ProjectRow, WorkspaceError> {
        match row {
            Some(row) if row.state == ProjectState::Live => Ok(row),
            Some(_) => Err(WorkspaceError::BeingCreated { slug: slug.clone() }),
            None => Err(self.no_project(slug)),
        }
    }

    /// The project of a volume, whatever it is called.
    pub(crate) async fn of_volume(&self, volume: &VolumeId) -> Result<ProjectRow, WorkspaceError> {
        let row = self.database.find_volume(volume).await?;
        row.ok_or_else(|| WorkspaceError::NoProjectOf { volume: volume.clone() })
    }

    /// What a call on a live project is bound to.
    pub(crate) async fn target(&self, slug: &Slug) -> Result<Target, WorkspaceError> {
        let row = self.live(slug).await?;
        self.target_of(&row).await
    }

    pub(crate) async fn target_of(&self, row: &ProjectRow) -> Result<Target, WorkspaceError> {
        let status = self.volumes.status(&row.volume).await.map_err(about(&row.slug))?;
        Ok(Target { volume: Some(row.volume.clone()), seq: status.seq })
    }

    /// The project that was trashed last under this name.
    pub(crate) async fn trashed(&self, slug: &Slug) -> Result<ProjectRow, WorkspaceError> {
        let rows = self.database.trashed(slug).await?;
        rows.into_iter().next().ok_or_else(|| WorkspaceError::NotInTrash { slug: slug.clone() })
    }

    /// Writes the row of a volume, which a call has changed, as it is now, not as an old result of a
    /// call says.
    pub(crate) async fn written(
        &self,
        slug: &Slug,
        volume: &VolumeId,
    ) -> Result<wire::Project, WorkspaceError> {
        let written = async {
            let known = self.database.find_volume(volume).await?;
            let status = self.volumes.status(volume).await.map_err(about(slug))?;
            let row = row_of(known.as_ref(), &status);
            let rows = self.made(std::slice::from_ref(&row)).await?;
            let row = rows.into_iter().next().unwrap_or(row);
            Ok(self.shape(&row, &status, &self.rescues(&status, within()).await))
        };
        written.await.map_err(took_effect(slug))
    }

    /// Writes the rows of projects whose volumes are there. A name that another project was given
    /// meanwhile, as by a recovery, gets the next free number.
    pub(crate) async fn made(
        &self,
        rows: &[ProjectRow],
    ) -> Result<Vec<ProjectRow>, WorkspaceError> {
        // what has happened is told truly, also where there is no room
        match self.operations.write(|| self.database.put_projects(rows)).await {
            Ok(()) => return Ok(rows.to_vec()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
        let _naming = self.naming.lock().await;
        let is_own = |row: &ProjectRow| rows.iter().any(|own| own.id == row.id);
        let mut all = self.database.projects().await?;
        all.retain(|row| !is_own(row));
        all.extend_from_slice(rows);
        for (from, to) in settle_names(&mut all) {
            tracing::warn!(%from, %to, "a project's name was taken while it was made");
        }
        self.operations.write(|| self.database.replace_projects(&all)).await?;
        let settled = |own: &ProjectRow| all.iter().find(|row| row.id == own.id).cloned();
        Ok(rows.iter().filter_map(settled).collect())
    }

    /// Writes the rows of projects that are captured. What fails here undoes nothing: it is logged,
    /// and the rows are written when the projects are saved, or at the next start.
    pub(crate) async fn made_or_later(&self, rows: Vec<ProjectRow>) -> Vec<ProjectRow> {
        match self.made(&rows).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "failed to write the rows of projects that are there");
                rows
            }
        }
    }

    pub(crate) async fn shown(&self, row: &ProjectRow) -> Result<wire::Project, WorkspaceError> {
        match self.volumes.status(&row.volume).await {
            Ok(status) => Ok(self.shape(row, &status, &self.rescues(&status, within()).await)),
            Err(error) if error.is_not_here() => Ok(self.absent(row)),
            Err(error) => Err(about(&row.slug)(error)),
        }
    }

    /// Writes the rows of projects that are saved where [`Self::made_or_later`] could not.
    pub(crate) async fn still_made(&self, rows: &[ProjectRow]) {
        for row in rows {
            let known = self.database.find_project(&row.id).await;
            if known
                .is_ok_and(|known| known.is_none_or(|known| known.state == ProjectState::Creating))
            {
                self.made_or_later(vec![row.clone()]).await;
            }
        }
    }

    /// A project that a call has changed.
    pub(crate) async fn changed(
        &self,
        slug: &Slug,
        volume: &VolumeId,
    ) -> Result<wire::Project, WorkspaceError> {
        let changed = async { self.shown(&self.of_volume(volume).await?).await };
        changed.await.map_err(took_effect(slug))
    }

    /// A project whose volume is not here.
    pub(crate) fn absent(&self, row: &ProjectRow) -> wire::Project {
        shape::absent(row, &self.place(), self.env.now())
    }

    /// A project that is there, with the rescues that its health names.
    pub(crate) fn shape(
        &self,
        row: &ProjectRow,
        status: &VolumeStatus,
        rescues: &[EntryView],
    ) -> wire::Project {
        shape::project(row, status, rescues, &self.place())
    }

    /// Which moment of a project a person means.
    pub(crate) async fn moment(
        &self,
        slug: &Slug,
        volume: &VolumeId,
        at: &At,
    ) -> Result<Moment, WorkspaceError> {
        if *at == At::Now {
            return Ok(Moment::Now);
        }
        let entries = self.volumes.entries(volume).await.map_err(about(slug))?;
        match resolve(slug, at, &entries, EntryRecord::is_live) {
            // One that is in the trash is worth another message.
            Err(missing @ WorkspaceError::NoEntry { .. }) => {
                match resolve(slug, at, &entries, |record| !record.is_live()) {
                    Ok(Moment::Entry(entry)) if !matches!(at, At::Newest(_)) => {
                        let entry = entry.to_string();
                        Err(WorkspaceError::EntryInTrash { slug: slug.clone(), entry })
                    }
                    _ => Err(self.missing_or_unread(slug, volume, missing).await?),
                }
            }
            resolved => resolved,
        }
    }

    /// `missing`, that there is no such entry, unless it may be one of those that nobody can read.
    pub(crate) async fn missing_or_unread(
        &self,
        slug: &Slug,
        volume: &VolumeId,
        missing: WorkspaceError,
    ) -> Result<WorkspaceError, WorkspaceError> {
        self.refuse_unread(slug, volume).await.map(|()| missing)
    }

    /// Refuses what has to know all entries, when some cannot be read.
    pub(crate) async fn refuse_unread(
        &self,
        slug: &Slug,
        volume: &VolumeId,
    ) -> Result<(), WorkspaceError> {
        match self.volumes.status(volume).await.map_err(about(slug))?.unread_entries {
            0 => Ok(()),
            count => Err(about(slug)(VolumeError::EntriesUnread { count })),
        }
    }

    /// What a project's entries say of its health: the rescues of late writes that nobody has
    /// dismissed. What was rescued for another cause is in the volume's own problems.
    ///
    /// A project without entries costs nothing. After a start the older entries of a long timeline
    /// are still in the store: it is not waited for when it is away.
    async fn rescues(&self, status: &VolumeStatus, until: Instant) -> Vec<EntryView> {
        if status.entries == 0 {
            return Vec::new();
        }
        let entries = self.volumes.entries(&status.volume);
        let Ok(Ok(mut entries)) = tokio::time::timeout_at(until, entries).await else {
            return Vec::new();
        };
        // The node has words of its own for rescues of another cause.
        entries.retain(|view| {
            let EntryRecord { kind, cause, .. } = &view.record;
            let is_late = cause.as_deref().is_none_or(|cause| cause == LATE_WRITES);
            view.record.is_live() && *kind == EntryKind::Rescue && is_late
        });
        entries
    }

    /// The volume and the moment of a reference.
    pub(crate) async fn place_of(
        &self,
        reference: &ProjectReference,
    ) -> Result<(VolumeId, Moment), WorkspaceError> {
        let slug = &reference.project;
        let row = self.live_row(slug, self.database.look_up(slug).await?)?;
        let moment = self.moment(slug, &row.volume, &reference.at).await?;
        Ok((row.volume, moment))
    }

    /// The names that nobody can take now.
    pub(crate) async fn taken(&self) -> Result<HashSet<Slug>, WorkspaceError> {
        let rows = self.database.projects().await?;
        let named = rows.into_iter().filter(|row| row.state != ProjectState::Trashed);
        let mut taken: HashSet<Slug> = named.map(|row| row.slug).collect();
        taken.extend(self.reserved().iter().cloned());
        Ok(taken)
    }

    /// That a name is taken: by a project that is there or by one that is not yet, or no more.
    async fn name_taken(&self, slug: &Slug) -> Result<WorkspaceError, WorkspaceError> {
        let slug = slug.clone();
        let row = self.database.find_named(&slug).await?;
        Ok(match row.is_some_and(|row| row.state == ProjectState::Creating) {
            true => WorkspaceError::BeingCreated { slug },
            false => WorkspaceError::NameTaken { slug },
        })
    }

    /// Reserves a name for as long as the answer lives.
    ///
    /// # Errors
    ///
    /// It is taken.
    pub(crate) async fn reserve(self: &Arc<Self>, slug: &Slug) -> Result<Reserved, WorkspaceError> {
        let _naming = self.naming.lock().await;
        if self.taken().await?.contains(slug) {
            return Err(self.name_taken(slug).await?);
        }
        self.reserved().insert(slug.clone());
        Ok(Reserved { inner: Arc::clone(self), slug: slug.clone() })
    }

    /// Reserves the names of new projects as rows that are `creating`; those that an earlier
    /// attempt of the same operation reserved are taken as they are.
    pub(crate) async fn reserve_rows(
        &self,
        rows: impl FnOnce(&HashSet<Slug>) -> Result<Vec<ProjectRow>, WorkspaceError>,
        first: &cove_types::ProjectId,
        all: impl Fn(&ProjectRow) -> bool,
    ) -> Result<Vec<ProjectRow>, WorkspaceError> {
        let _naming = self.naming.lock().await;
        if self.database.find_project(first).await?.is_some() {
            let rows = self.database.projects().await?;
            return Ok(rows.into_iter().filter(|row| all(row)).collect());
        }
        let rows = match rows(&self.taken().await?) {
            Err(WorkspaceError::NameTaken { slug }) => return Err(self.name_taken(&slug).await?),
            rows => rows?,
        };
        self.database.insert_projects(&rows).await?;
        Ok(rows)
    }
}

/// The row that a volume's document and place say; what only the database knows is taken from
/// the row that was `known`.
pub(crate) fn row_of(known: Option<&ProjectRow>, status: &VolumeStatus) -> ProjectRow {
    let document = &status.document;
    let trashed_us = status.trashed_at.map(|at| at.as_microsecond());
    ProjectRow {
        id: document.id.clone(),
        slug: document.slug.clone(),
        name: document.name.clone(),
        volume: status.volume.clone(),
        state: if trashed_us.is_some() { ProjectState::Trashed } else { ProjectState::Live },
        created_us: document.created_at.as_microsecond(),
        trashed_us,
        document: String::from_utf8_lossy(&document.encode()).into_owned(),
        verified: known.and_then(|row| row.verified),
    }
}

/// Which entry a person means, among those that may be meant.
pub(crate) fn resolve(
    slug: &Slug,
    at: &At,
    entries: &[EntryView],
    may: impl Fn(&EntryRecord) -> bool,
) -> Result<Moment, WorkspaceError> {
    let records: Vec<EntryRecord> =
        entries.iter().map(|view| &view.record).filter(|record| may(record)).cloned().collect();
    match retention::resolve(at, &records) {
        Ok(retention::Moment::Now) => Ok(Moment::Now),
        Ok(retention::Moment::Entry(entry)) => Ok(Moment::Entry(entry)),
        Err(ResolveError::NotFound { at }) => {
            Err(WorkspaceError::NoEntry { slug: slug.clone(), at: at.to_string() })
        }
        Err(ResolveError::Ambiguous { at, candidates }) => Err(WorkspaceError::Ambiguous {
            slug: slug.clone(),
            at: at.to_string(),
            candidates: candidates.iter().map(ToString::to_string).collect(),
        }),
    }
}

/// Gives live projects of one name names of their own, the oldest keeping it, and says which ones changed.
pub(crate) fn settle_names(rows: &mut [ProjectRow]) -> Vec<(Slug, Slug)> {
    let mut live: Vec<&mut ProjectRow> =
        rows.iter_mut().filter(|row| row.state != ProjectState::Trashed).collect();
    live.sort_by(|a, b| (a.created_us, &a.id).cmp(&(b.created_us, &b.id)));
    let wanted: Vec<Slug> = live.iter().map(|row| row.slug.clone()).collect();
    let settled = names::settle(&wanted);
    let mut changed = Vec::new();
    for (row, slug) in live.into_iter().zip(settled) {
        if row.slug != slug {
            changed.push((row.slug.clone(), slug.clone()));
            if row.name == row.slug.as_str() {
                row.name = slug.to_string();
            }
            row.slug = slug;
        }
    }
    changed
}

#[cfg(test)]
pub(crate) mod tests;
