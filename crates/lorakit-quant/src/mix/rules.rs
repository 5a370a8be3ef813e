//! The rules of the mixes: which tensors get another type than the rest, before rows are looked at.
//!
//! Rules count tensors as they are visited. Tensors that an override or an option decides are not counted, which shifts
//! the rules for the tensors after them; the tool does so too, and its result depends on it.

use lorakit_tensor::{DType, TensorInfo};

use super::error::MixError;
use super::facts::Facts;
use super::file_type::FileType;
use super::order::layer;
use super::reason::Reason;
use super::role::Role;

/// A mix on its way through the tensors of a model.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    mix: FileType,
    facts: &'a Facts,
    importance: bool,
    /// Whether the token embedding serves as output matrix, because there is none.
    tied: bool,
    /// How many tensors hold attention values.
    values: u64,
    /// How many of them a rule has seen.
    values_seen: u64,
    /// How many `ffn_down` tensors a rule has seen.
    downs_seen: u64,
}

impl<'a> Rules<'a> {
    pub(super) fn new(mix: FileType, facts: &'a Facts, importance: bool, tensors: &[TensorInfo]) -> Self {
        let count = |role| tensors.iter().filter(|tensor| Role::of(&tensor.name) == role).count() as u64;
        let (tied, values) = (count(Role::Output) == 0, count(Role::AttentionValue));
        Rules { mix, facts, importance, tied, values, values_seen: 0, downs_seen: 0 }
    }

    /// The type of `tensor`; `output` is the user's for the output matrix.
    pub(super) fn apply(
        &mut self,
        tensor: &TensorInfo,
        role: Role,
        output: Option<DType>,
    ) -> Result<(DType, Reason), MixError> {
        if self.facts.architecture == "glm5-next" && is_sensitive(&tensor.name) {
            return Ok((DType::Q8_0, Reason::Sensitive));
        }
        let (dtype, reason) = match role {
            Role::Output => (self.output(tensor), Reason::Output),
            Role::TokenEmbedding if self.tied => match output {
                Some(dtype) => (dtype, Reason::OutputOption),
                None => (self.output(tensor), Reason::TiedOutput),
            },
            _ if self.mix == FileType::MXFP4_MOE => (self.expert(tensor, role), Reason::NotExpert),
            Role::TokenEmbedding => (self.token_embedding(), Reason::TokenEmbedding),
            Role::AttentionValue => (self.attention_value(), Reason::AttentionValue),
            Role::AttentionKey => (self.attention_key(), Reason::AttentionKey),
            Role::AttentionOutput => (self.attention_output(), Reason::AttentionOutput),
            Role::FfnDown => {
                let layer = self.ffn_down_layer(&tensor.name)?;
                let all = matches!(self.mix, FileType::Q2_K | FileType::Q3_K_L);
                (self.ffn_down(layer), Reason::FfnDown { layer: (!all).then_some(layer) })
            }
            Role::Other => (self.mix.dtype(), Reason::Mix),
        };
        let usual = dtype == self.mix.dtype() && reason != Reason::OutputOption;
        Ok((dtype, if usual { Reason::Mix } else { reason }))
    }

    fn output(&self, tensor: &TensorInfo) -> DType {
        let default = self.mix.dtype();
        let columns = tensor.shape.last().copied().unwrap_or(1);
        let fits = columns.is_multiple_of(default.block().elements);
        match self.mix {
            FileType::MXFP4_MOE | FileType::Q8_0 => DType::Q8_0,
            _ if !fits || self.is_falcon() => DType::Q8_0,
            _ => DType::Q6_K,
        }
    }

    fn expert(&self, tensor: &TensorInfo, role: Role) -> DType {
        let stacked = matches!(tensor.shape.as_slice(), [.., matrices, _, _] if *matrices > 1);
        // The projections of this family's attention are stacks, too.
        let is_expert = self.facts.architecture != "bailingmoe3"
            || role == Role::FfnDown
            || ["ffn_up", "ffn_gate"].iter().any(|part| tensor.name.contains(part));
        if stacked && is_expert { DType::MXFP4 } else { DType::Q8_0 }
    }

    fn token_embedding(&self) -> DType {
        match self.mix {
            FileType::TQ1_0 | FileType::TQ2_0 => DType::Q4_K,
            _ => self.mix.dtype(),
        }
    }

    fn attention_value(&mut self) -> DType {
        use FileType::*;
        let (seen, shared) = (self.values_seen, self.facts.group() >= 4);
        self.values_seen += 1;
        if self.facts.experts == 8 {
            return DType::Q8_0;
        }
        let dtype = match self.mix {
            Q2_K if !shared => DType::Q3_K,
            Q2_K | Q2_K_S if shared => DType::Q4_K,
            Q3_K_M if seen >= 2 => DType::Q4_K,
            Q3_K_M | Q3_K_L => DType::Q5_K,
            IQ4_NL | IQ4_XS if shared => DType::Q5_K,
            Q4_K_S if seen < 4 => DType::Q5_K,
            Q4_K_M | Q5_K_M if more_bits(seen, self.values) => DType::Q6_K,
            _ => self.mix.dtype(),
        };
        match dtype {
            DType::Q3_K | DType::Q4_K if self.facts.is_70b() => DType::Q5_K,
            _ => dtype,
        }
    }

    fn attention_key(&self) -> DType {
        if self.facts.experts == 8 { DType::Q8_0 } else { self.mix.dtype() }
    }

    fn attention_output(&self) -> DType {
        use FileType::*;
        let default = self.mix.dtype();
        if self.is_falcon() {
            return if self.mix == Q3_K_L { DType::Q4_K } else { default };
        }
        if self.facts.experts == 8 {
            return match self.mix {
                Q2_K | Q3_K_S | Q3_K_M | Q4_K_S | Q4_K_M | IQ4_NL | IQ4_XS => DType::Q5_K,
                _ => default,
            };
        }
        match self.mix {
            Q2_K => DType::Q3_K,
            Q3_K_M => DType::Q4_K,
            Q3_K_L => DType::Q5_K,
            _ => default,
        }
    }

    /// The layer of an `ffn_down`: counted, or in models with experts, where the count varies, read from the name.
    fn ffn_down_layer(&mut self, name: &str) -> Result<u64, MixError> {
        let seen = self.downs_seen;
        self.downs_seen += 1;
        let layers = self.facts.layers;
        match layer(name) {
            _ if self.facts.experts <= 1 => Ok(seen),
            Some(layer) if layer < layers => Ok(layer),
            _ => Err(MixError::Layer { tensor: name.to_string(), layers }),
        }
    }

    fn ffn_down(&self, layer: u64) -> DType {
        use FileType::*;
        let layers = self.facts.layers;
        let (more, first_8th, first_16th) =
            (more_bits(layer, layers), layer < layers / 8, layer < layers / 16);
        match self.mix {
            Q2_K => DType::Q3_K,
            Q2_K_S if first_8th => DType::Q4_K,
            Q3_K_M if first_16th => DType::Q5_K,
            Q3_K_M if more || !self.is_falcon() => DType::Q4_K,
            Q3_K_L if self.is_falcon() => DType::Q4_K,
            Q3_K_L => DType::Q5_K,
            Q4_K_S if first_8th && !self.is_falcon() => DType::Q5_K,
            Q4_K_M if more && self.is_falcon() && !first_16th => DType::Q5_K,
            Q4_K_M | Q5_K_M if more => DType::Q6_K,
            IQ4_NL | IQ4_XS if first_8th && !self.importance => DType::Q5_K,
            // With importances, these two types can go wrong in the first layers.
            Q4_0 if first_8th && self.importance => DType::Q4_1,
            Q5_0 if first_8th && self.importance => DType::Q5_1,
            _ => self.mix.dtype(),
        }
    }

    fn is_falcon(&self) -> bool {
        self.facts.architecture == "falcon"
    }
}

/// Whether layer `i` of `n` is among the first or last eighth, or every third between.
fn more_bits(i: u64, n: u64) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

fn is_sensitive(name: &str) -> bool {
    ["attn_q_a", "attn_q_b", "nextn.eh_proj"].iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_bits_at_both_ends_and_every_third_between() {
        let chosen = |n| (0..n).filter(|&i| more_bits(i, n)).collect::<Vec<_>>();
        assert_eq!(chosen(32), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
        assert_eq!(chosen(16), [0, 1, 4, 7, 10, 13, 14, 15]);
        assert_eq!(chosen(4), [2, 3]);
    }
}
