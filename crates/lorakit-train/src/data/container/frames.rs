//! Zstandard data: one frame after another, and frames to be skipped.

use std::io::{self, BufRead, BufReader, Read};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// The most bytes that a frame may refer back to, as in `zstd -d` (`--long=27`).
const WINDOW: u64 = 1 << 27;

/// The content of all frames of `packed`.
pub(super) enum Frames<R: Read> {
    Between(BufReader<R>),
    Within(Box<StreamingDecoder<BufReader<R>, FrameDecoder>>),
    Ended,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(packed: BufReader<R>) -> Self {
        Self::Between(packed)
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            // After an error nothing more is read.
            match std::mem::replace(self, Self::Ended) {
                Self::Ended => return Ok(0),
                Self::Between(packed) => *self = begin(packed)?,
                Self::Within(mut frame) => {
                    let read = frame.read(buffer)?;
                    if read > 0 {
                        *self = Self::Within(frame);
                        return Ok(read);
                    }
                    let (packed, decoder) = frame.into_parts();
                    let stored = decoder.get_checksum_from_data();
                    if stored.is_some() && stored != decoder.get_calculated_checksum() {
                        return Err(damaged("the checksum of a frame is wrong"));
                    }
                    *self = Self::Between(packed);
                }
            }
        }
    }
}

/// The next frame, if there is one.
fn begin<R: Read>(mut packed: BufReader<R>) -> io::Result<Frames<R>> {
    let Some(first) = packed.fill_buf()?.first().copied() else { return Ok(Frames::Ended) };
    if (0x50..=0x5F).contains(&first) {
        let mut header = [0; 8];
        packed.read_exact(&mut header)?;
        let [.., a, b, c, d] = header;
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        if header[1..4] != [0x2A, 0x4D, 0x18]
            || io::copy(&mut packed.by_ref().take(length), &mut io::sink())? < length
        {
            return Err(damaged("a frame to be skipped is incomplete"));
        }
        return Ok(Frames::Between(packed));
    }
    let frame = StreamingDecoder::new_with_max_window_size(packed, WINDOW).map_err(damaged)?;
    Ok(Frames::Within(Box::new(frame)))
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `printf 'hello\n' | zstd` writes, with a checksum.
    const HELLO: [u8; 19] = [
        0x28, 0xB5, 0x2F, 0xFD, 0x04, 0x58, 0x31, 0, 0, 0x68, 0x65, 0x6C, 0x6C, 0x6F, 0x0A, 0x53, 0x88, 0xBD,
        0x91,
    ];

    fn read(packed: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        Frames::new(BufReader::new(packed)).read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn frames_follow_one_another() {
        let skipped = [0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let packed = [&HELLO[..], &skipped, &HELLO].concat();
        assert_eq!(read(&packed).unwrap(), "hello\nhello\n");
        assert_eq!(read(&skipped).unwrap(), "");
        for damaged in [&HELLO[..12], &skipped[..9], &[&HELLO[..], b"?"].concat()] {
            assert!(read(damaged).is_err(), "{damaged:?}");
        }
        let mut wrong = HELLO;
        wrong[18] ^= 1;
        assert_eq!(read(&wrong).unwrap_err().to_string(), "the checksum of a frame is wrong");
    }
}
