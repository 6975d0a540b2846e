//! Programs that stand still for a moment.
//!
//! They are held as a debugger holds them: neither they nor their parents are sent a signal, a shell does not
//! take its job to be stopped, and when this process is killed the kernel lets them go (ptrace(2)).

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How long one program may take to stand still: one that waits for a disk does when that has answered.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(1);
/// How often the threads of a program are listed: those that stand still make no more.
const LISTS: u32 = 8;

/// Programs that stand still until this is dropped.
pub(crate) struct Standstill {
    release: Option<Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Standstill {
    /// Has programs stand still, as far as they can be held: one that ends or that another debugger holds goes on. One
    /// that does not come to stand within 0.2 s, since it waits in the kernel or for a processor, is not waited for: it goes
    /// on until that ends, and stands from then on as the others do. Never this process. Costs some 0.1 ms a thread.
    pub fn of(pids: Vec<u32>) -> Self {
        let own = std::process::id();
        let pids: Vec<u32> = pids.into_iter().filter(|pid| *pid != own).collect();
        if pids.is_empty() {
            return Self { release: None, holder: None };
        }
        let (release, released) = channel();
        let (stand, stands) = channel();
        // the thread that seized a program is the one that may let it go, and its end does
        let holder = std::thread::spawn(move || hold(&pids, &stand, &released));
        let _ = stands.recv();
        Self { release: Some(release), holder: Some(holder) }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(holder) = self.holder.take() {
            drop(holder.join());
        }
    }
}

/// Holds programs until the other end of `released` goes.
fn hold(pids: &[u32], stand: &Sender<()>, released: &Receiver<()>) {
    // the signal that each thread was about to get, which it gets when it goes on
    let mut held: BTreeMap<i32, Option<Signal>> = BTreeMap::new();
    for pid in pids {
        for _ in 0..LISTS {
            let new: Vec<i32> =
                threads(*pid).into_iter().filter(|t| !held.contains_key(t)).collect();
            let seized = new.into_iter().filter_map(seize).collect::<Vec<_>>();
            if seized.is_empty() {
                break;
            }
            held.extend(seized);
        }
    }
    let _ = stand.send(());
    let _ = released.recv();
    // a thread that was not waited for goes on when this one ends, with whatever signal it was about to get
    for (thread, signal) in held {
        let _ = ptrace::detach(Pid::from_raw(thread), signal);
    }
}

fn threads(pid: u32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// Has a thread stand still, and tells what it is to be sent when it goes on; none where it does not stand yet.
fn seize(thread: i32) -> Option<(i32, Option<Signal>)> {
    let pid = Pid::from_raw(thread);
    ptrace::seize(pid, ptrace::Options::empty()).ok()?;
    ptrace::interrupt(pid).ok()?;
    for _ in 0..TRIES {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::WNOHANG;
        match waitpid(pid, Some(flags)) {
            Ok(WaitStatus::Stopped(_, signal)) => return Some((thread, Some(signal))),
            Ok(WaitStatus::PtraceEvent(..)) => return Some((thread, None)),
            Ok(WaitStatus::StillAlive) => std::thread::park_timeout(PAUSE),
            Ok(_) | Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a program is what is to stand still")]
    fn a_program_stands_still_and_goes_on_and_its_parent_is_told_nothing() {
        let script = "i=0; while :; do i=$((i+1)); echo $i; done";
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let state = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(") ").next().unwrap().chars().next().unwrap()
        };
        // one that gets no processor for 0.2 s is not waited for
        let stands = |_: &u32| {
            let held = Standstill::of(vec![child.id(), std::process::id()]);
            let is_held = state(child.id()) == 't';
            drop(held);
            is_held
        };
        assert!((0..10).any(|n| stands(&n)), "as a debugger stops it, when `of` returns");
        let until = tokio::time::Instant::now() + Duration::from_secs(60);
        while state(child.id()) == 't' {
            assert!(tokio::time::Instant::now() < until, "it is let go of");
            std::thread::yield_now();
        }
        assert!(lines.take(100_000).all(|line| line.is_ok()), "it goes on");
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
