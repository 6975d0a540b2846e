//! Cost against the size of the volume.

use anyhow::{Context, Result};
use serde_json::json;

use super::change::told;
use crate::edit::change;
use crate::measure::{Measure, Unit};
use crate::sample::Sample;
use crate::world::{CORPUS, World};

/// Files that are changed before each save.
const CHANGED: usize = 10;

/// The sizes besides that of the corpus, in files.
pub fn all(world: &World) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        [1_000, 10_000].into_iter().filter(|size| *size < world.corpus.files.len()).collect();
    if world.extent.full {
        sizes.push(1_000_000);
    }
    sizes
}

/// The project of a size.
pub fn name(files: usize) -> String {
    format!("size-{files}")
}

/// Makes the project of a size, saved as `full`, unless it is there.
pub fn make(world: &mut World, files: usize) -> Result<String> {
    let name = name(files);
    let cove = &world.local()?.cove;
    if cove.call(&["show", &name]).is_ok() {
        return Ok(name);
    }
    let root = cove.create(&name)?;
    cove.call(&["snapshot", &name, "--label", "empty"])?;
    let mut left = files;
    for copy in 0.. {
        let some = left.min(world.corpus.files.len());
        if some == 0 {
            break;
        }
        // The first copy has the paths of the corpus; its files are those that are changed.
        let target = if copy == 0 { root.clone() } else { root.join(format!("copy-{copy}")) };
        std::fs::create_dir_all(&target)?;
        world.corpus.clone_into(&target, some, &world.scratch.0)?;
        left -= some;
    }
    let cove = &world.local()?.cove;
    cove.call(&["snapshot", &name, "--label", "full"])?;
    for label in ["empty", "full"] {
        cove.call(&["pin", &format!("{name}@{label}")])?;
    }
    Ok(name)
}

pub fn measure(world: &mut World) -> Result<()> {
    for size in all(world) {
        let name = make(world, size)?;
        line(world, &name, size)?;
    }
    line(world, CORPUS, world.corpus.files.len())
}

fn line(world: &mut World, project: &str, size: usize) -> Result<()> {
    let (mut captured, mut saved, mut fork) =
        (Sample::default(), Sample::default(), Sample::default());
    let (_, shown) = world.local()?.cove.call(&["show", project])?;
    let root = shown["project"]["path"].as_str().context("a project has no directory")?.to_owned();
    for repetition in 0..world.extent.short_reps.min(10) {
        let files = &world.corpus.files[..size.min(world.corpus.files.len())];
        change(root.as_ref(), files, (CHANGED, 4096), 7_000 + repetition as u64)?;
        let holder = world.local()?;
        let (_, entry) = holder.cove.call(&["snapshot", project])?;
        captured.add(told(&entry, "captured_ms")?);
        saved.add(told(&entry, "saved_ms")?);
        let mut connection = holder.cove.connect()?;
        let call = format!("/v1/projects/{project}/fork?wait_ms=60000");
        let body = json!({ "as": format!("curve-{size}-{repetition}") });
        fork.add(connection.call("POST", &call, &body)?.0);
    }
    for (what, sample) in [("captured", captured), ("saved", saved), ("fork", fork)] {
        let name = format!("{size} files, {CHANGED} changed: {what}");
        world.add(Measure::new(name, Unit::Ms, sample));
    }
    Ok(())
}
