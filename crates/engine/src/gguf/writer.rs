//! Writes GGUF files for tests, broken ones included: nothing is checked.

use super::{Array, Value};

/// A file to be; fields are as in the format.
#[derive(Debug, Clone)]
pub(crate) struct TestFile {
    pub(crate) version: u32,
    pub(crate) alignment: usize,
    pub(crate) entries: Vec<(String, Value)>,
    pub(crate) tensors: Vec<TestTensor>,
}

/// A tensor to be.
#[derive(Debug, Clone)]
pub(crate) struct TestTensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) type_id: u32,
    pub(crate) data: Vec<u8>,
    /// Instead of the place where the data is.
    pub(crate) offset: Option<u64>,
}

impl TestFile {
    pub(crate) fn new() -> Self {
        Self { version: 3, alignment: 32, entries: Vec::new(), tensors: Vec::new() }
    }

    pub(crate) fn entry(mut self, key: &str, value: Value) -> Self {
        self.entries.push((key.to_owned(), value));
        self
    }

    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], type_id: u32, data: Vec<u8>) -> Self {
        let (name, shape) = (name.to_owned(), shape.to_vec());
        self.tensors.push(TestTensor { name, shape, type_id, data, offset: None });
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = self.head();
        pad(&mut out, self.alignment);
        for tensor in &self.tensors {
            out.extend(&tensor.data);
            pad(&mut out, self.alignment);
        }
        out
    }

    /// Everything before the data.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            put_string(&mut out, key);
            put_value(&mut out, value);
        }
        let mut position = 0;
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
            out.extend(tensor.type_id.to_le_bytes());
            out.extend(tensor.offset.unwrap_or(position as u64).to_le_bytes());
            position += tensor.data.len().next_multiple_of(self.alignment);
        }
        out
    }
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let (type_id, bytes) = match value {
        Value::U8(x) => (0u32, le(&[*x], u8::to_le_bytes)),
        Value::I8(x) => (1, le(&[*x], i8::to_le_bytes)),
        Value::U16(x) => (2, le(&[*x], u16::to_le_bytes)),
        Value::I16(x) => (3, le(&[*x], i16::to_le_bytes)),
        Value::U32(x) => (4, le(&[*x], u32::to_le_bytes)),
        Value::I32(x) => (5, le(&[*x], i32::to_le_bytes)),
        Value::F32(x) => (6, le(&[*x], f32::to_le_bytes)),
        Value::Bool(x) => (7, vec![u8::from(*x)]),
        Value::String(text) => (8, concatenate(&[text], |out, text| put_string(out, text))),
        Value::Array(array) => (9, concatenate(&[array], |out, array| put_array(out, array))),
        Value::U64(x) => (10, le(&[*x], u64::to_le_bytes)),
        Value::I64(x) => (11, le(&[*x], i64::to_le_bytes)),
        Value::F64(x) => (12, le(&[*x], f64::to_le_bytes)),
    };
    out.extend(type_id.to_le_bytes());
    out.extend(bytes);
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    let (type_id, bytes) = match array {
        Array::U8(x) => (0u32, x.clone()),
        Array::I8(x) => (1, le(x, i8::to_le_bytes)),
        Array::U16(x) => (2, le(x, u16::to_le_bytes)),
        Array::I16(x) => (3, le(x, i16::to_le_bytes)),
        Array::U32(x) => (4, le(x, u32::to_le_bytes)),
        Array::I32(x) => (5, le(x, i32::to_le_bytes)),
        Array::F32(x) => (6, le(x, f32::to_le_bytes)),
        Array::Bool(x) => (7, x.iter().map(|&flag| u8::from(flag)).collect()),
        Array::Strings(x) => (8, concatenate(x, |out, text| put_string(out, text))),
        Array::Arrays(x) => (9, concatenate(x, put_array)),
        Array::U64(x) => (10, le(x, u64::to_le_bytes)),
        Array::I64(x) => (11, le(x, i64::to_le_bytes)),
        Array::F64(x) => (12, le(x, f64::to_le_bytes)),
    };
    out.extend(type_id.to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    out.extend(bytes);
}

fn le<T: Copy, const N: usize>(elements: &[T], convert: fn(T) -> [u8; N]) -> Vec<u8> {
    elements.iter().flat_map(|&element| convert(element)).collect()
}

fn concatenate<T>(elements: &[T], put: fn(&mut Vec<u8>, &T)) -> Vec<u8> {
    let mut out = Vec::new();
    for element in elements {
        put(&mut out, element);
    }
    out
}
