"""Reasons for which lorakit may refuse what PEFT merges. Each was judged true; any other refusal fails the run."""

import re

#: Methods whose weights are not a base plus a delta that their files state exactly, or that are not read yet: they are
#: refused by their names.
METHODS = "BOFT|HRA|VERA|VBLORA|FOURIERFT|RANDLORA|SHIRA|MISS|C3A|ROAD|WAVEFT|DELORA|GRALORA|BEFT|LILY"
#: A pattern of the message, and why the reason holds.
REASONS = [
    (
        r"two DoRA adapters, whose order would matter",
        "Each normalises what it finds. PEFT's merge depends on the order, and its live model computes something else.",
    ),
    (
        r"DoRA adapter after a plain LoRA",
        "Measured: PEFT's merge normalises with the LoRA in the weight, its live model without it.",
    ),
    (
        r"multiplied by one adapter \(IA3, OFT\) and changed by another",
        "A product and a sum do not commute, and PEFT's mixed model applies them as its layers happen to be nested.",
    ),
    (
        r"changed alone, and no layer computes with it",
        "T5 and BART compute with the tied copies of `shared`: live the adapter does nothing, merged it changes them all.",
    ),
    (
        r"initialised with `pissa`: .* by a full SVD of each",
        "PEFT repeats an SVD of every weight in f32. Its leading vectors are only as exact as singular values are apart.",
    ),
    (
        r"initialised with `pissa_niter_\d+`: .* by a random search",
        "Measured: of a random matrix of 48 x 64, two loads by PEFT differ by a quarter of what they take out.",
    ),
    (
        r"initialised with `lora_ga`",
        "Training began on a base that gradients had changed. No file holds them, and PEFT adds to the published base.",
    ),
    (
        r"rotates patches of a convolution",
        "The image of the case is one patch. Of a larger one, PEFT's live model adds up rotated patches that overlap.",
    ),
    (
        r"takes the smallest singular components out of every weight",
        "PEFT takes them out by an SVD of the base when it loads the adapter. No file holds what is left.",
    ),
    (
        r"the vocabulary grew before training",
        "PEFT saves only the end that has an adapter: the other one's new rows are what resizing made up.",
    ),
    (rf"was trained with (?:{METHODS})\b", "The message names the method, and lorakit documents which ones it reads."),
]


def why(message: str) -> str | None:
    """Why this refusal is right, if it is known to be."""
    return next((reason for pattern, reason in REASONS if re.search(pattern, message)), None)
