//! Random sequences of commands, over the API and by the program, against a model that only knows
//! what they mean: files, timelines and names are compared after each, what is refused changes
//! nothing, and nothing is different after a kill or on another machine.
//!
//! `COVE_SEED=… COVE_SEQUENCE=<number>` runs one sequence alone.

mod caller;
mod choice;
mod command;
mod difference;
mod look;
mod sequence;
mod timeline;
mod tree;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use cove_testkit::proof::{figure, is_full, rounds, seed};

use self::sequence::{KEEP, Sequence, Tally};
use crate::harness::{Cove, Objects, Settings};

/// How long a call may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(300);
/// How many sequences share a Cove, and its loss.
const BATCH: usize = 25;
/// How many of them are under way at once.
const AT_ONCE: usize = 3;
/// Steps of a sequence before the machine is lost, and after it.
const STEPS: [usize; 2] = [22, 10];

/// The sequences of one Cove.
struct Batch {
    cove: RwLock<Cove>,
    seed: u64,
    failed: Mutex<Vec<String>>,
}

impl Batch {
    /// Does `work` for each sequence, until one of them fails.
    fn each(&self, sequences: &mut [Sequence], work: impl Fn(&mut Sequence) + Sync) {
        let next = AtomicUsize::new(0);
        let sequences: Vec<Mutex<&mut Sequence>> = sequences.iter_mut().map(Mutex::new).collect();
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while self.failed.lock().unwrap().is_empty() {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(sequence) = sequences.get(number) else { break };
                        self.run(&mut sequence.lock().unwrap(), &work);
                    }
                });
            }
        });
    }

    fn run(&self, sequence: &mut Sequence, work: impl Fn(&mut Sequence)) {
        let ran = catch_unwind(AssertUnwindSafe(|| work(sequence)));
        let Err(panic) = ran else { return };
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let told = format!(
            "COVE_SEED={} COVE_SEQUENCE={}: {}\nits commands:\n{}",
            self.seed,
            sequence.number,
            text.unwrap_or_default(),
            sequence.log.join("\n")
        );
        self.failed.lock().unwrap().push(told);
    }
}

/// Runs some sequences in a Cove of their own, which is lost on the way.
fn run_batch(cove: Cove, seed: u64, numbers: std::ops::Range<usize>) -> Tally {
    let sources = cove.make_dir("sources");
    let batch = Batch { cove: RwLock::new(cove), seed, failed: Mutex::default() };
    let mut sequences: Vec<Sequence> = numbers
        .map(|number| Sequence::new(seed, number, sources.join(number.to_string())))
        .collect();
    let steps = |sequence: &mut Sequence, count: usize| {
        for _ in 0..count {
            sequence.step(&batch.cove);
        }
    };
    batch.each(&mut sequences, |sequence| {
        steps(sequence, STEPS[0]);
        sequence.save(&batch.cove);
    });
    if batch.failed.lock().unwrap().is_empty() {
        batch.cove.write().unwrap().lose_and_recover();
    }
    batch.each(&mut sequences, |sequence| {
        sequence.log.push("the machine is lost, and all of it recovered".to_owned());
        sequence.compare_all(&batch.cove);
        steps(sequence, STEPS[1]);
        sequence.end(&batch.cove, if sequence.number % 5 == 0 { 2 } else { 1 });
    });
    let failed = batch.failed.lock().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    let mut sum = Tally::default();
    for Sequence { tally, .. } in &sequences {
        sum.commands += tally.commands;
        sum.by_program += tally.by_program;
        sum.refused += tally.refused;
        sum.restarts += tally.restarts;
        sum.read_back += tally.read_back;
    }
    sum
}

#[test]
fn random_commands_do_what_the_model_says() {
    let seed = seed("random_commands_do_what_the_model_says");
    let only = std::env::var("COVE_SEQUENCE").ok().map(|number| number.parse().unwrap());
    let all = match only {
        Some(number) => number..number + 1,
        None => 0..rounds(BATCH, 500),
    };
    let mut sum = Tally::default();
    for first in all.clone().step_by(BATCH) {
        let mut settings = Settings::with(Objects::Directory);
        settings.patience = PATIENCE;
        settings.variables.push(("COVE_MAX_SNAPSHOTS_PER_PROJECT", KEEP.to_string()));
        let Some(cove) = Cove::start_with(settings) else { return };
        let tally = run_batch(cove, seed, first..all.end.min(first + BATCH));
        sum.commands += tally.commands;
        sum.by_program += tally.by_program;
        sum.refused += tally.refused;
        sum.restarts += tally.restarts;
        sum.read_back += tally.read_back;
    }
    figure("model of commands: sequences, each verified", all.len());
    let Tally { commands, by_program, refused, restarts, read_back } = sum;
    figure(
        "model of commands: commands that change something, each compared whole",
        format!(
            "{commands}, {by_program} of them by the program, {refused} refused as they must be"
        ),
    );
    figure("model of commands: stops and kills", restarts);
    figure("model of commands: entries read back from another machine", read_back);
    assert!(!is_full() || only.is_some() || all.len() >= 500);
    // few sequences may have no restart among them
    let is_met = refused > 0 && read_back > 0 && (restarts > 0 || !is_full());
    assert!(only.is_some() || is_met, "{refused}, {restarts}, {read_back}");
}
