//! What the machine itself takes for the bytes and files of a store and of a restore.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::first_store;
use crate::edit::text;
use crate::machine::{drop_caches, flush};
use crate::measure::{Measure, Unit};
use crate::sample::Sample;
use crate::shell::{milliseconds, script, time};
use crate::world::World;

/// Writes so many bytes that do not compress into a file, and writes them out.
fn write(path: &Path, bytes: u64) -> Result<f64> {
    let mut block = vec![0; 1 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut block);
    let began = Instant::now();
    let mut file = File::create(path)?;
    for n in 0..bytes.div_ceil(1 << 20) {
        // No block is like another.
        block[..8].copy_from_slice(&n.to_le_bytes());
        file.write_all(&block)?;
    }
    flush(path)?;
    let took = milliseconds(began);
    std::fs::remove_file(path)?;
    Ok(took)
}

/// Makes so many empty files, 1,000 in a directory, and writes them out.
fn create(root: &Path, files: usize) -> Result<f64> {
    let began = Instant::now();
    for n in 0..files {
        let directory = root.join((n / 1_000).to_string());
        if n % 1_000 == 0 {
            std::fs::create_dir(&directory)?;
        }
        File::create(directory.join(n.to_string()))?;
    }
    flush(root)?;
    Ok(milliseconds(began))
}

/// Bytes a second that one thread hashes.
fn hash() -> f64 {
    let bytes = text(3, 64 << 20);
    let began = Instant::now();
    std::hint::black_box(blake3::hash(&bytes));
    bytes.len() as f64 / began.elapsed().as_secs_f64()
}

/// Reads all files by several programs at once, as many as threads read ahead of a store.
const READ: &str = r#"cd "$1" && find . -type f -print0 | xargs -0 -n 200 -P 8 cat >/dev/null"#;
/// Makes all files anew elsewhere, from what the machine has in memory, and writes them out.
const UNPACK: &str = r#"tar -C "$1" -cf - . | tar -C "$2" -xpf - && sync -f "$2""#;

pub fn measure(world: &mut World) -> Result<()> {
    world.local()?;
    let (bytes, files) = (world.corpus.bytes(), world.corpus.files.len());
    // As much as the first store wrote, if that was measured; the corpus compresses to about that.
    let stored = world.line(first_store::STORED).and_then(|line| line.ours.median());
    let stored = stored.map_or(bytes / 2, |stored| stored as u64);
    let [mut read, mut read_by_8, mut unpacked, mut host, mut pool, mut made, mut hashed] =
        std::array::from_fn(|_| Sample::default());
    let corpus = world.corpus.root.clone();
    for _ in 0..world.extent.reps {
        drop_caches()?;
        read.add(time(&mut script(r#"tar -C "$1" -cf - . | cat >/dev/null"#, &[&corpus]))?);
        drop_caches()?;
        read_by_8.add(time(&mut script(READ, &[&corpus]))?);
        // warm now
        let copy = world.own("unpacked");
        world.pool.create(&copy)?;
        unpacked.add(time(&mut script(UNPACK, &[&corpus, &copy]))?);
        world.pool.delete(&[copy])?;
        world.pool.trim()?;
        host.add(write(&world.beside("floor"), stored)?);
        pool.add(write(&world.own("floor"), stored)?);
        let empty = world.own("empty-files");
        world.pool.create(&empty)?;
        made.add(create(&empty, files)?);
        world.pool.delete(&[empty])?;
        world.pool.trim()?;
        hashed.add(hash());
    }
    let lines = [
        (format!("floor: read {files} files with tar, cold"), read),
        (format!("floor: read {files} files, 8 at once, cold"), read_by_8),
        (format!("floor: unpack {files} files with tar, warm, and flush"), unpacked),
        (format!("floor: write {} to the host", Unit::Bytes.show(stored as f64)), host),
        (format!("floor: write {} to the pool", Unit::Bytes.show(stored as f64)), pool),
        (format!("floor: make {files} empty files in the pool"), made),
    ];
    for (name, sample) in lines {
        world.add(Measure::new(name, Unit::Ms, sample));
    }
    world.add(Measure::new("floor: BLAKE3 on one thread", Unit::BytesPerSecond, hashed));
    Ok(())
}
