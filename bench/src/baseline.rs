//! What a run has measured, as it is kept in `bench/baselines`.

use serde::{Deserialize, Serialize};

use crate::measure::{Measure, Peer, Unit};
use crate::sample::Sample;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// The commit that the program was built from.
    pub commit: String,
    /// When the run began, RFC 3339.
    pub began: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was stored.
    pub corpus: Corpus,
    /// Why it did not measure all that it was to measure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub broke_off: Option<String>,
    /// What was measured, line by line.
    pub rows: Vec<Row>,
}

/// What the figures of a run depend on besides the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processors.
    pub cores: usize,
    /// Their model.
    pub processor: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// How many processes wanted to run when it began and when it ended, over a minute.
    pub load: [String; 2],
}

/// What was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corpus {
    /// Files.
    pub files: usize,
    /// Their sizes, added up.
    pub bytes: u64,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was done.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// What Cove took, or the machine where the line is a floor.
    pub ours: Figures,
    /// What others took.
    pub peers: Vec<Other>,
    /// The goal, as it is shown.
    pub goal: Option<String>,
    /// Whether it is reached.
    pub met: Option<bool>,
}

/// What another took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// What it took.
    #[serde(flatten)]
    pub figures: Figures,
    /// What part of it Cove took.
    pub ratio: Option<f64>,
}

/// A sample in short.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How many runs.
    pub runs: usize,
    /// The least.
    pub min: Option<f64>,
    /// The middle.
    pub median: Option<f64>,
    /// Of 100 runs the 95th.
    pub p95: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
}

impl From<&Sample> for Figures {
    fn from(sample: &Sample) -> Self {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        Self {
            runs: sample.runs(),
            min: sample.range().map(|(min, _)| round(min)),
            median: sample.median().map(round),
            p95: sample.percentile(95).map(round),
            max: sample.range().map(|(_, max)| round(max)),
        }
    }
}

impl From<&Measure> for Row {
    fn from(measure: &Measure) -> Self {
        let other = |peer: &Peer| Other {
            name: peer.name.clone(),
            figures: Figures::from(&peer.sample),
            ratio: measure.ratio(peer).map(|ratio| (ratio * 1000.0).round() / 1000.0),
        };
        let [.., goal, _] = measure.cells();
        Self {
            name: measure.name.clone(),
            unit: measure.unit,
            ours: Figures::from(&measure.ours),
            peers: measure.peers.iter().map(other).collect(),
            goal: measure.goal.as_ref().map(|_| goal),
            met: measure.is_met(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Goal;

    #[test]
    fn a_row_keeps_what_the_table_shows_and_is_read_back() {
        let measure = Measure::new("fork", Unit::Ms, Sample(vec![1.0, 2.0, 4.0]))
            .beside("cp", Sample(vec![40.0]))
            .goal(Goal::AtMost(20.0));
        let row = Row::from(&measure);
        assert_eq!(row.goal.as_deref(), Some("≤ 20.0 ms"));
        assert_eq!((row.met, row.ours.median, row.ours.runs), (Some(true), Some(2.0), 3));
        assert_eq!(row.peers[0].ratio, Some(0.05));
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }
}
