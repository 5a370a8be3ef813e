"""`test_trainable_tokens.py`: single rows of embeddings, alone and beside LoRA, tied and not."""

import torch
from peft import LoraConfig, TrainableTokensConfig
from torch import nn

from .case import Case, Plain, lora, narrow
from .models import DECODERS, ENCODERS, SEQ2SEQ

ROWS = [0, 1, 3]


class Pair(nn.Module):
    """Two embeddings, which is more than `get_input_embeddings` can name."""

    def __init__(self):
        super().__init__()
        self.embed_in = nn.Embedding(40, 10)
        self.embed_in_2 = nn.Embedding(40, 10)
        self.lin0 = nn.Linear(10, 4)

    def forward(self, ids):
        return self.lin0(self.embed_in(ids) + self.embed_in_2(ids))

    def get_input_embeddings(self):
        return self.embed_in


PAIR = Plain(Pair, lambda: torch.arange(12).reshape(3, 4))
EMBEDDINGS = {
    "llama": "embed_tokens",
    "llama-tied": "embed_tokens",
    "opt": "embed_tokens",
    "gpt2": "wte",
    "gemma3": "embed_tokens",
    "bert": "word_embeddings",
    "t5": "shared",
    "bart": "shared",
}


def alone(rows=ROWS, **options):
    return lambda: TrainableTokensConfig(token_indices=list(rows), **options)


def beside(name):
    """Rows with LoRA, by the embedding's name and by what the model says."""
    every = {"target_modules": "all-linear"}
    return {
        "list": lora(**every, trainable_token_indices=ROWS),
        "named": lora(**every, trainable_token_indices={name: ROWS}),
        "ensured": lora(**every, trainable_token_indices=ROWS, ensure_weight_tying=True),
        "unsorted": lora(**every, trainable_token_indices=[7, 2, 30]),
        "last": lora(**every, trainable_token_indices=[47]),
    }


def cases():
    bases = DECODERS | ENCODERS | SEQ2SEQ
    found = []
    for model, name in EMBEDDINGS.items():
        adapters = {key: [config] for key, config in beside(name).items()}
        adapters["alone"] = [alone()]
        adapters["alone-named"] = [alone(target_modules=[name])]
        adapters["twice"] = [lora(target_modules="all-linear", trainable_token_indices=rows) for rows in ([0, 1, 2], [3, 4])]
        adapters["overlap"] = [lora(target_modules="all-linear", trainable_token_indices=rows) for rows in ([0, 1], [1, 2])]
        if model in ("llama", "llama-tied", "opt"):
            both = {name: [0, 1], "lm_head": [0, 1]}
            adapters["head"] = [lora(target_modules=["q_proj"], trainable_token_indices={"lm_head": ROWS})]
            adapters["both"] = [lora(target_modules=["q_proj"], trainable_token_indices=both)]
            adapters["both-apart"] = [lora(target_modules=["q_proj"], trainable_token_indices=both | {"lm_head": [2, 3]})]
            adapters["head-lora"] = [lora(target_modules=["lm_head"], trainable_token_indices=ROWS)]
        found += [Case(f"tokens/{model}/{key}", bases[model], configs) for key, configs in adapters.items()]
    for key, config in {
        "alone": alone(target_modules=["embed_in", "embed_in_2"]),
        "alone-default": alone(),
        "second": lora(target_modules=["lin0"], trainable_token_indices={"embed_in_2": ROWS}),
        "both": lora(target_modules=["lin0"], trainable_token_indices={"embed_in": [1], "embed_in_2": ROWS}),
        "list": lora(target_modules=["lin0"], trainable_token_indices=ROWS),
    }.items():
        found.append(Case(f"tokens/pair/{key}", PAIR, [config]))
    return found + narrow([case for case in found if case.name.endswith("/list")], "bfloat16")
