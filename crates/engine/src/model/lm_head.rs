//! The two ends of the model, which are often one matrix: the token embedding and the output head.

use super::weights::LoadError;
use crate::checkpoint::{Checkpoint, Hyperparameters};
use crate::kernels::{
    FloatMatrix, Int4Matrix, Int8Matrix, Isa, Rows, Searchable, ShortCopy, Wide, int8_logits, logits,
};
use crate::pool::Pool;
use crate::quant::QuantError;

/// Elements from which a search in an 8-bit copy of an exact head is faster than reading the head.
pub(super) const WORTH_SEARCHING: usize = 1 << 22;

/// In which form the output head is kept. Except with the exact one, the file's rows are not in memory: embeddings are read from
/// the file, token by token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadType {
    /// As in the file.
    Exact,
    /// Rounded to 8 bits.
    Q8,
    /// Rounded to 4 bits; the rows that have the greatest logits by them are read from the file.
    Q4,
}

/// Token embedding and output head.
#[derive(Debug)]
pub(super) struct Head {
    embedding: FloatMatrix,
    /// `None` when the embedding is also the output head.
    output: Option<FloatMatrix>,
    /// A shorter copy of the output head.
    copy: HeadCopy,
}

#[derive(Debug)]
enum HeadCopy {
    /// The head is so small that reading it whole is as good.
    None,
    /// Searched for the greatest logits.
    Search8(Int8Matrix),
    Search4(Int4Matrix),
    /// Taken for the head itself.
    Head(Int8Matrix),
}

impl Head {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        head: HeadType,
        isa: Isa,
        pool: &mut Pool,
    ) -> Result<Self, LoadError> {
        let Hyperparameters { vocab_size, hidden, tied_head, .. } = *checkpoint.hyperparameters();
        let mut open = |name| -> Result<_, LoadError> {
            let tensor = checkpoint.matrix(name, vocab_size, hidden)?;
            Ok(match head {
                HeadType::Exact => FloatMatrix::load(pool, tensor)?,
                HeadType::Q8 | HeadType::Q4 => FloatMatrix::in_file(tensor)?,
            })
        };
        let embedding = open("token_embd.weight")?;
        let output = if tied_head { None } else { Some(open("output.weight")?) };
        let rows = output.as_ref().unwrap_or(&embedding);
        let copy = match head {
            HeadType::Exact if vocab_size * hidden < WORTH_SEARCHING => HeadCopy::None,
            HeadType::Exact => HeadCopy::Search8(Int8Matrix::round(pool, isa, rows)?),
            HeadType::Q8 => HeadCopy::Head(Int8Matrix::round(pool, isa, rows)?),
            HeadType::Q4 => HeadCopy::Search4(Int4Matrix::round(pool, isa, rows)?),
        };
        Ok(Self { embedding, output, copy })
    }

    /// The embedding of a token.
    pub(super) fn embed(&self, token: usize, out: &mut [f32]) -> Result<(), QuantError> {
        self.embedding.rows_from(token, out)
    }

    /// All logits; x: `[tokens, hidden]`, out: `[tokens, vocabulary]`. `wide` is memory that is kept for the next time.
    pub(super) fn logits(
        &self,
        pool: &mut Pool,
        isa: Isa,
        x: &Rows,
        wide: &mut Vec<Wide>,
        out: &mut [f32],
    ) -> Result<(), QuantError> {
        if let HeadCopy::Head(head) = &self.copy {
            int8_logits(pool, isa, head, x, wide, out);
            return Ok(());
        }
        logits(pool, isa, self.exact(), x, out)
    }

    /// What finds the greatest logits without computing all; `None` when computing all is as good.
    pub(super) fn searchable(&self) -> Option<Searchable<'_>> {
        let copy = match &self.copy {
            HeadCopy::None | HeadCopy::Head(_) => return None,
            HeadCopy::Search8(copy) => ShortCopy::Int8(copy),
            HeadCopy::Search4(copy) => ShortCopy::Int4(copy),
        };
        Some(Searchable { exact: self.exact(), copy })
    }

    /// What decoding a token reads, except the few rows whose logits are computed after a search.
    pub(super) fn buffer(&self) -> &[u8] {
        match &self.copy {
            HeadCopy::None => self.exact().as_bytes(),
            HeadCopy::Search8(copy) | HeadCopy::Head(copy) => copy.as_bytes(),
            HeadCopy::Search4(copy) => copy.as_bytes(),
        }
    }

    /// The rows of the output head as in the file.
    fn exact(&self) -> &FloatMatrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}
