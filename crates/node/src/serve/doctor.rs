//! What is well and what is not on this node.

use cove_objects::Location;
use cove_types::wire;

use crate::claim::Holding;
use crate::node::Inner;

pub(crate) fn doctor(inner: &Inner) -> Vec<wire::Check> {
    let check = |name: &str, result: Result<String, String>, hint: &str| match result {
        Ok(what) => wire::Check { name: name.into(), ok: true, what, hint: None },
        Err(what) => {
            wire::Check { name: name.into(), ok: false, what, hint: Some(hint.to_owned()) }
        }
    };
    let space = inner.pool.space().map_err(|error| crate::node::chain(&error));
    let room = space.and_then(|space| {
        let what = format!("{} of {} MiB are free", space.free >> 20, space.total >> 20);
        if space.free < space.total / 20 { Err(what) } else { Ok(what) }
    });
    let flushed = inner
        .pool
        .flush()
        .map(|()| "writes reach the disk".to_owned())
        .map_err(|error| crate::node::chain(&error));
    let place = match inner.remote.store().location() {
        Location::ThisDisk => "this disk".to_owned(),
        Location::Url(url) => url,
    };
    let store = match inner.holding() {
        Holding::Held => Ok(format!("{place} answers and is held by this cove")),
        Holding::HeldByAnother { age_seconds, .. } => {
            Err(format!("{place} is held by another cove{}", crate::claim::last_seen(age_seconds)))
        }
        Holding::Unknown { why } => Err(format!("{place} does not answer: {why}")),
    };
    let waiting: usize = inner.all_volumes().iter().map(|volume| volume.state().queue.len()).sum();
    let saved = if waiting == 0 {
        Ok("everything that was captured is saved".to_owned())
    } else {
        Err(format!("{waiting} changes wait to be saved"))
    };
    vec![
        check("pool room", room, "remove what is not needed, or give the pool more room"),
        check("pool writes", flushed, "look at the disk and at the kernel's log"),
        check("object store", store, "check the address and the keys, or run `cove recover`"),
        check("saving", saved, "`cove show NAME` says why"),
    ]
}
