//! What this machine can do at most, for comparison with what the kernels reach.

use super::Isa;
use super::isa::Kernel;
use super::lanes::Simd;
use crate::kernels::disjoint::Disjoint;
use crate::pool::Pool;

/// Bytes that one piece reads: small enough to balance the threads, large enough for the prefetchers.
const PIECE: usize = 1 << 20;

/// Reads all of `buffers` once on all threads, in order; the result only keeps the reads alive.
pub(crate) fn read(pool: &mut Pool, isa: Isa, buffers: &[&[u8]]) -> u64 {
    let mut sums = vec![0; buffers.iter().map(|buffer| buffer.len().div_ceil(PIECE)).sum()];
    let mut first = 0;
    let sums_of = Disjoint::new(&mut sums);
    for buffer in buffers {
        let pieces = buffer.len().div_ceil(PIECE);
        pool.run(pieces, |piece| {
            let bytes = &buffer[piece * PIECE..buffer.len().min((piece + 1) * PIECE)];
            // SAFETY: each piece has its own sum.
            #[expect(unsafe_code, reason = "one sum a piece")]
            let sum = unsafe { sums_of.part(first + piece..first + piece + 1) };
            sum[0] = isa.run(Read { bytes });
        });
        first += pieces;
    }
    sums.iter().fold(0, |sum, &part| sum ^ part)
}

struct Read<'a> {
    bytes: &'a [u8],
}

impl Kernel for Read<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        let mut sums = [0u64; 32];
        for chunk in self.bytes.as_chunks::<256>().0 {
            for line in chunk.chunks(64) {
                simd.fetch_ahead(line.as_ptr());
            }
            for (sum, bytes) in sums.iter_mut().zip(chunk.as_chunks().0) {
                *sum ^= u64::from_le_bytes(*bytes);
            }
        }
        sums.iter().fold(0, |sum, &part| sum ^ part)
    }
}

/// Multiplies int8 in registers, without memory, on all threads for `rounds` rounds each; returns the multiply-adds done.
pub(crate) fn multiply(pool: &mut Pool, isa: Isa, rounds: usize) -> u64 {
    on_all_threads(pool, || isa.run(Multiply { rounds }))
}

/// The same with f32.
pub(crate) fn multiply_floats(pool: &mut Pool, isa: Isa, rounds: usize) -> u64 {
    on_all_threads(pool, || isa.run(MultiplyFloats { rounds }))
}

fn on_all_threads(pool: &mut Pool, multiply: impl Fn() -> u64 + Sync) -> u64 {
    let threads = pool.threads();
    let mut products = vec![0; threads];
    let shared = Disjoint::new(&mut products);
    pool.run(threads, |thread| {
        // SAFETY: each piece has its own count.
        #[expect(unsafe_code, reason = "one count a piece")]
        let product = unsafe { shared.part(thread..thread + 1) };
        product[0] = multiply();
    });
    products.iter().sum()
}

struct Multiply {
    rounds: usize,
}

impl Kernel for Multiply {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        simd.multiply_registers(self.rounds)
    }
}

struct MultiplyFloats {
    rounds: usize,
}

impl Kernel for MultiplyFloats {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        simd.multiply_float_registers(self.rounds)
    }
}
