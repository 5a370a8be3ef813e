//! A progress bar.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use lorakit::plan::Progress;

use crate::interrupt;
use crate::ui::Ui;
use crate::{units, width};

/// Whether a bar is on the terminal.
static IS_SHOWN: AtomicBool = AtomicBool::new(false);
/// What ends sooner shows nothing.
const DELAY: Duration = Duration::from_millis(200);
/// How often the line is drawn, whether or not anything is done.
const TICK: Duration = Duration::from_millis(125);
/// Columns within the brackets, where there is room.
const LONGEST: usize = 32;
/// The shortest bar that still says something.
const SHORTEST: usize = 4;
/// What a name is shortened to before the sizes become a percentage.
const NAME: usize = 6;

/// Shows finished bytes, and stops the run once a signal has asked for it.
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar for phases whose totals come with each.
    pub(crate) fn new(ui: &Ui, doing: &'static str) -> Self {
        if !ui.progress {
            return Self::unseen();
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
        let start = Instant::now();
        let draw = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let waited = start.elapsed();
            if waited >= DELAY
                && IS_SHOWN.load(Ordering::Relaxed)
                && let Some(width) = width::of_messages()
            {
                let _ = out.write_str(&line(doing, &Figures::of(state, waited), width));
            }
        };
        if let Ok(style) = ProgressStyle::with_template("{line}") {
            bar.set_style(style.with_key("line", draw));
        }
        IS_SHOWN.store(true, Ordering::Relaxed);
        bar.enable_steady_tick(TICK);
        Bar { bar }
    }

    /// Shows nothing, but stops the run like the others.
    fn unseen() -> Self {
        Bar { bar: ProgressBar::hidden() }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        IS_SHOWN.store(false, Ordering::Relaxed);
    }
}

/// A line for a run in steps, whose figures come with each.
pub(crate) struct Foot {
    bar: ProgressBar,
    figures: Arc<Mutex<String>>,
}

impl Foot {
    pub(crate) fn new(ui: &Ui) -> Self {
        if !ui.progress {
            return Self::unseen();
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(8));
        let figures = Arc::new(Mutex::new(String::new()));
        let drawn = Arc::clone(&figures);
        let draw = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            if IS_SHOWN.load(Ordering::Relaxed)
                && let (Some(width), Ok(figures)) = (width::of_messages(), drawn.lock())
            {
                let _ = out.write_str(&step_line(state.pos(), state.len().unwrap_or(0), &figures, width));
            }
        };
        if let Ok(style) = ProgressStyle::with_template("{line}") {
            bar.set_style(style.with_key("line", draw));
        }
        IS_SHOWN.store(true, Ordering::Relaxed);
        bar.enable_steady_tick(TICK);
        Foot { bar, figures }
    }

    /// Shows nothing.
    pub(crate) fn unseen() -> Self {
        Foot { bar: ProgressBar::hidden(), figures: Arc::default() }
    }

    /// Says how far a run is.
    pub(crate) fn show(&self, step: u64, steps: u64, figures: String) {
        if let Ok(mut shown) = self.figures.lock() {
            *shown = figures;
        }
        self.bar.set_length(steps);
        self.bar.set_position(step);
    }

    /// Prints a line that stays, on stderr.
    pub(crate) fn above(&self, line: &str) {
        self.bar.suspend(|| crate::ui::note(line));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
        IS_SHOWN.store(false, Ordering::Relaxed);
    }
}

impl Drop for Foot {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A line of at most `width` columns. What gives way is the bar, then figures from behind.
fn step_line(step: u64, steps: u64, figures: &str, width: usize) -> String {
    let counted = format!("{step}/{steps}");
    let room = width.saturating_sub(counted.len() + figures.len() + 4).min(LONGEST);
    if room >= SHORTEST && steps > 0 {
        let full = (step.min(steps) as f64 / steps as f64 * room as f64) as usize;
        let head = if full < room { ">" } else { "" };
        let spaces = " ".repeat(room - full - head.len());
        return format!("{counted} [{}{head}{spaces}] {figures}", "=".repeat(full));
    }
    shortened(&format!("{counted} {figures}"), width)
}

/// The text that erases the bar, for a thread that must not wait for the drawing ones; they draw nothing from now on.
pub(crate) fn erase() -> &'static str {
    if IS_SHOWN.swap(false, Ordering::Relaxed) { "\r\x1b[K" } else { "" }
}

/// What a line says.
struct Figures {
    done: u64,
    /// 0 while it is not known.
    total: u64,
    /// Bytes a second; 0 while it is not known.
    rate: f64,
    left: Duration,
    waited: Duration,
}

impl Figures {
    fn of(state: &ProgressState, waited: Duration) -> Self {
        let total = state.len().unwrap_or(0);
        Figures { done: state.pos().min(total), total, rate: state.per_sec(), left: state.eta(), waited }
    }
}

/// A line of at most `width` columns. What gives way first is the length of the bar, then the name, then the sizes,
/// which become a percentage; rate and time left always stay.
fn line(doing: &str, figures: &Figures, width: usize) -> String {
    let Figures { done, total, rate, left, waited } = *figures;
    if total == 0 {
        return format!("{} ... {}", shortened(doing, width.saturating_sub(12)), units::left(waited));
    }
    let pace = if done >= total {
        "finishing".into()
    } else if rate > 0.0 {
        let left = Duration::from_secs(left.as_secs_f64().ceil() as u64);
        format!("{}/s eta {}", units::size(rate as u64), units::left(left))
    } else {
        "eta ?".into()
    };
    let sizes = format!("{}/{} {pace}", units::size(done), units::size(total));
    let spare = |text: &str| width.saturating_sub(text.len() + 1);
    if spare(&sizes) < NAME.min(doing.len()) {
        let share = format!("{} % {pace}", (done as f64 / total as f64 * 100.0) as u64);
        return format!("{} {share}", shortened(doing, spare(&share)));
    }
    let room = spare(&sizes).saturating_sub(doing.len() + 3).min(LONGEST);
    if room < SHORTEST {
        return format!("{} {sizes}", shortened(doing, spare(&sizes)));
    }
    let full = (done as f64 / total as f64 * room as f64) as usize;
    let head = if full < room { ">" } else { "" };
    let mut line = format!("{doing} [{}{head}", "=".repeat(full));
    let _ = write!(line, "{:1$}] {sizes}", "", room - full - head.len());
    line
}

/// The name, or as much of it as fits.
fn shortened(name: &str, room: usize) -> String {
    if name.len() <= room {
        return name.into();
    }
    let kept: String = name.chars().take(room.saturating_sub(1)).collect();
    if room == 0 { kept } else { kept + "…" }
}

impl Progress for Bar {
    fn begin(&self, total: u64) {
        // A phase without work is not shown.
        if total > 0 {
            self.bar.set_length(total);
            self.bar.reset();
        }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Figures, line};
    use crate::width;

    fn at(done: u64, rate: f64, width: usize) -> String {
        let left = Duration::from_secs(754);
        let waited = Duration::from_secs(3);
        let total = if done == 0 { 0 } else { 16_060_000_000 };
        line("approximating", &Figures { done, total, rate, left, waited }, width)
    }

    #[test]
    fn the_bar_gives_way_then_the_name_then_the_sizes() {
        let lines = [100, 80, 60, 50, 40, 30].map(|width| at(4_800_000_000, 1.2e9, width));
        insta::assert_snapshot!(lines.join("\n"), @"
        approximating [=========>                      ] 4.80 GB/16.1 GB 1.20 GB/s eta 13 min
        approximating [========>                  ] 4.80 GB/16.1 GB 1.20 GB/s eta 13 min
        approximating [==>    ] 4.80 GB/16.1 GB 1.20 GB/s eta 13 min
        approximating 4.80 GB/16.1 GB 1.20 GB/s eta 13 min
        approximating 29 % 1.20 GB/s eta 13 min
        app… 29 % 1.20 GB/s eta 13 min
        ");
        let others = [at(0, 0.0, 60), at(1, 0.0, 60), at(16_060_000_000, 1.2e9, 60), at(0, 0.0, 20)];
        insta::assert_snapshot!(others.join("\n"), @"
        approximating ... 3 s
        approximating [>                         ] 1 B/16.1 GB eta ?
        approximating [==================] 16.1 GB/16.1 GB finishing
        approxi… ... 3 s
        ");
    }

    #[test]
    fn the_line_of_a_step_loses_its_bar_then_its_end() {
        let figures = "loss 0.5123 lr 1.90e-4 norm 0.72 310 tok/s 412 MB eta 6 min";
        let lines = [100, 80, 60, 30].map(|width| super::step_line(120, 800, figures, width));
        assert!(lines.iter().zip([100, 80, 60, 30]).all(|(line, width)| width::columns(line) <= width));
        insta::assert_snapshot!(lines.join("\n"), @"
        120/800 [====>                         ] loss 0.5123 lr 1.90e-4 norm 0.72 310 tok/s 412 MB eta 6 min
        120/800 [=>        ] loss 0.5123 lr 1.90e-4 norm 0.72 310 tok/s 412 MB eta 6 min
        120/800 loss 0.5123 lr 1.90e-4 norm 0.72 310 tok/s 412 MB e…
        120/800 loss 0.5123 lr 1.90e-…
        ");
    }

    #[test]
    fn no_line_is_too_wide_and_each_has_its_eta() {
        for width in 34..=100 {
            for done in [1, 999_999, 4_800_000_000, 16_059_999_999] {
                let line = at(done, 999.4e6, width);
                assert!(width::columns(&line) <= width, "{width}: {line}");
                assert!(line.contains("999 MB/s eta 13 min"), "{line}");
            }
        }
    }
}
