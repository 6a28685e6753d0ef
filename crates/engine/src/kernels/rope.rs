//! Rotary position embedding on halves: element `i` of a head is rotated with element `i + head_dim / 2`.

use super::isa::Kernel;
use super::lanes::{LANES, Simd};

/// Cosine and sine for the positions of one forward pass, computed once and used by every layer and head.
#[derive(Clone, Debug)]
pub(crate) struct Angles {
    /// `theta^(-2i / head_dim)`
    frequencies: Vec<f32>,
    /// `[rows, head_dim / 2]`
    cosines: Vec<f32>,
    /// `[rows, head_dim / 2]`
    sines: Vec<f32>,
}

impl Angles {
    /// Room for the angles of `capacity` rows.
    #[must_use]
    pub(crate) fn new(head_dim: usize, theta: f32, capacity: usize) -> Self {
        let half = head_dim / 2;
        let frequency = |i: usize| f64::from(theta).powf(-(i as f64) / half as f64) as f32;
        Self {
            frequencies: (0..half).map(frequency).collect(),
            cosines: vec![1.0; capacity * half],
            sines: vec![0.0; capacity * half],
        }
    }

    /// Computes the angles of the rows' positions.
    pub(crate) fn set_positions(&mut self, positions: impl Iterator<Item = usize>) {
        let half = self.frequencies.len().max(1);
        let rows = self.cosines.chunks_mut(half).zip(self.sines.chunks_mut(half));
        for (position, (cosines, sines)) in positions.zip(rows) {
            for ((cosine, sine), &frequency) in cosines.iter_mut().zip(sines).zip(&self.frequencies) {
                // The angle is rounded to f32 as in the models' training code; its sine is then exact to f32.
                let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                (*cosine, *sine) = (cos as f32, sin as f32);
            }
        }
    }

    /// The rotation of `head` to the position of row `row`, in place.
    pub(super) fn rotation<'a>(&'a self, row: usize, head: &'a mut [f32]) -> Rotation<'a> {
        let half = self.frequencies.len();
        let range = row * half..(row + 1) * half;
        Rotation { cosines: &self.cosines[range.clone()], sines: &self.sines[range], head }
    }
}

/// One head, and the angles to rotate it by.
pub(super) struct Rotation<'a> {
    cosines: &'a [f32],
    sines: &'a [f32],
    head: &'a mut [f32],
}

impl Kernel for Rotation<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (first, second) = self.head.split_at_mut(self.cosines.len());
        let ((first, a), (second, b)) = (first.as_chunks_mut::<LANES>(), second.as_chunks_mut::<LANES>());
        let ((cosines, cos), (sines, sin)) =
            (self.cosines.as_chunks::<LANES>(), self.sines.as_chunks::<LANES>());
        for (((first, second), cos), sin) in first.iter_mut().zip(second).zip(cosines).zip(sines) {
            let (a, b, cos, sin) = (simd.load(first), simd.load(second), simd.load(cos), simd.load(sin));
            simd.store(simd.sub(simd.mul(a, cos), simd.mul(b, sin)), first);
            simd.store(simd.add(simd.mul(b, cos), simd.mul(a, sin)), second);
        }
        for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
