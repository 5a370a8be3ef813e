//! Signal handlers: a flag, and a pipe to the thread that watches.
//!
//! A handler may interrupt anything, an allocation or a lock included. So ours store an atomic, write to a pipe, sleep,
//! and do nothing else.

use std::io::{self, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use libc::{SIGBUS, SIGHUP, SIGINT, SIGTERM, SIGXFSZ, c_int, c_void, siginfo_t};

/// Signals that ask a process to end.
const STOPS: [c_int; 3] = [SIGINT, SIGTERM, SIGHUP];
/// Bytes of a report in the pipe: a signal, an address.
const RECORD: usize = 16;
/// Milliseconds between two checks of a thread that faulted.
const PARKED: c_int = 10;

/// The end of the pipe that handlers write to.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The first signal that asked to stop; 0 if there was none.
static STOP: AtomicI32 = AtomicI32::new(0);
/// Whether threads that faulted may go on, and so fault again.
static LET_GO: AtomicBool = AtomicBool::new(false);
/// The handling of faults before [`install`].
static FORMER: OnceLock<libc::sigaction> = OnceLock::new();

/// An event that a handler reports.
pub(super) enum Caught {
    /// A signal that asks to stop.
    Stop(c_int),
    /// A fault at an address; its thread waits until the process ends or [`let_go`] is called.
    Fault(usize),
}

/// The pipe through which handlers report once they are installed.
pub(super) fn open() -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    // A handler must not wait for the reader.
    rustix::io::ioctl_fionbio(&writer, true)?;
    PIPE.store(writer.into_raw_fd(), Ordering::Relaxed);
    Ok(reader)
}

/// Installs the handlers. Signals that were ignored when the process started stay ignored: `nohup` and background jobs
/// rely on that.
pub(super) fn install() {
    for signal in STOPS {
        if current(signal).is_some_and(|now| now.sa_sigaction != libc::SIG_IGN) {
            set(signal, stop as extern "C" fn(c_int) as libc::sighandler_t, libc::SA_RESTART);
        }
    }
    if let Some(former) = current(SIGBUS) {
        let _ = FORMER.set(former);
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = fault;
        // On the thread's signal stack: on some systems an overflow of the normal stack is a SIGBUS.
        set(SIGBUS, handler as libc::sighandler_t, libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART);
    }
}

/// Makes a file size limit an error of the write that meets it, not the end of the process.
pub(super) fn ignore_size_limit() {
    set(SIGXFSZ, libc::SIG_IGN, 0);
}

/// The first signal that asked to stop.
pub(super) fn stop_signal() -> Option<c_int> {
    Some(STOP.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// The next report in the pipe, once there is one.
pub(super) fn read(pipe: &mut PipeReader) -> io::Result<Caught> {
    let mut record = [0; RECORD];
    pipe.read_exact(&mut record)?;
    let [signal, address] = [0, RECORD / 2].map(|at| {
        let mut bytes = [0; RECORD / 2];
        bytes.copy_from_slice(&record[at..at + RECORD / 2]);
        u64::from_ne_bytes(bytes)
    });
    Ok(match signal as c_int {
        SIGBUS => Caught::Fault(address as usize),
        signal => Caught::Stop(signal),
    })
}

/// Restores the previous handling of faults, and lets threads that wait in our handler run into it.
#[expect(unsafe_code, reason = "std has no signals")]
pub(super) fn let_go() {
    if let Some(former) = FORMER.get() {
        // SAFETY: `former` was returned by the same call.
        unsafe { libc::sigaction(SIGBUS, former, ptr::null_mut()) };
    }
    LET_GO.store(true, Ordering::Release);
}

/// Ends the process without running destructors: other threads may be anywhere.
#[expect(unsafe_code, reason = "`std::process::exit` runs what libraries have registered")]
pub(super) fn exit(code: u8) -> ! {
    // SAFETY: has no preconditions.
    unsafe { libc::_exit(c_int::from(code)) }
}

extern "C" fn stop(signal: c_int) {
    let _ = STOP.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
    tell(signal, 0);
}

#[expect(unsafe_code, reason = "std has no signals")]
extern "C" fn fault(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid `info`, and SIGBUS has an address.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // The codes of faults (`BUS_*`) are 1 to 5; with any other, a process sent the signal.
    if !(1..=5).contains(&code) {
        set(signal, libc::SIG_DFL, 0);
        // SAFETY: safe in handlers; takes effect when this one returns.
        unsafe { libc::raise(signal) };
        return;
    }
    let mut told = false;
    while !LET_GO.load(Ordering::Acquire) {
        told = told || tell(signal, address);
        // SAFETY: no descriptors are passed, so this only waits.
        unsafe { libc::poll(ptr::null_mut(), 0, PARKED) };
    }
}

/// Writes a report into the pipe, and leaves `errno` to the code that was interrupted.
#[expect(unsafe_code, reason = "std's writes may allocate")]
fn tell(signal: c_int, address: usize) -> bool {
    let mut record = [0; RECORD];
    record[..RECORD / 2].copy_from_slice(&(signal as u64).to_ne_bytes());
    record[RECORD / 2..].copy_from_slice(&(address as u64).to_ne_bytes());
    // SAFETY: `record` is valid for its length, and `errno` belongs to this thread. A write this short is never split.
    unsafe {
        let errno = errno();
        let kept = *errno;
        let written = libc::write(PIPE.load(Ordering::Relaxed), record.as_ptr().cast(), RECORD);
        *errno = kept;
        written == RECORD as isize
    }
}

#[expect(unsafe_code, reason = "std can read it, not set it")]
fn errno() -> *mut c_int {
    // SAFETY: have no preconditions.
    #[cfg(any(target_os = "linux", target_os = "emscripten", target_os = "hurd"))]
    return unsafe { libc::__errno_location() };
    #[cfg(not(any(target_os = "linux", target_os = "emscripten", target_os = "hurd")))]
    return unsafe { libc::__error() };
}

#[expect(unsafe_code, reason = "std has no signals")]
fn current(signal: c_int) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: without a new action this only fills `action`, which is read if it did.
    unsafe { (libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0).then(|| action.assume_init()) }
}

#[expect(unsafe_code, reason = "std has no signals")]
fn set(signal: c_int, handler: libc::sighandler_t, flags: c_int) {
    // SAFETY: all fields may be zero; the mask is emptied. `handler` is SIG_IGN, SIG_DFL or a function that does only
    // what handlers may, with the arguments that `flags` say.
    unsafe {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed().assume_init();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(signal, &action, ptr::null_mut());
    }
}
