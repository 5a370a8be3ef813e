//! What this machine has: memory, threads, and whether bf16 is worth it.

use std::fs;
use std::thread::available_parallelism;

use crate::kernel::Compute;

/// Families of processors (their vendor, and what CPUID says) on which products of bf16 were measured to be faster than
/// those of f32: Zen 4 and Zen 5. Intel's without AMX are slower, so they are not here.
const FAST_BF16: &[(&str, u8)] = &[("AuthenticAMD", 0x19), ("AuthenticAMD", 0x1a)];

/// The type of operands that `compute: auto` means: a property of the processor, never a measurement, so that the
/// same processor gives the same bytes however busy it is.
pub(crate) fn usual_compute() -> Compute {
    if has_fast_bf16() { Compute::Bf16 } else { Compute::F32 }
}

#[cfg(target_arch = "x86_64")]
fn has_fast_bf16() -> bool {
    let cpu = raw_cpuid::CpuId::new();
    let family = cpu.get_vendor_info().zip(cpu.get_feature_info());
    let known =
        family.is_some_and(|(vendor, features)| FAST_BF16.contains(&(vendor.as_str(), features.family_id())));
    known && std::arch::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_fast_bf16() -> bool {
    let _ = FAST_BF16;
    false
}

/// Threads that this process may use: its affinity and, on Linux, the quota of its control group decide.
pub fn usual_threads() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Bytes that this process may still take: what the machine has left, and what its control group allows. None where the
/// system does not tell.
pub(crate) fn available_memory() -> Option<u64> {
    let machine = field("/proc/meminfo", "MemAvailable:").map(|kib| kib << 10);
    let group = groups().into_iter().filter_map(|folder| {
        let read =
            |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok()?.trim().parse::<u64>().ok();
        let limit = read("memory.max").or_else(|| read("memory.limit_in_bytes"))?;
        let used = read("memory.current").or_else(|| read("memory.usage_in_bytes"))?;
        // Pages of files count as used, and go when they are in the way.
        let stat = format!("{folder}/memory.stat");
        let files =
            field(&stat, "inactive_file").or_else(|| field(&stat, "total_inactive_file")).unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(files)))
    });
    machine.into_iter().chain(group).min()
}

/// The folders of this process's control groups: version 2 up to the root, and the memory controller of version 1.
fn groups() -> Vec<String> {
    let mut folders = Vec::new();
    for line in fs::read_to_string("/proc/self/cgroup").unwrap_or_default().lines() {
        let Some((controllers, path)) = line.split_once(':').and_then(|(_, rest)| rest.split_once(':'))
        else {
            continue;
        };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|name| name == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            folders.push(format!("{root}{path}"));
            let Some((parent, _)) = path.rsplit_once('/') else { break };
            path = parent;
        }
    }
    folders
}

/// Bytes of memory that this process has now.
pub(crate) fn memory_now() -> Option<u64> {
    field("/proc/self/status", "VmRSS:").map(|kib| kib << 10)
}

/// The most bytes of memory that this process had.
pub(crate) fn memory_peak() -> Option<u64> {
    field("/proc/self/status", "VmHWM:").map(|kib| kib << 10)
}

/// The number after a name at the beginning of a line.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_what_it_has() {
        assert!(usual_threads() >= 1);
        if cfg!(target_os = "linux") {
            let (now, peak) = (memory_now().unwrap(), memory_peak().unwrap());
            assert!(now > 1 << 20 && peak >= now / 2, "{now}, {peak}");
            assert!(available_memory().unwrap() > 0);
        }
        if usual_compute() == Compute::Bf16 {
            assert!(crate::kernel::kernels(Compute::Bf16).len() > 1, "bf16 without the instruction");
        }
    }
}
