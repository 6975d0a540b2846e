//! Replies in steps: how far a call is, the parts of what it came to, and the marks after which they are whole.

use cove_content::volumes::{EntryView, FoundLost, Restored, Snapshot, VolumeStatus};
use cove_types::wire;

use crate::field::{FieldError, json, wire_json};
use crate::pb;

/// A step of a reply.
pub(crate) enum Step<P> {
    /// How far it is; of calls that are made together, which.
    Progress(usize, wire::Progress),
    /// The next part.
    Part(P),
    /// What the parts since the mark before are.
    Mark(i32),
}

/// A message that is one step.
pub(crate) trait Reply: prost::Message + Default + Sized + 'static {
    /// A step that is a part.
    type Part: Send + 'static;

    /// How far the call is; of calls that are made together, the one at `index`.
    fn progress(index: usize, progress: wire::Progress) -> Self;

    /// What the parts before are.
    fn mark(mark: pb::Mark) -> Self;

    /// The next part.
    fn part(part: Self::Part) -> Self;

    /// The step; none when it is one that a newer node knows.
    fn step(self) -> Option<Step<Self::Part>>;
}

macro_rules! replies {
    ($($reply:ident in $module:ident),+ $(,)?) => { $(
        impl Reply for pb::$reply {
            type Part = pb::$module::Step;

            fn progress(_: usize, progress: wire::Progress) -> Self {
                Self { step: Some(pb::$module::Step::Progress(progress.into())) }
            }

            fn mark(mark: pb::Mark) -> Self {
                Self { step: Some(pb::$module::Step::Mark(mark.into())) }
            }

            fn part(part: Self::Part) -> Self {
                Self { step: Some(part) }
            }

            fn step(self) -> Option<Step<Self::Part>> {
                let step = self.step?;
                if let pb::$module::Step::Mark(mark) = step {
                    return Some(Step::Mark(mark));
                }
                if let pb::$module::Step::Progress(progress) = step {
                    return Some(Step::Progress(0, progress.into()));
                }
                Some(Step::Part(step))
            }
        }
    )+ };
}

replies! {
    CreateResponse in create_response,
    ForkResponse in fork_response,
    SnapshotResponse in snapshot_response,
    RestoreResponse in restore_response,
    EditEntryResponse in edit_entry_response,
    DescribeResponse in describe_response,
    SpecifyResponse in specify_response,
    SetTrashedResponse in set_trashed_response,
    DeleteResponse in delete_response,
    RemoveEntryResponse in remove_entry_response,
    RecoverResponse in recover_response,
}

impl Reply for pb::SnapshotTogetherResponse {
    type Part = pb::snapshot_together_response::Step;

    fn progress(index: usize, progress: wire::Progress) -> Self {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let progress = pb::TogetherProgress { index, progress: Some(progress.into()) };
        Self { step: Some(Self::Part::Progress(progress)) }
    }

    fn mark(mark: pb::Mark) -> Self {
        Self { step: Some(Self::Part::Mark(mark.into())) }
    }

    fn part(part: Self::Part) -> Self {
        Self { step: Some(part) }
    }

    fn step(self) -> Option<Step<Self::Part>> {
        Some(match self.step? {
            Self::Part::Mark(mark) => Step::Mark(mark),
            Self::Part::Progress(pb::TogetherProgress { index, progress }) => {
                let index = usize::try_from(index).unwrap_or(usize::MAX);
                Step::Progress(index, progress?.into())
            }
            part => Step::Part(part),
        })
    }
}

/// What a call came to, in the parts of its reply.
pub(crate) trait Parts<R: Reply>: Sized {
    /// The parts, in order.
    fn parts(self) -> Result<Vec<R::Part>, FieldError>;

    /// What some parts are together.
    fn gather(parts: Vec<R::Part>) -> Result<Self, FieldError>;
}

/// Reads the one thing that has to be among some parts.
fn only<P, W, T: TryFrom<W, Error = FieldError>>(
    field: &str,
    parts: Vec<P>,
    is: impl FnMut(P) -> Option<W>,
) -> Result<T, FieldError> {
    let mut found = parts.into_iter().filter_map(is);
    let one = found.next().ok_or_else(|| FieldError::missing(field))?;
    if found.next().is_some() {
        return Err(FieldError::unlawful(field, "there is one"));
    }
    T::try_from(one).map_err(|error| error.within(field))
}

impl Parts<pb::CreateResponse> for (VolumeStatus, Vec<String>) {
    fn parts(self) -> Result<Vec<pb::create_response::Step>, FieldError> {
        use pb::create_response::Step;
        let (status, remarks) = self;
        let volume = Step::Volume(Box::new(status.try_into()?));
        Ok(std::iter::once(volume).chain(remarks.into_iter().map(Step::Remark)).collect())
    }

    fn gather(parts: Vec<pb::create_response::Step>) -> Result<Self, FieldError> {
        use pb::create_response::Step;
        let mut remarks = Vec::new();
        let volume = only("volume", parts, |part| match part {
            Step::Volume(volume) => Some(*volume),
            Step::Remark(remark) => {
                remarks.push(remark);
                None
            }
            Step::Progress(_) | Step::Mark(_) => None,
        })?;
        Ok((volume, remarks))
    }
}

impl Parts<pb::ForkResponse> for Vec<VolumeStatus> {
    fn parts(self) -> Result<Vec<pb::fork_response::Step>, FieldError> {
        let part = |status: VolumeStatus| {
            Ok(pb::fork_response::Step::Volume(Box::new(status.try_into()?)))
        };
        self.into_iter().map(part).collect()
    }

    fn gather(parts: Vec<pb::fork_response::Step>) -> Result<Self, FieldError> {
        let volumes = parts.into_iter().filter_map(|part| match part {
            pb::fork_response::Step::Volume(volume) => Some(VolumeStatus::try_from(*volume)),
            _ => None,
        });
        volumes.collect::<Result<_, _>>().map_err(|error| error.within("volume"))
    }
}

/// Replies that are one volume.
macro_rules! one_volume {
    ($($reply:ident in $module:ident),+ $(,)?) => { $(
        impl Parts<pb::$reply> for VolumeStatus {
            fn parts(self) -> Result<Vec<pb::$module::Step>, FieldError> {
                Ok(vec![pb::$module::Step::Volume(Box::new(self.try_into()?))])
            }

            fn gather(parts: Vec<pb::$module::Step>) -> Result<Self, FieldError> {
                only("volume", parts, |part| match part {
                    pb::$module::Step::Volume(volume) => Some(*volume),
                    _ => None,
                })
            }
        }
    )+ };
}

one_volume! {
    DescribeResponse in describe_response,
    SpecifyResponse in specify_response,
    SetTrashedResponse in set_trashed_response,
}

/// Replies without parts.
macro_rules! nothing {
    ($($reply:ident),+ $(,)?) => { $(
        impl Parts<pb::$reply> for () {
            fn parts(self) -> Result<Vec<<pb::$reply as Reply>::Part>, FieldError> {
                Ok(Vec::new())
            }

            fn gather(_: Vec<<pb::$reply as Reply>::Part>) -> Result<Self, FieldError> {
                Ok(())
            }
        }
    )+ };
}

nothing!(DeleteResponse, RemoveEntryResponse);

impl Parts<pb::EditEntryResponse> for EntryView {
    fn parts(self) -> Result<Vec<pb::edit_entry_response::Step>, FieldError> {
        Ok(vec![pb::edit_entry_response::Step::Entry(self.try_into()?)])
    }

    fn gather(parts: Vec<pb::edit_entry_response::Step>) -> Result<Self, FieldError> {
        only("entry", parts, |part| match part {
            pb::edit_entry_response::Step::Entry(entry) => Some(entry),
            _ => None,
        })
    }
}

impl Parts<pb::RestoreResponse> for Restored {
    fn parts(self) -> Result<Vec<pb::restore_response::Step>, FieldError> {
        let before = self.before.map(pb::Entry::try_from).transpose()?;
        Ok(before.into_iter().map(pb::restore_response::Step::Before).collect())
    }

    fn gather(parts: Vec<pb::restore_response::Step>) -> Result<Self, FieldError> {
        let before = parts.into_iter().find_map(|part| match part {
            pb::restore_response::Step::Before(entry) => Some(EntryView::try_from(entry)),
            _ => None,
        });
        let before = before.transpose().map_err(|error| error.within("before"))?;
        Ok(Self { before })
    }
}

/// A snapshot as its entry and those that it rolled off.
fn entries<P>(
    snapshot: Snapshot,
    entry: fn(pb::Entry) -> P,
    rolled_off: fn(pb::Entry) -> P,
) -> impl Iterator<Item = Result<P, FieldError>> {
    let first = std::iter::once(pb::Entry::try_from(snapshot.entry).map(entry));
    let rest = snapshot.rolled_off.into_iter();
    first.chain(rest.map(move |view| pb::Entry::try_from(view).map(rolled_off)))
}

/// Snapshots of the entries that begin each and those that they rolled off.
fn snapshots(
    entries: impl Iterator<Item = (bool, pb::Entry)>,
) -> Result<Vec<Snapshot>, FieldError> {
    let mut snapshots: Vec<Snapshot> = Vec::new();
    for (is_first, entry) in entries {
        let field = if is_first { "entry" } else { "rolled_off" };
        let entry = EntryView::try_from(entry).map_err(|error| error.within(field))?;
        match snapshots.last_mut() {
            _ if is_first => snapshots.push(Snapshot { entry, rolled_off: Vec::new() }),
            Some(last) => last.rolled_off.push(entry),
            None => return Err(FieldError::missing("entry")),
        }
    }
    Ok(snapshots)
}

impl Parts<pb::SnapshotResponse> for Snapshot {
    fn parts(self) -> Result<Vec<pb::snapshot_response::Step>, FieldError> {
        use pb::snapshot_response::Step;
        entries(self, Step::Entry, Step::RolledOff).collect()
    }

    fn gather(parts: Vec<pb::snapshot_response::Step>) -> Result<Self, FieldError> {
        use pb::snapshot_response::Step;
        let entries = parts.into_iter().filter_map(|part| match part {
            Step::Entry(entry) => Some((true, entry)),
            Step::RolledOff(entry) => Some((false, entry)),
            Step::Progress(_) | Step::Mark(_) => None,
        });
        let mut snapshots = snapshots(entries)?;
        match (snapshots.pop(), snapshots.pop()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(FieldError::missing("entry")),
            (Some(_), Some(_)) => Err(FieldError::unlawful("entry", "there is one")),
        }
    }
}

impl Parts<pb::SnapshotTogetherResponse> for Vec<Snapshot> {
    fn parts(self) -> Result<Vec<pb::snapshot_together_response::Step>, FieldError> {
        use pb::snapshot_together_response::Step;
        let parts = |snapshot| entries(snapshot, Step::Entry, Step::RolledOff);
        self.into_iter().flat_map(parts).collect()
    }

    fn gather(parts: Vec<pb::snapshot_together_response::Step>) -> Result<Self, FieldError> {
        use pb::snapshot_together_response::Step;
        snapshots(parts.into_iter().filter_map(|part| match part {
            Step::Entry(entry) => Some((true, entry)),
            Step::RolledOff(entry) => Some((false, entry)),
            Step::Progress(_) | Step::Mark(_) => None,
        }))
    }
}

/// What is here after a recovery, and what is lost. Before the look for others none of them are rebuilt.
impl Parts<pb::RecoverResponse> for FoundLost {
    fn parts(self) -> Result<Vec<pb::recover_response::Step>, FieldError> {
        use pb::recover_response::Step;
        let volumes = self.volumes.into_iter().map(|status| {
            let volume = pb::VolumeStatus::try_from(status)?;
            Ok(Step::Volume(Box::new(volume)))
        });
        let lost = self.lost.iter().map(|lost| wire_json("lost_json", lost).map(Step::LostJson));
        let rebuilt = self.rebuilt.into_iter().map(|rebuilt| Ok(Step::Rebuilt(rebuilt.into())));
        volumes.chain(lost).chain(rebuilt).collect()
    }

    fn gather(parts: Vec<pb::recover_response::Step>) -> Result<Self, FieldError> {
        use pb::recover_response::Step;
        let mut found = Self::default();
        for part in parts {
            match part {
                Step::Volume(volume) => {
                    let status = VolumeStatus::try_from(*volume);
                    found.volumes.push(status.map_err(|error| error.within("volume"))?);
                }
                Step::LostJson(lost) => found.lost.push(json("lost_json", &lost)?),
                Step::Rebuilt(rebuilt) => {
                    let rebuilt = rebuilt.try_into();
                    found
                        .rebuilt
                        .push(rebuilt.map_err(|error: FieldError| error.within("rebuilt"))?);
                }
                Step::Progress(_) | Step::Mark(_) => {}
            }
        }
        Ok(found)
    }
}
