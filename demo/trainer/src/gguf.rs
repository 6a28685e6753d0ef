//! Writes GGUF files (version 3): the few kinds of values and tensors that this model needs.

/// Where tensors and their data begin.
const ALIGNMENT: usize = 32;

/// A value of the metadata.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// 32 bits without sign.
    U32(u32),
    /// Single precision.
    F32(f32),
    /// One byte in the file.
    Bool(bool),
    /// UTF-8.
    Text(&'a str),
    /// A list of 32-bit integers.
    I32s(&'a [i32]),
    /// A list of 32-bit floats.
    F32s(&'a [f32]),
    /// A list of texts.
    Texts(&'a [String]),
}

impl Value<'_> {
    /// The number of the type, then the value.
    fn put(self, out: &mut Vec<u8>) {
        let mut number = |id: u32, bytes: &[u8]| {
            out.extend(id.to_le_bytes());
            out.extend(bytes);
        };
        match self {
            Self::U32(value) => number(4, &value.to_le_bytes()),
            Self::F32(value) => number(6, &value.to_le_bytes()),
            Self::Bool(value) => number(7, &[u8::from(value)]),
            Self::Text(text) => {
                number(8, &[]);
                put_text(out, text);
            }
            Self::I32s(list) => {
                put_list(out, 5, list.len());
                out.extend(list.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::F32s(list) => {
                put_list(out, 6, list.len());
                out.extend(list.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Texts(list) => {
                put_list(out, 8, list.len());
                for text in list {
                    put_text(out, text);
                }
            }
        }
    }
}

fn put_list(out: &mut Vec<u8>, type_id: u32, length: usize) {
    out.extend(9_u32.to_le_bytes());
    out.extend(type_id.to_le_bytes());
    out.extend((length as u64).to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// How elements are stored; the numbers are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TensorType {
    /// Single precision.
    F32 = 0,
    /// Half precision.
    F16 = 1,
    /// Ternary codes, four to a byte, and one scale.
    I2S = 36,
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorData {
    /// By which loaders find it.
    pub name: String,
    /// How its elements are stored.
    pub tensor_type: TensorType,
    /// Elements of a row first.
    pub dimensions: Vec<u64>,
    /// Encoded as its type says.
    pub bytes: Vec<u8>,
}

/// The bytes of a file.
#[must_use]
pub fn file(metadata: &[(&str, Value)], tensors: &[TensorData]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3_u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_text(&mut out, key);
        value.put(&mut out);
    }
    let mut offset = 0;
    for tensor in tensors {
        put_text(&mut out, &tensor.name);
        out.extend((tensor.dimensions.len() as u32).to_le_bytes());
        out.extend(tensor.dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
        out.extend((tensor.tensor_type as u32).to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes.len().next_multiple_of(ALIGNMENT);
    }
    for bytes in std::iter::once(&Vec::new()).chain(tensors.iter().map(|tensor| &tensor.bytes)) {
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    }
    out
}
