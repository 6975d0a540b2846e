//! A store that fails by plan: for each request of each act, each way in which it can fail. No
//! history is lost, nothing is called saved or failed that is not, one key has one result, reads
//! give right bytes or an error, and all goes on by itself.
//!
//! `COVE_FAULT_PLAN=<part of a plan's name>` runs the plans of that name alone.

mod act;
mod machine;
mod plan;
mod reader;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use cove_testkit::proof::{Chance, figure, is_full, rounds, seed};
use cove_testkit::{Fault, FaultPlan, S3Server};

use self::act::Act;
use self::machine::{Machine, Template};
use crate::harness::s3;

/// How many plans run in `make test`.
const SAMPLE: usize = 60;
/// In how many of them a request must have failed: some acts ask for less than they did when they were
/// counted. The second is of all plans.
const FAILED_MIN: (usize, usize) = (50, 500);

/// An act, how it is asked for, and what fails meanwhile.
#[derive(Debug, Clone)]
struct Case {
    act: Act,
    plan: FaultPlan,
    by_program: bool,
}

impl Case {
    fn name(&self) -> String {
        let by = if self.by_program { "by the program" } else { "by the API" };
        format!("{:?} {by}, {}", self.act, self.plan)
    }
}

/// Machines that take work from one list.
struct Suite {
    server: &'static S3Server,
    template: Template,
    failed: Mutex<Vec<String>>,
}

impl Suite {
    /// Does `work` for each of a list, each on some machine.
    fn each<T: Send, R: Send>(
        &self,
        all: Vec<T>,
        work: impl Fn(&mut Option<Machine>, T) -> R + Sync,
    ) -> Vec<R> {
        let machines = rounds(6, 8).min(all.len());
        let waiting = Mutex::new(all.into_iter());
        let done = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..machines {
                scope.spawn(|| {
                    let mut machine = None;
                    loop {
                        let next = waiting.lock().unwrap().next();
                        let Some(next) = next else { break };
                        let result = work(&mut machine, next);
                        done.lock().unwrap().push(result);
                    }
                });
            }
        });
        done.into_inner().unwrap()
    }

    /// Runs a case; the requests that were made, or nothing when it failed, which is written down.
    fn run(&self, machine: &mut Option<Machine>, case: &Case) -> Option<Vec<cove_testkit::Seen>> {
        let (act, plan) = (case.act, case.plan.clone());
        let ran = catch_unwind(AssertUnwindSafe(|| {
            if act.is_cold() {
                let cold =
                    Machine::run_cold(self.server, &self.template, act, plan, case.by_program);
                return cold.planned();
            }
            let warm =
                machine.get_or_insert_with(|| Machine::start(self.server).expect("one ran before"));
            warm.run_warm(act, plan, case.by_program);
            let seen = warm.planned();
            if act == Act::StoreFirst {
                // its files are large
                *machine = None;
            }
            seen
        }));
        match ran {
            Ok(seen) => Some(seen),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text =
                    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                let seen = machine
                    .as_ref()
                    .filter(|_| !act.is_cold())
                    .map(Machine::planned)
                    .unwrap_or_default();
                let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
                let name = case.name();
                let why = text.unwrap_or_default();
                let told = format!("COVE_FAULT_PLAN='{name}': {why}\n{}", seen.join("\n"));
                eprintln!("FAILED {told}");
                self.failed.lock().unwrap().push(told);
                // what it left behind is nobody else's
                *machine = None;
                None
            }
        }
    }
}

/// Some of all cases, by chance: each fault once and a third by the program, few of those that take
/// long.
fn sampled(cases: Vec<Case>, chance: &mut Chance) -> Vec<Case> {
    let mut order: Vec<(u64, Case)> = cases.into_iter().map(|case| (chance.bits(), case)).collect();
    order.sort_by_key(|(at, _)| *at);
    let mut waiting: Vec<Case> = order.into_iter().map(|(_, case)| case).collect();
    let mut once = Vec::new();
    for fault in plan::FAULTS {
        let is_of = |case: &Case| !case.act.is_long() && case.plan.has(fault);
        if let Some(at) = waiting.iter().position(is_of) {
            once.push(waiting.remove(at));
        }
    }
    let (mut cold, mut gather, mut first, mut by_api) = (0, 0, 0, 0);
    let is_taken = |case: &Case| {
        let (count, most) = match case.act {
            act if act.is_cold() => (&mut cold, 8),
            Act::Gather => (&mut gather, 5),
            Act::StoreFirst => (&mut first, 1),
            _ if !case.by_program => (&mut by_api, SAMPLE * 2 / 3),
            _ => return true,
        };
        *count += 1;
        *count <= most
    };
    once.into_iter().chain(waiting).filter(is_taken).take(SAMPLE).collect()
}

/// The cases as machines take them: those that need a project of many saves go to few.
fn shared_out(cases: Vec<Case>) -> Vec<Vec<Case>> {
    let (gather, others): (Vec<Case>, Vec<Case>) =
        cases.into_iter().partition(|case| case.act == Act::Gather);
    let each = gather.len().div_ceil(rounds(1, 4)).max(1);
    let few = gather.chunks(each).map(<[Case]>::to_vec);
    few.chain(others.into_iter().map(|case| vec![case])).collect()
}

#[test]
fn a_store_that_fails_at_any_request_loses_nothing_and_tells_the_truth() {
    let Some(server) = s3() else { return };
    let Some(template) = Template::make(server, rounds(0, 66)) else { return };
    let suite = Suite { server, template, failed: Mutex::default() };
    let mut chance = Chance::new(seed("the plans of a failing store"));
    let only = std::env::var("COVE_FAULT_PLAN").ok();

    let counted = suite.each(Act::ALL.to_vec(), |machine, act| {
        let well = Case { act, plan: FaultPlan::well(), by_program: false };
        (act, suite.run(machine, &well).unwrap_or_default())
    });
    let mut cases = Vec::new();
    for (act, seen) in counted {
        if only.is_some() {
            let lines: Vec<String> = seen.iter().map(ToString::to_string).collect();
            eprintln!("{act:?}:\n{}", lines.join("\n"));
        }
        for plan in plan::plans(&seen) {
            cases.push(Case { act, plan, by_program: cases.len() % 3 == 0 });
        }
    }
    cases.sort_by_key(|case| case.act);
    match &only {
        Some(part) => cases.retain(|case| case.name().contains(part)),
        None if is_full() => {}
        None => cases = sampled(cases, &mut chance),
    }

    let ran = suite.each(shared_out(cases), |machine, cases| {
        let ran = cases.into_iter().filter_map(|case| {
            let seen = suite.run(machine, &case)?;
            let faults: BTreeSet<Fault> = seen.iter().filter_map(|seen| seen.fault).collect();
            Some((case, faults))
        });
        ran.collect::<Vec<_>>()
    });
    let ran: Vec<_> = ran.into_iter().flatten().filter(|(_, faults)| !faults.is_empty()).collect();
    let by_program = ran.iter().filter(|(case, _)| case.by_program).count();
    figure("S3 faults: plans in which a request failed", ran.len());
    figure("S3 faults: of these by the program's verbs", by_program);
    let failed = suite.failed.lock().unwrap();
    assert!(failed.is_empty(), "{} plans failed:\n{}", failed.len(), failed.join("\n\n"));
    if only.is_some() {
        return;
    }
    let least = rounds(FAILED_MIN.0, FAILED_MIN.1);
    assert!(ran.len() >= least, "requests failed in {} plans only", ran.len());
    assert!(by_program * 5 >= ran.len(), "{by_program} of {} by the program", ran.len());
    if is_full() {
        let has_act = |act: &Act| ran.iter().any(|(case, _)| case.act == *act);
        let left_out: Vec<_> = Act::ALL.into_iter().filter(|act| !has_act(act)).collect();
        assert!(left_out.is_empty(), "no request failed in {left_out:?}");
        let has_fault = |fault: &Fault| ran.iter().any(|(_, faults)| faults.contains(fault));
        let left_out: Vec<_> = plan::FAULTS.into_iter().filter(|fault| !has_fault(fault)).collect();
        assert!(left_out.is_empty(), "no request failed by {left_out:?}");
    }
}
