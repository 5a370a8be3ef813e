//! The sums by which the hub knows files.

use std::fmt;
use std::fs::File;
use std::io::Read;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

/// What the hub knows a file by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// The SHA-256 of a large file, kept in LFS or Xet.
    Sha256([u8; 32]),
    /// What git calls a file that is in the repository itself: the SHA-1 of `blob SIZE`, a zero byte, and the file.
    Git([u8; 20]),
}

/// A sum that is being computed.
enum Sums {
    Sha256(Sha256),
    Git(Sha1),
}

impl Sum {
    /// The sum of this kind of the `size` bytes of a file, of which `told` hears as they are read; it can end that.
    ///
    /// # Errors
    /// What reading gives; `None` if `told` returned false.
    pub(super) fn of_file(
        self,
        file: &mut File,
        size: u64,
        told: impl Fn(u64) -> bool,
    ) -> std::io::Result<Option<Sum>> {
        let mut sums = match self {
            Sum::Sha256(_) => Sums::Sha256(Sha256::new()),
            Sum::Git(_) => Sums::Git(Sha1::new_with_prefix(format!("blob {size}\0"))),
        };
        let mut piece = vec![0; PIECE.min(usize::try_from(size).unwrap_or(PIECE).max(1))];
        loop {
            let read = match file.read(&mut piece) {
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if read == 0 {
                break;
            }
            match &mut sums {
                Sums::Sha256(sum) => sum.update(&piece[..read]),
                Sums::Git(sum) => sum.update(&piece[..read]),
            }
            if !told(read as u64) {
                return Ok(None);
            }
        }
        Ok(Some(match sums {
            Sums::Sha256(sum) => Sum::Sha256(sum.finalize().into()),
            Sums::Git(sum) => Sum::Git(sum.finalize().into()),
        }))
    }

    /// That which hexadecimal digits write.
    pub(super) fn sha256(digits: &str) -> Option<Self> {
        bytes(digits).map(Sum::Sha256)
    }

    /// As [`Self::sha256`].
    pub(super) fn git(digits: &str) -> Option<Self> {
        bytes(digits).map(Sum::Git)
    }

    /// Its hexadecimal digits.
    pub fn digits(&self) -> String {
        let bytes: &[u8] = match self {
            Sum::Sha256(bytes) => bytes,
            Sum::Git(bytes) => bytes,
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Sum::Sha256(_) => "sha256",
            Sum::Git(_) => "git blob id",
        };
        write!(f, "{kind} is {}", self.digits())
    }
}

/// The bytes that `2 * N` hexadecimal digits write.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let values: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs: Vec<u8> = values.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect();
    (values.len() == 2 * N).then(|| pairs.try_into().ok()).flatten()
}

#[cfg(test)]
impl lorakit_tensor::problem::Sample for Sum {
    fn sample(_: &str) -> Self {
        Sum::Git([0x12; 20])
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    /// `printf 'hello\n' | sha256sum`, and `| git hash-object --stdin`.
    #[test]
    fn the_sums_are_those_of_sha256sum_and_git() {
        let sha256 = Sum::sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap();
        let git = Sum::git("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello\n").unwrap();
        for sum in [sha256, git] {
            file.rewind().unwrap();
            assert_eq!(sum.of_file(&mut file, 6, |_| true).unwrap(), Some(sum));
            file.rewind().unwrap();
            assert_eq!(sum.of_file(&mut file, 6, |_| false).unwrap(), None);
        }
        // An empty file has no piece.
        let empty = Sum::git("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").unwrap();
        assert_eq!(git.of_file(&mut tempfile::tempfile().unwrap(), 0, |_| true).unwrap(), Some(empty));
    }

    #[test]
    fn digits() {
        let text = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!(Sum::git(text).unwrap().digits(), text);
        for other in ["", "ce01", &text.replace('c', "g"), &format!("{text}00"), "é"] {
            assert_eq!(Sum::git(other), None, "{other}");
        }
        assert_eq!(Sum::sha256(text), None);
    }
}
