//! Work on several threads. What each piece computes does not depend on who does it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Fewer values than this are not worth a thread.
const LEAST: usize = 1 << 14;

/// How often a thread looks for work before it lets others have its processor.
const PATIENCE: usize = 1 << 10;

/// Does `work` on one of the threads that later pieces of it are shared with, and keeps the others awake meanwhile: a
/// token has hundreds of pieces of some ten microseconds, and a thread that sleeps takes longer than that to come.
pub(super) fn awake<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    if threads <= 1 {
        return work();
    }
    let over = AtomicBool::new(false);
    rayon::scope(|scope| {
        let leader = rayon::current_thread_index();
        for _ in 1..threads {
            let over = &over;
            scope.spawn(move |_| {
                // The leader would wait for itself.
                if rayon::current_thread_index() != leader {
                    help(over);
                }
            });
        }
        let _over = Over(&over);
        work()
    })
}

/// Takes pieces of work until it is over.
fn help(over: &AtomicBool) {
    let mut idle = 0;
    while !over.load(Ordering::Acquire) {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            _ => idle += 1,
        }
        if idle > PATIENCE {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Says that the work is over, also when it panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The results of `work` on `0..count`, in order.
pub(crate) fn map<T: Send>(threads: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads <= 1 || count <= 1 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let run = || {
        while let at = next.fetch_add(1, Ordering::Relaxed)
            && at < count
        {
            let result = work(at);
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((at, result));
        }
    };
    rayon::scope(|scope| {
        (1..threads.min(count)).for_each(|_| scope.spawn(|_| run()));
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
    rows_of(threads, out, width, width, work);
}

/// As [`rows`], where a row takes as much work as `values` values.
pub(super) fn rows_of<T: Send>(
    threads: usize,
    out: &mut [T],
    width: usize,
    values: usize,
    work: impl Fn(usize, &mut [T]) + Sync,
) {
    if out.is_empty() {
        return;
    }
    let count = out.len() / width.max(1);
    let each = count.div_ceil(threads.max(1)).max(LEAST / values.max(1)).max(1);
    if each >= count {
        return work(0, out);
    }
    rayon::scope(|scope| {
        for (at, part) in out.chunks_mut(each * width).enumerate() {
            let work = &work;
            scope.spawn(move |_| work(at * each, part));
        }
    });
}

/// Calls `work` with chunks of `items`, each on a thread of its own.
pub(super) fn chunks<T: Send>(items: &mut [T], each: usize, work: impl Fn(&mut [T]) + Sync) {
    if each >= items.len() {
        return work(items);
    }
    rayon::scope(|scope| {
        for part in items.chunks_mut(each) {
            let work = &work;
            scope.spawn(move |_| work(part));
        }
    });
}
