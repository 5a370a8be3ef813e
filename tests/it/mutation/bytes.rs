//! Changes to binary files, aimed at their lengths, counts and offsets.

use serde_json::{Map, Value, json};

use super::json;
use super::random::Random;

/// A whole number in a file, little-endian.
#[derive(Debug, Clone, Copy)]
struct Field {
    at: usize,
    width: usize,
}

/// Most fields of a kind that are listed: the first of a long list represent all.
const SOME: usize = 4;

/// Changes `bytes` in one place, and says how.
pub(super) fn spoil(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let header = header_end(bytes);
    match random.below(14) {
        0..=3 => field(bytes, random),
        4 => header_json(bytes, random),
        5 => hollow(bytes, random).unwrap_or_else(|| header_json(bytes, random)),
        6 | 7 => {
            let mut borders = vec![0, 1, 3, 4, 7, 8, 9, header.saturating_sub(1), header, header + 1];
            borders.extend([bytes.len().saturating_sub(1), bytes.len() / 2, random.below(bytes.len())]);
            borders.extend(fields(bytes).iter().map(|f| f.at + random.below(f.width + 1)));
            let len = (*random.one(&borders)).min(bytes.len());
            bytes.truncate(len);
            format!("cut to {len} bytes")
        }
        8 | 9 => {
            let places: Vec<usize> =
                (0..=random.below(6)).map(|_| random.below(header.min(bytes.len()))).collect();
            for &at in &places {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            format!("bits flipped in the header at {places:?}")
        }
        10 => {
            let at = random.below(bytes.len());
            let len = random.below(64).min(bytes.len() - at);
            let value = *random.one(&[0, 0xff, b' ', b'{', b'"']);
            bytes[at..at + len].fill(value);
            format!("{len} bytes at {at} are {value}")
        }
        11 => {
            // NaN, infinities and the largest numbers of the usual dtypes.
            let word: [u8; 4] = *random.one(&[
                [0xc0, 0x7f, 0xc0, 0x7f],
                [0x00, 0x7c, 0x00, 0x7e],
                [0x80, 0x7f, 0x80, 0xff],
                [0xff, 0xff, 0x7f, 0x7f],
            ]);
            let at = header + random.below(bytes.len().saturating_sub(header));
            let at = at & !3;
            if let Some(values) = bytes.get_mut(at..at + 4) {
                values.copy_from_slice(&word);
            }
            format!("a value at {at} is {word:02x?}")
        }
        12 => {
            let at = random.below(bytes.len());
            let extra: Vec<u8> = (0..=random.below(16)).map(|_| random.next() as u8).collect();
            let how = format!("{} bytes put in at {at}", extra.len());
            bytes.splice(at..at, extra);
            how
        }
        _ => {
            let places: Vec<usize> = (0..=random.below(20)).map(|_| random.below(bytes.len())).collect();
            for &at in &places {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            format!("random bytes at {places:?}")
        }
    }
}

/// Gives a length, count, type or offset another value.
fn field(bytes: &mut [u8], random: &mut Random) -> String {
    let fields = fields(bytes);
    if fields.is_empty() {
        return "left as it is".into();
    }
    let Field { at, width } = *random.one(&fields);
    let mut word = [0; 8];
    word[..width].copy_from_slice(&bytes[at..at + width]);
    let old = u64::from_le_bytes(word);
    let len = bytes.len() as u64;
    let mut values =
        vec![0, 1, old.wrapping_add(1), old.wrapping_sub(1), old << 1, old >> 1, u64::MAX, len, len - 1];
    values.extend([
        1 << 16,
        1 << 31,
        u64::from(u32::MAX),
        i64::MAX as u64,
        1 << 63,
        1 << 40,
        100_000_001,
        3,
        32,
    ]);
    values.push(old ^ (1 << random.below(8 * width)));
    values.push(random.next());
    let new = *random.one(&values);
    bytes[at..at + width].copy_from_slice(&new.to_le_bytes()[..width]);
    format!("the number at {at} is {new}, not {old}")
}

/// Changes the JSON of a safetensors header, and mostly the length before it.
fn header_json(bytes: &mut Vec<u8>, random: &mut Random) -> String {
    let end = header_end(bytes);
    let Some((text, how)) = bytes.get(8..end).and_then(|text| json::spoil(text, random)) else {
        return field(bytes, random);
    };
    if random.chance(85) {
        bytes[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
    }
    bytes.splice(8..end, text);
    format!("header: {how}")
}

/// Takes all values from a tensor of a safetensors file, whose shape may then be anything.
fn hollow(bytes: &mut Vec<u8>, random: &mut Random) -> Option<String> {
    const SHAPES: [&[u64]; 6] =
        [&[0], &[0, 32], &[1 << 20, 0, 0], &[1 << 40, 0], &[0, 1 << 32, 1 << 32, 1 << 32], &[u64::MAX, 0]];
    let end = header_end(bytes);
    let mut header: Map<String, Value> = serde_json::from_slice(bytes.get(8..end)?).ok()?;
    let names: Vec<String> = header.keys().filter(|name| *name != "__metadata__").cloned().collect();
    let name = names.get(random.below(names.len()))?;
    let offsets = |entry: &Value| -> Option<[u64; 2]> {
        let offsets = entry["data_offsets"].as_array()?;
        Some([offsets.first()?.as_u64()?, offsets.get(1)?.as_u64()?])
    };
    let [first, last] = offsets(&header[name])?;
    if first > last || end as u64 + last > bytes.len() as u64 {
        return None;
    }
    let shape = *random.one(&SHAPES);
    for (other, entry) in header.iter_mut().filter(|(other, _)| *other != "__metadata__") {
        let [begin, end] = offsets(entry)?;
        if other == name {
            entry["shape"] = json!(shape);
            entry["data_offsets"] = json!([first, first]);
        } else if begin >= last {
            entry["data_offsets"] = json!([begin - (last - first), end - (last - first)]);
        }
    }
    bytes.drain(end + first as usize..end + last as usize);
    let text = serde_json::to_vec(&header).ok()?;
    bytes[..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.splice(8..end, text);
    Some(format!("`{name}` has no values and the shape {shape:?}"))
}

/// Where the data begin, if the file looks like one with a header; else somewhere in it.
fn header_end(bytes: &[u8]) -> usize {
    if let (Some(length), Some(b'{')) = (bytes.first_chunk(), bytes.get(8)) {
        let end = u64::from_le_bytes(*length).saturating_add(8);
        if end <= bytes.len() as u64 {
            return end as usize;
        }
    }
    match bytes.starts_with(b"GGUF") {
        true => fields(bytes).last().map_or(0, |f| f.at + f.width),
        false => bytes.len() / 2,
    }
}

fn fields(bytes: &[u8]) -> Vec<Field> {
    if bytes.starts_with(b"GGUF") {
        let mut walk = Walk { bytes, at: 4, fields: Vec::new() };
        let _ = walk.gguf();
        return walk.fields;
    }
    if bytes.starts_with(b"PK") {
        return zip(bytes);
    }
    match bytes.get(8) {
        Some(b'{') => vec![Field { at: 0, width: 8 }],
        // An importance matrix, or anything: numbers of 32 bits.
        _ => (0..bytes.len().min(64) / 4).map(|i| Field { at: 4 * i, width: 4 }).collect(),
    }
}

/// The numbers of local headers, of the directory and of the end records.
fn zip(bytes: &[u8]) -> Vec<Field> {
    let mut found = Vec::new();
    for (magic, places) in [
        (b"PK\x03\x04", &[(6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)][..]),
        (b"PK\x01\x02", &[(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (42, 4)]),
        (b"PK\x05\x06", &[(8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]),
        (b"PK\x06\x06", &[(4, 8), (24, 8), (32, 8), (40, 8), (48, 8)]),
        (b"PK\x06\x07", &[(8, 8)]),
    ] {
        let starts = (0..bytes.len().saturating_sub(64)).filter(|&at| bytes[at..].starts_with(magic));
        let fields =
            starts.flat_map(|start| places.iter().map(move |&(at, width)| Field { at: start + at, width }));
        found.extend(fields);
    }
    found
}

/// A walk through a GGUF header that notes where its numbers are.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl Walk<'_> {
    fn gguf(&mut self) -> Option<()> {
        self.number(4)?;
        let (tensors, keys) = (self.number(8)?, self.number(8)?);
        for _ in 0..keys {
            self.string()?;
            let kind = self.number(4)?;
            self.value(kind)?;
        }
        for _ in 0..tensors {
            self.string()?;
            let dimensions = self.number(4)?;
            for _ in 0..dimensions {
                self.number(8)?;
            }
            let _type = self.number(4)?;
            let _offset = self.number(8)?;
        }
        Some(())
    }

    fn value(&mut self, kind: u64) -> Option<()> {
        match kind {
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.number(4).map(drop),
            8 => self.string(),
            9 => {
                let kind = self.number(4)?;
                let count = self.number(8)?;
                for i in 0..count {
                    let listed = self.fields.len();
                    self.value(kind)?;
                    if i >= SOME as u64 {
                        self.fields.truncate(listed);
                    }
                }
                Some(())
            }
            10..=12 => self.number(8).map(drop),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<()> {
        let len = self.number(8)?;
        self.skip(usize::try_from(len).ok()?)
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at = self.at.checked_add(len).filter(|&at| at <= self.bytes.len())?;
        Some(())
    }

    fn number(&mut self, width: usize) -> Option<u64> {
        let mut word = [0; 8];
        word[..width].copy_from_slice(self.bytes.get(self.at..self.at + width)?);
        self.fields.push(Field { at: self.at, width });
        self.at += width;
        Some(u64::from_le_bytes(word))
    }
}
