//! What a proof has shown, as it is written down.

use serde::{Deserialize, Serialize};

/// `proof/report.json`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The commit whose tests ran.
    pub commit: String,
    /// Whether files differed from it: such a report proves nothing about the commit.
    pub dirty: bool,
    /// When the last step ended.
    pub date: jiff::Timestamp,
    /// Where it ran.
    pub machine: Machine,
    /// Whether every step passed.
    pub passed: bool,
    /// Each step, in the order in which they run.
    pub steps: Vec<Outcome>,
}

/// What the times of a report depend on.
#[derive(Debug, Serialize, Deserialize)]
pub struct Machine {
    /// Threads that run at once.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
}

/// How one step ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// What runs it again.
    pub command: String,
    /// Whether it passed.
    pub passed: bool,
    /// How long it took, in seconds.
    pub seconds: u64,
    /// Its tests.
    #[serde(default)]
    pub tests: Tests,
    /// What its tests measured or counted.
    #[serde(default)]
    pub figures: Vec<Figure>,
    /// Why tests of it were skipped.
    #[serde(default)]
    pub skipped: Vec<String>,
}

/// How many tests there were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tests {
    /// That passed.
    pub passed: u64,
    /// That failed.
    pub failed: u64,
    /// That are marked `#[ignore]`.
    pub ignored: u64,
}

/// One thing that a test measured or counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// What.
    pub name: String,
    /// How much, with its unit.
    pub value: String,
}

impl Tests {
    /// Adds up the `test result:` lines of what `cargo test` printed.
    pub fn of(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
            // `ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s`
            let counted = line.split_once(". ").map_or("", |(_, rest)| rest);
            for part in counted.split("; ") {
                let Some((number, what)) = part.split_once(' ') else { continue };
                let Ok(number) = number.parse::<u64>() else { continue };
                match what {
                    "passed" => sum.passed += number,
                    "failed" => sum.failed += number,
                    "ignored" => sum.ignored += number,
                    _ => {}
                }
            }
        }
        sum
    }
}

impl Outcome {
    /// Whether it passed with no test left out.
    pub fn is_proof(&self) -> bool {
        self.passed && self.skipped.is_empty()
    }
}

/// The figures of a file in which each line is one; a line that was cut is left out.
pub fn figures(lines: &str) -> Vec<Figure> {
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The lines in which tests say that they were skipped, and why.
pub fn skipped(output: &str) -> Vec<String> {
    let mut lines: Vec<String> = output
        .lines()
        .filter(|line| line.contains("SKIPPED") || line.contains("skipped:"))
        .map(str::to_owned)
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

#[cfg(test)]
mod tests {
    use super::{Figure, Outcome, Tests, figures, skipped};

    #[test]
    fn the_tests_of_several_binaries_are_added_up() {
        let output = "running 2 tests\ntest a ... ok\n\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 9.1s\n";
        assert_eq!(Tests::of(output), Tests { passed: 5, failed: 1, ignored: 1 });
        assert_eq!(Tests::of("error: could not compile"), Tests::default());
    }

    #[test]
    fn figures_are_read_and_a_cut_line_is_none() {
        let lines = "{\"name\":\"kills\",\"value\":\"200\"}\n{\"name\":\"rou";
        let expected = Figure { name: "kills".into(), value: "200".into() };
        assert_eq!(figures(lines), [expected]);
    }

    #[test]
    fn what_was_skipped_is_proven_by_nobody() {
        let outcome = |passed, skipped: &[&str]| Outcome {
            name: "tests".into(),
            command: "cargo test".into(),
            passed,
            seconds: 1,
            tests: Tests::default(),
            figures: Vec::new(),
            skipped: skipped.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert!(outcome(true, &[]).is_proof());
        assert!(!outcome(true, &["SKIPPED: needs root"]).is_proof());
        assert!(!outcome(false, &[]).is_proof());
    }

    #[test]
    fn what_was_skipped_is_told_once() {
        let output = "SKIPPED: needs root\nSKIPPED: needs root\nfine";
        assert_eq!(skipped(output), ["SKIPPED: needs root"]);
    }
}
