//! Trainable tokens: rows of an embedding, which replace those of the base.

use serde_json::Value;

use super::interface::{Layer, Method};
use crate::adapter::format::assemble::{Outcome, fault};
use crate::adapter::{Adapter, TokenRows};

pub(super) struct TrainableTokens;

const MARK: &str = "trainable_tokens_delta";

impl Method for TrainableTokens {
    fn peft_type(&self) -> &'static str {
        "TRAINABLE_TOKENS"
    }

    fn name(&self) -> &'static str {
        "trainable tokens"
    }

    fn read_as(&self) -> &'static str {
        "rows that replace those of the base"
    }

    fn marks(&self) -> &'static [&'static str] {
        &[MARK]
    }

    fn read(&self, layer: &Layer<'_>, adapter: &mut Adapter) -> Outcome<()> {
        let tensor = layer.need(MARK)?;
        let listed = layer.settings.get("token_indices").and_then(Value::as_array);
        let rows: Option<Vec<usize>> =
            listed.and_then(|rows| rows.iter().map(|row| row.as_u64().map(|row| row as usize)).collect());
        let held = tensor.info().rows_cols().0;
        match rows {
            Some(rows) if rows.len() == held => {
                adapter.token_rows.push(TokenRows { path: layer.path.to_string(), tensor, rows });
                Ok(())
            }
            None => {
                let message = "holds token rows, and `token_indices` is not a list of their numbers";
                Err(fault("token-count", message))
            }
            Some(rows) => {
                let listed = rows.len();
                let message = format!("holds {held} token rows, and the configuration lists {listed}");
                Err(fault("token-count", message))
            }
        }
    }

    fn stays(&self) -> Option<&'static str> {
        Some(MARK)
    }

    fn is_low_rank(&self) -> bool {
        false
    }
}
