//! Variants of LoRA that PEFT saves in LoRA's own names.

use crate::adapter::config::Fields;
use crate::adapter::format::assemble::{Outcome, fault};
use crate::adapter::{Adapter, AdapterConfig};
use crate::tensor::Factor;
use crate::{Finding, Result, Severity, TensorRef};

/// Components that mark what only training uses, and the variant: its trained model is the plain LoRA.
const BUFFERS: &[(&str, &str)] =
    &[("lora_velora_embed", "VeLoRA"), ("lora_monteclora_sampler", "MonteCLoRA")];

/// The variant in which a tensor of that name is used in training and nowhere else.
pub(super) fn of_training(name: &str) -> Option<&'static str> {
    let marked = |mark: &str| name.split('.').any(|component| component == mark);
    BUFFERS.iter().find(|(mark, _)| marked(mark)).map(|(_, variant)| *variant)
}

/// Says that `count` tensors are not read, and takes the variant out of what is written.
pub(super) fn without_training(adapter: &mut Adapter, variant: &str, count: usize) {
    for field in ["velora_config", "monteclora_config"] {
        adapter.config.raw.remove(field);
    }
    let message = format!(
        "was trained with {variant}, whose model is that of a plain LoRA: {count} tensors that only training uses are \
         not read"
    );
    adapter.findings.push(Finding::new(Severity::Note, "method", "", message));
}

/// Which factor of which modules BD-LoRA stores as blocks.
pub(super) struct Blocks {
    count: usize,
    of_a: Vec<String>,
    of_b: Vec<String>,
}

impl Blocks {
    /// `None` if the configuration has no blocks. They are taken out of what is written, since modules are read whole.
    ///
    /// # Errors
    /// `ErrorKind::Config` for fields of the wrong type.
    pub(super) fn take(config: &mut AdapterConfig) -> Result<Option<Self>> {
        let Some(field) = config.raw.get("use_bdlora").filter(|field| field.is_object()).cloned() else {
            return Ok(None);
        };
        config.raw.remove("use_bdlora");
        let fields = Fields(&field);
        let count = fields.count("nblocks", 65536, "a whole number from 1 to 65536")?.unwrap_or(1) as usize;
        let (of_a, of_b) = (fields.list("target_modules_bd_a")?, fields.list("target_modules_bd_b")?);
        Ok(Some(Blocks { count, of_a, of_b }))
    }

    /// The factors of the module at `path`, with zeros around the blocks of the one that is stored as blocks.
    ///
    /// # Errors
    /// For a module that is named for both, and for blocks that do not divide a factor.
    pub(super) fn whole(&self, path: &str, a: TensorRef, b: TensorRef) -> Outcome<(TensorRef, TensorRef)> {
        let leaf = path.rsplit('.').next().unwrap_or(path);
        let named = |list: &[String]| list.iter().any(|name| leaf.contains(name.as_str()));
        match (named(&self.of_a), named(&self.of_b)) {
            (true, true) => {
                Err(fault("shape", "is named for block-diagonal A and B, and PEFT has only one of them"))
            }
            (true, false) => Ok((self.diagonal(&a)?, b)),
            (false, true) => Ok((a, self.diagonal(&b)?)),
            (false, false) => Ok((a, b)),
        }
    }

    fn diagonal(&self, blocks: &TensorRef) -> Outcome<TensorRef> {
        let (rows, cols) = blocks.info().rows_cols();
        if blocks.info().shape.len() != 2 || !rows.is_multiple_of(self.count) {
            let shape = &blocks.info().shape;
            return Err(fault(
                "shape",
                format!("has a factor {shape:?}, which does not divide into {} blocks", self.count),
            ));
        }
        let high = rows / self.count;
        let block = |n: usize| {
            let rows = Factor::matrix(blocks.clone(), rows, cols).take_rows(n * high, high, 1);
            (rows, n * high, n * cols)
        };
        let wide = cols * self.count;
        Ok(TensorRef::assembled((0..self.count).map(block).collect(), wide, vec![rows, wide])?)
    }
}

/// The last PEFT that applies the delta of `out_proj` in `nn.MultiheadAttention` twice, in training and when it merges
/// (huggingface/peft#3774). PEFT before 0.18 does not write its version.
const LAST_TWICE: (u64, u64, u64) = (0, 21, 2);

/// Gives the output projections of attention modules the strength with which they were trained.
pub(super) fn as_trained(adapter: &mut Adapter) {
    let version = adapter.config.peft_version.as_deref();
    if version.and_then(parsed).is_some_and(|version| version > LAST_TWICE) {
        return;
    }
    let mut twice = 0;
    for module in adapter.modules.iter_mut().filter(|module| module.is_attention_output()) {
        module.strength = 2.0;
        twice += 1;
    }
    if twice > 0 {
        let by = version.map_or_else(|| "PEFT before 0.18".to_string(), |version| format!("PEFT {version}"));
        let message = format!(
            "adapts {twice} `out_proj` of nn.MultiheadAttention, whose delta {by} applies twice, in training and when it \
             merges (huggingface/peft#3774): a merge does the same"
        );
        adapter.findings.push(Finding::new(Severity::Warning, "applied-twice", "", message));
    }
}

/// `0.21.2` and `0.21.3.dev0@main` as numbers.
fn parsed(version: &str) -> Option<(u64, u64, u64)> {
    let mut parts = version.split(['.', '@', '+']).map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::parsed;

    #[test]
    fn versions_are_numbers() {
        for (text, expected) in [
            ("0.21.2", Some((0, 21, 2))),
            ("0.21.3.dev0@main", Some((0, 21, 3))),
            ("0.22", Some((0, 22, 0))),
            ("1", None),
            ("main", None),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
    }
}
