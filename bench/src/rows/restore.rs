//! A machine that was lost: the first read, and a whole restore.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{order, sizes};
use crate::corpus::spread;
use crate::machine::{drop_caches, flush};
use crate::measure::{Goal, Measure, Unit};
use crate::program::Cove;
use crate::sample::Sample;
use crate::shell::milliseconds;
use crate::world::{CORPUS, Holder, World, say};

/// A file of the first 1,000, which every size has, as large as source files are.
fn some_file(world: &World, nth: usize) -> Result<String> {
    let first = &world.corpus.files[..world.corpus.files.len().min(1_000)];
    let first: Vec<_> = first.iter().filter(|file| file.bytes <= 64 << 10).cloned().collect();
    let chosen = spread(&first, 5, 4096);
    let file = chosen.get(nth % chosen.len().max(1)).context("the corpus has no file of 4 KiB")?;
    Ok(file.path.display().to_string())
}

/// Loses the home of a Cove whose projects are empty now, and recovers it.
fn lose(world: &World, holder: Holder) -> Result<Holder> {
    let settings = holder.cove.lose(|pool| world.pool.clear(pool))?;
    world.pool.trim()?;
    let cove = Cove::start(settings)?;
    cove.call(&["recover", "--take"])?;
    let (_, shown) = cove.call(&["show", CORPUS])?;
    let files = shown["project"]["path"].as_str().context("a project has no directory")?.into();
    Ok(Holder { cove, files })
}

/// How long until a file, and a directory, of an entry is there that is not on the node.
fn first_reads(world: &World, cove: &Cove, project: &str, nth: usize) -> Result<[f64; 2]> {
    let path = some_file(world, nth)?;
    let (directory, _) = path.rsplit_once('/').unwrap_or(("", &path));
    drop_caches()?;
    let (cat, said) = cove.call(&["files", "cat", &format!("{project}@full:/{path}")])?;
    said["content"]["bytes"].as_u64().context("a file was read that has no size")?;
    let (list, _) = cove.call(&["files", "ls", &format!("{project}@full:/{directory}")])?;
    Ok([cat, list])
}

pub fn measure(world: &mut World) -> Result<()> {
    for size in sizes::all(world) {
        sizes::make(world, size)?;
    }
    if world.restic.is_none() || !world.pipeline.file("corpus").exists() {
        world.restic()?;
        world.pipeline.store("corpus", &world.own("source"), None)?;
    }
    let mut projects: Vec<(String, usize)> =
        sizes::all(world).into_iter().map(|size| (sizes::name(size), size)).collect();
    projects.push((CORPUS.to_owned(), world.corpus.files.len()));
    let mut reads: Vec<[Sample; 2]> = vec![Default::default(); projects.len()];
    let (mut ours, mut pipeline, mut restic) =
        (Sample::default(), Sample::default(), Sample::default());
    for repetition in 0..world.extent.reps {
        say(&format!("  repetition {repetition}"));
        let holder = world.local.take().context("it holds the corpus")?;
        for (project, _) in &projects {
            holder.cove.call(&["restore", project, "empty"])?;
        }
        let holder = lose(world, holder)?;
        for ((project, _), samples) in projects.iter().zip(&mut reads) {
            let both = first_reads(world, &holder.cove, project, repetition)?;
            samples[0].add(both[0]);
            samples[1].add(both[1]);
        }
        world.local = Some(holder);
        for contender in order(3, repetition) {
            drop_caches()?;
            match contender {
                0 => {
                    let began = Instant::now();
                    world.local()?.cove.call(&["restore", CORPUS, "full"])?;
                    flush(&world.pool.mount)?;
                    ours.add(milliseconds(began));
                }
                1 => {
                    let into = world.own("received");
                    std::fs::create_dir_all(&into)?;
                    pipeline.add(world.pipeline.restore("corpus", &into)?);
                    world.pool.delete(&[into.join("source")])?;
                }
                _ => {
                    let into = world.own("restored");
                    world.pool.create(&into)?;
                    restic.add(world.restic()?.restore(&into)?);
                    world.pool.delete(&[into])?;
                }
            }
            world.pool.trim()?;
        }
    }
    for size in sizes::all(world) {
        world.local()?.cove.call(&["restore", &sizes::name(size), "full"])?;
    }
    for ((_, size), [cat, list]) in projects.iter().zip(reads) {
        world.add(
            Measure::new(format!("first read of {size} files, directory"), Unit::Ms, cat)
                .note("then files ls", list)
                .goal(Goal::AtMost(300.0)),
        );
    }
    world.add(
        Measure::new("whole restore with syncfs, cold", Unit::Ms, ours)
            .beside("receive", pipeline)
            .beside("restic", restic)
            .goal(Goal::ratios(&[("receive", 0.4), ("restic", 0.4)])),
    );
    remote(world)
}

/// The first read from a bucket.
fn remote(world: &mut World) -> Result<()> {
    world.remote()?;
    let (mut cat, mut list, mut requests) =
        (Sample::default(), Sample::default(), Sample::default());
    for repetition in 0..world.extent.reps {
        let holder = world.remote.take().context("it holds the corpus")?;
        let bucket = world.bucket.as_ref().context("the Cove has a bucket")?;
        holder.cove.call(&["restore", CORPUS, "empty"])?;
        let holder = lose(world, holder)?;
        let cove = holder.cove.restart("1h", bucket.variables(true))?;
        bucket.door.take();
        let both = first_reads(world, &cove, CORPUS, repetition)?;
        requests.add(bucket.door.take().len() as f64);
        cat.add(both[0]);
        list.add(both[1]);
        world.remote = Some(Holder { cove, files: holder.files });
    }
    let size = world.corpus.files.len();
    world.add(
        Measure::new(format!("first read of {size} files, S3"), Unit::Ms, cat)
            .note("then files ls", list)
            .goal(Goal::AtMost(300.0)),
    );
    world.add(Measure::new("first read and ls on S3, requests", Unit::Requests, requests));
    Ok(())
}
