//! `AdamW` (Loshchilov and Hutter, 2019) with clipping, and the course of the learning rate.

use rayon::prelude::*;

use crate::shape::{Kind, Layout};

/// Share of the last gradients in their mean.
const BETA_1: f32 = 0.9;
/// Share of the last squares in their mean.
const BETA_2: f32 = 0.95;
const EPSILON: f32 = 1e-8;
/// Longer gradients are shortened to this.
const CLIP: f64 = 1.0;
/// Parameters that are updated by one piece of work.
const PIECE: usize = 1 << 15;

/// How far each step goes.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f32,
    /// Steps until it is reached.
    pub warm_up: u64,
    /// What ternary weights lose in a step, as a share of the learning rate, in the first half of the training. Afterwards nothing, so
    /// that weights settle ("The Era of 1-bit LLMs: Training Tips", 2024).
    pub weight_decay: f32,
}

impl Schedule {
    /// Learning rate and weight decay of step `step` of `total`: up in a line to the peak, down in a line to 0.
    #[must_use]
    pub fn at(&self, step: u64, total: u64) -> (f32, f32) {
        let rise = (step + 1) as f32 / self.warm_up.max(1) as f32;
        let rest = total.saturating_sub(step) as f32 / total.saturating_sub(self.warm_up).max(1) as f32;
        let decay = if 2 * step < total { self.weight_decay } else { 0.0 };
        (self.peak * rise.min(rest).clamp(0.0, 1.0), decay)
    }
}

/// The moments of all gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// Running mean of the gradients.
    pub mean: Vec<f32>,
    /// Running mean of their squares.
    pub square: Vec<f32>,
    /// Steps that were made.
    pub steps: u64,
}

/// Some parameters with everything that belongs to them.
struct Piece<'a> {
    kind: Kind,
    master: &'a mut [f32],
    gradient: &'a mut [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

impl Optimizer {
    /// For so many parameters.
    #[must_use]
    pub fn new(parameters: usize) -> Self {
        Self { mean: vec![0.0; parameters], square: vec![0.0; parameters], steps: 0 }
    }

    /// Changes `master` against the gradient, which is the sum of all lanes times `scale`; returns its length before clipping. The lanes are
    /// zero afterwards.
    pub fn step(
        &mut self,
        layout: &Layout,
        master: &mut [f32],
        lanes: &mut [&mut [f32]],
        scale: f32,
        (rate, weight_decay): (f32, f32),
    ) -> f64 {
        self.steps += 1;
        let Some((gradient, others)) = lanes.split_first_mut() else { return 0.0 };
        for other in others {
            let pieces = gradient.par_chunks_mut(PIECE).zip(other.par_chunks_mut(PIECE));
            pieces.for_each(|(gradient, other)| {
                for (gradient, other) in gradient.iter_mut().zip(other) {
                    *gradient += std::mem::take(other);
                }
            });
        }
        let squares: Vec<f64> = gradient
            .par_chunks(PIECE)
            .map(|piece| piece.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
            .collect();
        // In the order of the parameters, whichever thread was first.
        let length = squares.iter().sum::<f64>().sqrt() * f64::from(scale);
        let scale = scale * (CLIP / length.max(CLIP)) as f32;
        let steps = self.steps as i32;
        let rate_of_mean = rate / (1.0 - BETA_1.powi(steps));
        let square_correction = 1.0 / (1.0 - BETA_2.powi(steps));
        self.pieces(layout, master, gradient).into_par_iter().for_each(|piece| {
            let keep = if piece.kind == Kind::Ternary { 1.0 - rate * weight_decay } else { 1.0 };
            let moments = piece.mean.iter_mut().zip(piece.square);
            for ((w, gradient), (mean, square)) in piece.master.iter_mut().zip(piece.gradient).zip(moments) {
                let g = std::mem::take(gradient) * scale;
                *mean = BETA_1 * *mean + (1.0 - BETA_1) * g;
                *square = BETA_2 * *square + (1.0 - BETA_2) * g * g;
                *w = *w * keep - rate_of_mean * *mean / ((*square * square_correction).sqrt() + EPSILON);
            }
        });
        length
    }

    /// All parameters in pieces of one kind.
    fn pieces<'a>(
        &'a mut self,
        layout: &Layout,
        mut master: &'a mut [f32],
        mut gradient: &'a mut [f32],
    ) -> Vec<Piece<'a>> {
        let (mut mean, mut square) = (self.mean.as_mut_slice(), self.square.as_mut_slice());
        let mut pieces = Vec::new();
        for tensor in &layout.tensors {
            for start in tensor.range.clone().step_by(PIECE) {
                let length = PIECE.min(tensor.range.end - start);
                let piece = [&mut master, &mut gradient, &mut mean, &mut square]
                    .map(|all| all.split_off_mut(..length).unwrap_or_default());
                let [master, gradient, mean, square] = piece;
                pieces.push(Piece { kind: tensor.kind, master, gradient, mean, square });
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    #[test]
    fn the_learning_rate_rises_and_falls_to_zero() {
        let schedule = Schedule { peak: 2.0, warm_up: 10, weight_decay: 0.1 };
        assert_eq!(schedule.at(4, 110), (1.0, 0.1));
        assert_eq!(schedule.at(10, 110), (2.0, 0.1));
        assert_eq!(schedule.at(60, 110), (1.0, 0.0));
        assert_eq!(schedule.at(110, 110).0, 0.0);
    }

    #[test]
    fn a_step_goes_against_the_sum_of_all_lanes_and_clears_them() {
        let shape =
            Shape { vocab: 8, hidden: 128, layers: 1, heads: 2, kv_heads: 1, ffn: 128, ..Shape::DEMO };
        let layout = Layout::new(shape);
        let parameters = layout.parameters();
        let (mut master, mut optimizer) = (vec![1.0; parameters], Optimizer::new(parameters));
        let (mut a, mut b) = (vec![3.0; parameters], vec![-1.0; parameters]);
        b[0] = -5.0;
        let length = optimizer.step(&layout, &mut master, &mut [&mut a, &mut b], 0.5, (0.1, 0.0));
        assert!((length - (parameters as f64).sqrt()).abs() < 1e-3);
        assert!(master[0] > 1.09 && master[1] < 0.91 && master[parameters - 1] < 0.91);
        assert!(a.iter().chain(&b).all(|&gradient| gradient == 0.0));
    }
}
