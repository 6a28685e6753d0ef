//! RMS norm.

use super::Isa;
use super::isa::Kernel;
use super::lanes::{LANES, Simd, sum_four};
use super::rows::{PADDING, Rows};

/// RMS norm in place: `x = x / sqrt(mean(x²) + eps) * weight`.
///
/// # Panics
/// When the shapes differ.
pub(crate) fn norm(isa: Isa, x: &mut Rows, weight: &PaddedVector, eps: f32) {
    assert_eq!(weight.0.len(), x.stride(), "shapes of the norm");
    let (stride, columns) = (x.stride(), x.columns());
    for x in x.padded_mut().chunks_mut(stride) {
        isa.run(Norm { x, columns, weight: &weight.0, eps });
    }
}

/// A vector padded with zeros like the rows of [`Rows`].
#[derive(Clone, Debug)]
pub(crate) struct PaddedVector(pub(super) Vec<f32>);

impl From<Vec<f32>> for PaddedVector {
    fn from(mut values: Vec<f32>) -> Self {
        values.resize(values.len().next_multiple_of(PADDING), 0.0);
        Self(values)
    }
}

struct Norm<'a> {
    x: &'a mut [f32],
    columns: usize,
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let inverse = simd.splat(inverse_rms(simd, self.x, self.columns, self.eps));
        for (x, weight) in self.x.as_chunks_mut::<LANES>().0.iter_mut().zip(self.weight.as_chunks().0) {
            simd.store(normed(simd, x, inverse, weight), x);
        }
    }
}

/// `1 / sqrt(mean(x²) + eps)`; the padding of `x` adds nothing to the sum.
#[inline(always)]
pub(super) fn inverse_rms<S: Simd>(simd: S, x: &[f32], columns: usize, eps: f32) -> f32 {
    let mut squares = [simd.splat(0.0); 4];
    for x in x.as_chunks::<LANES>().0.chunks(4) {
        for (square, x) in squares.iter_mut().zip(x) {
            let x = simd.load(x);
            *square = simd.mul_add(x, x, *square);
        }
    }
    1.0 / (sum_four(simd, squares) / columns as f32 + eps).sqrt()
}

#[inline(always)]
pub(super) fn normed<S: Simd>(
    simd: S,
    x: &[f32; LANES],
    inverse: S::Vector,
    weight: &[f32; LANES],
) -> S::Vector {
    simd.mul(simd.mul(simd.load(x), inverse), simd.load(weight))
}
