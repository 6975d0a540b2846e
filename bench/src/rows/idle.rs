//! Nothing to save.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::interrupt;
use crate::machine::processor_ms;
use crate::measure::{Goal, Measure, Unit};
use crate::program::Cove;
use crate::sample::Sample;
use crate::world::{CORPUS, Holder, World};

/// How long nothing is done, in seconds; a look each second.
const IDLE_S: u32 = 12;

/// Processor time that a Cove takes while nothing happens, in milliseconds.
fn idle_ms(cove: &Cove) -> Result<f64> {
    // What a start does once is over by then.
    wait(3)?;
    let before = processor_ms(cove.process())?;
    wait(IDLE_S)?;
    Ok(processor_ms(cove.process())? - before)
}

fn wait(seconds: u32) -> Result<()> {
    for _ in 0..seconds {
        interrupt::check()?;
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

pub fn measure(world: &mut World) -> Result<()> {
    world.local()?;
    world.remote()?;
    let holder = world.local.take().context("it holds the corpus")?;
    let cove = holder.cove.restart("1h", Vec::new())?;
    let resting = idle_ms(&cove)?;
    let cove = cove.restart("1s", Vec::new())?;
    let looking = idle_ms(&cove)?;
    let cove = cove.restart("1h", Vec::new())?;
    let look = (looking - resting).max(0.0) / f64::from(IDLE_S);
    world.local = Some(Holder { cove, files: holder.files });
    world.add(
        Measure::new("look without change, processor time", Unit::Ms, Sample::one(look))
            .note("resting, a second", Sample::one(resting / f64::from(IDLE_S)))
            .goal(Goal::AtMost(10.0)),
    );

    let bucket = world.bucket.as_ref().context("the Cove has a bucket")?;
    let holder = world.remote.take().context("it holds the corpus")?;
    let cove = holder.cove.restart("1s", bucket.variables(true))?;
    // What was changed and is not saved yet is saved first.
    cove.call(&["wait", CORPUS])?;
    wait(3)?;
    bucket.door.take();
    wait(IDLE_S)?;
    let requests = bucket.door.take().len() as f64;
    let cove = cove.restart("1h", bucket.variables(true))?;
    world.remote = Some(Holder { cove, files: holder.files });
    world.add(
        Measure::new(
            format!("{IDLE_S} looks without change, requests"),
            Unit::Requests,
            Sample::one(requests),
        )
        .goal(Goal::AtMost(0.0)),
    );

    let (mut command, mut api) = (Sample::default(), Sample::default());
    let holder = world.local()?;
    let mut connection = holder.cove.connect()?;
    for _ in 0..10 {
        command.add(holder.cove.call(&["snapshot", CORPUS])?.0);
        let target = format!("/v1/projects/{CORPUS}/entries?wait_ms=60000");
        api.add(connection.call("POST", &target, &serde_json::json!({}))?.0);
    }
    world.add(
        Measure::new("snapshot of an unchanged state, API", Unit::Ms, api).note("command", command),
    );
    Ok(())
}
