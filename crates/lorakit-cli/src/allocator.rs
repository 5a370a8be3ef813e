//! Freed memory stays with the process, as far as the C library can be told so.
//!
//! A pass through a model takes and frees buffers of megabytes thousands of times. glibc gets each from the system and
//! gives it back, so that its pages are cleared and faulted in anew, and with several threads each return interrupts
//! all cores: on two of them, a prompt took three times as long. What is kept is not more than what was needed at once.
#![allow(unsafe_code, reason = "a call of the C library")]

/// Keeps freed memory. To be called before there are threads.
pub(crate) fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, value) in [
        // The most that glibc takes; larger buffers are few.
        (libc::M_MMAP_THRESHOLD, 32 << 20),
        // The most there is.
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
    ] {
        // SAFETY: these options take any number; one that glibc refuses changes nothing.
        unsafe { libc::mallopt(option, value) };
    }
}
