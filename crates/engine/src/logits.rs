//! What a sampler may ask of the output of the model, and what it gets.
//!
//! The output has a logit for each token of the vocabulary. Most samplers look at a few of the greatest, which can be found without
//! computing the others.

/// Which logits a sampler needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Demand {
    /// The greatest so many.
    Top(usize),
    /// All that are less than this below the greatest.
    Within(f32),
}

/// A token and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    pub id: u32,
    /// The same bits as if all had been computed.
    pub logit: f32,
}

/// The logits of one row: all, or those that were asked for.
#[derive(Clone, Copy, Debug)]
pub enum Logits<'a> {
    /// `[vocabulary]`
    All(&'a [f32]),
    /// Sorted by id.
    Some(&'a [Candidate]),
}
