//! `lorakit verify`.

use std::path::PathBuf;

use clap::Args;
use lorakit::ops::merge::MoeLayout;

use super::strength::Strength;
use super::values::{choice, weighted};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lorakit verify merged/ --base base/ --adapter adapter/
  lorakit verify merged/ --base base/ --adapter style/=0.7 --adapter facts/
  lorakit verify merged-q8_0.gguf --base base/ --adapter adapter/")]
pub(crate) struct Verify {
    /// The model to check: a folder or file, made by any program
    pub(crate) merged: PathBuf,
    /// The base that it should come from: a folder or file
    #[arg(long, value_name = "BASE")]
    pub(crate) base: PathBuf,
    /// The adapter that should be in it, with an optional weight (ADAPTER=0.7; 1 if none); may be repeated
    #[arg(long = "adapter", required = true, value_name = "ADAPTER[=W]", value_parser = weighted())]
    pub(crate) adapters: Vec<(PathBuf, f64)>,
    #[command(flatten)]
    pub(crate) strength: Strength,
    /// The base is the residual model that PiSSA, OLoRA, CorDA or LoftQ training saved
    #[arg(long)]
    pub(crate) residual_base: bool,
    /// Layout of expert factors in lora_B
    #[arg(long, value_name = "LAYOUT", default_value = "auto", value_parser = choice::<MoeLayout>())]
    pub(crate) moe_b_layout: MoeLayout,
}
