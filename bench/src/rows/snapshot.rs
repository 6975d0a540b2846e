//! Snapshots of a state of which little is new.

use anyhow::Result;
use serde_json::json;

use super::change::told;
use crate::edit;
use crate::measure::{Goal, Measure, Unit};
use crate::sample::Sample;
use crate::shell::{script, time};
use crate::world::{CORPUS, World};

pub fn measure(world: &mut World) -> Result<()> {
    let reps = world.extent.short_reps;
    let (mut captured, mut saved) = (Sample::default(), Sample::default());
    let (mut command, mut api) = (Sample::default(), Sample::default());
    let mut btrfs = Sample::default();
    world.local()?;
    for repetition in 0..reps {
        let target = world.own("one");
        let holder = world.local()?;
        let page = holder.files.join("bench-page");
        edit::write(&page, &edit::text(repetition as u64, 4096))?;
        let (took, entry) = holder.cove.call(&["snapshot", CORPUS])?;
        command.add(took);
        captured.add(told(&entry, "captured_ms")?);
        saved.add(told(&entry, "saved_ms")?);

        edit::write(&page, &edit::text((reps + repetition) as u64, 4096))?;
        let mut connection = holder.cove.connect()?;
        let call = format!("/v1/projects/{CORPUS}/entries?wait_ms=60000");
        api.add(connection.call("POST", &call, &json!({}))?.0);

        edit::write(&page, &edit::text((2 * reps + repetition) as u64, 4096))?;
        let volume = holder.files.parent().unwrap_or(&holder.files);
        let alone = r#"btrfs -q subvolume snapshot -r "$1" "$2" && sync -f "$2""#;
        btrfs.add(time(&mut script(alone, &[volume, &target]))?);
        world.pool.delete(&[target])?;
    }
    world.add(
        Measure::new("snapshot of 4 KiB, captured", Unit::Ms, captured)
            .beside("btrfs snapshot and sync", btrfs)
            .goal(Goal::AtMost(15.0)),
    );
    world.add(Measure::new("snapshot of 4 KiB, saved", Unit::Ms, saved).goal(Goal::AtMost(80.0)));
    world.add(
        Measure::new("snapshot of 4 KiB, API until saved", Unit::Ms, api).note("command", command),
    );
    Ok(())
}
