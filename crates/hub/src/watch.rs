//! What is seen of volumes, told to whoever reads.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cove_types::VolumeId;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::HubError;
use crate::hub::Inner;
use crate::volume_hub::{VolumeEvent, VolumeReport};

/// How often volumes are looked at while somebody reads.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// All volumes as they were last told.
type Reports = BTreeMap<VolumeId, VolumeReport>;

/// One reader. It looks only when it is read, so one that is slow is told less often, and one that is gone costs
/// nothing.
struct Watch {
    inner: Arc<Inner>,
    ending: watch::Receiver<bool>,
    looks: Interval,
    told: Option<Reports>,
    events: VecDeque<VolumeEvent>,
    has_ended: bool,
}

/// The volumes, and then what has changed at each look. Ends with the Hub, or with the first look that fails.
pub(crate) fn watch(inner: Arc<Inner>) -> BoxStream<'static, Result<VolumeEvent, HubError>> {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ending = inner.ending.subscribe();
    let (told, events) = (None, VecDeque::new());
    let watch = Watch { inner, ending, looks, told, events, has_ended: false };
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
                looked = look(&mut self.looks, &self.inner) => looked,
            };
            match looked {
                Ok(now) => {
                    self.events.extend(changes(self.told.as_ref(), &now));
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

async fn look(looks: &mut Interval, inner: &Inner) -> Result<Reports, HubError> {
    looks.tick().await;
    inner.reports().await
}

/// What tells somebody who was told `before` what is `now`.
fn changes(before: Option<&Reports>, now: &Reports) -> Vec<VolumeEvent> {
    let known = |id: &VolumeId| before.and_then(|before| before.get(id));
    let changed = now.iter().filter(|(id, report)| known(id) != Some(*report));
    let mut events: Vec<VolumeEvent> =
        changed.map(|(_, report)| VolumeEvent::Changed(Box::new(report.clone()))).collect();
    match before {
        None => events.push(VolumeEvent::Listed),
        Some(before) => {
            let gone = before.keys().filter(|id| !now.contains_key(*id));
            events.extend(gone.cloned().map(VolumeEvent::Deleted));
        }
    }
    events
}
