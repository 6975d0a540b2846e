//! Forks.

use anyhow::Result;
use serde_json::json;

use super::sizes;
use crate::measure::{Goal, Measure, Unit};
use crate::sample::Sample;
use crate::shell::{command, script, time};
use crate::world::{CORPUS, World};

/// Forks at once.
const MANY: usize = 100;

pub fn measure(world: &mut World) -> Result<()> {
    let small = sizes::make(world, 1_000)?;
    for project in [small.as_str(), CORPUS] {
        one(world, project)?;
    }
    many(world)
}

/// One after the other.
fn one(world: &mut World, project: &str) -> Result<()> {
    let reps = world.extent.short_reps;
    let (mut wall, mut api, mut btrfs, mut cp) =
        (Sample::default(), Sample::default(), Sample::default(), Sample::default());
    let (_, shown) = world.local()?.cove.call(&["show", project])?;
    let files = shown["project"]["path"].as_str().unwrap_or_default().to_owned();
    let volume = std::path::Path::new(&files).join("..");
    for repetition in 0..reps {
        let target = world.own("one");
        let holder = world.local()?;
        let name = format!("f-{project}-{repetition}");
        wall.add(holder.cove.call(&["fork", project, "--as", &name])?.0);
        let mut connection = holder.cove.connect()?;
        let call = format!("/v1/projects/{project}/fork?wait_ms=60000");
        let body = json!({ "as": format!("g-{project}-{repetition}") });
        api.add(connection.call("POST", &call, &body)?.0);
        let mut alone = command("btrfs", &["-q", "subvolume", "snapshot"]);
        btrfs.add(time(alone.args([volume.as_path(), &target]))?);
        world.pool.delete(std::slice::from_ref(&target))?;
        if repetition < world.extent.reps {
            world.pool.create(&target)?;
            let copy = r#"cp -a --reflink=always "$1/." "$2""#;
            cp.add(time(&mut script(copy, &[files.as_ref(), target.as_path()]))?);
            world.pool.delete(&[target])?;
        }
    }
    let files = if project == CORPUS { world.corpus.files.len() } else { 1_000 };
    world.add(
        Measure::new(format!("fork of {files} files, API"), Unit::Ms, api)
            .note("command", wall)
            .beside("btrfs snapshot", btrfs)
            .beside("cp --reflink", cp)
            .goal(Goal::AtMost(20.0)),
    );
    Ok(())
}

/// A hundred at once.
fn many(world: &mut World) -> Result<()> {
    let (mut took, mut bytes, mut btrfs) =
        (Sample::default(), Sample::default(), Sample::default());
    for repetition in 0..world.extent.reps {
        let before = world.pool.used_bytes()?;
        let name = format!("many-{repetition}");
        let count = MANY.to_string();
        let holder = world.local()?;
        took.add(holder.cove.call(&["fork", CORPUS, "--as", &name, "--count", &count])?.0);
        let after = world.pool.used_bytes()?;
        bytes.add(after.saturating_sub(before) as f64 / MANY as f64);
        let volume = world.local()?.files.join("..");
        let target = world.own("many");
        std::fs::create_dir_all(&target)?;
        let loops = r#"for n in $(seq 100); do btrfs -q subvolume snapshot "$1" "$2/$n"; done"#;
        btrfs.add(time(&mut script(loops, &[volume.as_path(), &target]))?);
        let all: Vec<_> = (1..=MANY).map(|n| target.join(n.to_string())).collect();
        world.pool.delete(&all)?;
        std::fs::remove_dir(&target)?;
    }
    world.add(
        Measure::new("100 forks, command", Unit::Ms, took)
            .beside("btrfs snapshot 100 times", btrfs)
            .goal(Goal::AtMost(1000.0)),
    );
    world.add(
        Measure::new("100 forks, bytes on the pool each", Unit::Bytes, bytes)
            .goal(Goal::AtMost((1 << 20).into())),
    );
    Ok(())
}
