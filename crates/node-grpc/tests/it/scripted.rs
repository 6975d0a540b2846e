//! Volumes in memory that write down what they are asked, and stand still or fail when they are told to.

use std::io::{self, Cursor, Read, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cove_content::document::ProjectDocument;
use cove_content::spec::SpecChange;
use cove_content::volumes::*;
use cove_env::{Env, ManualClock, SeededChance};
use cove_types::{EntryId, TreePath, VolumeId, chain, wire};
use cove_workspace::fake::Fake;
use tokio::sync::watch;

type MakeReader = Box<dyn FnOnce() -> FileReader + Send>;

/// What an export writes in place of its own.
type Script = Box<dyn FnOnce(&mut dyn Write) -> Result<Vec<String>, VolumeError> + Send>;

pub struct Scripted {
    pub fake: Fake,
    calls: Mutex<Vec<String>>,
    fails: Mutex<Option<VolumeError>>,
    reader: Mutex<Option<MakeReader>>,
    archive: Mutex<Option<Script>>,
    /// How reading what came with a call ended, each time.
    ends: watch::Sender<Vec<String>>,
    /// Whether calls that change something go on.
    goes_on: watch::Sender<bool>,
    /// Whether what returns when it is saved does, once it has taken effect.
    saves: watch::Sender<bool>,
    /// How many calls that change something have begun.
    pub begun: watch::Sender<usize>,
    /// What each call that changes something says of how far it is, before it goes on.
    pub says: Mutex<Option<wire::Progress>>,
    /// How far the last snapshot is.
    pub saving: Mutex<Option<Progress>>,
}

impl Scripted {
    pub fn new() -> Self {
        let clock = Arc::new(ManualClock::new("2026-11-25T12:00:00Z".parse().unwrap()));
        Self {
            fake: Fake::new(Env::new(clock, Arc::new(SeededChance::new(7)))),
            calls: Mutex::default(),
            fails: Mutex::default(),
            reader: Mutex::default(),
            archive: Mutex::default(),
            ends: watch::Sender::new(Vec::new()),
            goes_on: watch::Sender::new(true),
            saves: watch::Sender::new(true),
            begun: watch::Sender::new(0),
            says: Mutex::default(),
            saving: Mutex::default(),
        }
    }

    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Has the next call fail.
    pub fn fail(&self, error: VolumeError) {
        *self.fails.lock().unwrap() = Some(error);
    }

    /// How many calls that change something stand still.
    pub fn waiting(&self) -> usize {
        self.goes_on.receiver_count()
    }

    pub fn let_go_on(&self, goes_on: bool) {
        self.goes_on.send_replace(goes_on);
    }

    /// How many calls that have taken effect wait until that is saved.
    pub fn unsaved(&self) -> usize {
        self.saves.receiver_count()
    }

    pub fn let_save(&self, saves: bool) {
        self.saves.send_replace(saves);
    }

    async fn saved(&self) {
        let _ = self.saves.subscribe().wait_for(|saves| *saves).await;
    }

    /// Has the next read give this.
    pub fn read_next(&self, make: impl FnOnce() -> FileReader + Send + 'static) {
        *self.reader.lock().unwrap() = Some(Box::new(make));
    }

    /// Has the next export write this.
    pub fn export_next(
        &self,
        script: impl FnOnce(&mut dyn Write) -> Result<Vec<String>, VolumeError> + Send + 'static,
    ) {
        *self.archive.lock().unwrap() = Some(Box::new(script));
    }

    /// Waits for the end of the `count`-th reading and gives it.
    pub async fn end_of_reading(&self, count: usize) -> String {
        let mut ends = self.ends.subscribe();
        let ended = ends.wait_for(|ends| ends.len() >= count);
        let ends = tokio::time::timeout(crate::world::SOON, ended).await.unwrap().unwrap();
        ends[count - 1].clone()
    }

    async fn looked(&self, call: String) -> Result<(), VolumeError> {
        self.calls.lock().unwrap().push(call);
        self.fails.lock().unwrap().take().map_or(Ok(()), Err)
    }

    async fn changes(&self, call: String, progress: Option<&Progress>) -> Result<(), VolumeError> {
        let said = self.says.lock().unwrap().clone();
        if let (Some(progress), Some(said)) = (progress, said) {
            progress.update(|progress| *progress = said);
        }
        self.looked(call).await?;
        self.begun.send_modify(|begun| *begun += 1);
        let _ = self.goes_on.subscribe().wait_for(|goes_on| *goes_on).await;
        Ok(())
    }

    /// Reads what comes with a call, in a thread that blocks as those of a node do, and writes down how that ended.
    async fn taken(&self, mut inner: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
        let read = move || {
            let mut bytes = Vec::new();
            let ended = inner.read_to_end(&mut bytes);
            (bytes, ended.err())
        };
        let (bytes, error) = tokio::task::spawn_blocking(read).await.unwrap();
        let end = error.as_ref().map_or_else(
            || "the end".to_owned(),
            |error| format!("{:?}: {}", error.kind(), chain(error)),
        );
        self.ends.send_modify(|ends| ends.push(end));
        Box::new(Cursor::new(bytes).chain(Ended(error)))
    }
}

/// What comes after the last byte.
struct Ended(Option<io::Error>);

impl Read for Ended {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

fn said(call: &Call) -> String {
    let Call { operation, principal, request, progress: _ } = call;
    format!("{operation} of {principal:?} ({request:?})")
}

#[async_trait]
impl Volumes for Scripted {
    async fn create(
        &self,
        call: Call,
        new: NewVolume,
        source: Source,
    ) -> Result<Captured<(VolumeStatus, Vec<String>)>, VolumeError> {
        let has_archive = matches!(source, Source::Archive(_));
        let text = format!("create {} {new:?} {has_archive}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        let source = match source {
            Source::Empty => Source::Empty,
            Source::Archive(archive) => Source::Archive(self.taken(archive).await),
        };
        self.fake.create(call, new, source).await
    }

    async fn fork(
        &self,
        call: Call,
        source: VolumeId,
        moment: Moment,
        targets: Vec<NewVolume>,
    ) -> Result<Captured<Vec<VolumeStatus>>, VolumeError> {
        let text = format!("fork {} {source} {moment:?} {targets:?}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        self.fake.fork(call, source, moment, targets).await
    }

    async fn snapshot(
        &self,
        call: Call,
        volume: VolumeId,
        entry: NewEntry,
    ) -> Result<Captured<Snapshot>, VolumeError> {
        let text = format!("snapshot {} {volume} {entry:?}", said(&call));
        *self.saving.lock().unwrap() = Some(call.progress.clone());
        self.changes(text, Some(&call.progress)).await?;
        self.fake.snapshot(call, volume, entry).await
    }

    async fn restore(
        &self,
        call: Call,
        volume: VolumeId,
        restore: Restore,
    ) -> Result<Captured<Restored>, VolumeError> {
        let text = format!("restore {} {volume} {restore:?}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        self.fake.restore(call, volume, restore).await
    }

    async fn edit_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
        edit: EntryEdit,
    ) -> Result<EntryView, VolumeError> {
        let text = format!("edit_entry {} {volume} {entry} {edit:?}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        let ended = self.fake.edit_entry(call, volume, entry, edit).await;
        self.saved().await;
        ended
    }

    async fn describe(
        &self,
        call: Call,
        volume: VolumeId,
        document: ProjectDocument,
    ) -> Result<VolumeStatus, VolumeError> {
        let text = format!("describe {} {volume} {document:?}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        let ended = self.fake.describe(call, volume, document).await;
        self.saved().await;
        ended
    }

    async fn specify(
        &self,
        call: Call,
        volume: VolumeId,
        change: SpecChange,
        document: Option<ProjectDocument>,
    ) -> Result<Captured<VolumeStatus>, VolumeError> {
        let text = format!("specify {} {volume} {change:?} {document:?}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        self.fake.specify(call, volume, change, document).await
    }

    async fn set_trashed(
        &self,
        call: Call,
        volume: VolumeId,
        trashed: bool,
    ) -> Result<VolumeStatus, VolumeError> {
        let text = format!("set_trashed {} {volume} {trashed}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        let ended = self.fake.set_trashed(call, volume, trashed).await;
        self.saved().await;
        ended
    }

    async fn delete(&self, call: Call, volume: VolumeId) -> Result<Captured<()>, VolumeError> {
        let text = format!("delete {} {volume}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        self.fake.delete(call, volume).await
    }

    async fn remove_entry(
        &self,
        call: Call,
        volume: VolumeId,
        entry: EntryId,
    ) -> Result<(), VolumeError> {
        let text = format!("remove_entry {} {volume} {entry}", said(&call));
        self.changes(text, Some(&call.progress)).await?;
        let ended = self.fake.remove_entry(call, volume, entry).await;
        self.saved().await;
        ended
    }

    async fn snapshot_together(
        &self,
        calls: Vec<(Call, VolumeId)>,
        entry: NewEntry,
    ) -> Result<Captured<Vec<Snapshot>>, VolumeError> {
        let each = calls.iter().map(|(call, volume)| format!("{} {volume}", said(call)));
        let text = format!("snapshot_together {:?} {entry:?}", each.collect::<Vec<_>>());
        for (call, _) in &calls {
            call.progress.step(&format!("capturing {}", call.operation));
        }
        self.changes(text, None).await?;
        self.fake.snapshot_together(calls, entry).await
    }

    async fn store(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        self.changes(format!("store {volume}"), None).await?;
        self.fake.store(volume).await
    }

    async fn make_service_directory(
        &self,
        volume: &VolumeId,
        service: &str,
    ) -> Result<PathBuf, VolumeError> {
        self.changes(format!("make_service_directory {volume} {service}"), None).await?;
        self.fake.make_service_directory(volume, service).await
    }

    async fn capacity(&self) -> Result<Capacity, VolumeError> {
        self.looked("capacity".into()).await?;
        self.fake.capacity().await
    }

    async fn wait_saved(&self, volume: &VolumeId) -> Result<(), VolumeError> {
        self.looked(format!("wait_saved {volume}")).await?;
        self.fake.wait_saved(volume).await
    }

    async fn list(&self) -> Result<Vec<VolumeStatus>, VolumeError> {
        self.looked("list".into()).await?;
        self.fake.list().await
    }

    async fn status(&self, volume: &VolumeId) -> Result<VolumeStatus, VolumeError> {
        self.looked(format!("status {volume}")).await?;
        self.fake.status(volume).await
    }

    async fn entries(&self, volume: &VolumeId) -> Result<Vec<EntryView>, VolumeError> {
        self.looked(format!("entries {volume}")).await?;
        self.fake.entries(volume).await
    }

    async fn diff(
        &self,
        before: (VolumeId, Moment),
        after: (VolumeId, Moment),
    ) -> Result<Vec<wire::Change>, VolumeError> {
        self.looked(format!("diff {before:?} {after:?}")).await?;
        self.fake.diff(before, after).await
    }

    async fn file(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
    ) -> Result<FileView, VolumeError> {
        self.looked(format!("file {volume} {moment:?} {path}")).await?;
        self.fake.file(volume, moment, path).await
    }

    async fn files(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        recursive: bool,
    ) -> Result<Vec<FileView>, VolumeError> {
        self.looked(format!("files {volume} {moment:?} {path} {recursive}")).await?;
        self.fake.files(volume, moment, path, recursive).await
    }

    async fn read(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        range: Option<Range<u64>>,
    ) -> Result<(FileView, FileReader), VolumeError> {
        self.looked(format!("read {volume} {moment:?} {path} {range:?}")).await?;
        let (view, reader) = self.fake.read(volume, moment, path, range).await?;
        let scripted = self.reader.lock().unwrap().take();
        Ok((view, scripted.map_or(reader, |make| make())))
    }

    async fn export(
        &self,
        volume: &VolumeId,
        moment: &Moment,
        path: &TreePath,
        mut to: Box<dyn Write + Send>,
    ) -> Result<Vec<String>, VolumeError> {
        self.looked(format!("export {volume} {moment:?} {path}")).await?;
        let Some(script) = self.archive.lock().unwrap().take() else {
            return self.fake.export(volume, moment, path, to).await;
        };
        tokio::task::spawn_blocking(move || script(&mut *to)).await.unwrap()
    }

    async fn edit(&self, volume: &VolumeId, edit: FileEdit) -> Result<Edited, VolumeError> {
        let text = match &edit {
            FileEdit::Put(path, _) => format!("put {path}"),
            FileEdit::Extract(path, _) => format!("extract {path}"),
            FileEdit::MakeDirectory(path) => format!("make {path}"),
            FileEdit::Remove { path, recursive } => format!("remove {path} {recursive}"),
            FileEdit::Move { from, to } => format!("move {from} {to}"),
        };
        self.changes(format!("edit {volume} {text}"), None).await?;
        let edit = match edit {
            FileEdit::Put(path, content) => FileEdit::Put(path, self.taken(content).await),
            FileEdit::Extract(path, archive) => FileEdit::Extract(path, self.taken(archive).await),
            edit => edit,
        };
        self.fake.edit(volume, edit).await
    }

    async fn verify(&self, volume: &VolumeId, level: VerifyLevel) -> Result<Verified, VolumeError> {
        self.looked(format!("verify {volume} {level:?}")).await?;
        self.fake.verify(volume, level).await
    }

    async fn verify_store(&self) -> Result<Option<wire::VerifyProblem>, VolumeError> {
        self.looked("verify_store".into()).await?;
        self.fake.verify_store().await
    }

    async fn recover(&self, take: bool, progress: Progress) -> Result<Recovered, VolumeError> {
        self.changes(format!("recover {take}"), Some(&progress)).await?;
        self.fake.recover(take, progress).await
    }

    async fn doctor(&self) -> Vec<wire::Check> {
        let _ = self.looked("doctor".into()).await;
        self.fake.doctor().await
    }
}
