//! What every generating endpoint takes: how tokens are chosen, and where the answer ends.

use serde::{Deserialize, Deserializer};

use super::logit_bias::LogitBias;
use super::stop::Stop;
use super::value::{Flag, Integer, Number, Scalar, is_set, must_be};
use crate::api::Admitted;
use crate::api::error::ApiError;
use crate::generation::GenerationRequest;

/// OpenAI's parameters and llama.cpp's, in one body.
#[derive(Debug, Deserialize)]
pub(in crate::api) struct Sampling {
    temperature: Option<Number>,
    top_k: Option<Integer<-1, { i64::MAX }>>,
    top_p: Option<Number>,
    min_p: Option<Number>,
    repeat_penalty: Option<Number>,
    repeat_last_n: Option<Integer<-1, { i64::MAX }>>,
    presence_penalty: Option<Number>,
    frequency_penalty: Option<Number>,
    seed: Option<Seed>,
    logit_bias: Option<LogitBias>,
    ignore_eos: Option<Flag>,
    stop: Option<Stop>,
    cache_prompt: Option<Flag>,
}

impl Sampling {
    /// Changes what the request says nothing of to what this one says.
    pub(in crate::api) fn apply(
        self,
        request: &mut GenerationRequest,
        admitted: &Admitted,
    ) -> Result<(), ApiError> {
        let (tokenizer, context) = (&admitted.engine.tokenizer, admitted.engine.about.context);
        let sampling = &mut request.sampling;
        for (given, value) in [
            (self.temperature, &mut sampling.temperature),
            (self.top_p, &mut sampling.top_p),
            (self.min_p, &mut sampling.min_p),
            (self.repeat_penalty, &mut sampling.repeat_penalty),
            (self.presence_penalty, &mut sampling.presence_penalty),
            (self.frequency_penalty, &mut sampling.frequency_penalty),
        ] {
            *value = given.map_or(*value, |Number(number)| number);
        }
        if let Some(Integer(k)) = self.top_k {
            // llama.cpp takes anything below 1 for "all".
            sampling.top_k = usize::try_from(k).unwrap_or(0);
        }
        if let Some(Integer(n)) = self.repeat_last_n {
            // -1 is llama.cpp's "the whole context".
            sampling.repeat_last_n = usize::try_from(n).unwrap_or(usize::MAX).min(context);
        }
        if let Some(Seed(Some(seed))) = self.seed {
            sampling.seed = seed;
        }
        if let Some(biases) = self.logit_bias {
            sampling.logit_bias = biases.resolve(admitted)?;
        }
        if is_set(self.ignore_eos) {
            let never = tokenizer.end_of_generation().iter().map(|&id| (id, f32::NEG_INFINITY));
            sampling.logit_bias.extend(never);
        }
        let forbidden = sampling.logit_bias.values().filter(|bias| **bias == f32::NEG_INFINITY).count();
        if forbidden == tokenizer.vocab_size() {
            return Err(ApiError::invalid("logit_bias", "such that a token is left", "for none"));
        }
        sampling.validate().map_err(|error| ApiError::invalid(error.field, error.limit, error.value))?;
        if let Some(Stop(stop)) = self.stop {
            request.stop = stop;
        }
        request.cache_prompt = self.cache_prompt.is_none_or(|Flag(flag)| flag);
        Ok(())
    }
}

/// `None` (-1) is the default, or a random one.
#[derive(Debug)]
struct Seed(Option<u64>);

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Scalar::deserialize(deserializer)? {
            Scalar::Unsigned(seed) => Ok(Self(Some(seed))),
            Scalar::Signed(-1) => Ok(Self(None)),
            Scalar::Signed(negative) => Ok(Self(Some(negative as u64))),
            other => Err(must_be("a whole number of 64 bits", other)),
        }
    }
}
