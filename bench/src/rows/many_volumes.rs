//! What grows with the number of volumes: lists, starts and memory.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::order;
use super::volumes::{create, ensure_cached, on_each_store};
use crate::interrupt;
use crate::machine::{Memory, memory};
use crate::measure::{Goal, Measure, Unit};
use crate::program::Cove;
use crate::sample::Sample;
use crate::shell::milliseconds;
use crate::sockets::Sockets;
use crate::world::{World, say};

/// How many there are.
const MANY: usize = 1_000;

/// How long a Cove rests before its memory is looked at, in seconds: it gives back what it does not
/// need.
const REST_S: u32 = 10;

pub fn measure(world: &mut World) -> Result<()> {
    on_each_store(world, "many-volumes", many)
}

fn many(world: &mut World, cove: Cove, at: &str) -> Result<Cove> {
    let (cove, none) = start(cove, world.extent.reps, 0)?;
    let sockets = Sockets::open(&cove)?;
    say(&format!("  making {MANY} volumes, {at}"));
    let mut volumes = Vec::new();
    for n in 0..MANY {
        volumes.push(sockets.create(&format!("volume-{n}"), None, false)?.1);
    }
    for volume in &volumes {
        sockets.wait_saved(&volume.id)?;
    }
    list(world, &sockets, at)?;
    // What each costs that looks at all of them, or at one.
    create(world, &sockets, (&format!("Hub: create with {MANY} volumes"), at), None, None)?;
    let owner = format!("Hub: EnsureCached with {MANY} volumes");
    ensure_cached(world, &sockets, (&owner, at), None, &volumes[MANY / 2])?;
    let made = rested(&cove)?;
    drop(sockets);
    let (cove, started) = start(cove, world.extent.reps, MANY)?;
    let after = rested(&cove)?;
    world.add(
        Measure::new(format!("Hub: start with {MANY} volumes, {at}"), Unit::Ms, started)
            .note("with none", none)
            .goal(Goal::AtMost(5_000.0)),
    );
    let bytes = |memory: u64| Sample::one(memory as f64);
    world.add(
        Measure::new(
            format!("Hub: memory with {MANY} volumes, {at}"),
            Unit::Bytes,
            bytes(made.resident),
        )
        .note("while they were made, at most", bytes(made.most))
        .note("after a start", bytes(after.resident))
        .goal(Goal::AtMost((128 << 20).into())),
    );
    Ok(cove)
}

/// Ends it and starts it again, until it has listed so many volumes over its socket.
fn start(mut cove: Cove, times: usize, volumes: usize) -> Result<(Cove, Sample)> {
    let mut took = Sample::default();
    for _ in 0..times {
        let settings = cove.stop()?;
        let began = Instant::now();
        cove = Cove::start(settings)?;
        let (_, listed) = Sockets::open(&cove)?.list()?;
        took.add(milliseconds(began));
        ensure!(listed.len() == volumes, "there are {volumes} volumes, found {}", listed.len());
    }
    Ok((cove, took))
}

/// The memory of one that has nothing to do.
fn rested(cove: &Cove) -> Result<Memory> {
    for _ in 0..REST_S {
        interrupt::check()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    memory(cove.process())
}

fn list(world: &mut World, sockets: &Sockets, at: &str) -> Result<()> {
    let (mut ours, mut nothing) = (Sample::default(), Sample::default());
    for repetition in 0..world.extent.short_reps {
        for contender in order(2, repetition) {
            match contender {
                0 => {
                    let (took, listed) = sockets.list()?;
                    ensure!(listed.len() == MANY, "there are {MANY}, found {}", listed.len());
                    ours.add(took);
                }
                _ => nothing.add(sockets.nothing()?),
            }
        }
    }
    world.add(
        Measure::new(format!("Hub: list of {MANY} volumes, {at}"), Unit::Ms, ours)
            .note("empty call", nothing)
            .goal(Goal::AtMost(50.0)),
    );
    Ok(())
}
