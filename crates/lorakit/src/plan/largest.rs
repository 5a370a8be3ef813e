//! The largest magnitude of a whole tensor, which some packings need before they encode any of it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Error, Result};

/// A search shared by all threads that need its result: each takes pieces of the tensor until none is left.
pub(super) struct Largest {
    pieces: usize,
    next: AtomicUsize,
    found: Mutex<Found>,
    complete: Condvar,
}

#[derive(Default)]
struct Found {
    pieces: usize,
    largest: f32,
    /// The error of the first piece that failed, until a thread takes it.
    error: Option<(usize, Error)>,
}

/// A piece that was taken. It counts as searched when this is dropped, even by a panic, so that no thread waits for it
/// in vain.
struct Piece<'a> {
    search: &'a Largest,
    index: usize,
    result: Result<f32>,
}

impl Largest {
    pub(super) fn new(pieces: usize) -> Self {
        Largest { pieces, next: AtomicUsize::new(0), found: Mutex::default(), complete: Condvar::new() }
    }

    /// The largest magnitude of all pieces; `of_piece` searches one of them.
    ///
    /// # Errors
    /// The error of the first piece that failed, for one of the threads. The others get a result without that piece; it
    /// is discarded with the run.
    pub(super) fn find(&self, mut of_piece: impl FnMut(usize) -> Result<f32>) -> Result<f32> {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.pieces {
                break;
            }
            let mut piece = Piece { search: self, index, result: Ok(0.0) };
            piece.result = of_piece(index);
        }
        let all = self.complete.wait_while(self.found(), |found| found.pieces < self.pieces);
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        match all.error.take() {
            Some((_, error)) => Err(error),
            None => Ok(all.largest),
        }
    }

    /// The largest magnitude found so far; the final one after [`Self::find`].
    pub(super) fn so_far(&self) -> f32 {
        self.found().largest
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        let mut found = self.search.found();
        found.pieces += 1;
        match std::mem::replace(&mut self.result, Ok(0.0)) {
            Ok(largest) => found.largest = found.largest.max(largest),
            Err(error) if found.error.as_ref().is_none_or(|(at, _)| self.index < *at) => {
                found.error = Some((self.index, error));
            }
            Err(_) => {}
        }
        self.search.complete.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Problem;

    #[test]
    fn threads_share_the_pieces() {
        let search = Largest::new(1000);
        let searched = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let of_piece = |index: usize| {
                        searched.fetch_add(1, Ordering::Relaxed);
                        Ok((index * 7 % 1000) as f32)
                    };
                    assert_eq!(search.find(of_piece).unwrap(), 999.0);
                });
            }
        });
        assert_eq!((searched.into_inner(), search.so_far()), (1000, 999.0));
    }

    #[test]
    fn one_thread_is_told_of_the_first_piece_that_failed() {
        let search = Largest::new(100);
        let fail = |index| match index {
            3 | 7 | 50 => Err(Problem::Threads { count: index, reason: String::new() }.into()),
            _ => Ok(1.0),
        };
        let failed: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| search.find(fail))).collect();
            threads
                .into_iter()
                .filter_map(|thread| thread.join().unwrap().err())
                .map(|e| e.to_string())
                .collect()
        });
        assert_eq!(failed, ["cannot start 3 threads: "]);
        assert_eq!(Largest::new(0).find(|_| Ok(1.0)).unwrap(), 0.0);
    }
}
