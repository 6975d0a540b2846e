//! What 20 versions of a project take in the store.

use std::path::Path;

use anyhow::{Context, Result};

use super::change::told;
use crate::edit::{self, SMALL_CHANGE, change};
use crate::machine::bytes_below;
use crate::measure::{Measure, Unit};
use crate::peers::Restic;
use crate::sample::Sample;
use crate::shell::{command, run};
use crate::world::{World, say};

/// Versions after the first.
const VERSIONS: usize = 20;
/// The most files of the project.
const FILES: usize = 20_000;

/// A day of work: the small change, rows in a database, and now and then a directory of some
/// megabytes that is added, renamed or removed.
fn work(root: &Path, world: &World, files: usize, version: usize) -> Result<()> {
    change(root, &world.corpus.files[..files], SMALL_CHANGE, 500 + version as u64)?;
    let rows = "create table if not exists log (id integer primary key, at text, what text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 500)
        insert into log (at, what) select datetime('now'), hex(randomblob(40)) from n;";
    run(command("sqlite3", &[root.join("app.db").as_os_str()]).arg(rows))?;
    match version % 5 {
        0 => {
            let added = root.join(format!("added-{version}"));
            std::fs::create_dir(&added)?;
            std::os::unix::fs::chown(&added, Some(1000), Some(1000))?;
            for n in 0..60 {
                let bytes = edit::text((version * 1_000 + n) as u64, 60_000);
                edit::write(&added.join(format!("{n}.txt")), &bytes)?;
            }
        }
        2 => {
            let from = format!("added-{}", version - 2);
            edit::rename(root, &from, &format!("renamed-{version}"))?;
        }
        4 if version.is_multiple_of(2) => {
            std::fs::remove_dir_all(root.join(format!("renamed-{}", version - 2)))?;
        }
        _ => {}
    }
    std::os::unix::fs::chown(root.join("app.db"), Some(1000), Some(1000))?;
    Ok(())
}

pub fn measure(world: &mut World) -> Result<()> {
    let files = FILES.min(world.corpus.files.len());
    world.local()?;
    let before = bytes_below(&world.local_objects())?;
    let root = world.local()?.cove.create("versions")?;
    let volume = root.parent().context("a volume is in a directory")?.to_owned();
    world.corpus.clone_into(&root, files, &world.scratch.0)?;
    let directory = world.beside("restic-versions");
    let restic = Restic::init(&directory)?;
    let (source, previous) = (world.own("version"), world.own("version-before"));
    let (mut ours, mut pipeline_ms, mut restic_ms) =
        (Sample::default(), Sample::default(), Sample::default());
    let mut piped = 0;
    let mut first = [0.0; 3];
    for version in 0..=VERSIONS {
        if version > 0 {
            work(&root, world, files, version - 1)?;
        }
        world.pool.delete(std::slice::from_ref(&previous))?;
        if source.exists() {
            std::fs::rename(&source, &previous)?;
        }
        world.pool.snapshot(&volume, &source)?;
        let (_, entry) = world.local()?.cove.call(&["snapshot", "versions"])?;
        let parent = (version > 0).then_some(previous.as_path());
        let took = [
            told(&entry, "saved_ms")?,
            world.pipeline.store("version", &source, parent)?,
            restic.store(&source.join("files"))?,
        ];
        piped += world.pipeline.bytes("version")?;
        if version == 0 {
            let stored = bytes_below(&world.local_objects())? - before;
            first = [stored as f64, piped as f64, bytes_below(&restic.repository)? as f64];
        } else {
            ours.add(took[0]);
            pipeline_ms.add(took[1]);
            restic_ms.add(took[2]);
        }
        say(&format!("  version {version}: {took:.0?} ms"));
    }
    let stored = (bytes_below(&world.local_objects())? - before) as f64;
    let repository = bytes_below(&restic.repository)? as f64;
    let line = |name: String, of: [f64; 3]| {
        Measure::new(name, Unit::Bytes, Sample::one(of[0]))
            .beside("pipeline -p", Sample::one(of[1]))
            .beside("restic", Sample::one(of[2]))
    };
    let all = [stored, piped as f64, repository];
    let grown = std::array::from_fn(|n| all[n] - first[n]);
    world.add(line(format!("bytes after {VERSIONS} versions of {files} files"), all));
    world.add(line(format!("bytes of the {VERSIONS} versions alone"), grown));
    world.add(
        Measure::new("a version, saved", Unit::Ms, ours)
            .beside("pipeline -p", pipeline_ms)
            .beside("restic", restic_ms),
    );
    world.pool.delete(&[source, previous])?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}
