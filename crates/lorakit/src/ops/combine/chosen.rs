//! How weights were chosen that nobody gave: what the record of a combination says about it.

use serde::Serialize;

/// How weights were chosen by measuring.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chosen {
    /// What was measured: `loss` or `exact`.
    pub by: &'static str,
    /// The SHA-256 of each file of rows, in hexadecimal.
    pub data: Vec<String>,
    /// Rows on which the weights were chosen.
    pub chosen_on: usize,
    /// Rows on which the figures below were measured.
    pub measured_on: usize,
    /// Whether these are rows that had no part in the choice.
    pub held_back: bool,
    /// Combinations that were tried.
    pub trials: usize,
    /// The loss of the base alone, in nats per token.
    pub base_loss: f64,
    /// The least loss of an adapter alone.
    pub alone_loss: f64,
    /// The loss of the combination.
    pub loss: f64,
}

impl Chosen {
    /// What a card calls [`Self::figure`].
    pub(super) const FIGURE: &'static str = "Held-out loss, in nats per token";

    /// Its figures, as a card says them.
    pub(super) fn figure(&self) -> String {
        let rows = match (self.held_back, self.measured_on) {
            (true, rows) => format!("on {rows} rows that the weights were not chosen on"),
            (false, rows) => format!("on the {rows} rows that the weights were chosen on"),
        };
        format!(
            "{:.4} {rows} (the base {:.4}, the best adapter alone {:.4})",
            self.loss, self.base_loss, self.alone_loss
        )
    }
}
