//! How a run is watched: a line at the bottom of a terminal, or plain lines in a pipe.

use std::path::Path;
use std::time::Duration;

use lorakit::plan::Progress;
use lorakit_train::Result;
use lorakit_train::run::{Estimate, Evaluated, Observer, Step};
use lorakit_train::settings::Settings;

use super::estimate;
use crate::progress::{Bar, Foot};
use crate::ui::Ui;
use crate::{interrupt, names, units};

/// Watches a run for the command.
pub(super) struct Watch<'u> {
    ui: &'u Ui,
    opening: Bar,
    foot: Foot,
    estimate: Option<Estimate>,
}

impl<'u> Watch<'u> {
    pub(super) fn new(ui: &'u Ui) -> Self {
        Watch { ui, opening: Bar::new(ui, "opening"), foot: Foot::unseen(), estimate: None }
    }

    /// Clears the terminal's line; what was estimated.
    pub(super) fn finish(self) -> Option<Estimate> {
        self.opening.finish();
        self.foot.finish();
        self.estimate
    }

    fn say(&self, line: &str) {
        if !self.ui.json && !self.ui.quiet {
            self.foot.above(line);
        }
    }
}

impl Observer for Watch<'_> {
    fn begins(&mut self, _: &Settings, estimate: &Estimate) -> Result<()> {
        self.opening.finish();
        self.say(estimate::text(estimate).trim_end());
        self.estimate = Some(estimate.clone());
        self.foot = Foot::new(self.ui);
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        self.foot.show(step.step, step.steps, figures(step));
        if step.shown && !self.ui.progress {
            self.say(&format!("step {}/{} epoch {:.2} {}", step.step, step.steps, step.epoch, figures(step)));
        }
        Ok(())
    }

    fn evaluated(&mut self, evaluated: &Evaluated) -> Result<()> {
        let best = if evaluated.best { ", the best so far" } else { "" };
        self.say(&format!("validation after step {}: loss {:.4}{best}", evaluated.step, evaluated.loss));
        Ok(())
    }

    fn saved(&mut self, path: &Path) -> Result<()> {
        self.say(&format!("saved `{}`", names::path(path)));
        Ok(())
    }

    fn stops(&self) -> bool {
        interrupt::asked()
    }

    fn progress(&self) -> &dyn Progress {
        &self.opening
    }
}

/// What a step's line says behind its number.
fn figures(step: &Step) -> String {
    let memory = step.rss.map_or(String::new(), |bytes| format!(" {}", units::size(bytes)));
    let left = units::left(Duration::from_secs_f64(step.left_s.max(0.0)));
    format!(
        "loss {:.4} lr {:.2e} norm {:.2} {:.0} tok/s{memory} eta {left}",
        step.loss, step.lr, step.grad_norm, step.tok_s
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_its_loss_rate_speed_memory_and_time() {
        let step = Step {
            step: 120,
            steps: 800,
            epoch: 4.8,
            loss: 0.51234,
            lr: 1.9e-4,
            grad_norm: 0.724,
            tokens: 1,
            supervised_tokens: 1,
            tok_s: 310.4,
            rss: Some(412_000_000),
            wall_s: 60.0,
            left_s: 340.0,
            shown: true,
        };
        assert_eq!(figures(&step), "loss 0.5123 lr 1.90e-4 norm 0.72 310 tok/s 412 MB eta 6 min");
    }
}
