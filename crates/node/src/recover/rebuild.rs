//! Volumes whose heads are lost, from what their packs record.
//!
//! A head is lost when the store says that it is not there, or when what is there was read twice, was the
//! same both times, and is damaged. One that a newer version wrote is not, nor one that the store does
//! not give. The lost volume is never written again: what its newest record tells becomes another one.

use std::collections::{BTreeMap, HashMap, HashSet};

use cove_btrfs::SubvolumePath;
use cove_content::chunks::{ChunkError, Chunks};
use cove_content::gather::gather;
use cove_content::head::{Head, HeadObject, Nonce, OlderEntries, RootFrame, Stamp};
use cove_content::locations::{IndexRef, Locations};
use cove_content::rebuild::{self, Record, Remains};
use cove_content::volumes::Rebuilt;
use cove_objects::ReadError;
use cove_types::{Classify, ErrorKind, IndexId, PackId, ProjectId, VolumeId, wire};

use crate::node::{Inner, chain};
use crate::recover::lost::Subject;
use crate::recover::{Recovery, said};
use crate::save::{chunks_of, put_head};

/// How many indexes are asked at once which packs they cover.
const INDEXES_AT_ONCE: usize = 8;

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
        let source = head.document.as_ref().and_then(|document| document.forked_from.as_ref());
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
        match self.sources.is_subset(&self.projects) {
            true => vec![&self.own, &self.of_forks],
            false => vec![&self.own],
        }
    }
}

/// A head that is there and cannot be read.
pub(super) struct Damaged {
    pub subject: Subject,
    pub why: String,
}

/// What lies under the key of a head.
enum Found {
    Whole,
    Missing,
    Damaged,
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

impl Recovery<'_> {
    /// Makes volumes of those whose heads are lost, and names them. `named` are those that have an object
    /// in the place of their head.
    ///
    /// Costs a list of the packs, and a look at the end of each that no head names: what was rewritten, and
    /// what was written in vain. When the source of a fork is missing, also at those that forks name.
    /// The head of the new volume comes first; whoever is interrupted then finds it as any other.
    pub(super) fn rebuild_lost(&mut self, named: &[VolumeId]) {
        let mut damaged = std::mem::take(&mut self.damaged);
        let remains = match self.remains(named, &damaged) {
            Ok(remains) => remains,
            Err(why) => {
                let what = "projects whose heads are lost, if there are any".to_owned();
                let why = format!("it could not be read what the packs record: {why}");
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
            let document = remains.newest().and_then(|record| record.head.document.as_ref());
            let subject = subject.unwrap_or_else(|| Subject::new(id, document));
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
    }

    /// What packs tell of volumes that are lost.
    fn remains(
        &self,
        named: &[VolumeId],
        damaged: &BTreeMap<VolumeId, Damaged>,
    ) -> Result<BTreeMap<VolumeId, Remains>, String> {
        let remote = &self.inner.remote;
        let mut packs = remote.packs().map_err(|error| chain(&error))?;
        let trusted = self.seen.trusted();
        packs.retain(|(id, _)| trusted.iter().all(|named| !named.packs.contains(id)));
        let indexes: Vec<IndexRef> =
            trusted.iter().flat_map(|named| named.indexes.values()).copied().collect();
        for indexes in indexes.chunks(INDEXES_AT_ONCE) {
            if packs.is_empty() {
                break;
            }
            let locations = Locations { indexes: indexes.to_vec(), packs: Vec::new() };
            let covered = chunks_of(self.inner, &locations).packs();
            let covered: HashSet<PackId> = covered
                .map_err(|error| chain(&error))?
                .packs
                .into_iter()
                .map(|(id, _)| id)
                .collect();
            packs.retain(|(id, _)| !covered.contains(id));
        }
        let named: HashSet<&VolumeId> = named.iter().collect();
        let is_lost = |id: &VolumeId| {
            (!named.contains(id) || damaged.contains_key(id)) && !has_files(self.inner, id)
        };
        rebuild::look(remote, &packs, is_lost).map_err(|error| chain(&error))
    }

    /// Makes another volume of what is left of one, unless that was done.
    fn made(&self, id: &VolumeId, remains: &Remains, named: &[VolumeId]) -> Result<Made, String> {
        let inner = self.inner;
        match found(inner, id) {
            Found::Whole => return Ok(Made::NotLost),
            Found::Unknown(why) => return Err(why),
            Found::Missing if named.contains(id) => {
                return Err("the store lists its head and does not give it".into());
            }
            Found::Missing | Found::Damaged => {}
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
fn has_files(inner: &Inner, id: &VolumeId) -> bool {
    let place = SubvolumePath::Volume(id.clone());
    inner.find_volume(id).is_some() && inner.pool.find(&place).is_ok_and(|found| found.is_some())
}

/// Looks at a head until two looks agree that it is damaged.
fn found(inner: &Inner, id: &VolumeId) -> Found {
    let key = inner.remote.head_key(id);
    let look = || match inner.remote.get(&key) {
        Ok(object) => match HeadObject::decode_of(id, &object.bytes) {
            Ok(_) => Err(Found::Whole),
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(object.bytes)),
            Err(error) => Err(Found::Unknown(chain(&error))),
        },
        Err(ReadError::NotFound { .. }) => Err(Found::Missing),
        // longer than any head, both times
        Err(ReadError::TooLong { .. }) => Ok(None),
        Err(error) => Err(Found::Unknown(chain(&error))),
    };
    match (look(), look()) {
        (Err(found), _) | (_, Err(found)) => found,
        (Ok(first), Ok(second)) if first == second => Found::Damaged,
        (Ok(_), Ok(_)) => Found::Unknown("it reads otherwise each time".into()),
    }
}

/// Where the first node of a head's present tree lies.
fn root_frame(chunks: &Chunks, head: &Head) -> Option<RootFrame> {
    let place = chunks.locate(&head.now.tree).ok().flatten()?;
    let (pack, row) = (place.pack, place.row);
    Some(RootFrame { pack, offset: row.frame_offset, bytes: row.frame_bytes })
}
