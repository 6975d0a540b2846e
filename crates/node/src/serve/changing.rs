//! What changing calls are made of: what became of them before, what refuses them, and the steps in a volume's turn.

use std::io::Read;
use std::sync::Arc;

use cove_content::volumes::{Call, Edited, EntryView, NewVolume, Restore, VolumeError};
use cove_types::{ErrorKind, TreePath, VolumeName};

use crate::capture::Asked;
use crate::in_making::{Making, Thing};
use crate::in_use::refuse_mounts;
use crate::node::{Inner, Node};
use crate::serve::lookup::find_view;
use crate::serve::waiting::{blocking, whoever_waits};
use crate::volume::{Turn, Volume};
use crate::work::Work;
use crate::{capture, files};

impl Node {
    /// Takes the names that volumes are to have, until what is given is dropped: they are theirs from a call's arrival
    /// on, however long it has to fetch, because a Hub that was started meanwhile knows nothing of it and would have
    /// a second volume of the name made.
    ///
    /// # Errors
    ///
    /// A conflict where one of that name is being made or is there under another id.
    pub(super) fn take_names<'a>(
        &self,
        targets: impl IntoIterator<Item = &'a NewVolume>,
    ) -> Result<Making, VolumeError> {
        let names = targets.into_iter().filter_map(|new| Some((new.spec.name.as_ref()?, new)));
        let names: Vec<(&VolumeName, &NewVolume)> = names.collect();
        let things = names.iter().map(|(name, _)| Thing::Name((*name).clone())).collect();
        let taken = self.inner.in_making.begin_now(things);
        let taken =
            taken.map_err(|_| taken_name("another call is making a volume of this name"))?;
        if names.is_empty() {
            return Ok(taken);
        }
        for volume in self.inner.all_volumes() {
            let is_called = {
                let state = volume.state();
                let is_live = !state.will_be_deleted() && !state.will_be_trashed();
                let is_it = |(name, new): &(&VolumeName, &NewVolume)| {
                    state.name() == Some(*name) && new.volume != volume.id
                };
                is_live && names.iter().any(is_it)
            };
            // one that is deleted is taken out before the work that deletes it leaves the queue
            if is_called && self.inner.find_volume(&volume.id).is_some() {
                return Err(taken_name(&format!("volume {} has this name", volume.id)));
            }
        }
        Ok(taken)
    }

    /// What became of an operation under this id before.
    pub(super) async fn asked(
        &self,
        volume: &Arc<Volume>,
        call: &Call,
    ) -> Result<Asked, VolumeError> {
        let (inner, volume, call) = (Arc::clone(&self.inner), Arc::clone(volume), call.clone());
        blocking(move || capture::asked(&inner, &volume, &call)).await
    }

    /// Captures a change of the head alone in its turn, although whoever waits for it goes away.
    pub(super) async fn change(
        &self,
        call: Call,
        volume: &Arc<Volume>,
        work: Work,
    ) -> Result<Asked, VolumeError> {
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        whoever_waits(async move {
            let turn = volume.turn().await;
            blocking(move || capture::change(&inner, &volume, &call, work, turn)).await
        })
        .await
    }

    /// Captures that a volume goes to the trash or comes back, as [`change`](Self::change) does.
    pub(super) async fn change_trashed(
        &self,
        call: Call,
        volume: &Arc<Volume>,
        trashed: bool,
    ) -> Result<Asked, VolumeError> {
        let (node, volume) = (self.clone(), Arc::clone(volume));
        whoever_waits(async move {
            let turn = volume.turn().await;
            if trashed {
                // what was to be saved first may have waited for long, and somebody have mounted it meanwhile
                node.refuse_mounted(&volume, &call).await?;
            }
            let work = Work::SetTrashed { trashed };
            blocking(move || capture::change(&node.inner, &volume, &call, work, turn)).await
        })
        .await
    }

    /// Captures what was written before this call, for whoever needs it in the store.
    pub(super) async fn look_at(&self, volume: &Arc<Volume>) -> Result<(), VolumeError> {
        let turn = volume.turn().await;
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || capture::look_at_one(&inner, &volume, turn)).await
    }

    /// Refuses to move a volume to the trash that somebody has mounted. One that lies there, or is on its way, is as
    /// good.
    pub(super) async fn refuse_mounted(
        &self,
        volume: &Arc<Volume>,
        call: &Call,
    ) -> Result<(), VolumeError> {
        let is_asked = !matches!(self.asked(volume, call).await?, Asked::New);
        if is_asked || volume.state().will_be_trashed() {
            return Ok(());
        }
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || refuse_mounts(&*inner.pool, &volume.id, "", "")).await
    }

    /// Extracts an archive, all of it or nothing. However long its stream takes, the turn to capture is
    /// taken only when it has ended.
    pub(super) async fn extract(
        &self,
        volume: &Arc<Volume>,
        path: TreePath,
        mut stream: Box<dyn Read + Send>,
    ) -> Result<Edited, VolumeError> {
        let (inner, of) = (Arc::clone(&self.inner), Arc::clone(volume));
        let staged = blocking(move || files::stage(&inner, &of, path, &mut *stream)).await?;
        let turn = volume.turn().await;
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || {
            let merged = files::merge(&inner, &volume, &staged, turn);
            volume.state().changes.edited();
            merged
        })
        .await
    }

    /// Prepares a restore, for which the store may be asked, and carries it out in its turn.
    pub(super) async fn restore_by<T: Send + 'static>(
        &self,
        volume: &Arc<Volume>,
        call: Call,
        restore: Restore,
        prepare: impl FnOnce(&Arc<Inner>, &Arc<Volume>, &Call, &Restore) -> Result<T, VolumeError>
        + Send
        + 'static,
        carry_out: impl FnOnce(
            &Arc<Inner>,
            &Arc<Volume>,
            &Call,
            &Restore,
            T,
            Turn,
        ) -> Result<Asked, VolumeError>
        + Send
        + 'static,
    ) -> Result<Asked, VolumeError> {
        let (inner, of, asked, wanted) =
            (Arc::clone(&self.inner), Arc::clone(volume), call.clone(), restore.clone());
        let prepared = self.asking(move || prepare(&inner, &of, &asked, &wanted)).await?;
        let making = self.inner.in_making.begin([Thing::Operation(call.operation)]).await;
        let turn = volume.turn().await;
        let (inner, volume) = (Arc::clone(&self.inner), Arc::clone(volume));
        blocking(move || {
            let _making = making;
            carry_out(&inner, &volume, &call, &restore, prepared, turn)
        })
        .await
    }

    /// The entry that holds the state before a restore, which is under way or has ended; none where it is in a list
    /// that the store does not give now.
    pub(super) async fn state_before(
        &self,
        volume: &Arc<Volume>,
        call: &Call,
        asked: &Asked,
    ) -> Option<EntryView> {
        let ended = |asked: &Asked| match asked {
            Asked::Ended(ended) => ended.entry,
            Asked::New | Asked::Pending(_) => None,
        };
        let expected = ended(asked).unwrap_or_else(|| volume.state().entry_before(&call.operation));
        if let Ok(view) = find_view(volume, &expected) {
            return Some(view);
        }
        // it has ended since it was looked for in the queue, or its entry is one of the older ones
        let again = self.asked(volume, call).await.ok();
        let told = again.as_ref().and_then(ended).unwrap_or(expected);
        self.known_entry(volume, &told).await.ok()?;
        find_view(volume, &told).ok()
    }
}

fn taken_name(why: &str) -> VolumeError {
    VolumeError::Refused { kind: ErrorKind::Conflict, what: why.to_owned() }
}
