//! How one metadata scalar is stored in a file.

use super::cursor::Cursor;
use super::problem::Problem;
use crate::{Error, Result};

/// A value type that can stand alone or in an array.
pub(super) trait Element: Sized {
    /// Fewest bytes that a value takes.
    const MIN_BYTES: u64;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self>;

    fn write(&self, out: &mut Vec<u8>);

    /// An array: its length, then its elements.
    fn read_array(cursor: &mut Cursor<'_>) -> Result<Vec<Self>> {
        let count = cursor.u64()?;
        let mut elements = Vec::with_capacity(cursor.items(count, Self::MIN_BYTES)?);
        for _ in 0..count {
            elements.push(Self::read(cursor)?);
        }
        Ok(elements)
    }

    fn write_array(elements: &[Self], out: &mut Vec<u8>) {
        out.extend((elements.len() as u64).to_le_bytes());
        elements.iter().for_each(|element| element.write(out));
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Element for $number {
            const MIN_BYTES: u64 = size_of::<$number>() as u64;

            fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
                cursor.array().map(<$number>::from_le_bytes)
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }

            fn read_array(cursor: &mut Cursor<'_>) -> Result<Vec<Self>> {
                let count = cursor.u64()?;
                let count = cursor.items(count, Self::MIN_BYTES)?;
                let (numbers, _) = cursor.take(count as u64 * Self::MIN_BYTES)?.as_chunks();
                Ok(numbers.iter().map(|&bytes| <$number>::from_le_bytes(bytes)).collect())
            }
        }
    )*};
}

numbers!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

impl Element for bool {
    const MIN_BYTES: u64 = 1;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let position = cursor.position();
        match u8::read(cursor)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Problem::Bool { position, found }.into()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }
}

impl Element for String {
    const MIN_BYTES: u64 = 8;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        let position = cursor.position();
        let len = cursor.u64()?;
        match str::from_utf8(cursor.take(len)?) {
            Ok(text) => Ok(text.to_string()),
            Err(e) => Err(Error::from(Problem::NotUtf8 { position }).caused_by(e)),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_str(self, out);
    }
}

/// Writes what [`String::read`](Element::read) reads.
pub(super) fn write_str(text: &str, out: &mut Vec<u8>) {
    write_bytes(text.as_bytes(), out);
}

/// The same for a string that need not be UTF-8.
pub(super) fn write_bytes(text: &[u8], out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}
