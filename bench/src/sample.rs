//! Repeated measurements of one thing.

use serde::{Deserialize, Serialize};

/// What one thing measured, run by run, in the order of the runs.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample(pub Vec<f64>);

impl Sample {
    /// One measurement alone.
    pub fn one(value: f64) -> Self {
        Self(vec![value])
    }

    /// Adds a measurement.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub fn runs(&self) -> usize {
        self.0.len()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The smallest value of which `percent` of all are not above; `None` without any.
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let sorted = self.sorted();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let upper = *sorted.get(sorted.len() / 2)?;
        match sorted.len() % 2 {
            0 => Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper)),
            _ => Some(upper),
        }
    }

    /// The least and the greatest.
    pub fn range(&self) -> Option<(f64, f64)> {
        let sorted = self.sorted();
        Some((*sorted.first()?, *sorted.last()?))
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Sample(vec![9.0, 1.0, 3.0]).median(), Some(3.0));
        assert_eq!(Sample(vec![4.0, 1.0, 3.0, 9.0]).median(), Some(3.5));
        assert_eq!(Sample::default().median(), None);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let hundred = Sample((1..=100).rev().map(f64::from).collect());
        assert_eq!(hundred.percentile(95), Some(95.0));
        assert_eq!(hundred.percentile(50), Some(50.0));
        assert_eq!(Sample(vec![7.0, 8.0]).percentile(95), Some(8.0));
        assert_eq!(Sample(vec![7.0]).percentile(0), Some(7.0));
        assert_eq!(Sample::default().percentile(95), None);
        assert_eq!(hundred.range(), Some((1.0, 100.0)));
    }
}
