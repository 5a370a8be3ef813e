use lorakit_tensor::format::gguf::Metadata;
use crate::adapter::Finding;
use crate::{Model,Result};
use crate::plan::OutputTensor;
pub(crate) fn model(_m: &Model, t: Vec<OutputTensor>, _pre: Option<&str>, _n: &mut Vec<Finding>) -> Result<(Metadata, Vec<OutputTensor>)> { Ok((Metadata::default(), t)) }
