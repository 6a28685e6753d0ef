//! The model's shape and the choices that its metadata makes, checked once.

use super::CheckpointError;
use crate::gguf::{Gguf, Metadata, shown};
use crate::kernels::Activation;

/// Beyond any model of this kind, and small enough that a sum of so many products of a ternary weight and an int8 stays
/// within an `i32`.
const WIDTH_LIMIT: u64 = 1 << 20;
/// For what grows with text rather than width; layers × context × width fits into 64 bits.
const LENGTH_LIMIT: u64 = 1 << 24;
const LAYER_LIMIT: u64 = 1 << 10;

/// What `general.architecture` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// The published BitNet b1.58 2B4T file.
    BitnetB158,
    /// The first file of the same model, with the output matrix stored a second time.
    Bitnet25,
    /// Older conversions of the `1bitLLM` models.
    Bitnet,
}

impl Architecture {
    /// All supported ones.
    pub const ALL: [Self; 3] = [Self::BitnetB158, Self::Bitnet25, Self::Bitnet];

    /// The name in the file, which is also the prefix of the model's metadata keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BitnetB158 => "bitnet-b1.58",
            Self::Bitnet25 => "bitnet-25",
            Self::Bitnet => "bitnet",
        }
    }

    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self, CheckpointError> {
        const KEY: &str = "general.architecture";
        let name = metadata.string(KEY)?.ok_or_else(|| CheckpointError::MissingKey(KEY.to_owned()))?;
        Self::ALL
            .into_iter()
            .find(|architecture| architecture.name() == name)
            .ok_or_else(|| CheckpointError::UnsupportedArchitecture(name.to_owned()))
    }

    /// Files of the current converter do not say which activation they were trained with.
    const fn usual_activation(self) -> Activation {
        match self {
            Self::BitnetB158 | Self::Bitnet25 => Activation::ReluSquared,
            Self::Bitnet => Activation::Silu,
        }
    }
}

/// Both, by their names in metadata.
pub(super) const ACTIVATIONS: [(&str, Activation); 2] =
    [("relu2", Activation::ReluSquared), ("silu", Activation::Silu)];

/// The model's shape and the choices that its metadata makes.
///
/// No size is zero, `hidden = heads · head_dim`, `kv_heads` divides `heads`, `head_dim` is even.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameters {
    /// Which family the file belongs to.
    pub architecture: Architecture,
    /// `general.name`.
    pub name: Option<String>,
    /// Number of tokens that exist.
    pub vocab_size: usize,
    /// Number of tokens the model was trained to see at once.
    pub context_length: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Width between the two halves of the feed-forward part.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads / kv_heads` query heads share one.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Base of the rotation's frequencies.
    pub rope_theta: f32,
    /// What RMS norms add to the mean square.
    pub rms_eps: f32,
    /// In the feed-forward part.
    pub activation: Activation,
    /// Whether the token embedding is also the output matrix, that is, there is no `output.weight`.
    pub tied_head: bool,
}

impl Hyperparameters {
    pub(super) fn from_gguf(gguf: &Gguf) -> Result<Self, CheckpointError> {
        let architecture = Architecture::from_metadata(&gguf.metadata)?;
        let keys = Keys { metadata: &gguf.metadata, prefix: architecture.name() };

        let hidden = keys.size("embedding_length", WIDTH_LIMIT)?;
        let heads = keys.size("attention.head_count", WIDTH_LIMIT)?;
        let kv_heads = keys.optional_size("attention.head_count_kv", WIDTH_LIMIT)?.unwrap_or(heads);
        if !hidden.is_multiple_of(heads) {
            let problem = format!("{heads} heads cannot share a width of {hidden}");
            return Err(keys.invalid("attention.head_count", problem));
        }
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("{kv_heads} key-value heads cannot serve {heads} heads");
            return Err(keys.invalid("attention.head_count_kv", problem));
        }
        let head_dim = hidden / heads;
        if !head_dim.is_multiple_of(2) {
            let problem =
                format!("heads would be {head_dim} wide, which is odd, so their halves cannot rotate");
            return Err(keys.invalid("attention.head_count", problem));
        }
        for key in ["rope.dimension_count", "attention.key_length", "attention.value_length"] {
            if let Some(found) = keys.optional_size(key, WIDTH_LIMIT)?
                && found != head_dim
            {
                let problem = format!("is {found}, but only the width of a head, {head_dim}, is supported");
                return Err(keys.invalid(key, problem));
            }
        }
        keys.check_no_rope_scaling()?;

        Ok(Self {
            architecture,
            name: gguf.metadata.string("general.name")?.map(str::to_owned),
            vocab_size: keys.vocab_size()?,
            context_length: keys.size("context_length", LENGTH_LIMIT)?,
            hidden,
            layers: keys.size("block_count", LAYER_LIMIT)?,
            ffn: keys.size("feed_forward_length", WIDTH_LIMIT)?,
            heads,
            kv_heads,
            head_dim,
            rope_theta: keys.positive("rope.freq_base")?.unwrap_or(10_000.0),
            rms_eps: keys
                .positive("attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
            activation: keys.activation(architecture)?,
            tied_head: gguf.tensor("output.weight").is_none(),
        })
    }
}

/// Metadata keys that begin with the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    prefix: &'static str,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn missing(&self, key: &str) -> CheckpointError {
        CheckpointError::MissingKey(self.full(key))
    }

    fn invalid(&self, key: &str, problem: String) -> CheckpointError {
        CheckpointError::InvalidKey { key: self.full(key), problem }
    }

    fn size(&self, key: &str, limit: u64) -> Result<usize, CheckpointError> {
        self.optional_size(key, limit)?.ok_or_else(|| self.missing(key))
    }

    fn optional_size(&self, key: &str, limit: u64) -> Result<Option<usize>, CheckpointError> {
        match self.metadata.u64(&self.full(key))? {
            None => Ok(None),
            Some(size) if (1..=limit).contains(&size) => Ok(Some(size as usize)),
            Some(size) => Err(self.invalid(key, format!("must be from 1 to {limit}, not {size}"))),
        }
    }

    fn positive(&self, key: &str) -> Result<Option<f32>, CheckpointError> {
        match self.metadata.f32(&self.full(key))? {
            Some(number) if !(number.is_finite() && number > 0.0) => {
                Err(self.invalid(key, format!("must be a positive number, not {number}")))
            }
            number => Ok(number),
        }
    }

    /// Older files leave it to the tokenizer's list.
    fn vocab_size(&self) -> Result<usize, CheckpointError> {
        let key = "vocab_size";
        if let Some(size) = self.optional_size(key, LENGTH_LIMIT)? {
            return Ok(size);
        }
        match self.metadata.strings("tokenizer.ggml.tokens")?.map(<[String]>::len) {
            None | Some(0) => Err(self.missing(key)),
            Some(size) if size as u64 <= LENGTH_LIMIT => Ok(size),
            Some(size) => Err(self.invalid(key, format!("is absent, and {size} tokens are too many"))),
        }
    }

    fn activation(&self, architecture: Architecture) -> Result<Activation, CheckpointError> {
        let key = "hidden_activation";
        let Some(name) = self.metadata.string(&self.full(key))? else {
            return Ok(architecture.usual_activation());
        };
        let known = ACTIVATIONS.into_iter().find(|&(known, _)| known == name);
        known.map(|(_, activation)| activation).ok_or_else(|| {
            let supported = ACTIVATIONS.map(|(name, _)| name).join(" or ");
            self.invalid(key, format!("must be {supported}, not {}", shown(name)))
        })
    }

    /// Positions are not stretched. Some converters write "linear, by 1", which is the same.
    fn check_no_rope_scaling(&self) -> Result<(), CheckpointError> {
        let (kind, factor) = ("rope.scaling.type", "rope.scaling.factor");
        match self.metadata.string(&self.full(kind))? {
            None | Some("none") => Ok(()),
            Some("linear") => match self.metadata.f32(&self.full(factor))? {
                None | Some(1.0) => Ok(()),
                Some(by) => Err(self.invalid(factor, format!("is {by}, but only 1 is supported"))),
            },
            Some(other) => Err(self.invalid(kind, format!("{} is not supported", shown(other)))),
        }
    }
}
