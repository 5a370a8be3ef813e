use crate::adapter::Finding;
use crate::arch::Architecture;
use crate::{Model, Result};
use lorakit_tensor::format::gguf::Metadata;
pub(super) fn of(_: &Model, _: &Architecture, _: Option<&str>, _: &mut Vec<Finding>) -> Result<Metadata> {
    Ok(Metadata::default())
}
