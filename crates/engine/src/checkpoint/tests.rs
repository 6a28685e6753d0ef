//! Hyperparameters of real layouts, and errors that name key or tensor.

use std::path::Path;

use half::{bf16, f16};

use super::*;
use crate::gguf::writer::TestFile;
use crate::gguf::{Array, TensorType, Value};
use crate::kernels::Activation;

/// A file of the test models, for instance `pico/model-i2_s.gguf`.
pub(crate) fn fixture(name: &str) -> Checkpoint {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    Checkpoint::open(&Path::new(folder).join(name)).unwrap()
}

/// Metadata of a small model, without any tensor.
pub(crate) fn small_model(architecture: &str) -> TestFile {
    let sizes = [
        ("vocab_size", 300),
        ("context_length", 64),
        ("embedding_length", 256),
        ("block_count", 2),
        ("feed_forward_length", 512),
        ("rope.dimension_count", 64),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ];
    let mut file = TestFile::new().entry("general.architecture", Value::String(architecture.to_owned()));
    for (key, size) in sizes {
        file = file.entry(&format!("{architecture}.{key}"), Value::U32(size));
    }
    file.entry(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Value::F32(1e-5))
        .entry(&format!("{architecture}.rope.freq_base"), Value::F32(500_000.0))
}

const ARCHITECTURE: &str = "bitnet-b1.58";

/// The small model with one key changed, or absent for `None`.
fn with(key: &str, value: Option<Value>) -> Result<Checkpoint, CheckpointError> {
    let mut file = small_model(ARCHITECTURE);
    let key = format!("{ARCHITECTURE}.{key}");
    file.entries.retain(|(other, _)| *other != key);
    if let Some(value) = value {
        file = file.entry(&key, value);
    }
    Checkpoint::from_bytes(file.bytes().into())
}

#[track_caller]
fn check_refused(result: Result<impl std::fmt::Debug, CheckpointError>, expected: &str) {
    let message = result.expect_err("should be refused").to_string();
    assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

#[test]
fn test_models_have_the_shape_that_their_description_says() {
    let expected = Hyperparameters {
        architecture: Architecture::BitnetB158,
        name: Some("bitnet2b".to_owned()),
        vocab_size: 512,
        context_length: 512,
        hidden: 128,
        layers: 1,
        ffn: 256,
        heads: 2,
        kv_heads: 1,
        head_dim: 64,
        rope_theta: 500_000.0,
        rms_eps: 1e-5,
        activation: Activation::ReluSquared,
        tied_head: true,
    };
    assert_eq!(*fixture("pico/model-i2_s.gguf").hyperparameters(), expected);

    let untied = Hyperparameters {
        architecture: Architecture::Bitnet25,
        name: Some("bitnet2b_2501".to_owned()),
        tied_head: false,
        ..expected
    };
    assert_eq!(*fixture("pico-bitnet25/model-i2_s.gguf").hyperparameters(), untied);
}

#[test]
fn another_architecture_is_named_even_if_its_tensor_types_are_unknown_too() {
    let file = TestFile::new().entry("general.architecture", Value::String("llama".to_owned())).tensor(
        "token_embd.weight",
        &[256],
        12,
        vec![0; 144],
    );
    let refused = Checkpoint::from_bytes(file.bytes().into());
    check_refused(
        refused,
        r#"architecture "llama" is not supported; supported are bitnet-b1.58, bitnet-25, bitnet"#,
    );
    let refused = Checkpoint::from_bytes(TestFile::new().bytes().into());
    check_refused(refused, r#"lacks metadata key "general.architecture""#);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    check_refused(Checkpoint::open(Path::new("no/such.gguf")), "no/such.gguf cannot be opened: ");
}

#[test]
fn sizes_are_present_and_bounded() {
    for key in
        ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"]
    {
        check_refused(with(key, None), &format!(r#"lacks metadata key "bitnet-b1.58.{key}""#));
        for bad in [0, 1 << 25, u64::MAX] {
            let expected = format!(r#"metadata key "bitnet-b1.58.{key}": must be from 1 to "#);
            check_refused(with(key, Some(Value::U64(bad))), &expected);
        }
        check_refused(
            with(key, Some(Value::I32(-1))),
            &format!(r#"key "bitnet-b1.58.{key}": must be an integer"#),
        );
    }
}

#[test]
fn sizes_divide_where_they_must() {
    let size = |size| Some(Value::U32(size));
    check_refused(with("attention.head_count", size(3)), "head_count\": 3 heads cannot share a width of 256");
    check_refused(with("attention.head_count_kv", size(3)), "3 key-value heads cannot serve 4 heads");
    check_refused(with("attention.head_count_kv", size(8)), "8 key-value heads cannot serve 4 heads");
    check_refused(with("attention.head_count", size(256)), "heads would be 1 wide");
    for key in ["rope.dimension_count", "attention.key_length", "attention.value_length"] {
        check_refused(with(key, size(32)), &format!("{key}\": is 32, but only the width of a head, 64"));
        with(key, size(64)).unwrap();
    }
}

#[test]
fn floats_are_positive_numbers() {
    for key in ["attention.layer_norm_rms_epsilon", "rope.freq_base"] {
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let expected = format!(r#"metadata key "bitnet-b1.58.{key}": must be a positive number"#);
            check_refused(with(key, Some(Value::F32(bad))), &expected);
        }
    }
    check_refused(with("attention.layer_norm_rms_epsilon", None), "lacks metadata key");
}

#[test]
fn absent_keys_have_the_values_of_the_format() {
    let hyperparameters = |key| with(key, None).unwrap().hyperparameters().clone();
    assert_eq!(hyperparameters("attention.head_count_kv").kv_heads, 4);
    assert_eq!(hyperparameters("rope.freq_base").rope_theta, 10_000.0);
    assert_eq!(hyperparameters("rope.dimension_count").head_dim, 64);

    check_refused(with("vocab_size", None), "lacks metadata key \"bitnet-b1.58.vocab_size\"");
    let mut file = small_model(ARCHITECTURE);
    file.entries.retain(|(key, _)| !key.ends_with("vocab_size"));
    let file = file.entry("tokenizer.ggml.tokens", Value::Array(Array::Strings(vec![String::new(); 7])));
    let checkpoint = Checkpoint::from_bytes(file.bytes().into()).unwrap();
    assert_eq!(checkpoint.hyperparameters().vocab_size, 7);
}

#[test]
fn the_activation_follows_the_architecture_unless_the_file_says_otherwise() {
    for (architecture, expected) in [
        ("bitnet-b1.58", Activation::ReluSquared),
        ("bitnet-25", Activation::ReluSquared),
        ("bitnet", Activation::Silu),
    ] {
        let checkpoint = Checkpoint::from_bytes(small_model(architecture).bytes().into()).unwrap();
        assert_eq!(checkpoint.hyperparameters().activation, expected, "{architecture}");
    }
    for (name, activation) in hyperparameters::ACTIVATIONS {
        let checkpoint = with("hidden_activation", Some(text(name))).unwrap();
        assert_eq!(checkpoint.hyperparameters().activation, activation);
    }
    check_refused(with("hidden_activation", Some(text("gelu"))), r#"must be relu2 or silu, not "gelu""#);
}

#[test]
fn positions_that_are_stretched_are_refused() {
    with("rope.scaling.type", Some(text("none"))).unwrap();
    check_refused(
        with("rope.scaling.type", Some(text("yarn"))),
        r#"rope.scaling.type": "yarn" is not supported"#,
    );
    let linear = |factor| {
        let file = small_model(ARCHITECTURE)
            .entry("bitnet-b1.58.rope.scaling.type", Value::String("linear".to_owned()))
            .entry("bitnet-b1.58.rope.scaling.factor", Value::F32(factor));
        Checkpoint::from_bytes(file.bytes().into())
    };
    linear(1.0).unwrap();
    check_refused(linear(4.0), r#"rope.scaling.factor": is 4, but only 1 is supported"#);
}

/// The small model with tensors of several types.
fn with_tensors() -> Checkpoint {
    let values = [0.5f32, -2.0, 1.0];
    let file = small_model(ARCHITECTURE)
        .tensor("f32", &[3], 0, values.iter().flat_map(|x| x.to_le_bytes()).collect())
        .tensor("f16", &[3], 1, values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect())
        .tensor("bf16", &[3], 30, values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect())
        .tensor("nan", &[2], 0, [0.0, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect())
        .tensor("blk.0.attn_q.weight", &[128, 2], 36, vec![0x55; 96])
        .tensor("blk.0.attn_q.scale", &[], 0, 0.25f32.to_le_bytes().to_vec());
    Checkpoint::from_bytes(file.bytes().into()).unwrap()
}

#[test]
fn vectors_are_read_from_every_plain_type() {
    let checkpoint = with_tensors();
    for name in ["f32", "f16", "bf16"] {
        assert_eq!(checkpoint.vector(name, 3).unwrap(), [0.5, -2.0, 1.0], "{name}");
    }
    check_refused(
        checkpoint.vector("f32", 4),
        r#"tensor "f32": must have 1 rows of 4 elements, but has 1 of 3"#,
    );
    check_refused(checkpoint.vector("absent", 4), r#"lacks tensor "absent""#);
    check_refused(checkpoint.vector("nan", 2), r#"tensor "nan": element 1 is NaN"#);
}

#[test]
fn matrices_have_the_shape_asked_for() {
    let checkpoint = with_tensors();
    let tensor = checkpoint.matrix("blk.0.attn_q.weight", 2, 128).unwrap();
    assert_eq!((tensor.rows, tensor.columns, tensor.tensor_type), (2, 128, TensorType::I2_S));
    check_refused(
        checkpoint.matrix("blk.0.attn_q.weight", 128, 2),
        "must have 128 rows of 2 elements, but has 2 of 128",
    );
    assert!(checkpoint.tensor("absent").is_none());
}

#[test]
fn reading_stays_inside_a_tensor() {
    let checkpoint = with_tensors();
    let tensor = checkpoint.tensor("blk.0.attn_q.weight").unwrap();
    let mut bytes = [0; 4];
    tensor.read(92, &mut bytes).unwrap();
    assert_eq!(bytes, [0x55; 4]);
    for offset in [93, 96, u64::MAX] {
        check_refused(tensor.read(offset, &mut bytes), "are not inside its 96 bytes");
    }
}

#[test]
fn a_scale_stored_beside_a_weight_is_found() {
    let checkpoint = with_tensors();
    assert_eq!(checkpoint.separate_scale("blk.0.attn_q.weight").unwrap(), 0.25);
    assert_eq!(checkpoint.separate_scale("blk.0.attn_k.weight").unwrap(), 1.0);
}
