//! Saving changes.

use anyhow::{Context, Result};
use serde_json::Value;

use super::order;
use crate::edit::{SMALL_CHANGE, change};
use crate::measure::{Goal, Measure, Unit};
use crate::sample::Sample;
use crate::world::{CORPUS, Holder, World};

/// What a snapshot says of itself, in milliseconds.
pub fn told(entry: &Value, field: &str) -> Result<f64> {
    entry["entry"][field].as_f64().with_context(|| format!("a snapshot says no {field}: {entry}"))
}

/// The small change, beside others and with its requests.
pub fn measure(world: &mut World) -> Result<()> {
    world.restic()?;
    world.snapshot_source()?;
    let (mut saved, mut command) = (Sample::default(), Sample::default());
    let (mut pipeline, mut restic) = (Sample::default(), Sample::default());
    let short_reps = world.extent.short_reps;
    for repetition in 0..short_reps {
        let holder = world.local.as_ref().context("it holds the corpus")?;
        change(&holder.files, &world.corpus.files, SMALL_CHANGE, repetition as u64)?;
        let is_beside = repetition < world.extent.reps;
        if is_beside {
            world.snapshot_source()?;
        }
        crate::machine::flush(&world.pool.mount)?;
        for contender in order(if is_beside { 3 } else { 1 }, repetition) {
            match contender {
                0 => {
                    let holder = world.local.as_ref().context("it holds the corpus")?;
                    let (took, entry) = holder.cove.call(&["snapshot", CORPUS])?;
                    command.add(took);
                    saved.add(told(&entry, "saved_ms")?);
                }
                1 => {
                    let (source, parent) = (world.own("source"), world.own("previous"));
                    pipeline.add(world.pipeline.store("change", &source, Some(&parent))?);
                }
                _ => {
                    let source = world.own("source").join("files");
                    restic.add(world.restic()?.store(&source)?);
                }
            }
        }
    }
    world.add(
        Measure::new("small change, saved in a directory", Unit::Ms, saved)
            .beside("pipeline -p", pipeline.clone())
            .beside("restic", restic.clone())
            .goal(Goal::AtMost(60.0)),
    );
    world.add(
        Measure::new("small change, whole command", Unit::Ms, command)
            .beside("pipeline -p", pipeline)
            .beside("restic", restic),
    );
    counted(world)
}

/// The same in a bucket, where requests are counted.
fn counted(world: &mut World) -> Result<()> {
    world.remote()?;
    let Some(Holder { cove, files }) = world.remote.take() else { return Ok(()) };
    let bucket = world.bucket.as_ref().context("the Cove has a bucket")?;
    let cove = cove.restart("1h", bucket.variables(true))?;
    let (mut saved, mut requests) = (Sample::default(), Sample::default());
    let mut unchanged = Sample::default();
    for repetition in 0..world.extent.short_reps {
        change(&files, &world.corpus.files, SMALL_CHANGE, repetition as u64)?;
        bucket.door.take();
        let (_, entry) = cove.call(&["snapshot", CORPUS])?;
        saved.add(told(&entry, "saved_ms")?);
        requests.add(bucket.door.take().len() as f64);
        cove.call(&["snapshot", CORPUS])?;
        unchanged.add(bucket.door.take().len() as f64);
    }
    world.remote = Some(Holder { cove, files });
    world.add(Measure::new("small change, saved on S3", Unit::Ms, saved));
    world.add(
        Measure::new("small change, requests", Unit::Requests, requests).goal(Goal::AtMost(2.0)),
    );
    world.add(
        Measure::new("snapshot of an unchanged state, requests", Unit::Requests, unchanged)
            .goal(Goal::AtMost(1.0)),
    );
    Ok(())
}

/// Cost against the number of files that changed.
pub fn curve(world: &mut World) -> Result<()> {
    world.local()?;
    for count in [1, 10, 100, 1_000, 10_000] {
        if count * 2 > world.corpus.files.len() {
            break;
        }
        let (mut saved, mut changed) = (Sample::default(), 0);
        for repetition in 0..world.extent.reps.max(3) {
            let holder = world.local()?;
            let root = holder.files.clone();
            let seed = (count * 100 + repetition) as u64;
            changed = change(&root, &world.corpus.files, (count, SMALL_CHANGE.1), seed)?;
            crate::machine::flush(&world.pool.mount)?;
            let (_, entry) = world.local()?.cove.call(&["snapshot", CORPUS])?;
            saved.add(told(&entry, "saved_ms")?);
        }
        world.add(Measure::new(format!("{changed} files changed, saved"), Unit::Ms, saved));
    }
    Ok(())
}
