//! What the machine could do at most: measured with the engine's threads, over its own weights.

use std::time::Instant;

use serde::Serialize;

use crate::kernels::{Isa, peak};
use crate::model::Inference;

/// Rounds of the multiplication limits: some tens of milliseconds.
const MULTIPLY_ROUNDS: usize = 4_000_000;

/// What the speed of a computation can be limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Multiply-adds of int8.
    MultiplyAdds,
    /// Multiply-adds of f32.
    FloatMultiplyAdds,
    /// Bytes read from memory.
    Bytes,
}

impl Resource {
    /// How much of it all threads together get in a second, at this moment.
    pub(super) fn measure(self, inference: &mut Inference, isa: Isa) -> f64 {
        inference.with_pool(|model, pool| {
            let buffers = model.buffers();
            let start = Instant::now();
            let amount = match self {
                Self::MultiplyAdds => peak::multiply(pool, isa, MULTIPLY_ROUNDS),
                Self::FloatMultiplyAdds => peak::multiply_floats(pool, isa, MULTIPLY_ROUNDS),
                Self::Bytes => {
                    std::hint::black_box(peak::read(pool, isa, &buffers));
                    buffers.iter().map(|buffer| buffer.len() as u64).sum()
                }
            };
            amount as f64 / start.elapsed().as_secs_f64()
        })
    }
}
