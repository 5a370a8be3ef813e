"""`test_encoder_decoder_models.py`: T5 and BART."""

from peft import TaskType

from .case import grid, lora, narrow
from .models import SEQ2SEQ

NAMES = {"bart": ("q_proj", "fc1"), "t5": ("q", "wo"), "t5-untied": ("q", "wo")}


def configs(attention: str, forward: str) -> dict:
    usual = {"task_type": TaskType.SEQ_2_SEQ_LM, "r": 8, "lora_alpha": 32, "lora_dropout": 0.05}
    return {
        "usual": lora(**usual),
        "dora": lora(**usual, use_dora=True),
        "all-linear": lora(**usual, target_modules="all-linear"),
        "tokens": lora(**usual, trainable_token_indices=[0, 1, 3]),
        "shared": lora(**usual, target_modules=["shared", attention]),
        "head": lora(**usual, target_modules=["lm_head", attention]),
        "save-head": lora(**usual, target_modules=[attention], modules_to_save=["lm_head"]),
        "save-shared": lora(**usual, target_modules=[attention], modules_to_save=["shared"]),
        "embed-tokens": lora(**usual, target_modules=["embed_tokens", attention]),
        "decoder-only": lora(**usual, target_modules=rf".*decoder.*\.{attention}"),
        "forward": lora(**usual, target_modules=[attention, forward]),
        "bias-all": lora(**usual, target_modules=[attention], bias="all"),
        "twice": [lora(**usual), lora(**usual | {"r": 2})],
    }


def cases():
    found = [case for name, base in SEQ2SEQ.items() for case in grid("seq2seq", {name: base}, configs(*NAMES[name]))]
    return found + narrow([case for case in found if case.name.endswith(("usual", "tokens", "dora"))], "bfloat16")
