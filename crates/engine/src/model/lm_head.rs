//! The two ends of the model, which are often one matrix: the token embedding and `lm_head`, which makes logits of the last states.

use super::float_matrix::FloatMatrix;
use super::weights::LoadError;
use crate::checkpoint::{Checkpoint, Hyperparameters};
use crate::kernels::{Int4Matrix, Int8Matrix, Isa, Request, Rows, Select, ShortCopy, Wide, int8_logits};
use crate::memory::{Buffer, OutOfMemory};
use crate::pool::Pool;
use crate::quant::QuantError;

/// Elements from which a search in an 8-bit copy of an exact `lm_head` is faster than reading it whole.
pub(super) const WORTH_SEARCHING: usize = 1 << 22;

/// In which form `lm_head` is kept. Except with the exact one, the file's rows are not in memory: embeddings are read from the file,
/// token by token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LmHeadType {
    /// As in the file.
    Exact,
    /// Rounded to 8 bits.
    Q8,
    /// Rounded to 4 bits; the rows that have the greatest logits by them are read from the file.
    Q4,
}

/// Token embedding and `lm_head`.
#[derive(Debug)]
pub(super) struct LmHead {
    embedding: FloatMatrix,
    /// `None` when the embedding is also `lm_head`.
    output: Option<FloatMatrix>,
    /// A shorter copy of `lm_head`.
    copy: ShorterCopy,
}

#[derive(Debug)]
enum ShorterCopy {
    /// There are so few rows that reading all is as good.
    None,
    /// Searched for the greatest logits.
    Search8(Int8Matrix),
    Search4(Int4Matrix),
    /// Taken for `lm_head` itself.
    Instead(Int8Matrix),
}

/// Memory that computing logits needs, kept from token to token.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) select: Select,
    wide: Wide,
    /// Rows that were read from the file.
    rows: Buffer<u8>,
}

impl LmHead {
    pub(super) fn load(
        checkpoint: &Checkpoint,
        kind: LmHeadType,
        isa: Isa,
        pool: &mut Pool,
    ) -> Result<Self, LoadError> {
        let Hyperparameters { vocab_size, hidden, tied_head, .. } = *checkpoint.hyperparameters();
        let mut open = |name| -> Result<_, LoadError> {
            let tensor = checkpoint.matrix(name, vocab_size, hidden)?;
            Ok(match kind {
                LmHeadType::Exact => FloatMatrix::load(pool, tensor)?,
                LmHeadType::Q8 | LmHeadType::Q4 => FloatMatrix::in_file(tensor)?,
            })
        };
        let embedding = open("token_embd.weight")?;
        let output = if tied_head { None } else { Some(open("output.weight")?) };
        let rows = output.as_ref().unwrap_or(&embedding);
        let shape = [vocab_size, hidden];
        let read = |first: usize, out: &mut [f32]| rows.read(first, out).map_err(LoadError::from);
        let copy = match kind {
            LmHeadType::Exact if vocab_size * hidden < WORTH_SEARCHING => ShorterCopy::None,
            LmHeadType::Exact => ShorterCopy::Search8(Int8Matrix::round(pool, isa, shape, read)?),
            LmHeadType::Q8 => ShorterCopy::Instead(Int8Matrix::round(pool, isa, shape, read)?),
            LmHeadType::Q4 => ShorterCopy::Search4(Int4Matrix::round(pool, isa, shape, read)?),
        };
        Ok(Self { embedding, output, copy })
    }

    pub(super) fn scratch(&self) -> Result<Scratch, OutOfMemory> {
        let rows = match self.copy {
            // Logits need no rows of the file.
            ShorterCopy::Instead(_) => Buffer::zeroed(0)?,
            _ => self.exact().room()?,
        };
        Ok(Scratch { select: Select::default(), wide: Wide::default(), rows })
    }

    /// The embedding of a token.
    pub(super) fn embed(&self, token: usize, out: &mut [f32]) -> Result<(), QuantError> {
        self.embedding.read(token, out)
    }

    /// All logits of the rows `tokens` of `x`, which is `[rows, hidden]`; out: `[tokens, vocabulary]`.
    pub(super) fn logits(
        &self,
        pool: &mut Pool,
        isa: Isa,
        x: (&Rows, &[usize]),
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), QuantError> {
        if let ShorterCopy::Instead(copy) = &self.copy {
            int8_logits(pool, isa, copy, x, &mut scratch.wide, out);
            return Ok(());
        }
        self.exact().logits(pool, isa, x, &mut scratch.rows, out)
    }

    /// Finds the logits that are asked for without computing all; they are then in `scratch.select`, request by request. False
    /// when there is nothing to search in: computing all is as good.
    pub(super) fn select<T: IntoIterator<Item = u32>>(
        &self,
        pool: &mut Pool,
        isa: Isa,
        states: &Rows,
        requests: impl IntoIterator<Item = Request<T>>,
        scratch: &mut Scratch,
    ) -> Result<bool, QuantError> {
        let copy = match &self.copy {
            ShorterCopy::None | ShorterCopy::Instead(_) => {
                requests.into_iter().for_each(drop);
                return Ok(false);
            }
            ShorterCopy::Search8(copy) => ShortCopy::Int8(copy),
            ShorterCopy::Search4(copy) => ShortCopy::Int4(copy),
        };
        let Scratch { select, rows, .. } = scratch;
        select.start(pool, isa, copy, states, requests);
        self.exact().candidate_logits(pool, isa, states, rows, select.unknown())?;
        select.narrow(pool);
        self.exact().candidate_logits(pool, isa, states, rows, select.unknown())?;
        select.finish(pool);
        Ok(true)
    }

    /// What decoding a token reads, except the few rows whose logits are computed after a search.
    pub(super) fn buffer(&self) -> &[u8] {
        match &self.copy {
            ShorterCopy::None => self.exact().as_bytes(),
            ShorterCopy::Search8(copy) | ShorterCopy::Instead(copy) => copy.as_bytes(),
            ShorterCopy::Search4(copy) => copy.as_bytes(),
        }
    }

    /// The rows of `lm_head` as in the file.
    fn exact(&self) -> &FloatMatrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}
