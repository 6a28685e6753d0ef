//! Good files are read as written; bad ones give an error that says what and where, and never a panic.

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use super::writer::TestFile;
use super::*;

const PICO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/pico/model-i2_s.gguf");

fn read(bytes: &[u8]) -> Result<Gguf, GgufError> {
    Gguf::read(&Bytes::copy_from_slice(bytes).into())
}

#[track_caller]
fn check_refused(bytes: &[u8], expected: &str) {
    let message = read(bytes).expect_err("the file should be refused").to_string();
    assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
}

/// Values and tensors of every kind.
fn sample() -> TestFile {
    let arrays = vec![
        Array::U8(vec![1, 2]),
        Array::I8(vec![-1]),
        Array::U16(vec![3]),
        Array::I16(vec![-3]),
        Array::U32(vec![4]),
        Array::I32(vec![-4]),
        Array::F32(vec![0.5]),
        Array::Bool(vec![true, false]),
        Array::Strings(vec!["Ġa".to_owned(), String::new()]),
        Array::Arrays(vec![Array::U8(vec![]), Array::Arrays(vec![])]),
        Array::U64(vec![u64::MAX]),
        Array::I64(vec![i64::MIN]),
        Array::F64(vec![-0.5]),
    ];
    let scalars = vec![
        Value::U8(200),
        Value::I8(-100),
        Value::U16(60_000),
        Value::I16(-30_000),
        Value::U32(4_000_000_000),
        Value::I32(-2_000_000_000),
        Value::F32(1.5),
        Value::Bool(true),
        Value::String("héllo".to_owned()),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F64(2.5),
    ];
    let mut file = TestFile::new();
    for (index, value) in scalars.into_iter().chain(arrays.into_iter().map(Value::Array)).enumerate() {
        file = file.entry(&format!("key.{index}"), value);
    }
    file.tensor("f32", &[3, 2], 0, vec![1; 24])
        .tensor("scalar", &[], 0, vec![2; 4])
        .tensor("i2_s", &[128, 2], 36, vec![3; 96])
        .tensor("q8_0", &[64, 1, 2], 8, vec![4; 136])
}

#[test]
fn a_file_is_read_as_it_was_written() {
    for version in [2, 3] {
        for alignment in [1, 8, 32, 4096] {
            let mut file = sample().entry("general.alignment", Value::U32(alignment));
            (file.version, file.alignment) = (version, alignment as usize);
            let source = Source::from(Bytes::from(file.bytes()));
            let gguf = Gguf::read(&source).unwrap();

            assert_eq!(gguf.version, version);
            let entries: Vec<_> =
                gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
            assert_eq!(entries, file.entries);
            assert_eq!(gguf.tensors.len(), file.tensors.len());
            for (found, written) in gguf.tensors.iter().zip(&file.tensors) {
                assert_eq!((&found.name, &found.shape), (&written.name, &written.shape));
                assert_eq!(found.tensor_type.id(), written.type_id);
                let mut data = vec![0; found.bytes as usize];
                source.read_at(found.offset, &mut data).unwrap();
                assert_eq!(data, written.data);
                assert_eq!(gguf.tensor(&found.name), Some(found));
            }
            assert_eq!(gguf.tensor("absent"), None);
        }
    }
}

#[test]
fn rows_are_all_dimensions_but_the_first() {
    let gguf = read(&sample().bytes()).unwrap();
    let shapes: Vec<_> = gguf.tensors.iter().map(|tensor| (tensor.rows(), tensor.columns())).collect();
    assert_eq!(shapes, [(2, 3), (1, 1), (2, 128), (2, 64)]);
}

#[test]
fn a_file_on_disk_reads_like_the_same_bytes_in_memory() {
    let on_disk = Source::open(Path::new(PICO)).unwrap();
    let in_memory = Source::from(Bytes::from(std::fs::read(PICO).unwrap()));
    let (first, second) = (Gguf::read(&on_disk).unwrap(), Gguf::read(&in_memory).unwrap());
    assert_eq!(first.tensors, second.tensors);
    assert!(first.metadata.iter().eq(second.metadata.iter()));
    assert_eq!((first.metadata.iter().len(), first.tensors.len()), (24, 13));
    assert_eq!(on_disk.len(), in_memory.len());
    for source in [on_disk, in_memory] {
        let mut last = [0; 1];
        source.read_at(source.len() - 1, &mut last).unwrap();
        for offset in [source.len(), u64::MAX] {
            assert!(source.read_at(offset, &mut last).is_err());
        }
    }
}

#[test]
fn a_directory_is_not_a_model() {
    let error = Source::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
    assert_eq!(error.to_string(), "it is a folder, not a regular file");
}

#[test]
fn typed_getters_name_key_and_both_types() {
    let entries = [
        ("text", Value::String("x".to_owned())),
        ("small", Value::U8(7)),
        ("negative", Value::I32(-7)),
        ("double", Value::F64(0.25)),
        ("flag", Value::Bool(true)),
        ("names", Value::Array(Array::Strings(vec!["a".to_owned()]))),
        ("i32s", Value::Array(Array::I32(vec![-1]))),
    ];
    let metadata =
        Metadata::new(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()).unwrap();

    assert_eq!(metadata.string("text").unwrap(), Some("x"));
    assert_eq!(metadata.u64("small").unwrap(), Some(7));
    assert_eq!(metadata.f32("double").unwrap(), Some(0.25));
    assert_eq!(metadata.bool("flag").unwrap(), Some(true));
    assert_eq!(metadata.strings("names").unwrap(), Some(["a".to_owned()].as_slice()));
    assert_eq!(metadata.i32s("i32s").unwrap(), Some([-1].as_slice()));
    assert_eq!(metadata.string("absent").unwrap(), None);

    let message = |error: GgufError| error.to_string();
    let wrong = metadata.string("small").map_err(message).unwrap_err();
    assert_eq!(wrong, r#"metadata key "small": must be string, but is u8"#);
    let wrong = metadata.u64("negative").map_err(message).unwrap_err();
    assert_eq!(wrong, r#"metadata key "negative": must be an integer from 0 on, but is a negative integer"#);
    let wrong = metadata.i32s("names").map_err(message).unwrap_err();
    assert_eq!(wrong, r#"metadata key "names": must be array of i32, but is array of string"#);
}

#[test]
fn what_is_not_gguf_is_recognised() {
    check_refused(b"", "has only 0 bytes");
    check_refused(b"GGU", "has only 3 bytes");
    check_refused(b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer");
    check_refused(b"<!DOCTYPE html>", "web page");
    check_refused(b"PK\x03\x04", "zip archive");
    check_refused(b"\x1b[2J", r#"starts with "\x1b[2J""#);
    check_refused(b"GGUF\x01\0\0\0", "version 1 is not supported");
    check_refused(b"GGUF\x09\0\0\0", "version 9 is not supported");
    check_refused(b"GGUF\0\0\0\x03", "big-endian");
}

#[test]
fn every_truncation_of_a_file_is_refused() {
    let bytes = sample().bytes();
    let last_byte_of_data = bytes.len() - 24; // 136 data bytes, padded to 160
    read(&bytes[..last_byte_of_data]).unwrap();
    for length in 0..last_byte_of_data {
        assert!(read(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn every_truncation_of_a_real_head_is_refused() {
    let bytes = Bytes::from(std::fs::read(PICO).unwrap());
    let data = Gguf::read(&bytes.clone().into()).unwrap().tensors[0].offset as usize;
    for length in 0..=data {
        assert!(Gguf::read(&bytes.slice(..length).into()).is_err(), "{length} bytes");
    }
}

#[test]
fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
    for count in [1 << 20, 1 << 63, u64::MAX] {
        for at in [8, 16] {
            let mut bytes = sample().bytes();
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            assert!(read(&bytes).is_err());
        }
        let mut bytes = TestFile::new().bytes();
        bytes[16..24].copy_from_slice(&count.to_le_bytes());
        check_refused(&bytes, &format!("GGUF header: {count} elements cannot fit"));

        for element_type in 0..13u32 {
            let mut file = TestFile::new().entry("a.key", Value::Array(Array::U8(vec![0; 100]))).head();
            let array = file.len() - 112;
            file[array..array + 4].copy_from_slice(&element_type.to_le_bytes());
            file[array + 4..array + 12].copy_from_slice(&count.to_le_bytes());
            check_refused(&file, r#"metadata key "a.key": "#);
        }
    }
}

#[test]
fn lengths_of_texts_are_checked() {
    let file = TestFile::new().entry("key", Value::String("text".to_owned())).head();
    for length in [5, 1 << 63, u64::MAX] {
        let mut file = file.clone();
        let at = file.len() - 12;
        file[at..at + 8].copy_from_slice(&length.to_le_bytes());
        let expected = format!(r#"metadata key "key": {length} bytes are needed at byte 47"#);
        check_refused(&file, &expected);
    }
    check_refused(
        &TestFile::new().entry(&"k".repeat(65_536), Value::U8(0)).head(),
        "metadata entry 0: a text",
    );
    check_refused(
        &TestFile::new().tensor(&"t".repeat(65), &[1], 0, vec![0; 4]).bytes(),
        "tensor number 0: a text",
    );

    let mut file = TestFile::new().entry("key", Value::String("text".to_owned())).head();
    *file.last_mut().unwrap() = 0xFF;
    check_refused(&file, r#"metadata key "key": the text is not valid UTF-8"#);
}

#[test]
fn a_huge_file_does_not_allow_a_huge_text() {
    let path = std::env::temp_dir().join(format!("gguf-huge-{}", std::process::id()));
    let mut head = TestFile::new().entry("key", Value::String(String::new())).head();
    let at = head.len() - 8;
    head[at..].copy_from_slice(&(1u64 << 32).to_le_bytes());
    std::fs::write(&path, head).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 33).unwrap();
    let result = Gguf::read(&Source::open(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    let expected =
        r#"metadata key "key": 4294967296 bytes are needed at byte 47, but only 134217681 are left"#;
    assert_eq!(result.unwrap_err().to_string(), expected);
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let path = std::env::temp_dir().join(format!("gguf-shrinks-{}", std::process::id()));
    std::fs::copy(PICO, &path).unwrap();
    let source = Source::open(&path).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1_000).unwrap();
    std::fs::remove_file(&path).unwrap();
    let message = Gguf::read(&source).unwrap_err().to_string();
    assert!(message.contains("the file cannot be read at byte"), "{message}");
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |depth| (1..depth).fold(Array::U8(vec![]), |inner, _| Array::Arrays(vec![inner]));
    read(&TestFile::new().entry("k", Value::Array(nested(4))).bytes()).unwrap();
    check_refused(&TestFile::new().entry("k", Value::Array(nested(5))).bytes(), "deeper than 4");

    let mut bottomless = TestFile::new().entry("k", Value::Array(Array::Arrays(vec![]))).head();
    bottomless.truncate(bottomless.len() - 12);
    for _ in 0..1_000_000 {
        bottomless.extend([9, 0, 0, 0]);
        bottomless.extend(1u64.to_le_bytes());
    }
    check_refused(&bottomless, "deeper than 4");
}

#[test]
fn values_that_do_not_exist_are_refused() {
    let mut unknown_type = TestFile::new().entry("key", Value::U8(0)).head();
    let at = unknown_type.len() - 5;
    unknown_type[at] = 13;
    check_refused(&unknown_type, r#"metadata key "key": value type 13 does not exist"#);

    let mut not_bool = TestFile::new().entry("key", Value::Bool(true)).head();
    *not_bool.last_mut().unwrap() = 2;
    check_refused(&not_bool, r#"metadata key "key": a boolean must be 0 or 1, not 2"#);
}

#[test]
fn names_are_unique() {
    let twice = TestFile::new().entry("key", Value::U8(0)).entry("key", Value::U8(1));
    check_refused(&twice.bytes(), r#"metadata key "key": appears twice"#);
    let twice = TestFile::new().tensor("t", &[1], 0, vec![0; 4]).tensor("t", &[1], 0, vec![0; 4]);
    check_refused(&twice.bytes(), r#"tensor "t": appears twice"#);
}

#[test]
fn names_cannot_write_to_the_terminal() {
    check_refused(&TestFile::new().tensor("\x1b[2J", &[0], 0, vec![]).bytes(), r#"tensor "\u{1b}[2J": "#);
    assert_eq!(shown(&"ä".repeat(65)), format!("\"{}\"… (130 bytes)", "ä".repeat(64)));
}

#[test]
fn alignment_is_a_power_of_two() {
    for alignment in [0u32, 3, 33, u32::MAX] {
        let file = TestFile::new().entry("general.alignment", Value::U32(alignment));
        check_refused(
            &file.bytes(),
            r#"metadata key "general.alignment": the alignment must be a power of two"#,
        );
    }
    let file = TestFile::new().entry("general.alignment", Value::String("32".to_owned()));
    check_refused(&file.bytes(), r#"metadata key "general.alignment": must be an integer"#);
    let file = TestFile::new().entry("general.alignment", Value::U64(1 << 63));
    check_refused(&file.tensor("t", &[1], 0, vec![0; 4]).bytes(), r#"tensor "t": its 4 bytes"#);
}

#[test]
fn shapes_are_checked() {
    let with_shape =
        |shape: &[u64], type_id| TestFile::new().tensor("t", shape, type_id, vec![0; 4096]).bytes();
    check_refused(&with_shape(&[1; 5], 0), r#"tensor "t": 5 dimensions"#);
    check_refused(&with_shape(&[4, 0], 0), r#"tensor "t": shape [4, 0] has a zero"#);
    check_refused(&with_shape(&[1 << 32, 1 << 32], 0), "is too large");
    check_refused(&with_shape(&[1 << 62], 0), "is too large");
    check_refused(&with_shape(&[1 << 32, 1 << 31], 36), "reach past the end");
    check_refused(&with_shape(&[33], 8), "rows of 33 elements are not whole Q8_0 blocks of 32");
    check_refused(&with_shape(&[128, 2], 14), "rows of 128 elements are not whole Q6_K blocks of 256");
    check_refused(&with_shape(&[130], 36), "rows of 130 elements are not whole I2_S blocks of 4");
}

#[test]
fn unsupported_tensor_types_are_named() {
    let with_type = |type_id| TestFile::new().tensor("t", &[256], type_id, vec![0; 4096]).bytes();
    check_refused(
        &with_type(12),
        r#"tensor "t": has type Q4_K (id 12), which is not supported; supported are F32,"#,
    );
    check_refused(&with_type(38), "has type TL1 (id 38)");
    check_refused(&with_type(u32::MAX), "has type unknown (id 4294967295)");
}

#[test]
fn data_is_inside_the_file_aligned_and_not_shared() {
    let with_offset = |offset| {
        let mut file = TestFile::new().tensor("a", &[8], 0, vec![0; 32]).tensor("b", &[16], 0, vec![0; 64]);
        file.tensors[1].offset = Some(offset);
        file.bytes()
    };
    read(&with_offset(32)).unwrap();
    check_refused(&with_offset(8), r#"tensor "b": its offset 8 is not a multiple of the alignment 32"#);
    check_refused(&with_offset(0), r#"shares bytes with tensor ""#);
    for offset in [64, 1 << 63, u64::MAX - 31] {
        check_refused(&with_offset(offset), r#"tensor "b": its 64 bytes at offset"#);
    }
}

#[test]
fn metadata_can_be_refused_before_tensors_are_read() {
    let file = TestFile::new().entry("key", Value::U8(1)).tensor("t", &[1], 12, vec![]);
    let refused = Gguf::read_if(&Bytes::from(file.bytes()).into(), |metadata| match metadata.u64("key")? {
        Some(1) => Err(anyhow::anyhow!("not this one")),
        _ => Ok(()),
    });
    assert_eq!(refused.unwrap_err().to_string(), "not this one");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let _ = read(&bytes);
        let _ = read(&[b"GGUF\x03\0\0\0".as_slice(), &bytes].concat());
    }

    #[test]
    fn random_metadata_never_panics(bytes in prop::collection::vec(0..16u8, 0..400), counts in any::<[u8; 2]>()) {
        let [tensors, entries] = counts.map(|count| u64::from(count % 4).to_le_bytes());
        let _ = read(&[b"GGUF\x03\0\0\0".as_slice(), &tensors, &entries, &bytes].concat());
    }

    #[test]
    fn a_damaged_file_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sample().bytes();
        let head = sample().head().len();
        for (place, value) in damage {
            bytes[place.index(head)] = value;
        }
        let _ = read(&bytes);
        let _ = read(&bytes[..cut.index(bytes.len())]);
    }
}
