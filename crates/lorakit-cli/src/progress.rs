//! A progress bar, and Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lorakit::plan::Progress;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::exit;
use crate::ui::Ui;

/// Shows finished bytes; asks the run to stop on Ctrl-C or a termination signal.
pub(crate) struct Bar {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Bar {
    pub(crate) fn new(ui: &Ui, doing: &'static str, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(total),
            if ui.progress { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() },
        );
        let template =
            "{msg} [{bar:32}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(doing);
        Bar { bar, stop: stop_flag() }
    }

    /// Shows nothing, and asks to stop as the others do: for planning, before it is known how much there is to do.
    pub(crate) fn unseen() -> Self {
        Bar { bar: ProgressBar::hidden(), stop: stop_flag() }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// A flag that Ctrl-C and termination set. A second Ctrl-C ends the process at once. If a handler cannot be set,
/// so does the first; the staged output is then swept up by the next run.
fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let _ = flag::register_conditional_shutdown(signal, i32::from(exit::INTERRUPTED), Arc::clone(&stop));
        let _ = flag::register(signal, Arc::clone(&stop));
    }
    // A file size limit is an error of the write that meets it, not the end of the process.
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    stop
}

impl Progress for Bar {
    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
