//! Work on several threads. What each piece computes does not depend on who does it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewer values than this are not worth a thread.
const LEAST: usize = 1 << 14;

/// The results of `work` on `0..count`, in order.
pub(crate) fn map<T: Send>(threads: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads <= 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        let run = || {
            while let at = next.fetch_add(1, Ordering::Relaxed)
                && at < count
            {
                let result = work(at);
                done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((at, result));
            }
        };
        (1..threads.min(count)).for_each(|_| drop(scope.spawn(run)));
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Calls `work` with parts of `out`, whose rows are `width` long, and the first row of each part.
pub(super) fn rows<T: Send>(
    threads: usize,
    out: &mut [T],
    width: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    if out.is_empty() {
        return;
    }
    let count = out.len() / width.max(1);
    let each = count.div_ceil(threads.max(1)).max(LEAST / width.max(1)).max(1);
    if each >= count {
        return work(0, out);
    }
    std::thread::scope(|scope| {
        for (at, part) in out.chunks_mut(each * width).enumerate() {
            let work = &work;
            scope.spawn(move || work(at * each, part));
        }
    });
}

/// Calls `work` with chunks of `items`, each on a thread of its own.
pub(super) fn chunks<T: Send>(items: &mut [T], each: usize, work: impl Fn(&mut [T]) + Sync) {
    if each >= items.len() {
        return work(items);
    }
    std::thread::scope(|scope| {
        for part in items.chunks_mut(each) {
            let work = &work;
            scope.spawn(move || work(part));
        }
    });
}
