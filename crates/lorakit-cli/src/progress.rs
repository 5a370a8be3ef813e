//! A progress bar, and Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lorakit::plan::Progress;

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
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        // If a handler cannot be set, Ctrl-C ends the process at once; the staged output is swept up next time.
        let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
        Bar { bar, stop }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
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
