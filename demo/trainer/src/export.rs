//! Parameters and vocabulary → a GGUF file laid out like the official `ggml-model-i2_s.gguf`.

use half::f16;

use crate::gguf::{TensorData, TensorType, Value, file};
use crate::quantize::{absmean, ternary};
use crate::sequence::CHAT_TEMPLATE;
use crate::shape::{Kind, Layout, Tensor};
use crate::vocabulary::{BOS, END_OF_TURN, EOS, SPLIT_RULE, Vocabulary};

const DESCRIPTION: &str = "A tiny BitNet b1.58 chat model that shows bitnet-engine at work. It was trained from scratch on generated \
    conversations about a few subjects and knows nothing else.";
/// `general.file_type` of files with `I2_S` weights.
const FILE_TYPE: u32 = 40;
/// Tensors of a block in the order of the official file.
const ORDER: [&str; 11] = [
    "attn_norm",
    "ffn_down",
    "ffn_sub_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_norm",
    "attn_sub_norm",
    "attn_k",
    "attn_output",
    "attn_q",
    "attn_v",
];

/// The bytes of the model file.
#[must_use]
pub fn gguf(layout: &Layout, master: &[f32], vocabulary: &Vocabulary) -> Vec<u8> {
    let shape = &layout.shape;
    let size = |value: usize| Value::U32(value as u32);
    let scores: Vec<f32> =
        vocabulary.types.iter().map(|&kind| if kind == 1 { 0.0 } else { -1_000.0 }).collect();
    let metadata = [
        ("general.architecture", Value::Text("bitnet-b1.58")),
        ("general.name", Value::Text("bitnet demo")),
        ("general.description", Value::Text(DESCRIPTION)),
        ("general.license", Value::Text("mit")),
        ("bitnet-b1.58.vocab_size", size(shape.vocab)),
        ("bitnet-b1.58.context_length", size(shape.context)),
        ("bitnet-b1.58.embedding_length", size(shape.hidden)),
        ("bitnet-b1.58.block_count", size(shape.layers)),
        ("bitnet-b1.58.feed_forward_length", size(shape.ffn)),
        ("bitnet-b1.58.rope.dimension_count", size(shape.head_dim())),
        ("bitnet-b1.58.attention.head_count", size(shape.heads)),
        ("bitnet-b1.58.attention.head_count_kv", size(shape.kv_heads)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("bitnet-b1.58.attention.layer_norm_rms_epsilon", Value::F32(shape.rms_eps)),
        ("bitnet-b1.58.rope.freq_base", Value::F32(shape.rope_theta)),
        ("general.file_type", Value::U32(FILE_TYPE)),
        ("tokenizer.ggml.model", Value::Text("gpt2")),
        ("tokenizer.ggml.pre", Value::Text(SPLIT_RULE)),
        ("tokenizer.ggml.tokens", Value::Texts(&vocabulary.tokens)),
        ("tokenizer.ggml.scores", Value::F32s(&scores)),
        ("tokenizer.ggml.token_type", Value::I32s(&vocabulary.types)),
        ("tokenizer.ggml.merges", Value::Texts(&vocabulary.merges)),
        ("tokenizer.ggml.bos_token_id", Value::U32(vocabulary.special(BOS))),
        ("tokenizer.ggml.eos_token_id", Value::U32(vocabulary.special(EOS))),
        ("tokenizer.ggml.eot_token_id", Value::U32(vocabulary.special(END_OF_TURN))),
        ("tokenizer.ggml.padding_token_id", Value::U32(vocabulary.special(EOS))),
        ("tokenizer.chat_template", Value::Text(CHAT_TEMPLATE)),
        ("general.quantization_version", Value::U32(2)),
    ];
    let mut tensors: Vec<&Tensor> = layout.tensors.iter().collect();
    tensors.sort_by_key(|tensor| place(&tensor.name));
    let tensors: Vec<TensorData> =
        tensors.into_iter().map(|tensor| stored(tensor, &master[tensor.range.clone()])).collect();
    file(&metadata, &tensors)
}

/// Where a tensor stands in the official file: the names of blocks are sorted as text.
fn place(name: &str) -> (u8, &str, usize) {
    match name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
        Some((block, part)) => {
            let part = part.trim_end_matches(".weight");
            (1, block, ORDER.iter().position(|&other| other == part).unwrap_or(ORDER.len()))
        }
        None => (if name.starts_with("token_embd") { 0 } else { 2 }, "", 0),
    }
}

fn stored(tensor: &Tensor, values: &[f32]) -> TensorData {
    let (tensor_type, bytes) = match tensor.kind {
        Kind::Norm => (TensorType::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Kind::Embedding => {
            (TensorType::F16, values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect())
        }
        Kind::Ternary => (TensorType::I2S, i2_s(values)),
    };
    let (rows, columns) = (tensor.rows as u64, tensor.columns as u64);
    let dimensions = if tensor.kind == Kind::Norm { vec![columns] } else { vec![columns, rows] };
    TensorData { name: tensor.name.clone(), tensor_type, dimensions, bytes }
}

/// Blocks of 128 codes in 32 bytes: byte j holds elements j, 32+j, 64+j, 96+j, the first in the upper bits; 0, 1, 2 mean −1, 0, +1.
/// After all blocks come 32 bytes of which the first four are the scale.
fn i2_s(values: &[f32]) -> Vec<u8> {
    let scale = absmean(values);
    let mut out = Vec::with_capacity(values.len() / 4 + 32);
    for block in values.as_chunks::<128>().0 {
        let code = |index: usize| (ternary(block[index], scale) + 1.0) as u8;
        out.extend((0..32).map(|j| code(j) << 6 | code(32 + j) << 4 | code(64 + j) << 2 | code(96 + j)));
    }
    out.extend(scale.to_le_bytes());
    out.extend([0; 28]);
    out
}
