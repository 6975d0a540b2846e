//! What can be said of how a volume is kept.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use cove_content::retention::{KEEP_DEFAULT, KEEP_MAX};
use cove_content::spec::{RETENTION, STORING_INTERVAL, STORING_INTERVAL_SECONDS, VolumeSpec};
use cove_types::{ParseError, escape_bytes};

/// Each parameter that there is, what its number is, and which it can be.
const LAWS: [(&str, &str, RangeInclusive<u32>); 2] = [
    (STORING_INTERVAL, "a number of seconds", STORING_INTERVAL_SECONDS),
    (RETENTION, "a number of entries", 1..=KEEP_MAX),
];

/// Looks at the laws of parameters.
///
/// # Errors
///
/// The first that breaks one, with its key and the law.
pub fn check(parameters: &BTreeMap<String, String>) -> Result<(), ParseError> {
    for (key, value) in parameters {
        let Some((_, what, range)) = LAWS.iter().find(|(known, ..)| known == key) else {
            return Err(ParseError(format!(
                "parameter \"{}\" does not exist: there are {STORING_INTERVAL} and {RETENTION}",
                shown(key)
            )));
        };
        if number(value).is_none_or(|number| !range.contains(&number)) {
            let (least, most) = (range.start(), range.end());
            return Err(ParseError(format!(
                "parameter {key} is {what}, {least} to {most}, found \"{}\"",
                shown(value)
            )));
        }
    }
    Ok(())
}

/// How many counted entries of a volume stay when one is made through the Hub. What a project keeps is decided where
/// projects are: nothing of its timeline gives way here.
pub(crate) fn keep(spec: &VolumeSpec) -> u32 {
    let unsaid = if spec.stands_alone { KEEP_DEFAULT } else { KEEP_MAX };
    spec.retention().unwrap_or(unsaid)
}

/// A number as it is written: without sign and leading zeros, so that one number has one text.
fn number(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|number| number.to_string() == text)
}

fn shown(text: &str) -> String {
    escape_bytes(&text.as_bytes()[..text.len().min(80)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(key: &str, value: &str) -> String {
        let parameters = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        check(&parameters).map_or_else(|error| error.to_string(), |()| "lawful".into())
    }

    #[test]
    fn each_parameter_is_a_number_within_its_law() {
        for value in ["1", "86400"] {
            assert_eq!(checked("storingInterval", value), "lawful");
        }
        for value in ["1", "200"] {
            assert_eq!(checked("retention", value), "lawful");
        }
        for value in ["0", "86401", "", "-1", "+5", "05", "1.5", "5s", "4294967297"] {
            assert_eq!(
                checked("storingInterval", value),
                format!(
                    "parameter storingInterval is a number of seconds, 1 to 86400, found \"{value}\""
                )
            );
        }
        assert_eq!(
            checked("retention", "201"),
            "parameter retention is a number of entries, 1 to 200, found \"201\""
        );
    }

    #[test]
    fn a_parameter_that_there_is_not_is_named_with_those_that_there_are() {
        assert_eq!(
            checked("sty\u{1b}le", "x"),
            "parameter \"sty\\x1ble\" does not exist: there are storingInterval and retention"
        );
    }

    #[test]
    fn the_retention_of_a_volume_is_what_was_said_or_that_of_projects() {
        let spec = |stands_alone: bool, retention: Option<&str>| VolumeSpec {
            stands_alone,
            parameters: retention
                .map(|v| (RETENTION.to_owned(), v.to_owned()))
                .into_iter()
                .collect(),
            ..VolumeSpec::default()
        };
        assert_eq!(keep(&spec(true, None)), 5);
        assert_eq!(keep(&spec(true, Some("17"))), 17);
        assert_eq!(keep(&spec(false, Some("17"))), 17);
        assert_eq!(keep(&spec(false, None)), 200, "a project's entries are not the Hub's to thin");
    }
}
