//! The machine: what it is, and its caches.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};

use crate::baseline::Machine;
use crate::shell::{command, run};

/// How many processes wanted to run, over the last minute.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What it is; its load is taken now, for the beginning and the end.
pub fn look() -> Machine {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = cpus.lines().find(|line| line.starts_with("model name"));
    let processor = processor.and_then(|line| line.split_once(": ")).map_or("", |(_, name)| name);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        processor: processor.to_owned(),
        memory_bytes: memory.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10,
        kernel: kernel.trim().to_owned(),
        load: [load(), load()],
    }
}

/// Writes out everything and forgets what was read: what comes next is read from the disk.
pub fn drop_caches() -> Result<()> {
    run(&mut command::<&str>("sync", &[]))?;
    fs::write("/proc/sys/vm/drop_caches", "3")
        .context("failed to drop the caches, which needs root")
}

/// Writes out everything of the file system that holds a path.
pub fn flush(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    rustix::fs::syncfs(&file).with_context(|| format!("failed to flush {}", path.display()))
}

/// The sizes of all files below a directory, added up.
pub fn bytes_below(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory);
        for entry in entries.with_context(|| format!("failed to list {}", directory.display()))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            match metadata.is_dir() {
                true => directories.push(entry.path()),
                false => sum += metadata.len(),
            }
        }
    }
    Ok(sum)
}

/// Processor time that a process has used, in milliseconds.
pub fn processor_ms(process: u32) -> Result<f64> {
    let stat =
        fs::read_to_string(format!("/proc/{process}/stat")).context("the process is gone")?;
    parse_processor_ms(&stat).context("the kernel tells a process in another way")
}

/// Of a line of `/proc/<id>/stat`; its ticks are of 10 ms.
fn parse_processor_ms(stat: &str) -> Option<f64> {
    // The name stands in parentheses and may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) * 10.0)
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What is resident.
    pub resident: u64,
    /// The most that was resident at once.
    pub most: u64,
}

/// Memory that a process has now.
pub fn memory(process: u32) -> Result<Memory> {
    let status =
        fs::read_to_string(format!("/proc/{process}/status")).context("the process is gone")?;
    parse_memory(&status).context("the kernel tells the memory of a process in another way")
}

/// Of `/proc/<id>/status`.
fn parse_memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib << 10)
    };
    Some(Memory { resident: bytes("VmRSS")?, most: bytes("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_kib_and_a_name_is_no_beginning_of_another() {
        let status = "Name:\tcove\nVmRSSX:\t1 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        let memory = Memory { resident: 10 << 20, most: 20 << 20 };
        assert_eq!(parse_memory(status), Some(memory));
        assert_eq!(parse_memory("Name:\tkthreadd\n"), None, "a kernel thread has none");
        assert_eq!(parse_memory("VmHWM:\t1 MB\nVmRSS:\t1 MB\n"), None);
    }

    #[test]
    fn processor_time_is_the_14th_and_15th_field_whatever_the_name_holds() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_processor_ms(stat), Some(420.0));
        assert_eq!(parse_processor_ms("7 (a) S 1"), None);
    }
}
