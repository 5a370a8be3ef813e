//! A progress bar.

use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lorakit::plan::Progress;

use crate::interrupt;
use crate::ui::Ui;

/// Whether a bar is on the terminal.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Shows finished bytes, and stops the run once a signal has asked for it.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// The total comes with each phase.
    pub(crate) fn new(ui: &Ui, doing: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(0),
            if ui.progress { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() },
        );
        let template =
            "{msg} [{bar:32}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(doing);
        IS_SHOWN.store(ui.progress, Ordering::Relaxed);
        Bar { bar }
    }

    /// Shows nothing, but stops the run like the others: for planning, before the amount of work is known.
    pub(crate) fn unseen() -> Self {
        Bar { bar: ProgressBar::hidden() }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        IS_SHOWN.store(false, Ordering::Relaxed);
    }
}

/// The text that erases the bar, for a thread that must not wait for the drawing ones.
pub(crate) fn erase() -> &'static str {
    if IS_SHOWN.load(Ordering::Relaxed) { "\r\x1b[K" } else { "" }
}

impl Progress for Bar {
    fn begin(&self, total: u64) {
        self.bar.set_length(total);
        self.bar.reset();
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn cancelled(&self) -> bool {
        interrupt::asked()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.finish();
    }
}
