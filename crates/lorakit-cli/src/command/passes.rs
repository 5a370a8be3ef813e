//! Passes of an evaluation at the bottom of a terminal, with the time that is left.

use std::time::{Duration, Instant};

use lorakit::plan::Progress;
use lorakit_train::eval::Watch;

use crate::progress::{Bar, Foot};
use crate::ui::Ui;
use crate::{names, units};

/// Shows passes.
pub(super) struct Passes<'u> {
    ui: &'u Ui,
    opening: Bar,
    foot: Option<(Foot, Instant)>,
    /// Whether there may be fewer passes than are told.
    at_most: bool,
}

impl<'u> Passes<'u> {
    pub(super) fn new(ui: &'u Ui, at_most: bool) -> Self {
        Passes { ui, opening: Bar::new(ui, "opening"), foot: None, at_most }
    }
}

impl Watch for Passes<'_> {
    fn progress(&self) -> &dyn Progress {
        &self.opening
    }

    fn passes(&mut self, done: u64, of: u64, what: &str) {
        let (foot, start) = self.foot.get_or_insert_with(|| {
            self.opening.finish();
            (Foot::new(self.ui), Instant::now())
        });
        foot.show(done, of, figures(&names::shown(what), (done, of), start.elapsed(), self.at_most));
    }
}

/// What is under way, and how long it takes if the passes to come take as long as those before.
fn figures(what: &str, (done, of): (u64, u64), elapsed: Duration, at_most: bool) -> String {
    if done == 0 {
        return what.to_string();
    }
    let left = elapsed.mul_f64(of.saturating_sub(done) as f64 / done as f64);
    format!("eta {}{}, {what}", if at_most { "at most " } else { "" }, units::left(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_follows_from_the_passes_before() {
        let minute = Duration::from_secs(60);
        assert_eq!(figures("base", (0, 100), minute, false), "base");
        assert_eq!(figures("base", (20, 100), minute, false), "eta 4 min, base");
        assert_eq!(figures("weights 1, 0.4", (50, 100), minute, true), "eta at most 60 s, weights 1, 0.4");
        assert_eq!(figures("base", (100, 100), minute, false), "eta 0 s, base");
    }
}
