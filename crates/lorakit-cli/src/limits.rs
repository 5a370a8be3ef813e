//! Limits that the system sets for a process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that every system with an "unlimited" number of them allows: macOS accepts no more.
const OPEN_MAX: u64 = 10_240;

/// Raises the limit of open files as far as possible: the soft limit is 256 on macOS, and a large model has more
/// shards.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok();
    if current != maximum && !raised(maximum) && current.is_some_and(|now| now < OPEN_MAX) {
        raised(Some(OPEN_MAX));
    }
}
