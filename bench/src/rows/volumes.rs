//! Calls on volumes, over the sockets of the Volume Hub and the CSI driver.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use cove_hub::volume_hub::{Volume, VolumeSource};

use super::order;
use crate::edit;
use crate::machine::flush;
use crate::measure::{Goal, Measure, Unit};
use crate::mounts::{Mounts, bind, unbind};
use crate::program::Cove;
use crate::sample::Sample;
use crate::shell::{command, milliseconds, run, script, time};
use crate::sockets::Sockets;
use crate::world::{Bucket, World, say};

/// Files of a volume of which others are made.
const FILES: usize = 1_000;

/// Calls that take a millisecond, in each repetition.
const CALLS: usize = 10;

pub fn measure(world: &mut World) -> Result<()> {
    on_each_store(world, "volumes", calls)
}

/// Measures a Cove that begins on nothing, with a store in a directory and then in a bucket, of which
/// nothing is left.
pub(super) fn on_each_store(
    world: &mut World,
    name: &str,
    row: impl Fn(&mut World, Cove, &str) -> Result<Cove>,
) -> Result<()> {
    // What earlier rows have written is no part of the first call.
    flush(&world.pool.mount)?;
    let objects = world.beside(&format!("{name}-objects"));
    let cove = world.start(name, format!("file://{}", objects.display()), Vec::new())?;
    let cove = row(world, cove, "directory")?;
    cove.lose(|pool| world.pool.clear(pool))?;
    fs::remove_dir_all(objects)?;
    world.pool.trim()?;
    let bucket = Bucket::start()?;
    let cove = world.start(name, "s3://cove/bench".to_owned(), bucket.variables(false))?;
    let cove = row(world, cove, "S3")?;
    cove.lose(|pool| world.pool.clear(pool))?;
    world.pool.trim()
}

fn calls(world: &mut World, cove: Cove, at: &str) -> Result<Cove> {
    say(&format!("  {at}"));
    let sockets = Sockets::open(&cove)?;
    create(world, &sockets, ("Hub: create", at), Some(Goal::AtMost(15.0)), None)?;

    let files = FILES.min(world.corpus.files.len());
    let (_, source) = sockets.create("source", None, true)?;
    let template = sockets.create_template("template")?;
    for volume in [&source, &template] {
        world.corpus.clone_into(files_of(volume)?, files, &world.scratch.0)?;
        sockets.wait_saved(&volume.id)?;
    }
    let clone = format!("Hub: clone of {files} files");
    let begin = (VolumeSource::Volume(source.id.clone()), &source);
    create(world, &sockets, (&clone, at), Some(Goal::AtMost(20.0)), Some(begin))?;
    let of_template = format!("Hub: create from a template of {files} files");
    let begin = (VolumeSource::Template(template.name.clone()), &template);
    create(world, &sockets, (&of_template, at), Some(Goal::AtMost(20.0)), Some(begin))?;

    let (owner, goal) = ("Hub: EnsureCached of the owner", Some(Goal::AtMost(3.0)));
    ensure_cached(world, &sockets, (owner, at), goal, &source)?;
    snapshot(world, &sockets, at, &source)?;
    publish(world, &sockets, at, &source)?;
    for volume in [&source, &template] {
        sockets.delete(&volume.id)?;
    }
    Ok(cove)
}

/// The directory of a volume's files.
fn files_of(volume: &Volume) -> Result<&Path> {
    volume.path.as_deref().context("the volume is not on its node")
}

/// The subvolume, in which the files lie in a directory.
fn subvolume_of(volume: &Volume) -> Result<&Path> {
    files_of(volume)?.parent().context("a volume is in a directory")
}

/// New volumes, empty or as another is, beside a bare subvolume.
pub(super) fn create(
    world: &mut World,
    sockets: &Sockets,
    (name, at): (&str, &str),
    goal: Option<Goal>,
    begin: Option<(VolumeSource, &Volume)>,
) -> Result<()> {
    let (source, of) = begin.unzip();
    // The driver makes volumes as others are, and of templates none.
    let by_csi = !matches!(source, Some(VolumeSource::Template(_)));
    let [mut captured, mut saved, mut btrfs, mut csi]: [Sample; 4] = Default::default();
    let (mut volumes, mut bare) = (Vec::new(), Vec::new());
    for repetition in 0..world.extent.short_reps {
        for contender in order(if by_csi { 4 } else { 3 }, repetition) {
            let called = format!("made-{contender}-{repetition}");
            let made = match contender {
                0 => {
                    let (took, made) = sockets.create(&called, source.clone(), false)?;
                    captured.add(took);
                    made.id
                }
                1 => {
                    let (took, made) = sockets.create(&called, source.clone(), true)?;
                    saved.add(took);
                    made.id
                }
                2 => {
                    let target = world.own(&called);
                    btrfs.add(alone(of.map(subvolume_of).transpose()?, &target)?);
                    bare.push(target);
                    continue;
                }
                _ => {
                    let (took, made) = sockets.create_by_csi(&called, of.map(|of| &of.id))?;
                    csi.add(took);
                    made
                }
            };
            // What follows it is over before the next one.
            sockets.wait_saved(&made)?;
            volumes.push(made);
        }
    }
    for volume in &volumes {
        sockets.delete(volume)?;
    }
    world.pool.delete(&bare)?;
    world.pool.trim()?;
    let peer = if of.is_some() { "btrfs snapshot and sync" } else { "btrfs create and sync" };
    let line = Measure::new(format!("{name}, {at}"), Unit::Ms, captured)
        .note("until saved", saved)
        .note("CSI", csi)
        .beside(peer, btrfs);
    world.add(Measure { goal, ..line });
    Ok(())
}

/// A subvolume that is durable, without Cove: empty, or as another is.
fn alone(of: Option<&Path>, target: &Path) -> Result<f64> {
    match of {
        Some(of) => {
            let text = r#"btrfs -q subvolume snapshot "$1" "$2" && sync -f "$2""#;
            time(&mut script(text, &[of, target]))
        }
        None => {
            let text = r#"btrfs -q subvolume create "$1" && sync -f "$1""#;
            time(&mut script(text, &[target]))
        }
    }
}

/// Where a volume is, which is here, beside a call that does nothing.
pub(super) fn ensure_cached(
    world: &mut World,
    sockets: &Sockets,
    (name, at): (&str, &str),
    goal: Option<Goal>,
    volume: &Volume,
) -> Result<()> {
    let (mut ours, mut nothing) = (Sample::default(), Sample::default());
    for repetition in 0..world.extent.short_reps * CALLS {
        for contender in order(2, repetition) {
            match contender {
                0 => ours.add(sockets.ensure_cached(volume)?),
                _ => nothing.add(sockets.nothing()?),
            }
        }
    }
    let line = Measure::new(format!("{name}, {at}"), Unit::Ms, ours).beside("empty call", nothing);
    world.add(Measure { goal, ..line });
    Ok(())
}

/// Snapshots with 4 KiB changed before each.
fn snapshot(world: &mut World, sockets: &Sockets, at: &str, volume: &Volume) -> Result<()> {
    let [mut captured, mut saved, mut btrfs, mut csi]: [Sample; 4] = Default::default();
    let page = files_of(volume)?.join("bench-page");
    let mut bare = Vec::new();
    for repetition in 0..world.extent.short_reps {
        for contender in order(4, repetition) {
            edit::write(&page, &edit::text((4 * repetition + contender) as u64, 4096))?;
            let called = format!("point-{contender}-{repetition}");
            match contender {
                0 => captured.add(sockets.snapshot(&volume.id, &called, false)?),
                1 => saved.add(sockets.snapshot(&volume.id, &called, true)?),
                2 => {
                    let target = world.own(&called);
                    let text = r#"btrfs -q subvolume snapshot -r "$1" "$2" && sync -f "$2""#;
                    btrfs.add(time(&mut script(text, &[subvolume_of(volume)?, &target]))?);
                    bare.push(target);
                }
                _ => csi.add(sockets.snapshot_by_csi(&volume.id, &called)?),
            }
            sockets.wait_saved(&volume.id)?;
        }
    }
    world.pool.delete(&bare)?;
    world.pool.trim()?;
    world.add(
        Measure::new(format!("Hub: snapshot of 4 KiB, captured, {at}"), Unit::Ms, captured)
            .note("CSI", csi)
            .beside("btrfs snapshot and sync", btrfs)
            .goal(Goal::AtMost(15.0)),
    );
    world.add(
        Measure::new(format!("Hub: snapshot of 4 KiB, saved, {at}"), Unit::Ms, saved)
            .goal(Goal::AtMost(80.0)),
    );
    Ok(())
}

/// Mounts of a volume that is staged, beside bare ones of the same directory.
fn publish(world: &mut World, sockets: &Sockets, at: &str, volume: &Volume) -> Result<()> {
    let [mut ours, mut program, mut call]: [Sample; 3] = Default::default();
    let files = files_of(volume)?;
    let mounts = Mounts::make(world.beside("mounts"), &["staging", "target", "bare"])?;
    let (staging, target, bare) = (mounts.place(0)?, mounts.place(1)?, mounts.place(2)?);
    fs::create_dir(bare)?;
    for repetition in 0..world.extent.short_reps {
        for contender in order(3, repetition) {
            match contender {
                0 => {
                    sockets.stage(&volume.id, staging)?;
                    ours.add(sockets.publish(&volume.id, staging, target)?);
                    sockets.unpublish(&volume.id, target)?;
                }
                1 => {
                    program.add(time(command("mount", &["--bind"]).args([files, bare]))?);
                    run(command::<&str>("umount", &[]).arg(bare))?;
                }
                _ => {
                    let began = std::time::Instant::now();
                    bind(files, bare)?;
                    call.add(milliseconds(began));
                    unbind(bare)?;
                }
            }
        }
    }
    world.add(
        Measure::new(format!("CSI: NodePublish, {at}"), Unit::Ms, ours)
            .beside("mount --bind", program)
            .beside("mount(2)", call)
            .goal(Goal::AtMost(10.0)),
    );
    Ok(())
}
