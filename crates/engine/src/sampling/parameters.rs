//! What a request may ask of the sampler.

use std::collections::BTreeMap;

/// How the next token is chosen. The defaults are those of llama.cpp's server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SamplingParameters {
    /// Divides the logits; 0 always takes the best token.
    pub temperature: f32,
    /// Only this many of the best tokens; 0 means all.
    pub top_k: usize,
    /// Only the best tokens that together have this probability.
    pub top_p: f32,
    /// Only tokens with at least this part of the best one's probability.
    pub min_p: f32,
    /// Divides the positive and multiplies the negative logits of recent tokens; 1 does nothing.
    pub repeat_penalty: f32,
    /// How many tokens are recent, for all three penalties; 0 turns them off.
    pub repeat_last_n: usize,
    /// Subtracted from the logit of every recent token.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a recent token for each time that it occurs.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens; minus infinity forbids one.
    pub logit_bias: BTreeMap<u32, f32>,
    /// The same seed gives the same tokens.
    pub seed: u64,
}

impl Default for SamplingParameters {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

/// A parameter outside its limits.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {value}; it must be {limit}")]
pub(crate) struct InvalidParameter {
    /// The name of the field.
    pub field: &'static str,
    pub value: f32,
    /// What it may be.
    pub limit: &'static str,
}

impl SamplingParameters {
    /// The first parameter that is outside its limits, if any.
    pub(crate) fn validate(&self) -> Result<(), InvalidParameter> {
        let penalty = -100.0..=100.0;
        let ranges = [
            ("temperature", self.temperature, 0.0..=100.0, "from 0 to 100"),
            ("top_p", self.top_p, 0.0..=1.0, "from 0 to 1"),
            ("min_p", self.min_p, 0.0..=1.0, "from 0 to 1"),
            ("repeat_penalty", self.repeat_penalty, 0.01..=100.0, "from 0.01 to 100"),
            ("presence_penalty", self.presence_penalty, penalty.clone(), "from -100 to 100"),
            ("frequency_penalty", self.frequency_penalty, penalty, "from -100 to 100"),
        ];
        for (field, value, range, limit) in ranges {
            // Not a number is in no range.
            if !range.contains(&value) {
                return Err(InvalidParameter { field, value, limit });
            }
        }
        match self.logit_bias.values().find(|bias| bias.is_nan() || **bias == f32::INFINITY) {
            Some(&value) => Err(InvalidParameter {
                field: "logit_bias",
                value,
                limit: "a finite number or minus infinity",
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(field: &str, change: impl Fn(&mut SamplingParameters, f32), values: &[f32]) {
        for &value in values.iter().chain(&[f32::NAN, f32::INFINITY]) {
            let mut parameters = SamplingParameters::default();
            change(&mut parameters, value);
            let error = parameters.validate().unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.to_string().starts_with(&format!("{field} is {value}; it must be ")), "{error}");
        }
    }

    #[test]
    fn the_defaults_and_the_ends_of_all_ranges_are_valid() {
        let ends = SamplingParameters {
            temperature: 0.0,
            top_k: 0,
            top_p: 0.0,
            min_p: 1.0,
            repeat_last_n: usize::MAX,
            logit_bias: BTreeMap::from([(u32::MAX, f32::NEG_INFINITY), (0, f32::MAX)]),
            ..SamplingParameters::default()
        };
        for parameters in [SamplingParameters::default(), ends] {
            assert_eq!(parameters.validate(), Ok(()));
        }
    }

    #[test]
    fn numbers_outside_their_limits_are_refused_by_name() {
        check_refused("temperature", |it, value| it.temperature = value, &[-0.1, 101.0]);
        check_refused("top_p", |it, value| it.top_p = value, &[-0.1, 1.1]);
        check_refused("min_p", |it, value| it.min_p = value, &[-0.1, 1.1]);
        check_refused("repeat_penalty", |it, value| it.repeat_penalty = value, &[0.0, -1.0, 101.0]);
        check_refused("presence_penalty", |it, value| it.presence_penalty = value, &[-101.0, 101.0]);
        check_refused("frequency_penalty", |it, value| it.frequency_penalty = value, &[-101.0, 101.0]);
        check_refused("logit_bias", |it, value| it.logit_bias = BTreeMap::from([(1, 0.0), (2, value)]), &[]);
    }
}
