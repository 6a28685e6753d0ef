//! Every storage type gives the same weights, decoders equal a plain definition, and damaged tensors are named.

use half::{bf16, f16};
use proptest::prelude::*;

use super::floats::decode_row;
use super::*;
use crate::checkpoint::Checkpoint;
use crate::checkpoint::tests::{fixture, small_model};
use crate::gguf::TensorType;

const LINEARS: [&str; 7] = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// The scale and all weights of a ternary matrix.
fn unpacked(tensor: Tensor<'_>) -> (f32, Vec<i8>) {
    let rows = TernaryRows::new(tensor).unwrap();
    let mut digits = vec![9; tensor.rows * tensor.columns];
    rows.unpack(0, &mut digits).unwrap();
    (rows.scale(), digits)
}

/// A model with one tensor named `w`.
fn with_tensor(tensor_type: TensorType, columns: u64, rows: u64, data: Vec<u8>) -> Checkpoint {
    let file = small_model("bitnet-b1.58").tensor("w", &[columns, rows], tensor_type.id(), data);
    Checkpoint::from_bytes(file.bytes().into()).unwrap()
}

#[track_caller]
fn check_refused(result: Result<impl std::fmt::Debug, QuantError>, expected: &str) {
    let message = result.expect_err("should be refused").to_string();
    assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
}

/// Asserts that the linear layers of some files are the same matrices with the same scales.
#[track_caller]
fn check_same_weights(files: &[&str]) {
    let checkpoints: Vec<_> = files.iter().map(|name| fixture(name)).collect();
    for layer in 0..checkpoints[0].hyperparameters().layers {
        for linear in LINEARS {
            let name = format!("blk.{layer}.{linear}.weight");
            let matrices: Vec<_> =
                checkpoints.iter().map(|checkpoint| unpacked(checkpoint.tensor(&name).unwrap())).collect();
            for (file, matrix) in files.iter().zip(&matrices) {
                assert!(*matrix == matrices[0], "{name} of {file} differs from that of {}", files[0]);
            }
            let (scale, digits) = &matrices[0];
            assert!(*scale > 0.0);
            for digit in -1..=1 {
                let share =
                    digits.iter().filter(|&&found| found == digit).count() as f32 / digits.len() as f32;
                assert!((0.25..0.45).contains(&share), "{name}: {share} of the weights are {digit}");
            }
        }
    }
}

#[test]
fn the_same_weights_come_out_of_i2_s_tq1_0_and_tq2_0() {
    check_same_weights(&["nano128/model-i2_s.gguf", "nano128/model-tq1_0.gguf", "nano128/model-tq2_0.gguf"]);
}

#[test]
fn the_same_weights_come_out_of_i2_s_and_f16() {
    check_same_weights(&["pico/model-i2_s.gguf", "pico/model-f16.gguf", "pico-bitnet25/model-i2_s.gguf"]);
}

#[test]
fn scales_are_those_of_the_description() {
    let description: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/nano128/model.json")).unwrap();
    let checkpoint = fixture("nano128/model-tq1_0.gguf");
    let names = ["q", "k", "v", "o", "gate", "up", "down"];
    for (linear, short) in LINEARS.iter().zip(names) {
        let rows = TernaryRows::new(checkpoint.tensor(&format!("blk.1.{linear}.weight")).unwrap()).unwrap();
        assert_eq!(Some(f64::from(rows.scale())), description["scales"][format!("blk.1.{short}")].as_f64());
    }
}

#[test]
fn any_range_of_rows_equals_the_same_rows_of_the_whole() {
    for file in ["pico/model-f16.gguf", "nano64/model-i2_s.gguf", "nano128/model-tq1_0.gguf"] {
        let checkpoint = fixture(file);
        let tensor = checkpoint.tensor("blk.0.ffn_down.weight").unwrap();
        let rows = TernaryRows::new(tensor).unwrap();
        let (count, columns) = (tensor.rows, tensor.columns);
        let (_, whole) = unpacked(tensor);
        for (first, end) in [(0, 1), (1, 2), (3, 50), (count - 1, count), (count, count), (5, count)] {
            let mut some = vec![9; (end - first) * columns];
            rows.unpack(first, &mut some).unwrap();
            assert!(some == whole[first * columns..end * columns], "rows {first}..{end} of {file}");
        }
        for (first, length) in
            [(count, columns), (0, (count + 1) * columns), (0, columns - 1), (usize::MAX, columns)]
        {
            check_refused(rows.unpack(first, &mut vec![0; length]), "are not whole rows inside of it");
        }
    }
}

#[test]
fn embeddings_of_all_types_are_close_to_the_f16_one() {
    let read = |name| {
        let checkpoint = fixture(name);
        let tensor = checkpoint.tensor("token_embd.weight").unwrap();
        let rows = FloatRows::new(tensor).unwrap();
        let mut all = vec![f32::NAN; tensor.rows * tensor.columns];
        rows.rows(0, &mut all).unwrap();
        let mut one = vec![f32::NAN; tensor.columns];
        rows.row(tensor.rows - 1, &mut one).unwrap();
        assert!(all.ends_with(&one), "the last row of {name} alone differs");
        check_refused(rows.row(tensor.rows, &mut one), "are not whole rows inside of it");
        all
    };
    let exact = read("nano128/model-i2_s.gguf");
    let largest = exact.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    for (file, tolerance) in
        [("nano128/model-i2_s-q8_0.gguf", 0.5 / 127.0), ("nano128/model-i2_s-q6_k.gguf", 0.5 / 31.0)]
    {
        for (found, expected) in read(file).iter().zip(&exact) {
            assert!((found - expected).abs() <= 1.01 * tolerance * largest, "{file}: {found} for {expected}");
        }
    }
}

/// What a block of `I2_S` means, element by element.
fn i2_s_by_definition(bytes: &[u8], element: usize) -> i8 {
    let (block, index) = (element / 128, element % 128);
    (bytes[block * 32 + index % 32] >> (6 - index / 32 * 2) & 3) as i8 - 1
}

/// What a block of `TQ2_0` means, element by element.
fn tq2_0_by_definition(block: &[u8], element: usize) -> i8 {
    let (half, index) = (element / 128, element % 128);
    (block[half * 32 + index % 32] >> (index / 32 * 2) & 3) as i8 - 1
}

/// What a block of `TQ1_0` means, element by element.
fn tq1_0_by_definition(block: &[u8], element: usize) -> i8 {
    let (byte, digit) = match element {
        0..160 => (element % 32, element / 32),
        160..240 => (32 + (element - 160) % 16, (element - 160) / 16),
        _ => (48 + (element - 240) % 4, (element - 240) / 4),
    };
    let fraction = u32::from(block[byte]) * 3u32.pow(digit as u32) % 256;
    (fraction * 3 / 256) as i8 - 1
}

/// What a block of `Q6_K` means, element by element.
fn q6_k_by_definition(block: &[u8], element: usize) -> f32 {
    let (half, index) = (element / 128, element % 128);
    let low = block[half * 64 + index % 64] >> (index / 64 * 4) & 15;
    let high = block[128 + half * 32 + index % 32] >> (index / 32 * 2) & 3;
    let scale = f32::from(block[192 + element / 16] as i8);
    f16::from_le_bytes([block[208], block[209]]).to_f32() * scale * (f32::from(high * 16 + low) - 32.0)
}

/// Bytes of a ternary form made from codes 0, 1, 2.
fn bytes_of_codes(codes: &[u8]) -> Vec<u8> {
    codes.as_chunks::<4>().0.iter().map(|[a, b, c, d]| a << 6 | b << 4 | c << 2 | d).collect()
}

proptest! {
    #[test]
    fn i2_s_equals_its_definition(codes in prop::collection::vec(0..3u8, 3 * 128)) {
        let mut data = bytes_of_codes(&codes);
        data.extend(0.75f32.to_le_bytes());
        data.extend([0xFF; 28]);
        let checkpoint = with_tensor(TensorType::I2_S, 128, 3, data.clone());
        let expected: Vec<_> = (0..3 * 128).map(|element| i2_s_by_definition(&data, element)).collect();
        prop_assert_eq!(unpacked(checkpoint.tensor("w").unwrap()), (0.75, expected));
    }

    #[test]
    fn tq2_0_equals_its_definition(codes in prop::collection::vec(0..3u8, 256)) {
        let mut data = bytes_of_codes(&codes);
        data.extend(f16::from_f32(0.75).to_le_bytes());
        let checkpoint = with_tensor(TensorType::TQ2_0, 256, 1, data.clone());
        let expected: Vec<_> = (0..256).map(|element| tq2_0_by_definition(&data, element)).collect();
        prop_assert_eq!(unpacked(checkpoint.tensor("w").unwrap()), (0.75, expected));
    }

    #[test]
    fn tq1_0_equals_its_definition(mut data in prop::collection::vec(any::<u8>(), 52)) {
        data.extend(f16::from_f32(0.75).to_le_bytes());
        let checkpoint = with_tensor(TensorType::TQ1_0, 256, 1, data.clone());
        let expected: Vec<_> = (0..256).map(|element| tq1_0_by_definition(&data, element)).collect();
        prop_assert_eq!(unpacked(checkpoint.tensor("w").unwrap()), (0.75, expected));
    }

    #[test]
    fn q8_0_equals_its_definition(data in prop::collection::vec(any::<u8>(), 2 * 34), scale in -2f32..2.0) {
        let mut data = data;
        for block in data.as_chunks_mut::<34>().0 {
            block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
        }
        let mut found = [0.0; 64];
        decode_row(TensorType::Q8_0, &data, &mut found).unwrap();
        for (element, found) in found.into_iter().enumerate() {
            let code = data[element / 32 * 34 + 2 + element % 32] as i8;
            prop_assert_eq!(found, f16::from_f32(scale).to_f32() * f32::from(code));
        }
    }

    #[test]
    fn q6_k_equals_its_definition(data in prop::collection::vec(any::<u8>(), 208), scale in -2f32..2.0) {
        let mut data = data;
        data.extend(f16::from_f32(scale).to_le_bytes());
        let mut found = [0.0; 256];
        decode_row(TensorType::Q6_K, &data, &mut found).unwrap();
        for (element, found) in found.into_iter().enumerate() {
            prop_assert_eq!(found, q6_k_by_definition(&data, element));
        }
    }

    #[test]
    fn plain_floats_are_read_as_written(values in prop::collection::vec(any::<f32>(), 0..600)) {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut found = vec![0.0; values.len()];
        decode_row(TensorType::F32, &bytes, &mut found).unwrap();
        prop_assert_eq!(&found, &values);

        let bytes: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        decode_row(TensorType::F16, &bytes, &mut found).unwrap();
        prop_assert!(found.iter().zip(&values).all(|(&found, &value)| found == f16::from_f32(value).to_f32()));

        let bytes: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
        decode_row(TensorType::BF16, &bytes, &mut found).unwrap();
        prop_assert!(found.iter().zip(&values).all(|(&found, &value)| found == bf16::from_f32(value).to_f32()));
    }

    #[test]
    fn a_model_with_a_damaged_head_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = include_bytes!("../../../../tests/fixtures/pico/model-i2_s.gguf").to_vec();
        // Hyperparameters are at its beginning and tensors at its end; most of what is between are tokens.
        let head = Checkpoint::from_bytes(bytes.clone().into()).unwrap().gguf().tensors[0].offset as usize;
        for (place, value) in damage {
            let place = place.index(2_000);
            bytes[if place < 1_000 { place } else { head - 2_000 + place }] = value;
        }
        let Ok(checkpoint) = Checkpoint::from_bytes(bytes.into()) else { return Ok(()) };
        for info in &checkpoint.gguf().tensors {
            let tensor = checkpoint.tensor(&info.name).unwrap();
            let _ = checkpoint.vector(&info.name, 128);
            let _ = TernaryRows::new(tensor).and_then(|rows| rows.unpack(0, &mut vec![0; tensor.columns]));
            let _ = FloatRows::new(tensor).and_then(|rows| rows.row(0, &mut vec![0.0; tensor.columns]));
        }
    }

    #[test]
    fn random_data_never_panics(data in prop::collection::vec(any::<u8>(), 2 * 210)) {
        for tensor_type in TensorType::ALL {
            let columns = tensor_type.block().0.max(4);
            let size = tensor_type.byte_size(columns as u64).unwrap() as usize;
            let checkpoint = with_tensor(tensor_type, columns as u64, 1, data[..size].to_vec());
            let tensor = checkpoint.tensor("w").unwrap();
            if let Ok(rows) = TernaryRows::new(tensor) {
                let mut digits = vec![9; columns];
                if rows.unpack(0, &mut digits).is_ok() {
                    prop_assert!(digits.iter().all(|digit| (-1..=1).contains(digit)));
                }
            }
            if let Ok(rows) = FloatRows::new(tensor) {
                rows.row(0, &mut vec![0.0; columns]).unwrap();
            }
        }
    }
}

#[test]
fn bf16_and_f32_matrices_may_be_ternary_too() {
    let values = [0.0f32, -0.5, 0.5, 0.5, -0.0, 0.0];
    let bf16s = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
    let f32s = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    for (tensor_type, data) in [(TensorType::BF16, bf16s), (TensorType::F32, f32s)] {
        let checkpoint = with_tensor(tensor_type, 3, 2, data);
        assert_eq!(unpacked(checkpoint.tensor("w").unwrap()), (0.5, vec![0, -1, 1, 1, 0, 0]));
    }
}

#[test]
fn the_row_of_a_value_that_is_not_ternary_is_named() {
    for bad in [0.25, f32::NAN] {
        let data = [0.0f32, -0.5, 0.5, bad].iter().flat_map(|x| x.to_le_bytes()).collect();
        let checkpoint = with_tensor(TensorType::F32, 2, 2, data);
        let rows = TernaryRows::new(checkpoint.tensor("w").unwrap()).unwrap();
        check_refused(
            rows.unpack(0, &mut [0; 4]),
            &format!(r#"tensor "w": row 1 has the value {bad}, which"#),
        );
        rows.unpack(0, &mut [0; 2]).unwrap();
    }
}

#[test]
fn the_row_of_an_invalid_code_is_named() {
    let mut data = vec![0x55; 4 * 64 + 32];
    data[3 * 64 + 40] = 0x5F;
    data[4 * 64..4 * 64 + 4].copy_from_slice(&1f32.to_le_bytes());
    let checkpoint = with_tensor(TensorType::I2_S, 256, 4, data);
    let rows = TernaryRows::new(checkpoint.tensor("w").unwrap()).unwrap();
    rows.unpack(0, &mut [0; 3 * 256]).unwrap();
    check_refused(rows.unpack(1, &mut [0; 3 * 256]), r#"tensor "w": row 3 holds a code"#);
}

/// Rows of one `TQ2_0` block each: all codes of a row are the same, and each row has its own scale.
fn tq2_0_rows(rows: &[(u8, f32)]) -> Checkpoint {
    let mut data = Vec::new();
    for &(code, scale) in rows {
        data.extend(bytes_of_codes(&[code; 256]));
        data.extend(f16::from_f32(scale).to_le_bytes());
    }
    with_tensor(TensorType::TQ2_0, 256, rows.len() as u64, data)
}

#[test]
fn blocks_without_weights_may_have_any_scale() {
    let checkpoint = tq2_0_rows(&[(1, 3.0), (2, 0.0), (2, 0.5), (0, 0.5), (1, 7.0)]);
    let expected = [0, 0, 1, -1, 0].into_iter().flat_map(|digit| [digit; 256]).collect();
    assert_eq!(unpacked(checkpoint.tensor("w").unwrap()), (0.5, expected));

    let checkpoint = tq2_0_rows(&[(2, 0.0), (1, 1.0)]);
    assert_eq!(unpacked(checkpoint.tensor("w").unwrap()), (0.0, vec![0; 512]));
}

#[test]
fn blocks_with_different_scales_are_refused() {
    let checkpoint = tq2_0_rows(&[(2, 0.5), (2, 0.25)]);
    let rows = TernaryRows::new(checkpoint.tensor("w").unwrap()).unwrap();
    let expected = r#"tensor "w": row 1 has scale 0.25, but the rows before have 0.5"#;
    check_refused(rows.unpack(0, &mut [0; 512]), expected);
}

#[test]
fn scales_are_positive_numbers() {
    for bad in [-1.0, f32::NAN, f32::INFINITY] {
        let checkpoint = tq2_0_rows(&[(2, bad)]);
        let expected = format!(r#"tensor "w": the scale {bad} is not"#);
        check_refused(TernaryRows::new(checkpoint.tensor("w").unwrap()), &expected);

        let data = [[0x55; 32].as_slice(), &bad.to_le_bytes(), &[0; 28]].concat();
        let checkpoint = with_tensor(TensorType::I2_S, 128, 1, data);
        check_refused(TernaryRows::new(checkpoint.tensor("w").unwrap()), &expected);
    }
}

#[test]
fn i2_s_blocks_that_straddle_rows_are_refused() {
    let checkpoint = with_tensor(TensorType::I2_S, 64, 2, vec![0x55; 64]);
    let expected = r#"tensor "w": rows of 64 weights are not whole I2_S blocks of 128"#;
    check_refused(TernaryRows::new(checkpoint.tensor("w").unwrap()), expected);
}

#[test]
fn types_that_do_not_fit_the_use_are_named() {
    let checkpoint = with_tensor(TensorType::Q8_0, 32, 1, vec![0; 34]);
    check_refused(TernaryRows::new(checkpoint.tensor("w").unwrap()), r#"tensor "w": type Q8_0 cannot hold"#);
    let checkpoint = with_tensor(TensorType::I2_S, 128, 1, vec![0; 64]);
    check_refused(FloatRows::new(checkpoint.tensor("w").unwrap()), r#"tensor "w": has type I2_S"#);
    check_refused(
        decode_row(TensorType::F32, &[0; 7], &mut [0.0; 2]),
        "7 bytes are not the F32 form of 2 elements",
    );
}
