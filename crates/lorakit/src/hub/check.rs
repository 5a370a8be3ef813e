//! Comparing files of the cache with what the hub lists.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::{Listed, Problem, Stamp, Verified};
use crate::plan::{Progress, go_on, in_order};
use crate::{Error, Result};

/// What a file should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Where it is.
    pub path: PathBuf,
    /// What the hub says of it.
    pub listed: Listed,
}

/// Checks that files are what the hub lists: first their sizes, then their sums, unless `verified` knows these. What was
/// read stays in `verified`, also if another file is damaged. Files that are not there are passed over: whoever needs
/// them says so.
///
/// # Errors
/// [`FileErrorKind::Corrupt`](crate::FileErrorKind::Corrupt) for the first file that differs;
/// [`FileErrorKind::Io`](crate::FileErrorKind::Io) if one cannot be read;
/// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted) if `progress` asks to stop.
pub fn check(claims: &[Claim], verified: &mut Verified, progress: &dyn Progress) -> Result<()> {
    let mut unknown: Vec<&Claim> = Vec::new();
    for claim in claims {
        let Ok(meta) = fs::metadata(&claim.path) else { continue };
        let Listed { size, sum } = claim.listed;
        if !meta.is_file() {
            continue;
        }
        if meta.len() != size {
            return Err(Error::from(Problem::Size { found: meta.len(), listed: size }).at(&claim.path));
        }
        if !verified.has(&Stamp::of(&meta), sum) {
            unknown.push(claim);
        }
    }
    progress.begin(unknown.iter().map(|claim| claim.listed.size).sum());
    let verified = Mutex::new(verified);
    in_order(unknown, |claim| {
        if let Some(stamp) = compare(claim, progress)? {
            verified.lock().unwrap_or_else(PoisonError::into_inner).add(stamp, claim.listed.sum);
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads a file, and refuses it if it is not as listed. Returns its stamp, unless it was written to meanwhile.
fn compare(claim: &Claim, progress: &dyn Progress) -> Result<Option<Stamp>> {
    const WHEN: &str = "every file was compared";
    let failed = |e| Error::from(lorakit_tensor::Error::io("read", &claim.path, e));
    go_on(progress, WHEN)?;
    let mut file = File::open(&claim.path).map_err(failed)?;
    let stamp = Stamp::of(&file.metadata().map_err(failed)?);
    let told = |bytes| {
        progress.advance(bytes);
        !progress.cancelled()
    };
    let listed = claim.listed;
    let Some(found) = listed.sum.of_file(&mut file, listed.size, told).map_err(failed)? else {
        // It was cancelled.
        return go_on(progress, WHEN).map(|()| None);
    };
    if found != listed.sum {
        return Err(Error::from(Problem::Content { found, listed: listed.sum }).at(&claim.path));
    }
    let after = Stamp::of(&file.metadata().map_err(failed)?);
    Ok((after == stamp).then_some(stamp))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;
    use crate::hub::Sum;
    use crate::{ErrorKind, FileErrorKind};

    /// Counts what is read, and stops after some of it.
    #[derive(Default)]
    struct Counted {
        read: AtomicU64,
        most: Option<u64>,
    }

    impl Progress for Counted {
        fn advance(&self, bytes: u64) {
            self.read.fetch_add(bytes, Relaxed);
        }

        fn cancelled(&self) -> bool {
            self.most.is_some_and(|most| self.read.load(Relaxed) > most)
        }
    }

    /// `hello\n`, as the hub lists it large and small.
    fn claims(folder: &std::path::Path) -> Vec<Claim> {
        let sums = [
            Sum::sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
            Sum::git("ce013625030ba8dba906f756967f9e9ca394464a"),
        ];
        let claim = |(name, sum): (&str, Option<Sum>)| {
            let path = folder.join(name);
            fs::write(&path, "hello\n").unwrap();
            Claim { path, listed: Listed { size: 6, sum: sum.unwrap() } }
        };
        ["large", "small"].into_iter().zip(sums).map(claim).collect()
    }

    fn check_counted(claims: &[Claim], verified: &mut Verified) -> (Result<()>, u64) {
        let counted = Counted::default();
        (check(claims, verified, &counted), counted.read.into_inner())
    }

    #[test]
    fn a_file_is_read_once_until_it_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let claims = claims(folder.path());
        let mut verified = Verified::default();
        assert!(matches!(check_counted(&claims, &mut verified), (Ok(()), 12)));
        assert!(matches!(check_counted(&claims, &mut verified), (Ok(()), 0)));
        // The same size and time of modification.
        let modified = fs::metadata(&claims[0].path).unwrap().modified().unwrap();
        fs::write(&claims[0].path, "hellO\n").unwrap();
        File::options().append(true).open(&claims[0].path).unwrap().set_modified(modified).unwrap();
        let (result, read) = check_counted(&claims, &mut verified);
        let error = result.unwrap_err();
        assert_eq!((error.kind(), read), (ErrorKind::File(FileErrorKind::Corrupt), 6));
        assert_eq!(error.path(), Some(claims[0].path.as_path()));
        fs::write(&claims[0].path, "hello\n").unwrap();
        assert!(matches!(check_counted(&claims, &mut verified), (Ok(()), 6)));
        // Another listing of the same file.
        let mut other = claims.clone();
        other[1].listed.sum = Sum::Git([0; 20]);
        assert!(matches!(check_counted(&other, &mut verified), (Err(_), 6)));
    }

    #[test]
    fn sizes_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let claims = claims(folder.path());
        fs::write(&claims[0].path, "hellO\n").unwrap();
        fs::write(&claims[1].path, "hello").unwrap();
        let (result, read) = check_counted(&claims, &mut Verified::default());
        assert_eq!((result.unwrap_err().path(), read), (Some(claims[1].path.as_path()), 0));
        fs::remove_file(&claims[1].path).unwrap();
        assert!(matches!(check_counted(&claims[1..], &mut Verified::default()), (Ok(()), 0)), "it is absent");
    }

    #[test]
    fn whoever_watches_can_stop_it() {
        let folder = tempfile::tempdir().unwrap();
        let claims = claims(folder.path());
        let mut verified = Verified::default();
        let stopped = Counted { most: Some(0), ..Counted::default() };
        let error = check(&claims, &mut verified, &stopped).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
