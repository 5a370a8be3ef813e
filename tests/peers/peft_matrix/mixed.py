"""`test_mixed.py` and the tests of several active adapters: what one adapter leaves is the base of the next."""

import torch
from peft import AdaLoraConfig, LoHaConfig, LoKrConfig, OFTConfig

from . import layers
from .case import Case, Plain, lora, narrow
from .custom import BASES

SIMPLE = Plain(lambda: layers.mlp(outputs=16), lambda: torch.randn(9, 10))


def kinds(**options):
    """A configuration of each method that PEFT mixes."""
    return {
        "lora": lora(**options),
        "loha": lambda: LoHaConfig(**options),
        "lokr": lambda: LoKrConfig(**options),
        "adalora": lambda: AdaLoraConfig(total_step=1, **options),
        "oft": lambda: OFTConfig(oft_block_size=2, **options),
    }


def several():
    """Two LoRA on one model, in every relation of their targets."""
    one, other = {"target_modules": ["lin0"]}, {"target_modules": ["lin1"]}
    both = {"target_modules": ["lin0", "lin1"]}
    tokens = lambda *rows: {"trainable_token_indices": {"emb": list(rows)}}
    pairs = {
        "same": ("mlp", [one, one]),
        "different": ("mlp", [one, other]),
        "partly": ("mlp", [one, both]),
        "three": ("mlp", [one, both, other]),
        "ranks": ("mlp", [both, both | {"rank_pattern": {"lin0": 4}, "alpha_pattern": {"lin0": 4}}]),
        "scales": ("mlp", [one | {"lora_alpha": 16}, one | {"lora_alpha": 32}]),
        "rslora": ("mlp", [one, one | {"use_rslora": True, "r": 16}]),
        "save-once": ("mlp", [one | {"modules_to_save": ["lin1"]}, one]),
        "save-last": ("mlp", [one, one | {"modules_to_save": ["lin1"]}]),
        "save-both": ("mlp", [one | {"modules_to_save": ["lin1"]}, one | {"modules_to_save": ["lin1"]}]),
        "save-then-lora": ("mlp", [one | {"modules_to_save": ["lin1"]}, other]),
        "bias-both": ("mlp", [one | {"lora_bias": True}, both | {"lora_bias": True}]),
        "bias-all": ("mlp", [one | {"bias": "all"}, one]),
        "dora-dora": ("mlp", [one | {"use_dora": True}, one | {"use_dora": True}]),
        "dora-lora": ("mlp", [one | {"use_dora": True}, one]),
        "lora-dora": ("mlp", [one, one | {"use_dora": True}]),
        "dora-apart": ("mlp", [one | {"use_dora": True}, other | {"use_dora": True}]),
        "tokens-same": ("emb-conv1d", [one | tokens(0, 1, 2), one | tokens(3, 4, 5, 6)]),
        "tokens-different": ("emb-conv1d", [one | tokens(0, 1, 2), {"target_modules": ["conv1d"]} | tokens(3, 4)]),
        "tokens-overlap": ("emb-conv1d", [one | tokens(0, 1, 2), one | tokens(2, 3)]),
        "parameter-same": ("parameters", [{"target_parameters": ["lin0.weight"]}] * 2),
        "parameter-different": (
            "parameters",
            [{"target_parameters": ["lin0.weight"]}, {"target_parameters": ["lin1.weight"]}],
        ),
        "emb-conv1d": ("emb-conv1d", [{"target_modules": ["emb", "conv1d"]}, {"target_modules": ["emb", "conv1d"], "r": 16}]),
        "conv2d": ("conv2d", [{"target_modules": ["conv2d"]}, {"target_modules": ["conv2d"], "r": 16}]),
        "mha": ("mha", [{"target_modules": ["mha"]}, {"target_modules": ["mha"], "r": 16}]),
    }
    for name, (base, adapters) in pairs.items():
        case = Case(f"mixed/{base}/{name}", BASES[base], [lora(**options) for options in adapters])
        if name in ("lora-dora", "dora-dora", "dora-lora"):
            case.unlike_live = "PEFT merges into what the first adapter left; live, each one sees the base's weight"
        yield case


def methods():
    """Two adapters of different methods on the same layer, and on different ones."""
    first = kinds(target_modules=["lin0"])
    last = kinds(target_modules=["lin1"])
    for one in first:
        for other in first:
            if one != other:
                yield Case(f"mixed/simple/{one}-{other}", SIMPLE, [first[one], first[other]], mixed=True)
                yield Case(f"mixed/simple/{one}-{other}-apart", SIMPLE, [first[one], last[other]], mixed=True)


def cases():
    found = [*several()]
    return found + narrow(found, "bfloat16") + [*methods()]
