//! What a model is called: a text such as `bitnet-2b` → a [`ModelReference`].

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The short name of Microsoft's model, BitNet b1.58 2B4T.
const BITNET_2B: &str = "bitnet-2b";

/// What a short name stands for.
const BITNET_2B_FILE: &str =
    "microsoft/bitnet-b1.58-2B-4T-gguf/ggml-model-i2_s.gguf@a1f2f1c765812aa8af3f6eda4a313707064bba15";

/// What a reference to a file on the hub begins with.
const HUB_PREFIX: &str = "hf:";

/// A branch of the hub that every repository has.
const DEFAULT_REVISION: &str = "main";

/// A model by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelReference {
    /// The small one inside this program.
    Demo,
    /// A GGUF file, or a folder that holds one.
    Path(PathBuf),
    /// A file that is downloaded unless it is here already.
    Hub(HubFile),
}

/// A file in a repository of the Hugging Face hub. Each part is safe as a part of a path and of a URL's path once it is
/// percent-encoded: no segment is empty, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// `OWNER/REPO`.
    pub repository: String,
    /// The path of the file in it, with `/` between folders.
    pub file: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl ModelReference {
    /// The reference to [`ModelReference::Demo`]; a file of that name is `./demo`.
    pub const DEMO: &str = "demo";

    /// Reads what `--model` takes; the error says what is wrong with it.
    pub fn parse(text: OsString) -> Result<Self, String> {
        match text.to_str() {
            Some("") => {
                Err("must name a model: a file, a folder, demo, bitnet-2b or hf:OWNER/REPO/FILE".to_owned())
            }
            Some(Self::DEMO) => Ok(Self::Demo),
            Some(BITNET_2B) => HubFile::parse(BITNET_2B_FILE).map(Self::Hub),
            Some(name) if name.starts_with(HUB_PREFIX) => {
                HubFile::parse(&name[HUB_PREFIX.len()..]).map(Self::Hub)
            }
            _ => Ok(Self::Path(text.into())),
        }
    }

    /// The short name, if it has one.
    #[must_use]
    pub fn short_name(&self) -> Option<&'static str> {
        matches!(self, Self::Hub(file) if file.to_string() == BITNET_2B_FILE).then_some(BITNET_2B)
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => f.write_str(Self::DEMO),
            Self::Path(path) => path.display().fmt(f),
            Self::Hub(file) => match self.short_name() {
                Some(name) => f.write_str(name),
                None => write!(f, "{HUB_PREFIX}{file}"),
            },
        }
    }
}

impl HubFile {
    /// Reads `OWNER/REPO/FILE[@REVISION]`.
    fn parse(text: &str) -> Result<Self, String> {
        let (path, revision) = text.rsplit_once('@').unwrap_or((text, DEFAULT_REVISION));
        let mut parts = path.splitn(3, '/');
        let (Some(owner), Some(name), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(
                "must name a file, as in hf:OWNER/REPO/FILE.gguf or hf:OWNER/REPO/FILE.gguf@REVISION"
                    .to_owned(),
            );
        };
        let repository = format!("{owner}/{name}");
        for (what, part) in [("OWNER/REPO", repository.as_str()), ("FILE", file), ("REVISION", revision)] {
            if part.len() > 512 || !part.split('/').all(is_safe) {
                return Err(format!("{part:?} cannot be the {what} of a file on the hub"));
            }
        }
        Ok(Self { repository, file: file.to_owned(), revision: revision.to_owned() })
    }
}

impl fmt::Display for HubFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.repository, self.file)?;
        if self.revision == DEFAULT_REVISION { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// Whether a segment can stand in a path on this machine and on the hub.
fn is_safe(segment: &str) -> bool {
    !matches!(segment, "" | "." | "..")
        && segment.len() <= 200
        && !segment.chars().any(|character| character.is_control() || character == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelReference, String> {
        ModelReference::parse(text.into())
    }

    #[test]
    fn each_kind_of_reference_is_read_and_shown_again() {
        for text in [
            "demo",
            "bitnet-2b",
            "./demo",
            "model.gguf",
            "hf:o/r/f.gguf",
            "hf:o/r/folder/f.gguf@v1.0",
            "hf:o/r/a@b.gguf@refs/pr/1",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_reference_to_the_hub_has_its_parts() {
        let ModelReference::Hub(file) = parse("hf:o/r/folder/f.gguf@v1").unwrap() else { panic!() };
        let expected = |revision: &str| HubFile {
            repository: "o/r".to_owned(),
            file: "folder/f.gguf".to_owned(),
            revision: revision.to_owned(),
        };
        assert_eq!(file, expected("v1"));
        assert_eq!(parse("hf:o/r/folder/f.gguf").unwrap(), ModelReference::Hub(expected("main")));
    }

    #[test]
    fn what_names_no_file_or_would_leave_its_folder_is_refused_with_the_part() {
        for (text, part) in [
            ("hf:", "hf:OWNER/REPO/FILE"),
            ("hf:o/r", "hf:OWNER/REPO/FILE"),
            ("hf:o/r/", "FILE"),
            ("hf:../r/f.gguf", "OWNER/REPO"),
            ("hf:o/r/../../f.gguf", "FILE"),
            ("hf:o/r/f.gguf@", "REVISION"),
            ("hf:o/r/f.gguf@..", "REVISION"),
            ("hf:o/r/a\\b.gguf", "FILE"),
            ("hf:o//f.gguf", "OWNER/REPO"),
            ("hf:/r/f.gguf", "OWNER/REPO"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
