//! The two ends of the model, which are often one matrix: the token embedding and the output head.

use super::weights::LoadError;
use crate::checkpoint::{Checkpoint, Hyperparameters};
use crate::kernels::{FloatMatrix, Int8Matrix, Isa, Rows, Searchable, int8_logits, logits};
use crate::pool::Pool;
use crate::quant::{FloatRows, QuantError};

/// Elements from which a search in an 8-bit copy of an exact head is faster than reading the head.
const WORTH_SCREENING: usize = 1 << 22;

/// In which form embedding and output head are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadType {
    /// As in the file.
    Exact,
    /// Rounded to 8 bits.
    Q8,
    /// Rounded to 8 bits, and the greatest logits are looked for in the upper four.
    Q4,
}

/// Token embedding and output head.
#[derive(Debug)]
pub(super) enum Head {
    Exact {
        embedding: FloatMatrix,
        /// `None` when the embedding is also the output head.
        output: Option<FloatMatrix>,
        /// The 8-bit copy of the output head; `None` when the head is so small that reading it whole is as good.
        screen: Option<Int8Matrix>,
    },
    Int8 {
        embedding: Int8Matrix,
        /// `None` when the embedding is also the output head.
        output: Option<Int8Matrix>,
        /// Whether the greatest logits are looked for in the upper halves.
        searched: bool,
    },
}

impl Head {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        head: HeadType,
        isa: Isa,
        pool: &mut Pool,
    ) -> Result<Self, LoadError> {
        let Hyperparameters { vocab_size, hidden, tied_head, .. } = *checkpoint.hyperparameters();
        let embedding = checkpoint.matrix("token_embd.weight", vocab_size, hidden)?;
        let output =
            if tied_head { None } else { Some(checkpoint.matrix("output.weight", vocab_size, hidden)?) };
        if head == HeadType::Exact {
            let embedding = FloatMatrix::load(pool, embedding)?;
            let output = output.map(|tensor| FloatMatrix::load(pool, tensor)).transpose()?;
            let rows = output.as_ref().unwrap_or(&embedding);
            let read = |first, out: &mut _| rows.rows_from(first, out);
            let screen = (vocab_size * hidden >= WORTH_SCREENING)
                .then(|| Int8Matrix::build(pool, isa, vocab_size, hidden, read))
                .transpose()?;
            return Ok(Self::Exact { embedding, output, screen });
        }
        // Straight from the file, so that the whole matrix is never there twice.
        let mut round = |tensor| -> Result<_, LoadError> {
            let rows = FloatRows::new(tensor)?;
            Ok(Int8Matrix::build(pool, isa, vocab_size, hidden, |first, out| rows.rows(first, out))?)
        };
        Ok(Self::Int8 {
            embedding: round(embedding)?,
            output: output.map(round).transpose()?,
            searched: head == HeadType::Q4,
        })
    }

    /// The embedding of a token.
    pub(super) fn embed(&self, token: usize, out: &mut [f32]) -> Result<(), QuantError> {
        match self {
            Self::Exact { embedding, .. } => embedding.row(token, out),
            Self::Int8 { embedding, .. } => {
                embedding.row(token, out);
                Ok(())
            }
        }
    }

    /// All logits; x: `[tokens, hidden]`, out: `[tokens, vocabulary]`.
    pub(super) fn logits(&self, pool: &mut Pool, isa: Isa, x: &Rows, out: &mut [f32]) {
        match self {
            Self::Exact { embedding, output, .. } => {
                logits(pool, isa, output.as_ref().unwrap_or(embedding), x, out);
            }
            Self::Int8 { embedding, output, .. } => {
                int8_logits(pool, isa, output.as_ref().unwrap_or(embedding), x, out);
            }
        }
    }

    /// What finds the greatest logits without computing all; `None` when computing all is as good.
    pub(super) fn searchable(&self) -> Option<Searchable<'_>> {
        match self {
            Self::Exact { embedding, output, screen } => {
                let exact = output.as_ref().unwrap_or(embedding);
                screen.as_ref().map(|screen| Searchable::Exact(exact, screen))
            }
            Self::Int8 { embedding, output, searched } => {
                searched.then(|| Searchable::Int8(output.as_ref().unwrap_or(embedding)))
            }
        }
    }

    /// What decoding a token reads, except the few rows whose logits are computed after a search.
    pub(super) fn buffers(&self) -> Vec<&[u8]> {
        match self {
            Self::Exact { screen: Some(screen), .. } => screen.planes().into(),
            Self::Exact { embedding, output, .. } => vec![output.as_ref().unwrap_or(embedding).as_bytes()],
            Self::Int8 { embedding, output, searched } => {
                let [upper, lower] = output.as_ref().unwrap_or(embedding).planes();
                if *searched { vec![upper] } else { vec![upper, lower] }
            }
        }
    }
}
