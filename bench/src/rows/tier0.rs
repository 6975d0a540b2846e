//! Reads and writes of files over the API at 50 connections.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::edit::{self, text};
use crate::http1::Server;
use crate::load;
use crate::machine::processor_ms;
use crate::measure::{Goal, Measure, Unit};
use crate::sample::Sample;
use crate::world::World;

/// Connections at once.
const CONNECTIONS: usize = 50;
/// Files of each connection.
const FILES: usize = 20;
/// How long a load lasts.
const LASTS: Duration = Duration::from_secs(4);
/// Bytes of each file.
const BYTES: usize = 4096;

/// A server that does nothing, in a process of its own that ends with the value.
struct Idle(Child);

impl Drop for Idle {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_idle() -> Result<(Idle, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--serve-nothing")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = child.stdout.take().context("its output is piped")?;
    let idle = Idle(child);
    let mut address = String::new();
    BufReader::new(said).read_line(&mut address)?;
    Ok((idle, address.trim().to_owned()))
}

fn requests(server: &Server, method: &str, project: &str) -> Vec<Vec<Vec<u8>>> {
    let body = if method == "PUT" { text(9, BYTES) } else { Vec::new() };
    let one = |connection: usize, file: usize| {
        let path = format!("/{connection}-{file}");
        let target = format!("/v1/projects/{project}/files/content?path={path}");
        server.request(method, &target, "application/octet-stream", &body)
    };
    let of = |connection| (0..FILES).map(|file| one(connection, file)).collect();
    (0..CONNECTIONS).map(of).collect()
}

/// Files a second that threads make durable as a server must: written beside, flushed, renamed, and
/// the directory flushed.
fn durable_writes(directory: &Path, threads: usize) -> Result<f64> {
    std::fs::create_dir_all(directory)?;
    let written = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let write = |thread: usize| {
            let written = &written;
            move || -> Result<()> {
                let body = text(thread as u64, BYTES);
                let above = std::fs::File::open(directory)?;
                for n in 0.. {
                    if began.elapsed() >= LASTS {
                        break;
                    }
                    let beside = directory.join(format!("{thread}.new"));
                    let mut file = std::fs::File::create(&beside)?;
                    file.write_all(&body)?;
                    file.sync_all()?;
                    std::fs::rename(&beside, directory.join(format!("{thread}-{}", n % FILES)))?;
                    above.sync_all()?;
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
        };
        let all: Vec<_> = (0..threads).map(|thread| scope.spawn(write(thread))).collect();
        for one in all {
            one.join().ok().context("a thread that writes panicked")??;
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let rate = written.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_dir_all(directory)?;
    Ok(rate)
}

pub fn measure(world: &mut World) -> Result<()> {
    let holder = world.local()?;
    let root = holder.cove.create("tier0")?;
    for connection in 0..CONNECTIONS {
        for file in 0..FILES {
            edit::write(&root.join(format!("{connection}-{file}")), &text(1, BYTES))?;
        }
    }
    let server = holder.cove.server()?;
    let process = holder.cove.process();
    let (idle, idle_address) = start_idle()?;
    let nothing = Server { address: idle_address, token: server.token.clone() };
    let (mut reads, mut writes) = (Sample::default(), Sample::default());
    let (mut idle_reads, mut idle_writes) = (Sample::default(), Sample::default());
    let (mut alone, mut fifty) = (Sample::default(), Sample::default());
    let (mut read_cost, mut write_cost) = (Sample::default(), Sample::default());
    for repetition in 0..world.extent.reps {
        for contender in super::order(6, repetition) {
            let cost = processor_ms(process)?;
            let load =
                |to: &Server, method| load::run(&to.address, requests(to, method, "tier0"), LASTS);
            match contender {
                0 => {
                    let load = load(&server, "GET")?;
                    reads.add(load.per_second());
                    read_cost.add((processor_ms(process)? - cost) / load.calls as f64);
                }
                1 => {
                    let load = load(&server, "PUT")?;
                    writes.add(load.per_second());
                    write_cost.add((processor_ms(process)? - cost) / load.calls as f64);
                }
                2 => idle_reads.add(load(&nothing, "GET")?.per_second()),
                3 => idle_writes.add(load(&nothing, "PUT")?.per_second()),
                4 => alone.add(durable_writes(&world.own("durable"), 1)?),
                _ => fifty.add(durable_writes(&world.own("durable"), CONNECTIONS)?),
            }
        }
    }
    drop(idle);
    world.add(
        Measure::new("4 KiB reads at 50 connections", Unit::PerSecond, reads)
            .beside("a server that does nothing", idle_reads)
            .goal(Goal::AtLeast(40_000.0)),
    );
    world.add(
        Measure::new("4 KiB durable writes at 50 connections", Unit::PerSecond, writes)
            .beside("a server that does nothing", idle_writes)
            .beside("fsync and rename, 1 thread", alone)
            .beside("fsync and rename, 50 threads", fifty)
            .goal(Goal::AtLeast(20_000.0)),
    );
    world.add(Measure::new("processor time of a read", Unit::Ms, read_cost));
    world.add(Measure::new("processor time of a write", Unit::Ms, write_cost));
    Ok(())
}
