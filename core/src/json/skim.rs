//! Passes over JSON without reading it: what is looked at of a review is a small part of it, and to parse the rest, only to forget
//! it, would be most of the work. Values are found by their brackets and quotes, 64 bytes at a time, by what the processor that it
//! runs on has for that.
//!
//! What is passed over is not checked to be JSON: an API server sends nothing else, and whoever reads a value that was found here
//! parses it.
use std::borrow::Cow;

use fearless_simd::{Level, Simd, SimdBase, SimdMask, dispatch, u8x64};
use memchr::memchr2;

use super::write::plain_length;

/// Bytes that are looked at at once: one bit of a `u64` for each.
const BLOCK: usize = 64;
/// What turns `[` and `]` into `{` and `}`, and nothing else into one of them.
const TO_BRACE: u8 = b'[' ^ b'{';

/// A reader of one text.
#[derive(Debug, Clone)]
pub(crate) struct Skim<'a> {
    text: &'a str,
    /// The byte that comes next.
    at: usize,
}

/// A text that can't be JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at}")]
pub(crate) struct Malformed {
    expected: &'static str,
    at: usize,
}

/// What is known from the blocks before.
#[derive(Default)]
struct Nesting {
    depth: u32,
    in_string: bool,
    /// Whether the last byte was a backslash that makes the next one ordinary.
    is_escaped: bool,
}

/// Where in a block something stands: bit 0 is its first byte.
struct Marks {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

// === impl Skim ===

impl<'a> Skim<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The first byte of what comes next; whitespace before it is passed over.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.as_bytes().get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                first => return Some(first),
            }
        }
    }

    /// Reads an object: `member` is called with each key, and has to take the value, whole.
    pub(crate) fn members(
        &mut self,
        mut member: impl FnMut(Cow<'a, str>, &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'{', "an object")?;
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':', "a colon")?;
            member(key, self)?;
            if !self.takes(b',') {
                return self.expect(b'}', "a comma or the end of an object");
            }
        }
    }

    /// Reads an array: `item` has to take each value, whole.
    pub(crate) fn items(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'[', "an array")?;
        if self.takes(b']') {
            return Ok(());
        }
        loop {
            item(self)?;
            if !self.takes(b',') {
                return self.expect(b']', "a comma or the end of an array");
            }
        }
    }

    /// Takes a string.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let malformed = self.malformed("a string");
        if !self.is_at_string() {
            return Err(malformed);
        }
        let (begin, bytes) = (self.at + 1, self.text.as_bytes());
        let end = begin + plain_length(bytes.get(begin..).unwrap_or_default());
        if let (Some(b'"'), Some(plain)) = (bytes.get(end), self.text.get(begin..end)) {
            self.at = end + 1;
            return Ok(Cow::Borrowed(plain));
        }
        serde_json::from_str(self.raw()?).map(Cow::Owned).map_err(|_| malformed)
    }

    /// Takes a value by `read`, or a `null`.
    pub(crate) fn unless_null<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.peek() {
            Some(b'n') => self.pass().map(|()| None),
            _ => read(self).map(Some),
        }
    }

    /// Whether a string comes next.
    pub(crate) fn is_at_string(&mut self) -> bool {
        self.peek() == Some(b'"')
    }

    /// Whether an object comes next.
    pub(crate) fn is_at_object(&mut self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Whether an array comes next.
    pub(crate) fn is_at_array(&mut self) -> bool {
        self.peek() == Some(b'[')
    }

    /// Passes over a value.
    pub(crate) fn pass(&mut self) -> Result<(), Malformed> {
        self.raw().map(drop)
    }

    /// Takes a value as it stands there.
    pub(crate) fn raw(&mut self) -> Result<&'a str, Malformed> {
        let first = self.peek();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = match first {
            Some(b'{' | b'[') => length_of_nested(rest.as_bytes()),
            Some(b'"') => length_of_string(rest.as_bytes()),
            _ => rest.bytes().position(|byte| b",]} \t\n\r:".contains(&byte)).or(Some(rest.len())),
        };
        let raw = length.filter(|length| *length > 0).and_then(|length| rest.get(..length));
        let raw = raw.ok_or_else(|| self.malformed("a value, whole"))?;
        self.at += raw.len();
        Ok(raw)
    }

    /// Where the reader stands.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// What was passed over since a position.
    pub(crate) fn since(&self, position: usize) -> &'a str {
        self.text.get(position..self.at).unwrap_or_default()
    }

    /// Makes sure that nothing is left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("the end")),
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Malformed> {
        match self.takes(byte) {
            true => Ok(()),
            false => Err(self.malformed(expected)),
        }
    }

    pub(super) fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { expected, at: self.at }
    }
}

/// The length of the string that `text` begins with, its quotes included; `None` where it does not end.
fn length_of_string(text: &[u8]) -> Option<usize> {
    let mut length = 1;
    loop {
        let rest = text.get(length..)?;
        let found = memchr2(b'"', b'\\', rest)?;
        match rest.get(found) {
            Some(b'"') => return Some(length + found + 1),
            _ => length += found + 2,
        }
    }
}

/// The length of the object or array that `text` begins with; `None` where it does not end.
fn length_of_nested(text: &[u8]) -> Option<usize> {
    dispatch!(Level::new(), simd => length_of_nested_by(simd, text))
}

/// The same, by what one kind of processor has; as all below, it is compiled once for each kind, and so has to be inlined.
#[inline(always)]
fn length_of_nested_by<S: Simd>(simd: S, text: &[u8]) -> Option<usize> {
    let (blocks, rest) = text.as_chunks::<BLOCK>();
    let mut nesting = Nesting::default();
    for (number, block) in blocks.iter().enumerate() {
        if let Some(end) = nesting.end_in(&Marks::of(simd, block)) {
            return Some(number * BLOCK + end);
        }
    }
    let mut last = [b' '; BLOCK];
    last.get_mut(..rest.len())?.copy_from_slice(rest);
    nesting.end_in(&Marks::of(simd, &last)).map(|end| blocks.len() * BLOCK + end)
}

// === impl Nesting ===

impl Nesting {
    /// How many bytes of the next block belong to what was opened first; `None` where all do, and it goes on.
    #[inline(always)]
    fn end_in(&mut self, marks: &Marks) -> Option<usize> {
        let quotes = marks.quotes & !self.escaped(marks.backslashes);
        let within = self.strings(quotes);
        let (opening, closing) = (marks.opening & !within, marks.closing & !within);
        let closed = closing.count_ones();
        if closed < self.depth {
            self.depth = self.depth + opening.count_ones() - closed;
            return None;
        }
        let mut brackets = opening | closing;
        while brackets != 0 {
            let at = brackets.trailing_zeros();
            match opening >> at & 1 {
                1 => self.depth += 1,
                _ if self.depth <= 1 => return Some(at as usize + 1),
                _ => self.depth -= 1,
            }
            brackets &= brackets - 1;
        }
        None
    }

    /// The bytes behind a backslash that counts.
    #[inline(always)]
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let mut escaped = u64::from(self.is_escaped);
        let mut rest = backslashes & !escaped;
        self.is_escaped = false;
        while rest != 0 {
            let backslash = rest & rest.wrapping_neg();
            let next = backslash << 1;
            // Behind the last byte is the next block.
            self.is_escaped = next == 0;
            escaped |= next;
            rest &= !(backslash | next);
        }
        escaped
    }

    /// The bytes within strings, given the quotes that count; an opening quote is within, a closing one is not.
    #[inline(always)]
    fn strings(&mut self, quotes: u64) -> u64 {
        // Bit by bit, whether the number of quotes up to there is odd.
        let mut odd = quotes;
        for distance in [1, 2, 4, 8, 16, 32] {
            odd ^= odd << distance;
        }
        let within = if self.in_string { !odd } else { odd };
        self.in_string = within >> (BLOCK - 1) == 1;
        within
    }
}

// === impl Marks ===

impl Marks {
    #[inline(always)]
    fn of<S: Simd>(simd: S, block: &[u8; BLOCK]) -> Self {
        let bytes = u8x64::from_slice(simd, block);
        let braces = bytes | TO_BRACE;
        Self {
            quotes: bytes.simd_eq(b'"').to_bitmask(),
            backslashes: bytes.simd_eq(b'\\').to_bitmask(),
            opening: braces.simd_eq(b'{').to_bitmask(),
            closing: braces.simd_eq(b'}').to_bitmask(),
        }
    }
}

#[cfg(test)]
mod tests;
