//! A walk over the trees of a volume that goes on after what is lost.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use cove_types::{Classify, Digest, ErrorKind, PackId, chain};

use super::VerifyError;
use super::hits::{Fault, Hits};
use crate::chunks::{ChunkError, Chunks, Located};
use crate::root::Root;
use crate::tree::{self, Content, Item, Key, Node, Nodes, Parts, Value, Xattrs};

/// How many nodes are fetched together.
const AHEAD: usize = 16;

/// Checks trees one after another; what they share is checked once.
pub(super) struct Walk<'a> {
    stored: &'a Chunks,
    remembered: &'a Chunks,
    /// Packs that were read and are not whole.
    damaged: &'a HashMap<PackId, Fault>,
    /// Nodes below which nothing is wrong.
    clean: HashSet<Digest>,
    /// Chunks that are where they must be, with their lengths where these are said.
    good: HashSet<Good>,
    bad: HashMap<Wanted, Fault>,
}

/// A chunk that an item names, with its length where the item says it.
type Wanted = (Digest, Option<u64>);

/// So many bytes of a digest tell chunks apart in memory: to find two that share them takes some 2^80 attempts.
const TOLD_BYTES: usize = 20;
/// The beginning of a chunk's digest, and its length or zeros: there are as many of them as chunks.
type Good = [u8; TOLD_BYTES + 4];

/// How a chunk is remembered that is well; `None` for a length that no chunk has.
fn good((digest, bytes): &Wanted) -> Option<Good> {
    let bytes = u32::try_from(bytes.unwrap_or(0)).ok()?;
    let mut good = [0; TOLD_BYTES + 4];
    let (told, length) = good.split_at_mut(TOLD_BYTES);
    told.copy_from_slice(&digest.0[..TOLD_BYTES]);
    length.copy_from_slice(&bytes.to_le_bytes());
    Some(good)
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        stored: &'a Chunks,
        remembered: &'a Chunks,
        damaged: &'a HashMap<PackId, Fault>,
    ) -> Self {
        let (clean, good, bad) = (HashSet::new(), HashSet::new(), HashMap::new());
        Self { stored, remembered, damaged, clean, good, bad }
    }

    /// How many distinct chunks were looked up.
    pub(super) fn chunks(&self) -> u64 {
        (self.good.len() + self.bad.len()) as u64
    }

    /// What is wrong with the tree of a state.
    pub(super) fn tree(&mut self, root: &Root) -> Result<Hits, VerifyError> {
        let mut hits = Hits::default();
        match Node::read(self.stored, &root.tree) {
            Ok(node) if node.level() == root.level && node.counts() == root.counts => {
                self.node(node, &root.tree, &Key::all().end, &mut hits)?;
            }
            Ok(_) => hits.add(&Fault::new("the tree is not what the state says of it"), None),
            Err(error) => self.lost(error, &root.tree, &Key::all(), &mut hits)?,
        }
        Ok(hits)
    }

    /// A chunk that belongs to a state beside its tree.
    pub(super) fn part(
        &mut self,
        what: &str,
        digest: &Digest,
        hits: &mut Hits,
    ) -> Result<(), VerifyError> {
        let wanted = (*digest, None);
        self.look(&[wanted])?;
        if let Some(fault) = self.bad.get(&wanted) {
            let object = fault.object.clone();
            hits.add(&Fault { what: format!("{what}: {}", fault.what), object }, None);
        }
        Ok(())
    }

    /// Checks what is below a node; whether all of it is well.
    fn node(
        &mut self,
        node: Node,
        digest: &Digest,
        end: &Key,
        hits: &mut Hits,
    ) -> Result<bool, VerifyError> {
        let level = node.level();
        let is_clean = match node.into_parts() {
            Parts::Items(items) => self.leaf(&items, hits)?,
            Parts::Children(children) => {
                let mut is_clean = true;
                for (number, child) in children.iter().enumerate() {
                    if number % AHEAD == 0 {
                        let ahead = children[number..].iter().take(AHEAD);
                        let ahead = ahead.map(|child| child.digest);
                        let ahead: Vec<_> =
                            ahead.filter(|digest| !self.clean.contains(digest)).collect();
                        self.stored.prefetch(&ahead);
                    }
                    if self.clean.contains(&child.digest) {
                        continue;
                    }
                    let end = children.get(number + 1).map_or(end, |next| &next.key);
                    is_clean &= match Node::read_child(self.stored, child, level - 1) {
                        Ok(node) => self.node(node, &child.digest, end, hits)?,
                        Err(error) => {
                            let keys = child.key.clone()..end.clone();
                            self.lost(error, &child.digest, &keys, hits)?;
                            false
                        }
                    };
                }
                is_clean
            }
        };
        if is_clean {
            self.clean.insert(*digest);
        }
        Ok(is_clean)
    }

    fn leaf(&mut self, items: &[Item], hits: &mut Hits) -> Result<bool, VerifyError> {
        let mut decoded = Vec::with_capacity(items.len());
        let mut is_clean = true;
        for item in items {
            match item.clone().decode() {
                Ok((parts, value)) => decoded.push((parts.path, chunks_of_value(&value))),
                Err(error) => {
                    hits.add(
                        &Fault::new(format!("an item of the tree is not of its form: {error}")),
                        None,
                    );
                    is_clean = false;
                }
            }
        }
        let wanted: Vec<Wanted> =
            decoded.iter().flat_map(|(_, wanted)| wanted.iter().copied()).collect();
        self.look(&wanted)?;
        for (path, wanted) in &decoded {
            for fault in wanted.iter().filter_map(|wanted| self.bad.get(wanted)) {
                hits.add(fault, Some(path));
                is_clean = false;
            }
        }
        Ok(is_clean)
    }

    fn is_good(&self, wanted: &Wanted) -> bool {
        good(wanted).is_some_and(|good| self.good.contains(&good))
    }

    /// Sees where chunks are, all at once.
    fn look(&mut self, wanted: &[Wanted]) -> Result<(), VerifyError> {
        let unknown: Vec<Wanted> = wanted
            .iter()
            .filter(|wanted| !self.is_good(wanted) && !self.bad.contains_key(*wanted))
            .copied()
            .collect();
        let digests: Vec<Digest> = unknown.iter().map(|(digest, _)| *digest).collect();
        let located = self.stored.locate_all(&digests)?;
        for (wanted, place) in unknown.into_iter().zip(located) {
            match self.fault(&wanted, place)? {
                None => self.good.extend(good(&wanted)),
                Some(fault) => {
                    self.bad.insert(wanted, fault);
                }
            }
        }
        Ok(())
    }

    /// What is wrong with a chunk that has this place.
    fn fault(
        &self,
        (digest, bytes): &Wanted,
        place: Located,
    ) -> Result<Option<Fault>, VerifyError> {
        let place = match place {
            Ok(Some(place)) => place,
            Ok(None) => return Ok(Some(Fault::new("content lies in no location"))),
            Err(damage) => return Ok(Some(Fault::of(&damage))),
        };
        if bytes.is_some_and(|bytes| u64::from(place.row.bytes) != bytes) {
            let object = Some(self.stored.remote().pack_key(&place.pack).to_string());
            let what = "content has another length than the tree says".to_owned();
            return Ok(Some(Fault { what, object }));
        }
        let Some(fault) = self.damaged.get(&place.pack) else { return Ok(None) };
        // not all that lies in a damaged pack is hit
        match self.stored.chunk(digest) {
            Ok(_) => Ok(None),
            Err(error) if error.is_damage() => Ok(Some(fault.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Names what is below a node that is not there, as far as this node remembers it.
    fn lost(
        &mut self,
        error: tree::ReadError,
        digest: &Digest,
        keys: &Range<Key>,
        hits: &mut Hits,
    ) -> Result<(), VerifyError> {
        if error.kind() != ErrorKind::Corrupt {
            return Err(VerifyError::new(error));
        }
        let object = match &error {
            tree::ReadError::Source { source, .. } => {
                source.downcast_ref::<ChunkError>().and_then(ChunkError::object)
            }
            _ => None,
        };
        let mut paths = Vec::new();
        for item in tree::range(self.remembered, digest, Key::all()) {
            let Ok((parts, _)) = item.map_err(drop).and_then(|item| item.decode().map_err(drop))
            else {
                break;
            };
            paths.push(parts.path);
        }
        let what = format!("a part of the tree is lost: {}", chain(&error));
        let what = match (paths.is_empty(), keys.start.parse(), keys.end.parse()) {
            (false, _, _) => what,
            (true, Ok(from), Ok(to)) => {
                format!("{what}; it is what comes from {} on before {}", from.path, to.path)
            }
            (true, Ok(from), Err(_)) => format!("{what}; it is what comes from {} on", from.path),
            (true, Err(_), Ok(to)) => format!("{what}; it is what comes before {}", to.path),
            (true, Err(_), Err(_)) => format!("{what}; it is all of it"),
        };
        let fault = Fault { what, object };
        hits.add(&fault, None);
        paths.iter().for_each(|path| hits.add(&fault, Some(path)));
        Ok(())
    }
}

/// The chunks that an item names.
fn chunks_of_value(value: &Value) -> Vec<Wanted> {
    let mut found = Vec::new();
    match value {
        Value::Entry(entry) => {
            if let Content::File { size, chunk: Some(digest), .. } = &entry.content {
                found.push((*digest, Some(*size)));
            }
            if let Xattrs::Chunk(digest) = &entry.xattrs {
                found.push((*digest, None));
            }
        }
        Value::Chunks(list) => found.extend(
            list.chunks()
                .filter(|(_, _, digest)| !digest.is_hole())
                .map(|(_, bytes, digest)| (digest, Some(bytes))),
        ),
    }
    found
}
