//! CPU time, best of several.

use std::time::Instant;

use crate::measure::{process_cpu, thread_cpu};

/// Seconds of CPU time, of all threads, and of the clock.
pub(super) fn cost(run: impl FnOnce()) -> (f64, f64) {
    let (cpu, wall) = (process_cpu(), Instant::now());
    run();
    (process_cpu() - cpu, wall.elapsed().as_secs_f64())
}

/// The least seconds that `run` takes of so many.
pub(super) fn least(runs: usize, mut run: impl FnMut()) -> f64 {
    let once = |_| {
        let before = thread_cpu();
        run();
        thread_cpu() - before
    };
    (0..runs).map(once).fold(f64::MAX, f64::min)
}

/// Operations in a nanosecond, where `run` does `work` of them.
pub(super) fn rate(work: f64, mut run: impl FnMut()) -> f64 {
    let repeats = (2e8 / work).ceil() as usize;
    run();
    work * repeats as f64 / least(10, || (0..repeats).for_each(|_| run())) / 1e9
}

/// Numbers between -0.5 and 0.5.
pub(super) fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 7 & 0xffff) as f32 / 65536.0 - 0.5).collect()
}

/// The most memory that this process has had since [`forget`].
pub(super) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Lets [`peak_memory`] begin anew.
pub(super) fn forget() -> std::io::Result<()> {
    std::fs::write("/proc/self/clear_refs", "5")
}
