//! Which model to load.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

/// The reference to [`ModelReference::Demo`]; a file of that name is `./demo`.
pub(super) const DEMO: &str = "demo";

/// A model by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelReference {
    /// The small one inside this program.
    Demo,
    /// A GGUF file, or a folder that holds one.
    File(PathBuf),
}

impl From<OsString> for ModelReference {
    fn from(text: OsString) -> Self {
        if text == DEMO { Self::Demo } else { Self::File(text.into()) }
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str(DEMO),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// File names need not be Unicode.
pub(super) fn model() -> impl TypedValueParser<Value = ModelReference> {
    OsStringValueParser::new().map(ModelReference::from)
}
