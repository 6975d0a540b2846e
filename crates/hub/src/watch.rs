//! What is seen of volumes, told to whoever reads.
//!
//! One look serves all who watch: whoever is to be told next takes what another has seen since, and looks itself
//! where nobody has. So the nodes are asked once a second, however many watch, and nobody looks while nobody reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cove_content::volumes::VolumeError;
use cove_types::{Classify, ErrorKind, VolumeId, chain};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until};

use crate::HubError;
use crate::hub::Inner;
use crate::volume_hub::{VolumeEvent, VolumeReport};

/// How often volumes are looked at while somebody reads.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All volumes as they were seen. Of two looks, those that are alike are the same in memory.
type Reports = BTreeMap<VolumeId, Arc<VolumeReport>>;

/// What one look has seen.
struct Seen {
    /// Which look it was.
    number: u64,
    /// When it began.
    at: Instant,
    /// The same as of the look before, where nothing has changed.
    reports: Arc<Reports>,
}

/// The looks of all who watch. What the last one has seen is kept as long as somebody was told it.
#[derive(Default)]
pub(crate) struct Looks {
    /// How many have begun.
    begun: AtomicU64,
    last: Mutex<Option<Last>>,
}

/// How the last look ended.
enum Last {
    Seen(Weak<Seen>),
    /// For whoever waited for it: nobody waits once more for a node that does not answer.
    Failed {
        number: u64,
        kind: ErrorKind,
        what: String,
        why: String,
    },
}

impl Looks {
    /// What a look has seen that began after look `than`; looks where there was none.
    async fn newer(&self, than: u64, inner: &Inner) -> Result<Arc<Seen>, HubError> {
        let mut last = self.last.lock().await;
        let before = match &*last {
            Some(Last::Seen(seen)) => seen.upgrade(),
            Some(Last::Failed { number, kind, what, why }) if *number > than => {
                let source = VolumeError::Refused { kind: *kind, what: why.clone() };
                return Err(HubError::Volumes { what: what.clone(), source });
            }
            Some(Last::Failed { .. }) | None => None,
        };
        if let Some(seen) = before.as_ref().filter(|seen| seen.number > than) {
            return Ok(Arc::clone(seen));
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let at = Instant::now();
        match inner.reports().await {
            Ok(now) => {
                let reports = shared(before.map(|before| Arc::clone(&before.reports)), now);
                let seen = Arc::new(Seen { number, at, reports });
                *last = Some(Last::Seen(Arc::downgrade(&seen)));
                Ok(seen)
            }
            Err(error) => {
                let (what, why) = match &error {
                    HubError::Volumes { what, source } => (what.clone(), chain(source)),
                    other => ("list the volumes".to_owned(), chain(other)),
                };
                *last = Some(Last::Failed { number, kind: error.kind(), what, why });
                Err(error)
            }
        }
    }
}

/// What is seen `now`, with the reports of `before` in place of those that are alike, and `before` itself where all are.
fn shared(before: Option<Arc<Reports>>, now: BTreeMap<VolumeId, VolumeReport>) -> Arc<Reports> {
    let Some(before) = before else {
        return Arc::new(now.into_iter().map(|(id, report)| (id, Arc::new(report))).collect());
    };
    let mut is_same = before.len() == now.len();
    let now = now.into_iter().map(|(id, report)| {
        let alike = before.get(&id).filter(|known| ***known == report);
        is_same &= alike.is_some();
        let report = alike.map_or_else(|| Arc::new(report), Arc::clone);
        (id, report)
    });
    let now: Reports = now.collect();
    if is_same { before } else { Arc::new(now) }
}

/// One reader. It asks only when it is read, so one that is slow is told less often, and one that is gone costs
/// nothing.
struct Watch {
    inner: Arc<Inner>,
    ending: watch::Receiver<bool>,
    /// The last look that had begun when it came.
    came: u64,
    told: Option<Arc<Seen>>,
    events: VecDeque<VolumeEvent>,
    has_ended: bool,
}

/// The volumes, and then what has changed at each look. Ends with the Hub, or with the first look that fails.
pub(crate) fn watch(inner: Arc<Inner>) -> BoxStream<'static, Result<VolumeEvent, HubError>> {
    let ending = inner.ending.subscribe();
    let came = inner.looks.begun.load(Ordering::SeqCst);
    let (told, events) = (None, VecDeque::new());
    let watch = Watch { inner, ending, came, told, events, has_ended: false };
    stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) }).boxed()
}

impl Watch {
    async fn next(&mut self) -> Option<Result<VolumeEvent, HubError>> {
        loop {
            if self.has_ended {
                return None;
            }
            if let Some(event) = self.events.pop_front() {
                return Some(Ok(event));
            }
            let looked = tokio::select! {
                biased;
                // when there is no sender left, nobody stops it either
                Ok(_) = self.ending.wait_for(|ending| *ending) => {
                    Err(HubError::stopping("watch the volumes"))
                }
                looked = look(&self.inner, self.came, self.told.as_deref()) => looked,
            };
            match looked {
                Ok(now) => {
                    let before = self.told.as_ref().map(|told| &*told.reports);
                    self.events.extend(changes(before, &now.reports));
                    self.told = Some(now);
                }
                Err(error) => {
                    self.has_ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// What is seen after what was told: a second later, or, where nothing was, of after the reader came.
async fn look(inner: &Inner, came: u64, told: Option<&Seen>) -> Result<Arc<Seen>, HubError> {
    if let Some(told) = told {
        sleep_until(told.at + LOOK_EVERY).await;
    }
    inner.looks.newer(told.map_or(came, |told| told.number), inner).await
}

/// What tells somebody who was told `before` what is `now`. Costs nothing where nothing has changed.
fn changes(before: Option<&Reports>, now: &Reports) -> Vec<VolumeEvent> {
    if before.is_some_and(|before| std::ptr::eq(before, now)) {
        return Vec::new();
    }
    let known = |id: &VolumeId| before.and_then(|before| before.get(id));
    let is_known =
        |id, report| known(id).is_some_and(|known| Arc::ptr_eq(known, report) || known == report);
    let changed = now.iter().filter(|(id, report)| !is_known(id, report));
    let mut events: Vec<VolumeEvent> = changed
        .map(|(_, report)| VolumeEvent::Changed(Box::new(VolumeReport::clone(report))))
        .collect();
    match before {
        None => events.push(VolumeEvent::Listed),
        Some(before) => {
            let gone = before.keys().filter(|id| !now.contains_key(*id));
            events.extend(gone.cloned().map(VolumeEvent::Deleted));
        }
    }
    events
}
