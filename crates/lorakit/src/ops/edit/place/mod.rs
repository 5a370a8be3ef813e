//! Where each format keeps what can be edited.

mod diffusion;
mod gguf;
mod interface;
mod mlx;
mod paths;
mod peft;

pub(super) use interface::Place;

/// The formats whose files can be edited in place.
const PLACES: &[&dyn Place] = &[
    &peft::Peft { format: "peft" },
    &peft::Peft { format: "tinker" },
    &peft::Peft { format: "torchtune" },
    &mlx::Mlx,
    &gguf::Gguf,
    &diffusion::Diffusion { format: "kohya" },
    &diffusion::Diffusion { format: "diffusers" },
];

/// The places of a format, if its files can be edited.
pub(super) fn of(format: &str) -> Option<&'static dyn Place> {
    PLACES.iter().copied().find(|place| place.format() == format)
}
