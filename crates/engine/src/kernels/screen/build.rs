//! The 8-bit copy of a float matrix, made once at load.

use std::io;
use std::sync::{Mutex, PoisonError};

use super::{NIBBLE_COLUMNS, NibbleTile};
use crate::kernels::Isa;
use crate::kernels::disjoint::Disjoint;
use crate::kernels::elementary::{largest, sum_four};
use crate::kernels::isa::Kernel;
use crate::kernels::simd::{LANES, Simd};
use crate::memory::Buffer;
use crate::pool::Pool;
use crate::quant::QuantError;

/// `[rows, columns]` in 8 bits with a scale for each row, as two planes of half codes.
#[derive(Debug)]
pub struct Screen {
    /// The upper four bits: `[rows / 16, columns / 8]` tiles. The lower four are only read together with them.
    pub(super) high: Buffer<NibbleTile>,
    pub(super) low: Buffer<NibbleTile>,
    pub(super) groups: Buffer<Group>,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Tiles of a group of sixteen rows.
    pub(super) group_tiles: usize,
}

/// What belongs to each of sixteen rows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// What a code of 1 is worth; zero where the row cannot be represented.
    pub(super) scale: [f32; LANES],
    /// At least ‖w - ŵ‖; infinite where the row cannot be represented.
    pub(super) error: [f32; LANES],
    /// At least ‖w‖ and ‖ŵ‖.
    pub(super) norm: [f32; LANES],
}

// SAFETY: arrays of f32 without padding; every bit pattern is valid.
#[expect(unsafe_code, reason = "plain floats")]
unsafe impl bytemuck::Zeroable for Group {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "plain floats")]
unsafe impl bytemuck::Pod for Group {}

/// The system has no memory for the copy, or the rows could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ScreenError {
    /// No memory.
    #[error("cannot reserve memory for the 8-bit copy of the output head")]
    Memory(#[from] io::Error),
    /// The rows could not be read.
    #[error(transparent)]
    Quant(#[from] QuantError),
}

/// Codes are unsigned: this much is added to the signed ones.
pub(super) const OFFSET: i32 = 128;

/// Float sums of up to 2^18 terms are wrong by less than this, relatively, and so are a few operations on them.
const SLACK: f32 = 1.0 + 1e-4;

impl Screen {
    /// Copies a matrix whose rows `read(first, out)` yields, as many as `out` has room for.
    pub fn build(
        pool: &mut Pool,
        isa: Isa,
        rows: usize,
        columns: usize,
        read: impl Fn(usize, &mut [f32]) -> Result<(), QuantError> + Sync,
    ) -> Result<Self, ScreenError> {
        let groups = rows.div_ceil(LANES);
        let group_tiles = columns.div_ceil(NIBBLE_COLUMNS);
        let mut high = Buffer::<NibbleTile>::zeroed(groups * group_tiles)?;
        let mut low = Buffer::<NibbleTile>::zeroed(groups * group_tiles)?;
        let mut about = Buffer::<Group>::zeroed(groups)?;
        let failure = Mutex::new(None);
        let shared = (Disjoint::new(&mut high), Disjoint::new(&mut low), Disjoint::new(&mut about));
        pool.run_ranges(groups, |range| {
            let padded = columns.next_multiple_of(LANES);
            let (mut values, mut row_values) = (vec![0.0; LANES * columns], vec![0.0; padded]);
            let mut codes = vec![0; padded];
            for group in range {
                let count = LANES.min(rows - group * LANES);
                if let Err(error) = read(group * LANES, &mut values[..count * columns]) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
                let tiles = group * group_tiles..(group + 1) * group_tiles;
                // SAFETY: each group belongs to one range.
                #[expect(unsafe_code, reason = "groups are copied in parallel")]
                let (high, low, about) = unsafe {
                    let about = &mut shared.2.part(group..group + 1)[0];
                    (shared.0.part(tiles.clone()), shared.1.part(tiles), about)
                };
                for (row, values) in values[..count * columns].chunks(columns).enumerate() {
                    row_values[..columns].copy_from_slice(values);
                    let measured = isa.run(Quantize { values: &row_values, codes: &mut codes });
                    about.scale[row] = measured.scale;
                    about.error[row] = measured.error;
                    about.norm[row] = measured.norm;
                    for ((codes, high), low) in codes.chunks(NIBBLE_COLUMNS).zip(&mut *high).zip(&mut *low) {
                        store(row, codes, high, low);
                    }
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.into()),
            None => Ok(Self { high, low, groups: about, rows, columns, group_tiles }),
        }
    }

    /// What searching reads, in that order.
    #[must_use]
    pub fn buffers(&self) -> [&[u8]; 2] {
        [
            bytemuck::cast_slice::<NibbleTile, u8>(&self.high),
            bytemuck::cast_slice::<NibbleTile, u8>(&self.low),
        ]
    }
}

/// Splits eight codes of a row into halves.
fn store(row: usize, codes: &[i8], high: &mut NibbleTile, low: &mut NibbleTile) {
    const HALF: u32 = 0x0f0f_0f0f;
    let [first, second] = codes.as_chunks::<4>().0 else { unreachable!("codes come in eights") };
    let word = |codes: &[i8; 4]| u32::from_le_bytes(codes.map(|code| (i32::from(code) + OFFSET) as u8));
    let (first, second) = (word(first), word(second));
    let bytes = 4 * row..4 * row + 4;
    high.0[bytes.clone()].copy_from_slice(&((first >> 4 & HALF) | (second & !HALF)).to_le_bytes());
    low.0[bytes].copy_from_slice(&((first & HALF) | (second & HALF) << 4).to_le_bytes());
}

struct Quantize<'a> {
    values: &'a [f32],
    codes: &'a mut [i8],
}

struct Measured {
    scale: f32,
    error: f32,
    norm: f32,
}

impl Kernel for Quantize<'_> {
    type Output = Measured;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Measured {
        let values = self.values.as_chunks::<LANES>().0;
        let codes = self.codes.as_chunks_mut::<LANES>().0;
        let mut absmax = simd.splat(0.0);
        let mut finite = true;
        for values in values {
            absmax = simd.max(simd.abs(simd.load(values)), absmax);
            finite &= values.iter().all(|value| value.is_finite());
        }
        let absmax = largest(simd, absmax);
        // Beyond these the squares leave the range of f32; such a row is always computed exactly.
        if !finite || (absmax != 0.0 && absmax < 1e-15) || absmax > 1e15 {
            codes.as_flattened_mut().fill(0);
            return Measured { scale: 0.0, error: f32::INFINITY, norm: f32::INFINITY };
        }
        let scale = absmax / 127.0;
        let inverse = if absmax == 0.0 { 0.0 } else { 127.0 / absmax };
        let (mut errors, mut norms, mut copies) =
            ([simd.splat(0.0); 4], [simd.splat(0.0); 4], [simd.splat(0.0); 4]);
        for (values, codes) in values.chunks(4).zip(codes.chunks_mut(4)) {
            for (i, (values, codes)) in values.iter().zip(codes).enumerate() {
                let value = simd.load(values);
                let code = simd.round(simd.mul(value, simd.splat(inverse)));
                let code = simd.min(simd.max(code, simd.splat(-127.0)), simd.splat(127.0));
                simd.store_i8(code, codes);
                let copy = simd.mul(code, simd.splat(scale));
                let error = simd.sub(value, copy);
                errors[i] = simd.mul_add(error, error, errors[i]);
                norms[i] = simd.mul_add(value, value, norms[i]);
                copies[i] = simd.mul_add(copy, copy, copies[i]);
            }
        }
        let (error, norm, copy) = (sum_four(simd, errors), sum_four(simd, norms), sum_four(simd, copies));
        let (error, norm) = (error.sqrt() * SLACK, norm.max(copy).sqrt() * SLACK);
        // The copy and the difference are rounded, each element by 2^-23 of the largest at most, and tiny squares vanish.
        let count = self.values.len() as f32;
        let rounding = absmax * count.sqrt() * f32::EPSILON + (count * f32::MIN_POSITIVE).sqrt();
        Measured { scale, error: error + rounding, norm: norm + rounding }
    }
}
