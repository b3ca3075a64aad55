//! Writing: the bytes that `serde_json` would write. Most texts need no escape, and are looked at eight bytes at a time.
use super::Json;

/// One in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;
const BLOCK: usize = size_of::<u64>();

// === impl Json ===

impl Json<'_> {
    /// Appends its text, without whitespace.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Raw(text) => out.extend_from_slice(text.as_bytes()),
            Self::Array(items) => {
                out.push(b'[');
                for (place, item) in items.iter().enumerate() {
                    separate(place, out);
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(object) => {
                out.push(b'{');
                for (place, (name, value)) in object.iter().enumerate() {
                    separate(place, out);
                    write_string(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Appends what comes between two entries.
pub(crate) fn separate(place: usize, out: &mut Vec<u8>) {
    if place > 0 {
        out.push(b',');
    }
}

/// Appends a string in quotes.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_length(rest));
        out.extend_from_slice(plain);
        let Some((byte, behind)) = special.split_first() else { break };
        write_escaped(*byte, out);
        rest = behind;
    }
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend([byte >> 4, byte & 15].iter().filter_map(|digit| HEX.get(usize::from(*digit))));
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// How many bytes come before the first one that can't stand in a string as it is: a quote, a backslash or a control character.
pub(super) fn plain_length(text: &[u8]) -> usize {
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*block));
        if special != 0 {
            return number * BLOCK + (special.trailing_zeros() / u8::BITS) as usize;
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ');
    text.len() - rest.len() + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The highest bit of each byte that is special; of bytes behind the first one that is, nothing is known.
fn special_bytes(block: u64) -> u64 {
    let is_below = |bytes: u64, limit: u8| bytes.wrapping_sub(EACH * u64::from(limit)) & !bytes;
    let is = |byte: u8| is_below(block ^ (EACH * u64::from(byte)), 1);
    (is_below(block, b' ') | is(b'"') | is(b'\\')) & (EACH << (u8::BITS - 1))
}
