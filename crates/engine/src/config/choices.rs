//! Settings that are one of a few names, each with the value that it stands for. The values are those of the modules that use
//! them; only their names on the command line are known here.

use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::hub::ModelReference;
use crate::kernels::{CacheType, Isa};
use crate::logging::Format;
use crate::model::LmHeadType;

/// A name, what it stands for, and what the help says of it.
type Choice<T> = (&'static str, T, &'static str);

const CACHE_TYPES: &[Choice<CacheType>] =
    &[("f16", CacheType::F16, "Half the memory"), ("f32", CacheType::F32, "No rounding")];

const HEAD_TYPES: &[Choice<LmHeadType>] = &[
    ("exact", LmHeadType::Exact, "As in the file, with a copy to search in: the model's own tokens"),
    ("q8", LmHeadType::Q8, "8 bits only, lossy; embeddings are read from the file"),
    (
        "q4",
        LmHeadType::Q4,
        "Searched in 4 bits, lossy but hardly; embeddings and the rows found are read from the file. Least memory, fastest, \
         slow with logprobs",
    ),
];

const LOG_FORMATS: &[Choice<Format>] =
    &[("text", Format::Text, "Lines for people"), ("json", Format::Json, "Objects for a collector")];

fn one_of<T: Copy + Send + Sync>(choices: &'static [Choice<T>]) -> impl TypedValueParser<Value = T> {
    let names = choices.iter().map(|(name, _, help)| PossibleValue::new(*name).help(*help));
    PossibleValuesParser::new(names).try_map(|asked| {
        let found = choices.iter().find(|(name, ..)| *name == asked);
        found.map(|(_, value, _)| *value).ok_or("must be one of the names")
    })
}

pub(super) fn cache_type() -> impl TypedValueParser<Value = CacheType> {
    one_of(CACHE_TYPES)
}

pub(super) fn head_type() -> impl TypedValueParser<Value = LmHeadType> {
    one_of(HEAD_TYPES)
}

pub(super) fn log_format() -> impl TypedValueParser<Value = Format> {
    one_of(LOG_FORMATS)
}

/// What `--head` calls it.
pub(super) fn head_name(head_type: LmHeadType) -> &'static str {
    HEAD_TYPES.iter().find(|(_, value, _)| *value == head_type).map_or("unknown", |(name, ..)| *name)
}

/// Only what this CPU has.
pub(super) fn isa() -> impl TypedValueParser<Value = Isa> {
    let named = ["scalar", "avx2", "avxvnni", "avx512"].map(PossibleValue::new);
    let auto = PossibleValue::new("auto").help("The best that this CPU has");
    PossibleValuesParser::new([auto].into_iter().chain(named)).try_map(|name| match name.as_str() {
        "auto" => Ok(Isa::best()),
        name => Isa::named(name),
    })
}

/// File names need not be Unicode.
pub(super) fn model() -> impl TypedValueParser<Value = ModelReference> {
    OsStringValueParser::new().try_map(ModelReference::parse)
}
