//! The tensor types that can be read, and the names of those that cannot.

use std::fmt;

/// How a tensor's elements are stored; the numbers are ggml's type ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(non_camel_case_types, reason = "these are the field's names")]
#[repr(u32)]
pub enum TensorType {
    F32 = 0,
    F16 = 1,
    /// 32 int8 and an F16 scale.
    Q8_0 = 8,
    /// 256 six-bit integers, sixteen int8 scales and an F16 scale for these.
    Q6_K = 14,
    /// The upper half of an F32.
    BF16 = 30,
    /// 256 ternary digits, five to a byte, and an F16 scale.
    TQ1_0 = 34,
    /// 256 ternary digits, four to a byte, and an F16 scale.
    TQ2_0 = 35,
    /// 128 ternary digits, four to a byte; one F32 scale at the end of the tensor.
    I2_S = 36,
}

impl TensorType {
    /// All supported types.
    pub const ALL: [Self; 8] =
        [Self::F32, Self::F16, Self::BF16, Self::Q8_0, Self::Q6_K, Self::TQ1_0, Self::TQ2_0, Self::I2_S];

    /// `I2_S` tensors end with this many bytes, of which the first four are the scale and the others mean nothing.
    pub const I2_S_TAIL: u64 = 32;

    /// The type with this ggml id.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|candidate| candidate.id() == id)
    }

    #[must_use]
    pub const fn id(self) -> u32 {
        self as u32
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        ggml_name(self.id())
    }

    /// Elements and bytes of one block, the unit of storage.
    #[must_use]
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q8_0 => (32, 2 + 32),
            Self::Q6_K => (256, 128 + 64 + 16 + 2),
            Self::TQ1_0 => (256, 48 + 4 + 2),
            Self::TQ2_0 => (256, 64 + 2),
            Self::I2_S => (128, 32),
        }
    }

    /// Bytes of a tensor with that many elements; `None` if they do not fill whole blocks or the size overflows.
    #[must_use]
    pub fn byte_size(self, elements: u64) -> Option<u64> {
        if self == Self::I2_S {
            // Writers cut the last block short when a tensor is not a multiple of 128.
            return elements.is_multiple_of(4).then(|| elements / 4 + Self::I2_S_TAIL);
        }
        let (block_elements, block_bytes) = self.block();
        if elements.is_multiple_of(block_elements as u64) {
            (elements / block_elements as u64).checked_mul(block_bytes as u64)
        } else {
            None
        }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What ggml (and, from 36 on, the BitNet branch of it) calls a type id.
pub(super) fn ggml_name(id: u32) -> &'static str {
    match id {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        8 => "Q8_0",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        14 => "Q6_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        30 => "BF16",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "I2_S",
        37 => "I8_S",
        38 => "TL1",
        39 => "TL2 or MXFP4",
        _ => "unknown",
    }
}
