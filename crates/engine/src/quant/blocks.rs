//! The block formats: fixed numbers of bytes to fixed numbers of weights.
//!
//! Layouts are ggml's (`ggml-quants.c`) and, for `I2_S`, those of the BitNet branch of it.

use half::f16;

/// A code that is none of the three digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct InvalidCode;

/// 32 bytes → 128 digits. Byte j holds elements j, 32+j, 64+j and 96+j, the first in its highest bits.
pub(super) fn i2_s(block: &[u8; 32], out: &mut [i8; 128]) -> Result<(), InvalidCode> {
    for (group, shift) in out.as_chunks_mut::<32>().0.iter_mut().zip([6, 4, 2, 0]) {
        two_bits(block, shift, group);
    }
    check_two_bits(block)
}

/// 66 bytes → 256 digits and their scale: two halves of 32 bytes, then the scale. Byte j of a half holds elements j,
/// 32+j, 64+j and 96+j of that half, the first in its lowest bits.
pub(super) fn tq2_0(block: &[u8; 66], out: &mut [i8; 256]) -> Result<f32, InvalidCode> {
    let [halves @ .., low, high] = block;
    for (half, out) in halves.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<128>().0) {
        for (group, shift) in out.as_chunks_mut::<32>().0.iter_mut().zip([0, 2, 4, 6]) {
            two_bits(half, shift, group);
        }
        check_two_bits(half)?;
    }
    Ok(f16::from_le_bytes([*low, *high]).to_f32())
}

/// The code 0, 1 or 2 at `shift` in each byte, as −1, 0 or +1.
fn two_bits(bytes: &[u8; 32], shift: u32, out: &mut [i8; 32]) {
    for (out, byte) in out.iter_mut().zip(bytes) {
        *out = (byte >> shift & 3) as i8 - 1;
    }
}

/// Refuses the code 3.
fn check_two_bits(bytes: &[u8; 32]) -> Result<(), InvalidCode> {
    let both_bits_set = bytes.as_chunks().0.iter().fold(0, |found, &word| {
        let word = u64::from_le_bytes(word);
        found | (word & word >> 1 & 0x5555_5555_5555_5555)
    });
    if both_bits_set == 0 { Ok(()) } else { Err(InvalidCode) }
}

/// 54 bytes → 256 digits and their scale. A byte is a fraction of 256 whose base-3 digits are the weights: five in each
/// of the first 32 bytes (digit n of byte j is element 32n+j), five in each of the next 16 (element 160+16n+j), four in
/// each of the next 4 (element 240+4n+j); the scale follows.
pub(super) fn tq1_0(block: &[u8; 54], out: &mut [i8; 256]) -> f32 {
    let [codes @ .., low, high] = block;
    let (first, rest) = codes.split_at(32);
    let (second, third) = rest.split_at(16);
    let (first_out, rest) = out.split_at_mut(5 * 32);
    let (second_out, third_out) = rest.split_at_mut(5 * 16);
    base_3::<32>(first, first_out);
    base_3::<16>(second, second_out);
    base_3::<4>(third, third_out);
    f16::from_le_bytes([*low, *high]).to_f32()
}

/// Digit n of each byte, as −1, 0 or +1, in the n-th piece of `out`.
fn base_3<const BYTES: usize>(bytes: &[u8], out: &mut [i8]) {
    let mut fractions = [0; BYTES];
    fractions.copy_from_slice(bytes);
    for digits in out.as_chunks_mut::<BYTES>().0 {
        for (digit, fraction) in digits.iter_mut().zip(&mut fractions) {
            // The integer part of 3 · fraction / 256, found by comparing, since that stays within bytes.
            *digit = i8::from(*fraction > 85) + i8::from(*fraction > 170) - 1;
            *fraction = fraction.wrapping_mul(3);
        }
    }
}

/// 34 bytes → 32 weights: an F16 scale, then int8.
pub(super) fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [low, high, codes @ ..] = block;
    let scale = f16::from_le_bytes([*low, *high]).to_f32();
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = scale * f32::from(code as i8);
    }
}

/// 210 bytes → 256 weights: lower four bits (128 bytes), upper two bits (64), an int8 scale per 16 weights, and the
/// F16 scale of these scales.
///
/// In each half of 128 weights, byte j of 32 upper-bit bytes holds two bits of each of the elements j, 32+j, 64+j, 96+j;
/// of 64 lower-bit bytes, byte j holds elements j and 64+j.
pub(super) fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let [codes @ .., low, high] = block;
    let (lower, rest) = codes.split_at(128);
    let (upper, scales) = rest.split_at(64);
    let scale = f16::from_le_bytes([*low, *high]).to_f32();
    let halves =
        lower.as_chunks::<64>().0.iter().zip(upper.as_chunks::<32>().0).zip(scales.as_chunks::<8>().0);
    for (((lower, upper), scales), out) in halves.zip(out.as_chunks_mut::<128>().0) {
        for (index, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let lower = &lower.as_chunks::<32>().0[index % 2];
            let (low_shift, high_shift) = (index / 2 * 4, index * 2);
            for (j, out) in out.iter_mut().enumerate() {
                let code = lower[j] >> low_shift & 15 | (upper[j] >> high_shift & 3) << 4;
                let scale = scale * f32::from(scales[index * 2 + j / 16] as i8);
                *out = scale * f32::from(code as i8 - 32);
            }
        }
    }
}
