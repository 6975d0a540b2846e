//! A line of the result: what Cove took, what others took, and what was aimed at.

use serde::{Deserialize, Serialize};

use crate::sample::Sample;

/// What the numbers of a line count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Wall time, in milliseconds.
    Ms,
    /// Bytes.
    Bytes,
    /// Requests to the object store.
    Requests,
    /// Calls a second.
    PerSecond,
    /// Bytes a second.
    BytesPerSecond,
}

impl Unit {
    /// A number of this unit for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Ms if value >= 1000.0 => format!("{:.2} s", value / 1000.0),
            Self::Ms if value >= 100.0 => format!("{value:.0} ms"),
            Self::Ms if value > 0.0 && value < 0.1 => format!("{value:.3} ms"),
            Self::Ms => format!("{value:.1} ms"),
            Self::Bytes => bytes(value),
            Self::BytesPerSecond => format!("{}/s", bytes(value)),
            Self::Requests => format!("{value:.0} requests"),
            Self::PerSecond => format!("{value:.0}/s"),
        }
    }
}

fn bytes(value: f64) -> String {
    match value {
        1e9.. => format!("{:.2} GB", value / 1e9),
        1e6.. => format!("{:.1} MB", value / 1e6),
        1e3.. => format!("{:.1} kB", value / 1e3),
        _ => format!("{value:.0} B"),
    }
}

/// What a line is to reach, of medians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// For each named other, at most this part of what it took.
    RatiosAtMost(Vec<(String, f64)>),
    /// At most this much.
    AtMost(f64),
    /// At least this much.
    AtLeast(f64),
}

impl Goal {
    /// Ratios to others, as in a table of goals.
    pub fn ratios(ratios: &[(&str, f64)]) -> Self {
        Self::RatiosAtMost(ratios.iter().map(|(peer, most)| ((*peer).to_owned(), *most)).collect())
    }

    fn show(&self, unit: Unit) -> String {
        match self {
            Self::RatiosAtMost(ratios) => {
                let each = ratios.iter().map(|(peer, most)| format!("≤ {most}× {peer}"));
                each.collect::<Vec<_>>().join(", ")
            }
            Self::AtMost(most) => format!("≤ {}", unit.show(*most)),
            Self::AtLeast(least) => format!("≥ {}", unit.show(*least)),
        }
    }
}

/// What another program took for the same work in the same run, or what else is worth seeing there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name in goals and in the table.
    pub name: String,
    /// What it took.
    pub sample: Sample,
    /// Whether it did the same work, so that Cove's part of it says something.
    pub is_same_work: bool,
}

/// A line of the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What was done.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// What Cove took; for a floor, what the machine took.
    pub ours: Sample,
    /// What others took.
    pub peers: Vec<Peer>,
    /// What was aimed at, if anything.
    pub goal: Option<Goal>,
}

impl Measure {
    /// A line without others and without a goal.
    pub fn new(name: impl Into<String>, unit: Unit, ours: Sample) -> Self {
        Self { name: name.into(), unit, ours, peers: Vec::new(), goal: None }
    }

    /// The same beside another that did the same work.
    pub fn beside(self, name: &str, sample: Sample) -> Self {
        self.with(name, sample, true)
    }

    /// The same with what else was seen.
    pub fn note(self, name: &str, sample: Sample) -> Self {
        self.with(name, sample, false)
    }

    fn with(mut self, name: &str, sample: Sample, is_same_work: bool) -> Self {
        if sample.runs() > 0 {
            self.peers.push(Peer { name: name.to_owned(), sample, is_same_work });
        }
        self
    }

    /// The same with a goal.
    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// What part of what another took for the same work Cove took, by medians.
    pub fn ratio(&self, peer: &Peer) -> Option<f64> {
        let theirs = peer.sample.median().filter(|theirs| peer.is_same_work && *theirs > 0.0)?;
        Some(self.ours.median()? / theirs)
    }

    /// Whether the goal is reached; `None` without a goal or without what it compares with.
    pub fn is_met(&self) -> Option<bool> {
        let ours = self.ours.median()?;
        match self.goal.as_ref()? {
            Goal::AtMost(most) => Some(ours <= *most),
            Goal::AtLeast(least) => Some(ours >= *least),
            Goal::RatiosAtMost(ratios) => {
                let mut met = true;
                for (name, most) in ratios {
                    let peer = self.peers.iter().find(|peer| peer.name == *name)?;
                    met &= self.ratio(peer)? <= *most;
                }
                Some(met)
            }
        }
    }

    /// The cells of its line: what, ours, its range, others, goal, met.
    pub fn cells(&self) -> [String; 6] {
        let show =
            |value: Option<f64>| value.map_or("–".to_owned(), |value| self.unit.show(value));
        let spread = match self.ours.range() {
            Some((least, greatest)) if self.ours.runs() > 1 => {
                let p95 = match self.ours.runs() {
                    20.. => format!(", p95 {}", show(self.ours.percentile(95))),
                    _ => String::new(),
                };
                let range = format!("{}–{}", self.unit.show(least), self.unit.show(greatest));
                format!("{range}{p95} of {}", self.ours.runs())
            }
            _ => "–".to_owned(),
        };
        let peers = self.peers.iter().map(|peer| {
            let ratio = self.ratio(peer).map_or(String::new(), |ratio| format!(" ({ratio:.2}×)"));
            format!("{} {}{ratio}", peer.name, show(peer.sample.median()))
        });
        let goal = self.goal.as_ref().map_or("–".to_owned(), |goal| goal.show(self.unit));
        let met = match (self.is_met(), &self.goal) {
            (Some(true), _) => "yes",
            (Some(false), _) => "NO",
            (None, Some(_)) => "?",
            (None, None) => "–",
        };
        let peers = peers.collect::<Vec<_>>().join(", ");
        [self.name.clone(), show(self.ours.median()), spread, peers, goal, met.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Measure {
        Measure::new("first store", Unit::Ms, Sample(vec![3000.0, 2000.0, 2500.0]))
            .beside("pipeline", Sample(vec![10_000.0]))
            .beside("restic", Sample(vec![5000.0, 5000.0]))
    }

    #[test]
    fn a_goal_of_ratios_is_met_when_each_of_them_is() {
        let with = |ratios: &[(&str, f64)]| line().goal(Goal::ratios(ratios)).is_met();
        assert_eq!(with(&[("pipeline", 0.25), ("restic", 0.5)]), Some(true));
        assert_eq!(with(&[("pipeline", 0.25), ("restic", 0.49)]), Some(false));
        assert_eq!(with(&[("pipeline", 0.24), ("restic", 0.5)]), Some(false));
        assert_eq!(with(&[("borg", 9.0)]), None, "what was not measured is not met");
        assert_eq!(line().is_met(), None);
    }

    #[test]
    fn other_work_and_work_without_time_have_no_ratio() {
        let line = line().note("ls", Sample::one(5.0)).beside("nothing", Sample::one(0.0));
        let ratios: Vec<_> = line.peers.iter().map(|peer| line.ratio(peer)).collect();
        assert_eq!(ratios, [Some(0.25), Some(0.5), None, None]);
    }

    #[test]
    fn a_bound_is_met_at_the_bound() {
        assert_eq!(line().goal(Goal::AtMost(2500.0)).is_met(), Some(true));
        assert_eq!(line().goal(Goal::AtMost(2499.0)).is_met(), Some(false));
        assert_eq!(line().goal(Goal::AtLeast(2500.0)).is_met(), Some(true));
        assert_eq!(line().goal(Goal::AtLeast(2501.0)).is_met(), Some(false));
    }

    #[test]
    fn a_line_says_medians_ratios_and_the_goal() {
        let cells = line().goal(Goal::ratios(&[("pipeline", 0.3)])).cells();
        let expected = [
            "first store",
            "2.50 s",
            "2.00 s–3.00 s of 3",
            "pipeline 10.00 s (0.25×), restic 5.00 s (0.50×)",
            "≤ 0.3× pipeline",
            "yes",
        ];
        assert_eq!(cells, expected);
        assert_eq!(Unit::Bytes.show(2_345_678.0), "2.3 MB");
        assert_eq!(Unit::Ms.show(0.0123), "0.012 ms");
        assert_eq!(Unit::PerSecond.show(40_000.4), "40000/s");
    }
}
