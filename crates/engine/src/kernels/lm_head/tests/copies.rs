//! 8-bit matrices against the floats that they are made of.

use super::{Noise, normal, pool, rounded, rows};
use crate::kernels::lanes::LANES;
use crate::kernels::lm_head::copies::IntMatrix;
use crate::kernels::lm_head::{
    CodeSums, CodeTile, Int8Matrix, WIDE_ROWS, Wide, WideQuad, int8_logits, tile_quads,
};
use crate::kernels::{Isa, Rows};

/// What the codes of a row stand for.
fn decoded<const NIBBLES: usize>(matrix: &IntMatrix<NIBBLES>, row: usize) -> Vec<f32> {
    let (group, row) = (row / LANES, row % LANES);
    let columns = 4 * tile_quads(NIBBLES);
    let code = |column: usize| {
        f32::from(matrix.tiles(group)[column / columns].code::<NIBBLES>(row, column % columns))
    };
    let middle = (16f32.powi(NIBBLES as i32) - 1.0) / 2.0;
    (0..matrix.columns).map(|column| (code(column) - middle) * matrix.groups[group].scale[row]).collect()
}

/// `[tokens, rows]` of bits, so that what is not a number compares too.
fn logit_bits(isa: Isa, threads: usize, columns: usize, values: &[f32], x: &Rows) -> Vec<u32> {
    let matrix = rounded(isa, threads, columns, values);
    let mut out = vec![0.0; x.rows() * matrix.rows];
    let tokens: Vec<usize> = (0..x.rows()).collect();
    int8_logits(&mut pool(threads), isa, &matrix, (x, &tokens), &mut Wide::default(), &mut out);
    out.iter().map(|x| x.to_bits()).collect()
}

/// Ordinary rows, rows with outliers, tiny and huge rows, zeros, and rows with what is not a number.
fn all_kinds(noise: &mut Noise, columns: usize) -> Vec<f32> {
    let mut values = Vec::new();
    for row in 0..67 {
        let scale = [1.0, 1e-3, 1e-38, 1e25, 0.0][row % 5];
        let first = values.len();
        values.extend((0..columns).map(|_| noise.normal() * scale));
        match row {
            60..64 => values[first + row % columns] = 50.0,
            64 => values[first] = f32::NAN,
            65 => values[first] = f32::INFINITY,
            _ => {}
        }
    }
    values
}

/// Every element is within half a step of its code, and the error that is said of the row is no less than the true one and
/// hardly more.
fn check_rounding<const NIBBLES: usize>() {
    let mut noise = Noise(11);
    let steps = 16f64.powi(NIBBLES as i32) / 2.0;
    for columns in [1, 7, 8, 70, 256] {
        let values = all_kinds(&mut noise, columns);
        for isa in Isa::available() {
            let matrix: IntMatrix<NIBBLES> = rounded(isa, 2, columns, &values);
            assert_eq!(matrix.rows, 67);
            for (row, values) in values.chunks(columns).enumerate() {
                let decoded = decoded(&matrix, row);
                let said = matrix.groups[row / LANES].error[row % LANES];
                let absmax = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                if !values.iter().all(|x| x.is_finite()) {
                    assert!(decoded.iter().all(|x| x.is_nan()) && said.is_infinite(), "row {row}");
                    continue;
                }
                // Rows below 1e-30 become zero.
                let allowed = (f64::from(absmax) / steps * 0.500_01).max(1e-30);
                let mut squares = 0.0;
                for (value, decoded) in values.iter().zip(&decoded) {
                    let error = f64::from(*value) - f64::from(*decoded);
                    assert!(error.abs() <= allowed, "row {row}: {value} {decoded}");
                    squares += error * error;
                }
                let padding = (columns.next_multiple_of(LANES) - columns) as f64 * allowed * allowed;
                let most = (squares + padding).sqrt() * 1.001 + f64::from(absmax) * 1e-5 + 1e-15;
                assert!(f64::from(said) >= squares.sqrt(), "row {row}: {said}");
                assert!(f64::from(said) <= most || said.is_infinite(), "row {row}: {said}, {most}");
            }
        }
    }
}

#[test]
fn rows_are_within_half_a_step_and_as_wrong_as_is_said_of_them() {
    check_rounding::<2>();
    check_rounding::<1>();
}

#[test]
fn logits_are_the_products_of_the_decoded_rows() {
    let mut noise = Noise(12);
    for columns in [8, 70, 640] {
        let values = all_kinds(&mut noise, columns);
        let mut x = normal(&mut noise, 3 * columns);
        x[columns] = 400.0;
        let matrix: Int8Matrix = rounded(Isa::best(), 2, columns, &values);
        let mut logits = vec![0.0; 3 * 67];
        int8_logits(
            &mut pool(2),
            Isa::best(),
            &matrix,
            (&rows(columns, &x), &[0, 1, 2]),
            &mut Wide::default(),
            &mut logits,
        );
        for (x, logits) in x.chunks(columns).zip(logits.chunks(67)) {
            let absmax = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            for (row, &logit) in logits.iter().enumerate() {
                let decoded = decoded(&matrix, row);
                if decoded.iter().any(|x| x.is_nan()) {
                    assert!(logit.is_nan(), "row {row}");
                    continue;
                }
                let expected: f64 = decoded.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                // Activations are rounded by half of one part in 32,639 of the largest; the rest is f32's last digit.
                let weights: f64 = decoded.iter().map(|&w| f64::from(w).abs()).sum();
                let allowed = weights * f64::from(absmax) / 65_000.0 + expected.abs() * 1e-6;
                let error = (f64::from(logit) - expected).abs();
                assert!(error <= allowed, "row {row}: {logit} for {expected}");
            }
        }
    }
}

#[test]
fn logits_have_the_same_bits_on_every_instruction_set_and_for_any_threads() {
    let mut noise = Noise(13);
    for columns in [1, 70, 640] {
        let values = all_kinds(&mut noise, columns);
        let x = rows(columns, &normal(&mut noise, 11 * columns));
        let expected = logit_bits(Isa::SCALAR, 1, columns, &values, &x);
        for isa in Isa::available() {
            for threads in [1, 2, 5] {
                let found = logit_bits(isa, threads, columns, &values, &x);
                assert!(found == expected, "{isa}, {threads} threads, {columns} columns");
            }
        }
    }
}

#[test]
fn zero_and_impossible_activations_have_the_logits_that_they_would_have_in_floats() {
    let columns = 64;
    let matrix: Int8Matrix = rounded(Isa::best(), 2, columns, &normal(&mut Noise(14), 40 * columns));
    let mut x = vec![0.0; 2 * columns];
    x[columns] = f32::INFINITY;
    let mut logits = vec![1.0; 2 * 40];
    int8_logits(
        &mut pool(2),
        Isa::best(),
        &matrix,
        (&rows(columns, &x), &[0, 1]),
        &mut Wide::default(),
        &mut logits,
    );
    assert!(logits[..40].iter().all(|&logit| logit == 0.0));
    assert!(logits[40..].iter().all(|logit| logit.is_nan()));
}

#[test]
fn sums_of_codes_are_the_same_on_every_instruction_set() {
    struct Sums<'a, const NIBBLES: usize>(&'a [CodeTile], &'a [WideQuad]);
    impl<const NIBBLES: usize> crate::kernels::isa::Kernel for Sums<'_, NIBBLES> {
        type Output = Vec<CodeSums>;

        #[inline(always)]
        fn run<S: crate::kernels::lanes::Simd>(self, simd: S) -> Vec<CodeSums> {
            let rows = self.1.len() / self.0.len() / tile_quads(NIBBLES);
            let mut sums = vec![[1.0; LANES]; rows];
            simd.dot_codes::<NIBBLES>(self.0, self.1, &mut sums);
            sums
        }
    }
    let mut noise = Noise(5);
    for tiles in [1, 3, 63, 64, 65, 640] {
        for extreme in [false, true] {
            let noise = std::cell::RefCell::new(&mut noise);
            let byte = || if extreme { 255 } else { (noise.borrow_mut().next() * 1e6) as i64 as u8 };
            let data: Vec<_> = (0..tiles).map(|_| CodeTile([(); 64].map(|()| byte()))).collect();
            let code = || if extreme { i16::MIN } else { i16::from_le_bytes([byte(), byte()]) };
            for rows in 1..=WIDE_ROWS {
                let x: Vec<_> = (0..2 * tiles * rows).map(|_| [[code(), code()], [code(), code()]]).collect();
                for isa in Isa::available() {
                    let context = format!("{isa}, {tiles} tiles, {rows} rows");
                    let int4 = |isa: Isa| isa.run(Sums::<1>(&data, &x));
                    assert_eq!(int4(isa), int4(Isa::SCALAR), "{context}");
                    let int8 = |isa: Isa| isa.run(Sums::<2>(&data, &x[..tiles * rows]));
                    assert_eq!(int8(isa), int8(Isa::SCALAR), "{context}");
                }
            }
        }
    }
}
