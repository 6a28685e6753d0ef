//! The model's shape, and where each of its tensors lies in the one vector that holds all parameters.
//!
//! Parameters, gradients and moments of the optimizer are flat vectors of the same layout, so that they can be added, clipped,
//! updated and stored without knowing what they mean. Matrices that have the same input lie side by side: queries, keys and values are
//! one matrix to a product, and so are gate and up.

use std::ops::Range;

/// Sizes of a model. All linear inputs (`hidden`, `ffn`) are multiples of 128, because `I2_S` has blocks of that size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Number of tokens that exist.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width between the two halves of the feed-forward part.
    pub ffn: usize,
    /// Tokens of the longest sequence.
    pub context: usize,
    /// Base of the rotation's frequencies.
    pub rope_theta: f32,
    /// What RMS norms add to the mean square.
    pub rms_eps: f32,
}

impl Shape {
    /// The demo model; its vocabulary may turn out smaller, if the texts have too few different words.
    pub const DEMO: Self = Self {
        vocab: 2_048,
        hidden: 256,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        ffn: 768,
        context: 512,
        rope_theta: 10_000.0,
        rms_eps: 1e-5,
    };

    /// Width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Width of all keys, and of all values.
    #[must_use]
    pub fn kv(&self) -> usize {
        self.kv_heads * self.head_dim()
    }

    /// Width of queries, keys and values together.
    #[must_use]
    pub fn qkv(&self) -> usize {
        self.hidden + 2 * self.kv()
    }
}

/// What a tensor is, and so how it is initialized, used and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Token embedding and output head: F16.
    Embedding,
    /// Weights of a norm: F32.
    Norm,
    /// Weights of a linear map: ternary with one scale.
    Ternary,
}

/// One tensor `[rows, columns]`.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in a GGUF file.
    pub name: String,
    /// How it begins and how it is stored.
    pub kind: Kind,
    /// Outputs, for a linear map.
    pub rows: usize,
    /// Inputs, for a linear map.
    pub columns: usize,
    /// Where its elements are.
    pub range: Range<usize>,
}

/// Where the tensors of one block are.
#[derive(Clone, Debug)]
pub struct Layer {
    /// `[hidden]`
    pub attention_norm: Range<usize>,
    /// Queries, keys, values: `[hidden + 2 * kv, hidden]`.
    pub qkv: Range<usize>,
    /// `[hidden]`
    pub attention_sub_norm: Range<usize>,
    /// `[hidden, hidden]`
    pub output: Range<usize>,
    /// `[hidden]`
    pub ffn_norm: Range<usize>,
    /// Gate, then up: `[2 * ffn, hidden]`.
    pub gate_up: Range<usize>,
    /// `[ffn]`
    pub ffn_sub_norm: Range<usize>,
    /// `[hidden, ffn]`
    pub down: Range<usize>,
}

/// Where all tensors of a model are.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The model's sizes.
    pub shape: Shape,
    /// In the order of their places.
    pub tensors: Vec<Tensor>,
    /// `[vocab, hidden]`
    pub embedding: Range<usize>,
    /// By number.
    pub layers: Vec<Layer>,
    /// `[hidden]`
    pub output_norm: Range<usize>,
}

impl Layout {
    /// The layout of a model with these sizes.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let Shape { vocab, hidden, ffn, .. } = shape;
        let kv = shape.kv();
        let mut tensors = Vec::new();
        let mut place = |name: String, kind, rows, columns| {
            let start = tensors.last().map_or(0, |tensor: &Tensor| tensor.range.end);
            let range = start..start + rows * columns;
            tensors.push(Tensor { name, kind, rows, columns, range: range.clone() });
            range
        };
        let embedding = place("token_embd.weight".to_owned(), Kind::Embedding, vocab, hidden);
        let layers = (0..shape.layers)
            .map(|index| {
                let name = |part: &str| format!("blk.{index}.{part}.weight");
                let attention_norm = place(name("attn_norm"), Kind::Norm, 1, hidden);
                let q = place(name("attn_q"), Kind::Ternary, hidden, hidden);
                place(name("attn_k"), Kind::Ternary, kv, hidden);
                let v = place(name("attn_v"), Kind::Ternary, kv, hidden);
                let attention_sub_norm = place(name("attn_sub_norm"), Kind::Norm, 1, hidden);
                let output = place(name("attn_output"), Kind::Ternary, hidden, hidden);
                let ffn_norm = place(name("ffn_norm"), Kind::Norm, 1, hidden);
                let gate = place(name("ffn_gate"), Kind::Ternary, ffn, hidden);
                let up = place(name("ffn_up"), Kind::Ternary, ffn, hidden);
                let ffn_sub_norm = place(name("ffn_sub_norm"), Kind::Norm, 1, ffn);
                let down = place(name("ffn_down"), Kind::Ternary, hidden, ffn);
                let (qkv, gate_up) = (q.start..v.end, gate.start..up.end);
                Layer {
                    attention_norm,
                    qkv,
                    attention_sub_norm,
                    output,
                    ffn_norm,
                    gate_up,
                    ffn_sub_norm,
                    down,
                }
            })
            .collect();
        let output_norm = place("output_norm.weight".to_owned(), Kind::Norm, 1, hidden);
        Self { shape, tensors, embedding, layers, output_norm }
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.output_norm.end
    }
}
