//! Which plans there are.

use cove_testkit::{Class, Fault, FaultPlan, Seen, Verb};

/// Of so many requests of one kind that follow each other, the first, one in the middle and the
/// last are made to fail.
const RUN_MAX: usize = 3;

/// The ways in which one request fails.
pub(crate) const FAULTS: [Fault; 13] = [
    Fault::Refused,
    Fault::TimeOutBefore,
    Fault::TimeOutAfter,
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(409),
    Fault::Status(403),
    Fault::Status(404),
    Fault::CutUpload,
    Fault::CutAnswer,
    Fault::FlippedByte,
    Fault::WrongObject,
    Fault::Slow,
];

/// The plans for an act that made these requests when nothing failed.
pub(crate) fn plans(seen: &[Seen]) -> Vec<FaultPlan> {
    let counted: Vec<&Seen> = seen.iter().filter(|seen| seen.number.is_some()).collect();
    let mut plans = Vec::new();
    for run in counted.chunk_by(|a, b| (a.verb, a.class) == (b.verb, b.class)) {
        let picked: Vec<&&Seen> = match run.len() {
            0..=RUN_MAX => run.iter().collect(),
            length => vec![&run[0], &run[length / 2], &run[length - 1]],
        };
        for seen in picked {
            let Some(number) = seen.number else { continue };
            plans.extend(of_request(number, seen.verb, seen.class));
        }
    }
    plans
}

fn of_request(number: usize, verb: Verb, class: Class) -> Vec<FaultPlan> {
    let once = FAULTS.into_iter().filter(|fault| fault.is_for(verb));
    let mut plans: Vec<FaultPlan> = once.map(|fault| FaultPlan::once(number, fault)).collect();
    plans.push(FaultPlan::outage(number, 5, Fault::Refused));
    plans.push(FaultPlan::outage(number, 5, Fault::Status(503)));
    if verb == Verb::Put && class == Class::Head {
        // what is read to learn how the write ended fails too
        for fault in [
            Fault::Status(404),
            Fault::WrongObject,
            Fault::FlippedByte,
            Fault::CutAnswer,
            Fault::Status(403),
        ] {
            plans.push(FaultPlan::once(number, Fault::TimeOutAfter).then(fault));
        }
    }
    plans
}
