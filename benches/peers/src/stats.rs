//! Five numbers that describe some samples.

/// How the samples of one figure lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    pub count: usize,
    pub min: f64,
    pub first_quartile: f64,
    pub median: f64,
    pub third_quartile: f64,
    pub max: f64,
}

impl Summary {
    /// There must be a sample.
    pub fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        Self {
            count: sorted.len(),
            min: sorted[0],
            first_quartile: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            third_quartile: quantile(&sorted, 0.75),
            max: sorted[sorted.len() - 1],
        }
    }
}

/// Between two samples, in proportion: type 7 of Hyndman and Fan, which R and NumPy have as their default.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (sorted.len() - 1) as f64 * part;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::Summary;

    #[test]
    fn an_odd_number_of_samples_has_one_in_the_middle() {
        let summary = Summary::of(&[5.0, 1.0, 4.0, 2.0, 30.0]);
        assert_eq!(
            summary,
            Summary {
                count: 5,
                min: 1.0,
                first_quartile: 2.0,
                median: 4.0,
                third_quartile: 5.0,
                max: 30.0,
            }
        );
    }

    #[test]
    fn quantiles_lie_between_samples() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(summary.first_quartile, 1.75);
        assert_eq!(summary.median, 2.5);
        assert_eq!(summary.third_quartile, 3.25);
    }

    #[test]
    fn one_sample_is_all_of_them() {
        let summary = Summary::of(&[7.0]);
        assert_eq!((summary.min, summary.median, summary.max), (7.0, 7.0, 7.0));
    }
}
