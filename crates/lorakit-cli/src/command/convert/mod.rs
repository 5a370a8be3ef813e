//! `lorakit convert`.

mod adapter;
mod model;

use lorakit::ops::convert::adapter::is_adapter;

use crate::args::{self, Common};
use crate::error::Failure;
use crate::ui::Ui;

const SCHEMA: &str = "lorakit.convert/1";

// What to type instead.
const FORMATS: &str = "models become `hf` or `gguf`; adapters peft, gguf, mlx, kohya, diffusers or torchtune";
const KEEP_DTYPE: &str = "leave `--dtype` out: every tensor keeps its own";

pub(crate) fn run(args: &args::Convert, common: &Common, ui: &Ui) -> Result<(), Failure> {
    if is_adapter(&args.source, common.read_mode())? {
        adapter::run(args, common, ui)
    } else {
        model::run(args, common, ui)
    }
}
