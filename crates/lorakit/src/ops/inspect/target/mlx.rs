//! mlx-lm.

use super::case::Case;
use super::program::Program;

/// mlx-lm.
pub(super) const MLX: Program = Program {
    id: "mlx",
    aliases: &["mlx-lm"],
    title: "mlx-lm",
    about: "its own folders",
    format: "mlx",
    ask,
};

fn ask(case: &mut Case<'_>) {
    case.needs("mlx", "mlx-lm reads folders of its own format");
}
