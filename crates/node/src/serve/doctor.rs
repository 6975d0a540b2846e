//! What is well and what is not on this node.

use cove_btrfs::SubvolumePath;
use cove_objects::Location;
use cove_types::{VolumeId, chain, wire};

use crate::claim::Holding;
use crate::node::Inner;
use crate::serve::pool::{self, PoolFault};

/// How long a change may be on its way to the store before that is a fault.
const SAVING_FOR_S: i64 = 60;

/// Whether each volume in use has its files here, and each subvolume its volume.
fn copies(inner: &Inner) -> Result<String, String> {
    let places = inner.pool.list().map_err(|error| chain(&error))?;
    let is_here = |id: &VolumeId| places.contains(&SubvolumePath::Volume(id.clone()));
    let mut missing = Vec::new();
    for volume in inner.all_volumes() {
        let state = volume.state();
        if state.is_live() && state.queue.is_empty() && !is_here(&volume.id) {
            let slug = state.document.as_ref().map(|document| document.slug.to_string());
            missing.push(slug.unwrap_or_else(|| volume.id.to_string()));
        }
    }
    let is_known = |id: &VolumeId| {
        inner.find_volume(id).is_some_and(|volume| {
            let state = volume.state();
            state.copy.is_some() || !state.queue.is_empty()
        })
    };
    let mut unknown = Vec::new();
    for place in &places {
        if let SubvolumePath::Volume(id) = place
            && !is_known(id)
        {
            unknown.push(id.to_string());
        }
    }
    let mut wrong = Vec::new();
    missing.sort_unstable();
    if !missing.is_empty() {
        wrong.push(format!("the files of {} are not on this machine", missing.join(", ")));
    }
    if !unknown.is_empty() {
        wrong.push(format!("nothing here knows whose files {} are", unknown.join(", ")));
    }
    if wrong.is_empty() {
        return Ok("all projects in use have their files on this machine".to_owned());
    }
    Err(wrong.join("; "))
}

/// Whether what is captured is saved within the time that this takes, and whether everything could be
/// captured that changed.
fn saving(inner: &Inner) -> Result<String, String> {
    let mut troubled = Vec::new();
    for volume in inner.all_volumes() {
        let state = volume.state();
        if let Some(trouble) = state.saving.as_ref().or(state.looking.as_ref()) {
            let slug = state.document.as_ref().map(|document| document.slug.to_string());
            let slug = slug.unwrap_or_else(|| volume.id.to_string());
            troubled.push(format!("{slug} is not saved: {}", trouble.what));
        }
    }
    troubled.sort_unstable();
    match troubled.as_slice() {
        [] => {}
        [one] => return Err(one.clone()),
        [first, others @ ..] => {
            return Err(format!("{first} (and {} more projects)", others.len()));
        }
    }
    let rows = inner.wait(inner.database.pending()).map_err(|error| chain(&error))?;
    let Some(oldest_us) = rows.iter().map(|row| row.created_us).min() else {
        return Ok("everything that was captured is saved".to_owned());
    };
    let waiting = match rows.len() {
        1 => "1 change".to_owned(),
        count => format!("{count} changes"),
    };
    match inner.now_us().saturating_sub(oldest_us) / 1_000_000 {
        age_s if age_s < SAVING_FOR_S => Ok(format!("{waiting} being saved")),
        age_s => Err(format!("{waiting} not saved yet, the oldest of {age_s} s ago")),
    }
}

pub(crate) fn doctor(inner: &Inner) -> Vec<wire::Check> {
    let check = |name: &str, result: Result<String, String>, hint: &str| match result {
        Ok(what) => wire::Check { name: name.into(), ok: true, what, hint: None },
        Err(what) => {
            wire::Check { name: name.into(), ok: false, what, hint: Some(hint.to_owned()) }
        }
    };
    let space = inner.pool.space();
    let fault = pool::fault_of(&space);
    let room = match (space, &fault) {
        (Ok(space), Some(PoolFault::Short(_))) => Err(pool::room(&space)),
        (Ok(_), Some(fault @ PoolFault::NoMetadata)) => Err(fault.what()),
        (Ok(space), _) => Ok(pool::room(&space)),
        (Err(error), _) => Err(chain(&error)),
    };
    let (flushed, flush_hint) = match fault {
        // a flush of such a pool has nothing to do, and succeeds
        Some(fault @ PoolFault::ReadOnly) => (Err(fault.what()), fault.hint()),
        _ => {
            let flushed = inner.pool.flush().map(|()| "writes reach the disk".to_owned());
            let hint = "look at the disk and at the kernel's log";
            (flushed.map_err(|error| chain(&error)), hint)
        }
    };
    let place = match inner.remote.store().location() {
        Location::ThisDisk => "this disk".to_owned(),
        Location::Url(url) => url,
    };
    let (holding, silent) = (inner.holding(), inner.silent());
    let store_hint = match holding {
        Holding::HeldByAnother { .. } => "run `cove recover` to take it over",
        Holding::Held | Holding::Unknown { .. } => "check the address, the bucket and the keys",
    };
    let store = match (holding, silent) {
        // what was answered at the claim says more than that nothing came since
        (Holding::Unknown { why }, _) => Err(format!("{place} cannot be used: {why}")),
        (_, Some((why, since))) => Err(format!("{place} does not answer since {since:.0}: {why}")),
        (Holding::Held, None) => Ok(format!("{place} answers and is held by this Cove")),
        (Holding::HeldByAnother { age_seconds, .. }, None) => {
            Err(format!("{place} is held by another Cove{}", crate::claim::last_seen(age_seconds)))
        }
    };
    let saved = saving(inner);
    let copies = copies(inner);
    let unread: Vec<String> = inner.unread().iter().map(ToString::to_string).collect();
    let heads = match unread.as_slice() {
        [] => Ok("what this machine remembers of its projects can be read".to_owned()),
        unread => Err(format!(
            "what this machine remembers of {} is damaged and not read from the store again yet",
            unread.join(", ")
        )),
    };
    let one = match inner.signs.another() {
        None => Ok("nobody else goes by this Cove's name".to_owned()),
        Some(_) => Err("another copy of this Cove holds the same store under the same name".into()),
    };
    vec![
        check("pool room", room, "remove what is not needed, or give the pool more room"),
        check("pool writes", flushed, flush_hint),
        check("object store", store, store_hint),
        check(
            "one copy",
            one,
            "stop one of the two, or give the other a home and a store of its own",
        ),
        check("files here", copies, "run `cove recover`: it takes nothing away"),
        check("node database", heads, "check the object store; it is asked again by itself"),
        check("saving", saved, "`cove show NAME` says why"),
    ]
}
