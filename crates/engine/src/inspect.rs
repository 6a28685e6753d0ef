//! `inspect FILE`: what a model file holds and how it would be used, as text for a person.
//!
//! Prints as far as the file can be understood and then fails with the reason, so that a file that cannot be served
//! still shows its metadata. Text from the file is escaped, since it goes to a terminal.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::checkpoint::Checkpoint;
use crate::gguf::{Array, Gguf, Metadata, TensorType, Value, shown};
use crate::hub::LocalModel;
use crate::kernels::Activation;

/// Prints metadata, tensors, totals and hyperparameters of a model file.
pub fn inspect(model: &LocalModel, out: &mut impl Write) -> anyhow::Result<()> {
    let source = model.open()?;
    writeln!(out, "{model}, {} bytes", grouped(source.len()))?;
    let gguf =
        Gguf::read_if(&source, |metadata| -> anyhow::Result<()> { Ok(print_metadata(metadata, out)?) })?;
    print_tensors(&gguf, out)?;
    print_totals(&gguf, out)?;
    print_use(&Checkpoint::from_source(source)?, out)?;
    Ok(())
}

fn print_metadata(metadata: &Metadata, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nMetadata ({} keys)", metadata.iter().len())?;
    for (key, value) in metadata.iter() {
        writeln!(
            out,
            "  {:<48} {:<15} {}",
            key.escape_debug().to_string(),
            value.type_name(),
            preview(value)
        )?;
    }
    Ok(())
}

fn print_tensors(gguf: &Gguf, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nTensors ({}, GGUF version {})", gguf.tensors.len(), gguf.version)?;
    for tensor in &gguf.tensors {
        let name = tensor.name.escape_debug().to_string();
        let shape: Vec<_> = tensor.shape.iter().rev().map(u64::to_string).collect();
        let (shape, bytes) = (shape.join(" × "), grouped(tensor.bytes));
        writeln!(out, "  {name:<48} {:<6} {shape:>16} {bytes:>14} bytes", tensor.tensor_type)?;
    }
    Ok(())
}

fn print_totals(gguf: &Gguf, out: &mut impl Write) -> io::Result<()> {
    let mut by_type = BTreeMap::<_, [u64; 3]>::new();
    for tensor in &gguf.tensors {
        let total = by_type.entry(tensor.tensor_type).or_default();
        for (sum, more) in total.iter_mut().zip([1, tensor.rows() * tensor.columns(), tensor.bytes]) {
            *sum += more;
        }
    }
    writeln!(out, "\nTotals")?;
    for (tensor_type, total) in by_type {
        let [tensors, elements, bytes] = total.map(grouped);
        let kind = match tensor_type {
            TensorType::TQ1_0 | TensorType::TQ2_0 | TensorType::I2_S => "ternary weights",
            _ => "numbers",
        };
        writeln!(out, "  {tensor_type:<6} {tensors:>5} tensors {bytes:>14} bytes {elements:>14} {kind}")?;
    }
    Ok(())
}

fn print_use(checkpoint: &Checkpoint, out: &mut impl Write) -> io::Result<()> {
    let model = checkpoint.hyperparameters();
    let activation = match model.activation {
        Activation::ReluSquared => "squared ReLU",
        Activation::Silu => "SiLU",
    };
    let head = if model.tied_head { "token_embd.weight" } else { "output.weight" };
    let head_type = checkpoint.tensor(head).map_or("absent", |tensor| tensor.tensor_type.name());
    let lines = [
        ("name", model.name.as_deref().map_or_else(|| "none".to_owned(), shown)),
        ("architecture", model.architecture.name().to_owned()),
        ("vocabulary", format!("{} tokens", grouped(model.vocab_size as u64))),
        ("context", format!("{} tokens", grouped(model.context_length as u64))),
        ("layers", format!("{} of width {}", model.layers, model.hidden)),
        (
            "attention",
            format!(
                "{} heads, {} for keys and values, each {} wide",
                model.heads, model.kv_heads, model.head_dim
            ),
        ),
        ("positions", format!("rotation by halves, base {}", model.rope_theta)),
        ("feed-forward", format!("{} wide, {activation}", model.ffn)),
        ("norms", format!("RMS, epsilon {}", model.rms_eps)),
        ("output head", format!("{head} ({head_type}{})", if model.tied_head { ", tied" } else { "" })),
    ];
    writeln!(out, "\nWould be used as")?;
    for (what, how) in lines {
        writeln!(out, "  {what:<13} {how}")?;
    }
    Ok(())
}

fn preview(value: &Value) -> String {
    match value {
        Value::U8(x) => x.to_string(),
        Value::I8(x) => x.to_string(),
        Value::U16(x) => x.to_string(),
        Value::I16(x) => x.to_string(),
        Value::U32(x) => x.to_string(),
        Value::I32(x) => x.to_string(),
        Value::F32(x) => x.to_string(),
        Value::Bool(x) => x.to_string(),
        Value::String(x) => shown(x),
        Value::Array(x) => preview_array(x),
        Value::U64(x) => x.to_string(),
        Value::I64(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
    }
}

fn preview_array(array: &Array) -> String {
    match array {
        Array::U8(x) => first_of(x, u8::to_string),
        Array::I8(x) => first_of(x, i8::to_string),
        Array::U16(x) => first_of(x, u16::to_string),
        Array::I16(x) => first_of(x, i16::to_string),
        Array::U32(x) => first_of(x, u32::to_string),
        Array::I32(x) => first_of(x, i32::to_string),
        Array::F32(x) => first_of(x, f32::to_string),
        Array::Bool(x) => first_of(x, bool::to_string),
        Array::Strings(x) => first_of(x, |text| shown(text)),
        Array::Arrays(x) => first_of(x, preview_array),
        Array::U64(x) => first_of(x, u64::to_string),
        Array::I64(x) => first_of(x, i64::to_string),
        Array::F64(x) => first_of(x, f64::to_string),
    }
}

/// The number of elements and a few of them.
fn first_of<T>(elements: &[T], show: impl Fn(&T) -> String) -> String {
    const FEW: usize = 4;
    let mut shown: Vec<_> = elements.iter().take(FEW).map(show).collect();
    if elements.len() > FEW {
        shown.push("…".to_owned());
    }
    format!("{} × [{}]", grouped(elements.len() as u64), shown.join(", "))
}

/// Digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gguf::writer::TestFile;

    fn inspected(path: &Path) -> (String, anyhow::Result<()>) {
        let mut out = Vec::new();
        let result = inspect(&LocalModel::File(path.to_owned()), &mut out);
        (String::from_utf8(out).unwrap(), result)
    }

    #[track_caller]
    fn check_lines(text: &str, expected: &[&str]) {
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<_> = text.lines().map(squeeze).collect();
        for expected in expected {
            assert!(lines.iter().any(|line| line == expected), "{expected:?} is not a line of\n{text}");
        }
    }

    #[test]
    fn a_model_is_shown_with_all_that_matters() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
        let (text, result) = inspected(&Path::new(folder).join("nano128/model-i2_s-q6_k.gguf"));
        result.unwrap();
        check_lines(
            &text,
            &[
                "Metadata (24 keys)",
                r#"general.architecture string "bitnet-b1.58""#,
                "bitnet-b1.58.embedding_length u32 512",
                r##"tokenizer.ggml.tokens array of string 1,024 × ["!", "\"", "#", "$", …]"##,
                "Tensors (24, GGUF version 3)",
                "blk.0.ffn_down.weight I2_S 512 × 768 98,336 bytes",
                "I2_S 14 tensors 983,488 bytes 3,932,160 ternary weights",
                "architecture bitnet-b1.58",
                "attention 4 heads, 2 for keys and values, each 128 wide",
                "feed-forward 768 wide, squared ReLU",
                "output head token_embd.weight (Q6_K, tied)",
            ],
        );
    }

    #[test]
    fn a_model_that_cannot_be_used_is_shown_as_far_as_possible() {
        let path = std::env::temp_dir().join(format!("inspect-{}.gguf", std::process::id()));
        let check = |file: TestFile, lines: &[&str], error: &str| {
            std::fs::write(&path, file.bytes()).unwrap();
            let (text, result) = inspected(&path);
            check_lines(&text, lines);
            let message = result.unwrap_err().to_string();
            assert!(message.contains(error), "{message}");
        };
        let llama = TestFile::new().entry("general.architecture", Value::String("lla\x1bma".to_owned()));
        let name = r#"general.architecture string "lla\u{1b}ma""#;
        let tensor = "t F32 2 8 bytes";
        let with_float = llama.clone().tensor("t", &[2], 0, vec![0; 8]);
        check(with_float, &[name, tensor], r#"architecture "lla\u{1b}ma" is not supported"#);
        check(llama.tensor("t", &[256], 12, vec![0; 144]), &[name], "has type Q4_K (id 12)");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn digits_are_grouped() {
        let numbers = [0, 999, 1_000, 12_345, 1_187_801_280];
        assert_eq!(numbers.map(grouped), ["0", "999", "1,000", "12,345", "1,187,801,280"]);
    }
}
