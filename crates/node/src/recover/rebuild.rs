//! Volumes whose heads are lost, from what their packs record.
//!
//! A head is lost when the store says that it is not there, or when what is there was read twice, was the
//! same both times, and is damaged. One that a newer version wrote is not, nor one that the store does
//! not give. The lost volume is never written again: what its newest record tells becomes another one. Where
//! this machine remembers the head and has the files, [the same head](super::anew) is put again instead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use cove_btrfs::SubvolumePath;
use cove_content::chunks::{ChunkError, Chunks};
use cove_content::document::ForkedFrom;
use cove_content::gather::gather;
use cove_content::head::{Head, HeadObject, Nonce, OlderEntries, RootFrame, Stamp};
use cove_content::locations::{IndexRef, Locations};
use cove_content::rebuild::{self, Heads, Record, Remains};
use cove_content::volumes::{Progress, Rebuilt};
use cove_objects::{ReadError, Version};
use cove_types::{Classify, ErrorKind, IndexId, PackId, ProjectId, VolumeId, chain, wire};

use crate::claim::Holding;
use crate::node::Inner;
use crate::recover::anew::{Anew, put_anew, remembered};
use crate::recover::lost::Subject;
use crate::recover::{Recovered, Recovery, list_heads, said};
use crate::save::{chunks_of, put_head};

/// How many indexes are asked at once which packs they cover.
const INDEXES_AT_ONCE: usize = 8;

/// How many packs are listed at once: some 15 MB, and 100 requests of S3. Less costs more where each page is a
/// look through all names, as in a directory.
pub(super) const PACKS_AT_ONCE: usize = 100_000;

/// What the heads in the store name.
#[derive(Default)]
pub(super) struct Seen {
    own: Named,
    /// The same of projects that were forked, whose heads name packs of their sources too.
    of_forks: Named,
    projects: HashSet<ProjectId>,
    sources: HashSet<ProjectId>,
}

#[derive(Default)]
struct Named {
    packs: HashSet<PackId>,
    indexes: HashMap<IndexId, IndexRef>,
}

impl Seen {
    pub fn add(&mut self, head: &Head) {
        let source = source(head);
        let named = match source {
            Some(_) => &mut self.of_forks,
            None => &mut self.own,
        };
        named.packs.extend(head.locations.packs.iter().map(|pack| pack.id));
        named.indexes.extend(head.locations.indexes.iter().map(|index| (index.id, *index)));
        self.projects.insert(head.project.clone());
        self.sources.extend(source.map(|source| source.project.clone()));
    }

    /// Those that name no pack of a lost volume. A fork names packs of its source: when no
    /// source is missing, nobody's is lost.
    fn trusted(&self) -> Vec<&Named> {
        match self.has_all_sources() {
            true => vec![&self.own, &self.of_forks],
            false => vec![&self.own],
        }
    }

    fn has_all_sources(&self) -> bool {
        self.sources.is_subset(&self.projects)
    }

    /// Whether a record, of a volume that is not lost, names no pack of one that is. That of a fork, which may be
    /// deleted by now, names packs of its source, of which it is to be known that its head is there.
    fn trusts(&self, record: &Head) -> bool {
        source(record)
            .is_none_or(|source| self.projects.contains(&source.project) && self.has_all_sources())
    }
}

/// What a head's project was forked from.
fn source(head: &Head) -> Option<&ForkedFrom> {
    head.document.as_ref().and_then(|document| document.forked_from.as_ref())
}

/// What a look through the packs has to know.
struct Known<'a> {
    inner: &'a Inner,
    seen: &'a Seen,
    named: HashSet<&'a VolumeId>,
    damaged: &'a BTreeMap<VolumeId, Damaged>,
    /// The packs that the indexes cover which the heads name, once they were asked for.
    covered: Option<HashSet<PackId>>,
}

/// Why it is not known what packs record.
struct Unlooked(String);

impl From<ReadError> for Unlooked {
    fn from(error: ReadError) -> Self {
        Self(chain(&error))
    }
}

impl Heads for Known<'_> {
    type Error = Unlooked;

    fn retain_unnamed(&mut self, packs: &mut Vec<(PackId, u64)>) -> Result<(), Unlooked> {
        let trusted = self.seen.trusted();
        packs.retain(|(id, _)| trusted.iter().all(|named| !named.packs.contains(id)));
        if packs.is_empty() {
            return Ok(());
        }
        let covered = match self.covered.take() {
            Some(covered) => covered,
            None => covered(self.inner, &trusted).map_err(|error| Unlooked(chain(&error)))?,
        };
        packs.retain(|(id, _)| !covered.contains(id));
        self.covered = Some(covered);
        Ok(())
    }

    fn is_lost(&self, id: &VolumeId) -> bool {
        !self.named.contains(id) || self.damaged.contains_key(id)
    }

    fn is_trusted(&self, record: &Head) -> bool {
        self.seen.trusts(record)
    }
}

/// The packs that indexes cover. Costs what their tables cost.
fn covered(inner: &Inner, named: &[&Named]) -> Result<HashSet<PackId>, ChunkError> {
    let indexes: Vec<IndexRef> =
        named.iter().flat_map(|named| named.indexes.values()).copied().collect();
    let mut covered = HashSet::new();
    for indexes in indexes.chunks(INDEXES_AT_ONCE) {
        let locations = Locations { indexes: indexes.to_vec(), packs: Vec::new() };
        let packs = chunks_of(inner, &locations).packs()?.packs;
        covered.extend(packs.into_iter().map(|(id, _)| id));
    }
    Ok(covered)
}

/// Refuses to make volumes in a store that another Cove has taken meanwhile.
fn refuse_foreign(inner: &Inner) -> Result<(), String> {
    match inner.holding() {
        Holding::HeldByAnother { .. } => Err("another Cove has taken the store".into()),
        Holding::Held | Holding::Unknown { .. } => Ok(()),
    }
}

/// A head that is there and cannot be read.
pub(super) struct Damaged {
    pub subject: Subject,
    pub why: String,
}

/// What lies under the key of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Whole,
    Missing,
    /// Bytes that are no head; `None` when there are more than any head has.
    Damaged(Option<(Bytes, Version)>),
    /// The store did not give it, or a newer version wrote it.
    Unknown(String),
}

/// What became of a lost volume.
enum Made {
    /// Another one, as it was at a time.
    Now(Rebuilt),
    /// A recovery before this one has made it.
    Before(VolumeId),
    /// No pack of it that can be read records anything.
    Nothing,
    /// Its head is there after all.
    NotLost,
}

impl Recovery {
    /// Looks for volumes whose heads are lost, makes others of what their packs record, and names them.
    ///
    /// Costs a list of all packs, page by page, and what [`rebuild::look`] reads of those that no head names:
    /// what was rewritten, and what was written in vain. When the source of a fork is missing, also of those
    /// that forks name. Recovered volumes may be used and changed meanwhile; interrupted, nothing was made, and
    /// the next recovery begins at the first pack again.
    ///
    /// The head of a new volume comes first; whoever is interrupted then finds it as any other.
    pub(crate) fn look_for_lost(mut self, progress: &Progress) -> Recovered {
        let inner = Arc::clone(&self.inner);
        let remains = self.remains(progress);
        // what comes now is a recovery as any other
        let _only = inner.recovering.blocking_lock();
        let remains = remains.and_then(|remains| {
            let is_remembered = || !remembered(&inner, &self.named, &self.damaged).is_empty();
            if !remains.is_empty() || is_remembered() {
                // what others have taken, made or brought back meanwhile
                refuse_foreign(&inner)?;
                self.named = list_heads(&inner).map_err(|error| chain(&error))?;
            }
            Ok(remains)
        });
        let mut damaged = std::mem::take(&mut self.damaged);
        let named = &*std::mem::take(&mut self.named);
        let remains = match remains {
            Ok(mut remains) => {
                // what becomes of them has other ids, and what cannot be read is named below
                let is_gone = |id: &&VolumeId| !named.contains(id) || damaged.contains_key(*id);
                let unread = inner.unread().clone();
                unread.iter().filter(is_gone).for_each(|id| inner.give_up(id));
                self.put_remembered(&mut remains, &mut damaged, named);
                remains
            }
            Err(why) => {
                let what = "projects whose heads are lost, if there are any".to_owned();
                self.recovered.lost.push(wire::Lost { what, why });
                BTreeMap::new()
            }
        };
        for (id, remains) in &remains {
            let was_damaged = damaged.remove(id);
            let harm = was_damaged.as_ref().map(|damaged| damaged.why.as_str());
            let harm = harm.unwrap_or("its head is missing in the store");
            let made = self.made(id, remains, named);
            let subject = was_damaged.as_ref().map(|damaged| damaged.subject.clone());
            let newest = remains.newest().map(|record| &record.head);
            let told = newest.map_or_else(
                || Subject::unknown(id),
                |head| Subject::new(id, head.document.as_ref(), &head.spec),
            );
            let subject = subject.unwrap_or(told);
            let why = match &made {
                Ok(Made::Now(Rebuilt { volume, recorded_at, .. })) => format!(
                    "{harm}; its state of {recorded_at:.0}, the newest that its packs record, is volume \
                     {volume} now"
                ),
                Ok(Made::Before(volume)) if was_damaged.is_some() => made_before(harm, volume),
                Ok(Made::Before(_)) => continue,
                Ok(Made::Nothing) => {
                    format!("{harm}, and no pack that can be read records what it was")
                }
                Ok(Made::NotLost) => {
                    // it was read wrongly before; of one that came meanwhile nothing is to be said
                    if was_damaged.is_some() {
                        let volume = self.volume(id);
                        self.recovered.volumes.extend(volume);
                    }
                    continue;
                }
                Err(why) => format!("{harm}, and it was not made from its packs: {why}"),
            };
            self.recovered.lost.push(subject.lost(why));
            if let Ok(Made::Now(rebuilt)) = made {
                let volume = self.volume(&rebuilt.volume);
                self.recovered.volumes.extend(volume);
                self.recovered.rebuilt.push(rebuilt);
            }
        }
        damaged.append(&mut self.damaged);
        for (id, Damaged { subject, why }) in damaged {
            // all of its packs are named by what was made of it
            let why = match before(&id, named) {
                Some((_, volume)) => made_before(&why, volume),
                None => why,
            };
            self.recovered.lost.push(subject.lost(why));
        }
        self.recovered
    }

    /// Puts the heads again that this machine remembers, and takes their volumes from what is lost.
    fn put_remembered(
        &mut self,
        remains: &mut BTreeMap<VolumeId, Remains>,
        damaged: &mut BTreeMap<VolumeId, Damaged>,
        named: &[VolumeId],
    ) {
        let inner = Arc::clone(&self.inner);
        for (volume, known) in remembered(&inner, named, damaged) {
            let id = &volume.id;
            let subject = Subject::new(id, known.head.document.as_ref(), &known.head.spec);
            let anew = put_anew(&inner, &volume, &known, remains.get(id));
            if let Ok(Anew::Newer { waiting }) = &anew {
                // what others recorded becomes another volume; what waits here is in the files
                remains.entry(id.clone()).and_modify(|remains| remains.leave_out(waiting));
                continue;
            }
            remains.remove(id);
            let was_damaged = damaged.remove(id);
            match anew {
                // of one that came meanwhile nothing is to be said
                Ok(Anew::NotLost) if was_damaged.is_none() => {}
                Ok(Anew::NotLost | Anew::Newer { .. }) => {
                    let volume = self.volume(id);
                    self.recovered.volumes.extend(volume);
                }
                Ok(Anew::Put(rebuilt, gone)) => {
                    self.recovered.rebuilt.push(rebuilt);
                    let volume = self.volume(id);
                    self.recovered.volumes.extend(volume);
                    let lost = gone.map(|gone| {
                        let why = format!(
                            "{gone}; what is in the files here is put again with the next save, and \
                             `cove verify --level 2` names the entries that are hit"
                        );
                        subject.lost_part("what it had saved", why)
                    });
                    self.recovered.lost.extend(lost);
                }
                Err(why) => {
                    let harm = was_damaged.map(|damaged| damaged.why);
                    let harm = harm.as_deref().unwrap_or("its head is missing in the store");
                    let why = format!("{harm}, and it was not put again: {why}");
                    self.recovered.lost.push(subject.lost(why));
                }
            }
        }
    }

    /// What packs tell of volumes that are lost.
    fn remains(&self, progress: &Progress) -> Result<BTreeMap<VolumeId, Remains>, String> {
        let mut known = Known {
            inner: &self.inner,
            seen: &self.seen,
            named: self.named.iter().collect(),
            damaged: &self.damaged,
            covered: None,
        };
        let found = rebuild::look(&self.inner.remote, &mut known, PACKS_AT_ONCE, progress);
        found.map_err(|Unlooked(why)| format!("it could not be read what the packs record: {why}"))
    }

    /// Makes another volume of what is left of one, unless that was done.
    fn made(&self, id: &VolumeId, remains: &Remains, named: &[VolumeId]) -> Result<Made, String> {
        let inner = &*self.inner;
        match found(inner, id) {
            Found::Whole => return Ok(Made::NotLost),
            Found::Unknown(why) => return Err(why),
            Found::Missing if named.contains(id) => {
                return Err("the store lists its head and does not give it".into());
            }
            Found::Missing | Found::Damaged(_) => {}
        }
        let is_readable = |record: &Record, locations: &Locations| match chunks_of(inner, locations)
            .chunk(&record.head.now.tree)
        {
            Ok(_) => Ok(true),
            Err(error) if error.is_lasting() => Ok(false),
            Err(error) => Err(error),
        };
        let chosen = remains.choose(is_readable).map_err(|error: ChunkError| chain(&error))?;
        let state = chosen.map(|record| (record.head.epoch, record.head.seq));
        if let Some((of, volume)) = before(id, named)
            && state.is_none_or(|state| of >= state)
        {
            return Ok(Made::Before(volume.clone()));
        }
        let Some(record) = chosen else { return Ok(Made::Nothing) };
        let locations = remains.locations(record);
        let chunks = chunks_of(inner, &locations);
        let stamp = Stamp { time: inner.env.now(), nonce: Nonce(inner.env.random()) };
        let mut head = rebuild::head(&record.head, locations, inner.options.node.clone(), stamp);
        head.root_frame = root_frame(&chunks, &head);
        let head =
            gather(&chunks, head, &inner.env, inner.options.pin).map_err(|error| chain(&error))?;
        let volume = head.volume.clone();
        put_head(inner, &volume, None, head, OlderEntries::default(), None).map_err(said)?;
        tracing::warn!(lost = %id, %volume, "a lost head was made anew from packs, as another volume");
        Ok(Made::Now(Rebuilt { lost: id.clone(), volume, recorded_at: record.head.time }))
    }
}

/// The newest volume that was made of a lost one, and of which state: its name tells, also when it is
/// deleted by now.
fn before<'a>(lost: &VolumeId, named: &'a [VolumeId]) -> Option<((u64, u32), &'a VolumeId)> {
    named.iter().filter_map(|other| Some((other.rebuilt_from(lost)?, other))).max()
}

fn made_before(why: &str, volume: &VolumeId) -> String {
    format!("{why}; volume {volume} was made from its packs")
}

/// Whether the files of a volume are here, and this node knows whose they are.
pub(super) fn has_files(inner: &Inner, id: &VolumeId) -> bool {
    let place = SubvolumePath::Volume(id.clone());
    inner.find_volume(id).is_some() && inner.pool.find(&place).is_ok_and(|found| found.is_some())
}

/// What two looks at a head agree on.
pub(super) fn found(inner: &Inner, id: &VolumeId) -> Found {
    let key = inner.remote.head_key(id);
    let look = || match inner.remote.get(&key) {
        Ok(object) => match HeadObject::decode_of(id, &object.bytes) {
            Ok(_) => Found::Whole,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                Found::Damaged(Some((object.bytes, object.version)))
            }
            Err(error) => Found::Unknown(chain(&error)),
        },
        Err(ReadError::NotFound { .. }) => Found::Missing,
        Err(ReadError::TooLong { .. }) => Found::Damaged(None),
        Err(error) => Found::Unknown(chain(&error)),
    };
    agreed(look(), look())
}

/// What is believed after two looks: a head that either has seen is there, and one is lost only when both say
/// so in the same way.
fn agreed(first: Found, second: Found) -> Found {
    match (first, second) {
        (Found::Whole, _) | (_, Found::Whole) => Found::Whole,
        (Found::Unknown(why), _) | (_, Found::Unknown(why)) => Found::Unknown(why),
        (first, second) if first == second => first,
        _ => Found::Unknown("it reads otherwise each time".into()),
    }
}

/// Where the first node of a head's present tree lies.
fn root_frame(chunks: &Chunks, head: &Head) -> Option<RootFrame> {
    let place = chunks.locate(&head.now.tree).ok().flatten()?;
    let (pack, row) = (place.pack, place.row);
    Some(RootFrame { pack, offset: row.frame_offset, bytes: row.frame_bytes })
}

#[cfg(test)]
mod tests;
