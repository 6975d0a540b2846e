//! What is wrong with volumes and with the node, in the words of the interface.

use std::collections::BTreeMap;

use cove_hub::volume_hub::VolumeReport;

use crate::proto as pb;
use crate::proto::volume_health::VolumeHealthEntry;

/// The longest text in a field, in bytes ("Size Limits" of the interface).
const FIELD_BYTES_MAX: usize = 128;

/// As much of a text as a field holds.
pub(crate) fn as_field(text: &str) -> String {
    text[..text.floor_char_boundary(FIELD_BYTES_MAX)].to_owned()
}

/// The reason for which somebody acts, or nobody.
fn reason(who_acts: &str) -> &'static str {
    match who_acts {
        "you" => "UserActionNeeded",
        "operator" => "OperatorActionNeeded",
        _ => "Recovering",
    }
}

/// How a volume is: an entry for each reason, with the first problem of it; none when it is well.
pub(crate) fn health(report: &VolumeReport) -> pb::VolumeHealth {
    let mut reasons: BTreeMap<&str, &str> = BTreeMap::new();
    for problem in &report.problems {
        reasons.entry(reason(&problem.who_acts)).or_insert(&problem.what);
    }
    let missing = report.volume.path.is_none().then(|| VolumeHealthEntry {
        status: pb::VolumeHealthErrorType::Inaccessible.into(),
        reason: "FilesMissing".to_owned(),
        message: "its files are on no node".to_owned(),
    });
    let degraded = reasons.into_iter().map(|(reason, what)| VolumeHealthEntry {
        status: pb::VolumeHealthErrorType::Degraded.into(),
        reason: reason.to_owned(),
        message: as_field(what),
    });
    pb::VolumeHealth {
        volume_id: report.volume.id.to_string(),
        health_statuses: missing.into_iter().chain(degraded).collect(),
    }
}

#[cfg(test)]
mod tests {
    use cove_types::wire::Problem;

    use super::*;
    use crate::fake::report;

    fn problem(who_acts: &str, what: &str) -> Problem {
        let (what, who_acts) = (what.to_owned(), who_acts.to_owned());
        Problem { what, since: String::new(), who_acts, hint: None }
    }

    #[test]
    fn a_volume_that_is_well_has_no_entries() {
        assert_eq!(health(&report("a")).health_statuses, []);
    }

    #[test]
    fn each_reason_is_told_once_with_its_first_problem() {
        let mut report = report("a");
        report.problems = vec![
            problem("operator", "the store does not answer"),
            problem("you", "its quota is used up"),
            problem("operator", "a list is damaged"),
        ];
        report.volume.path = None;
        let told: Vec<_> = health(&report)
            .health_statuses
            .into_iter()
            .map(|entry| (entry.status, entry.reason, entry.message))
            .collect();
        let entry = |status: pb::VolumeHealthErrorType, reason: &str, message: &str| {
            (i32::from(status), reason.to_owned(), message.to_owned())
        };
        use pb::VolumeHealthErrorType::{Degraded, Inaccessible};
        assert_eq!(
            told,
            [
                entry(Inaccessible, "FilesMissing", "its files are on no node"),
                entry(Degraded, "OperatorActionNeeded", "the store does not answer"),
                entry(Degraded, "UserActionNeeded", "its quota is used up"),
            ]
        );
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(as_field(&"é".repeat(70)), "é".repeat(64));
        assert_eq!(as_field("x"), "x");
        assert_eq!(as_field(&format!("x{}", "é".repeat(70))).len(), 127);
    }
}
