//! Fixture models and their reference results.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::kernels::{CacheType, Isa, PageId};
use crate::model::{Inference, InferenceOptions, LmHeadType, Model, Run, Wanted};
use crate::pool::Pool;

/// The pages of two sequences, in no order.
pub(super) const PAGES: [[PageId; 4]; 2] = [[6, 1, 0, 3], [4, 2, 7, 5]];

/// How a test wants a model to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) isa: Isa,
    pub(super) threads: usize,
    pub(super) cache_type: CacheType,
    pub(super) lm_head: LmHeadType,
}

pub(super) fn fixture(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

pub(super) fn load(path: &str, setup: Setup) -> Inference {
    open(&fixture(path), setup)
}

pub(super) fn open(path: &Path, setup: Setup) -> Inference {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut pool = Pool::new(NonZeroUsize::new(setup.threads).unwrap()).unwrap();
    let model = Model::load(&checkpoint, setup.lm_head, setup.isa, &mut pool).unwrap();
    let options = InferenceOptions {
        context: 512,
        pages: PAGES.as_flattened().len(),
        sequences: 2,
        cache_type: setup.cache_type,
        max_rows: 64,
    };
    Inference::new(model, pool, setup.isa, options).unwrap()
}

/// Logits `[tokens, vocabulary]` of a prompt in the pages of sequence 0, computed in chunks of `chunk` rows.
pub(super) fn all_logits(inference: &mut Inference, ids: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    for (index, tokens) in ids.chunks(chunk).enumerate() {
        inference.forward(&[run(0, index * chunk, tokens)]).unwrap();
        all.extend((0..tokens.len()).map(|i| inference.logits(i).unwrap().to_vec()));
    }
    all
}

/// Tokens of which all logits are wanted.
pub(super) fn run(sequence: usize, start: usize, tokens: &[u32]) -> Run<'_> {
    Run { pages: &PAGES[sequence], start, tokens, logits: Wanted::All }
}

/// One prompt of a `reference.json` with its tensors.
pub(super) struct Prompt {
    pub(super) name: String,
    pub(super) ids: Vec<u32>,
    pub(super) strict: bool,
    pub(super) logit_std: f64,
    pub(super) greedy: Vec<u32>,
    pub(super) greedy_strict_steps: usize,
    /// Positions that the reference has logits for.
    pub(super) positions: Vec<usize>,
    /// `[positions, vocabulary]`
    pub(super) logits: Vec<Vec<f32>>,
    /// For each token: the least distance of an activation from a rounding boundary so far.
    pub(super) tie_margin: Vec<f32>,
}

pub(super) fn prompts(stem: &str) -> Vec<Prompt> {
    let json: Value =
        serde_json::from_slice(&std::fs::read(fixture(&format!("{stem}.json"))).unwrap()).unwrap();
    let tensors = SafeTensors::open(&format!("{stem}.safetensors"));
    json["prompts"].as_array().unwrap().iter().map(|prompt| Prompt::new(prompt, &tensors)).collect()
}

impl Prompt {
    fn new(json: &Value, tensors: &SafeTensors) -> Self {
        let name = json["name"].as_str().unwrap().to_owned();
        let ids = numbers(&json["ids"]);
        let positions = match &json["logit_positions"] {
            Value::String(_) => (0..ids.len()).collect(),
            list => numbers(list).into_iter().map(|id| id as usize).collect(),
        };
        let flat = tensors.f32(&format!("{name}.logits"));
        let vocabulary = flat.len() / Vec::len(&positions);
        Self {
            ids,
            strict: json["strict"].as_bool().unwrap(),
            logit_std: json["logit_std"].as_f64().unwrap(),
            greedy: numbers(&json["greedy"]),
            greedy_strict_steps: json["greedy_strict_steps"].as_u64().unwrap_or(0) as usize,
            positions,
            logits: flat.chunks(vocabulary).map(<[f32]>::to_vec).collect(),
            tie_margin: tensors.f32(&format!("{name}.tie_margin")),
            name,
        }
    }
}

fn numbers(json: &Value) -> Vec<u32> {
    json.as_array().map_or(Vec::new(), |list| list.iter().map(|id| id.as_u64().unwrap() as u32).collect())
}

struct SafeTensors {
    header: Value,
    data: Vec<u8>,
}

impl SafeTensors {
    fn open(path: &str) -> Self {
        let mut bytes = std::fs::read(fixture(path)).unwrap();
        let data = bytes.split_off(8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize);
        Self { header: serde_json::from_slice(&bytes[8..]).unwrap(), data }
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        let entry = &self.header[name];
        assert_eq!(entry["dtype"], "F32", "{name}");
        let offset = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        self.data[offset(0)..offset(1)].as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }
}
