//! New projects.

use anyhow::Result;
use serde_json::json;

use crate::measure::{Goal, Measure, Unit};
use crate::sample::Sample;
use crate::world::World;

pub fn measure(world: &mut World) -> Result<()> {
    let reps = world.extent.short_reps;
    let (mut command, mut captured, mut api) =
        (Sample::default(), Sample::default(), Sample::default());
    let holder = world.local()?;
    let mut connection = holder.cove.connect()?;
    for repetition in 0..reps {
        command.add(holder.cove.call(&["new", &format!("made-{repetition}")])?.0);
        let body = json!({ "slug": format!("called-{repetition}") });
        api.add(connection.call("POST", "/v1/projects?wait_ms=60000", &body)?.0);
        let body = json!({ "slug": format!("captured-{repetition}") });
        let target = "/v1/projects?wait_ms=60000&until=captured";
        captured.add(connection.call("POST", target, &body)?.0);
    }
    world.add(
        Measure::new("create, API until captured", Unit::Ms, captured).goal(Goal::AtMost(15.0)),
    );
    world.add(
        Measure::new("create, API until saved", Unit::Ms, api)
            .note("command", command)
            .goal(Goal::AtMost(15.0)),
    );
    Ok(())
}
