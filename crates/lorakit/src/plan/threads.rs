//! Work on all cores whose result does not depend on which core was faster.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::problem::Problem;
use crate::{Error, Result};

/// Threads for work on tensors; 0 is one for each core.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if they cannot be started.
pub(crate) fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| Problem::Threads { count: threads, reason: e.to_string() }.into())
}

/// The results of `work` for each item, in the order of the items.
///
/// # Errors
/// The error of the first item that failed, whichever was met first: a user sees the same error in every run.
pub(crate) fn in_order<T: Send, R: Send>(
    items: impl IntoIterator<Item = T, IntoIter: Send>,
    work: impl Fn(T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    in_order_with(items, |(), item| work(item))
}

/// [`in_order`], with a value that each thread keeps from one item to the next.
///
/// Items are drawn in order, so few are in progress at a time.
///
/// # Errors
/// As [`in_order`].
pub(crate) fn in_order_with<T: Send, S: Default, R: Send>(
    items: impl IntoIterator<Item = T, IntoIter: Send>,
    work: impl Fn(&mut S, T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    // Whatever comes before a failure has already been drawn when it is seen, and is finished: it may fail too.
    let failed_at = AtomicUsize::new(usize::MAX);
    let failure: Mutex<Option<(usize, Error)>> = Mutex::default();
    let one = |scratch: &mut S, (i, item): (usize, T)| {
        if i > failed_at.load(Ordering::Relaxed) {
            return None;
        }
        match work(scratch, item) {
            Ok(done) => Some((i, done)),
            Err(error) => {
                failed_at.fetch_min(i, Ordering::Relaxed);
                let mut first = failure.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|(at, _)| i < *at) {
                    *first = Some((i, error));
                }
                None
            }
        }
    };
    let drawn = items.into_iter().enumerate().par_bridge();
    let mut done: Vec<(usize, R)> = drawn.map_init(S::default, one).flatten().collect();
    if let Some((_, error)) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    done.sort_unstable_by_key(|(i, _)| *i);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(count: usize) -> Error {
        Error::from(Problem::Threads { count, reason: String::new() })
    }

    #[test]
    fn results_keep_the_order_of_the_items() {
        let squares = pool(4).unwrap().install(|| in_order(0..10_000_u64, |i| Ok(i * i))).unwrap();
        assert_eq!(squares, (0..10_000).map(|i| i * i).collect::<Vec<u64>>());
    }

    #[test]
    fn the_first_of_several_errors_is_told() {
        let late = |i: usize| match i {
            // The first to fail is the last to finish.
            20 => {
                std::thread::sleep(std::time::Duration::from_millis(20));
                Err(broken(20))
            }
            21.. => Err(broken(i)),
            _ => Ok(()),
        };
        for _ in 0..20 {
            let error = pool(4).unwrap().install(|| in_order(0..200, late)).unwrap_err();
            assert_eq!(error.to_string(), broken(20).to_string());
        }
    }
}
