//! A training that was interrupted, on disk: vocabulary, parameters, moments, and where it was. The vocabulary is kept because it
//! follows from the conversations, and a training may go on with other ones.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::network::Network;
use crate::optimizer::Optimizer;
use crate::shape::Shape;
use crate::trainer::Trainer;
use crate::vocabulary::Vocabulary;

const MAGIC: &[u8; 8] = b"BNTRAIN2";
/// Bytes of the magic and six numbers.
const HEAD: usize = 56;

/// How far a training has come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// What all random numbers follow from.
    pub seed: u64,
    /// Steps until the end; 0 when that is not yet known.
    pub total: u64,
    /// Tokens that were read.
    pub tokens: u64,
    /// Time that was spent, in milliseconds.
    pub milliseconds: u64,
}

impl Progress {
    /// The number of steps, which is endless as long as it is not known.
    #[must_use]
    pub fn total_or_more(&self) -> u64 {
        if self.total == 0 { u64::MAX } else { self.total }
    }
}

/// Writes the file, or leaves the one that is there.
pub fn save(path: &Path, trainer: &Trainer, vocabulary: &Vocabulary, progress: &Progress) -> Result<()> {
    let Trainer { master, optimizer, .. } = trainer;
    let mut bytes = MAGIC.to_vec();
    let Progress { seed, total, tokens, milliseconds } = *progress;
    let vocabulary = vocabulary.to_json();
    for number in [optimizer.steps, seed, total, tokens, milliseconds, vocabulary.len() as u64] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(vocabulary.as_bytes());
    for values in [master, &optimizer.mean, &optimizer.square] {
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    let unfinished = path.with_extension("part");
    fs::write(&unfinished, bytes)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write the checkpoint {}", path.display()))
}

/// Reads what [`save`] wrote, for a network of the same shape but for the vocabulary.
pub fn load(path: &Path, shape: Shape) -> Result<(Trainer, Vocabulary, Progress)> {
    let bytes = fs::read(path).with_context(|| format!("cannot read the checkpoint {}", path.display()))?;
    let (head, rest) = bytes.split_at_checked(HEAD).context("the checkpoint is too short")?;
    ensure!(head.starts_with(MAGIC), "{} is not a checkpoint", path.display());
    let numbers: Vec<u64> = head[8..].as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
    let (vocabulary, values) =
        rest.split_at_checked(numbers[5] as usize).context("the checkpoint is too short")?;
    let vocabulary =
        Vocabulary::from_json(vocabulary).context("the checkpoint's vocabulary cannot be read")?;
    let network = Network::new(Shape { vocab: vocabulary.tokens.len(), ..shape });
    let parameters = network.layout.parameters();
    ensure!(
        values.len() == 12 * parameters,
        "the checkpoint is one of another model: {} parameters, not {parameters}",
        values.len() / 12
    );
    let values: Vec<f32> = values.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    let part = |index: usize| values[index * parameters..(index + 1) * parameters].to_vec();
    let optimizer = Optimizer { mean: part(1), square: part(2), steps: numbers[0] };
    let progress =
        Progress { seed: numbers[1], total: numbers[2], tokens: numbers[3], milliseconds: numbers[4] };
    Ok((Trainer::resume(network, part(0), optimizer, progress.seed), vocabulary, progress))
}
