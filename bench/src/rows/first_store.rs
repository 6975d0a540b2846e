//! The first store of a volume.

use std::fs;

use anyhow::{Context, Result};

use super::order;
use crate::machine::drop_caches;
use crate::measure::{Goal, Measure, Unit};
use crate::peers::Restic;
use crate::sample::Sample;
use crate::shell::{run, script};
use crate::world::{World, say, store};

/// The line whose others the store to S3 is compared with.
const COLD: &str = "first store to a directory, cold";
/// The line of how much it wrote.
pub const STORED: &str = "bytes in the store after the first";

/// What a contender took, by name.
#[derive(Default)]
struct Taken {
    local: Sample,
    remote: Sample,
    pipeline: Sample,
    restic: Sample,
}

pub fn measure(world: &mut World) -> Result<()> {
    let mut warm = Taken::default();
    let mut cold = Taken::default();
    for repetition in 0..world.extent.reps.div_ceil(2) {
        say(&format!("  warm, repetition {repetition}"));
        repeat(world, repetition, true, &mut warm)?;
    }
    for repetition in 0..world.extent.reps {
        say(&format!("  cold, repetition {repetition}"));
        repeat(world, repetition, false, &mut cold)?;
    }
    let line = |name, ours, taken: &Taken| {
        Measure::new(name, Unit::Ms, ours)
            .beside("pipeline", taken.pipeline.clone())
            .beside("restic", taken.restic.clone())
    };
    world.add(
        line(COLD, cold.local.clone(), &cold)
            .goal(Goal::ratios(&[("pipeline", 0.3), ("restic", 0.25)])),
    );
    world.add(
        line("first store to a directory, warm", warm.local.clone(), &warm)
            .goal(Goal::ratios(&[("restic", 0.2)])),
    );
    world.add(
        Measure::new("first store to S3, cold", Unit::Ms, cold.remote)
            .beside("pipeline", world.peer(COLD, "pipeline"))
            .goal(Goal::ratios(&[("pipeline", 0.35)])),
    );
    let stored = crate::machine::bytes_below(&world.local_objects())? as f64;
    let restic = world.restic.as_ref().context("restic has stored")?;
    let restic = crate::machine::bytes_below(&restic.repository)? as f64;
    let piped = world.pipeline.bytes("corpus")? as f64;
    world.add(
        Measure::new(STORED, Unit::Bytes, Sample::one(stored))
            .beside("pipeline", Sample::one(piped))
            .beside("restic", Sample::one(restic)),
    );
    Ok(())
}

/// Stores the corpus once with each, from nothing.
fn repeat(world: &mut World, repetition: usize, is_warm: bool, taken: &mut Taken) -> Result<()> {
    world.fill_local()?;
    if !is_warm {
        world.fill_remote()?;
    }
    // What another repetition left is not the parent of this one.
    world.restic = None;
    let repository = world.beside("restic");
    if repository.exists() {
        fs::remove_dir_all(&repository)?;
    }
    world.snapshot_source()?;
    world.pool.trim()?;
    let restic = Restic::init(&repository)?;
    let source = world.own("source");
    let files = source.join("files");
    let contenders = if is_warm { 3 } else { 4 };
    for contender in order(contenders, repetition) {
        if is_warm {
            let volume = &world.local.as_ref().context("it was just filled")?.files;
            let read = if contender == 0 { volume } else { &files };
            run(&mut script(r#"sync; tar -C "$1" -cf - . | cat >/dev/null"#, &[read]))?;
        } else {
            drop_caches()?;
        }
        match contender {
            0 => taken.local.add(store(world.local.as_ref())?),
            1 => taken.pipeline.add(world.pipeline.store("corpus", &source, None)?),
            2 => taken.restic.add(restic.store(&files)?),
            _ => taken.remote.add(store(world.remote.as_ref())?),
        }
    }
    world.restic = Some(restic);
    Ok(())
}
