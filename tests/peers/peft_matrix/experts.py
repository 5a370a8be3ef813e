"""`test_target_parameters.py`: stacks of experts, and patterns for their parameters."""

from peft import TaskType

from .case import grid, lora, narrow
from .models import DECODERS, EXPERTS

TASK = {"task_type": TaskType.CAUSAL_LM}
#: The module that holds the experts of each model, and its parameters.
WHERE = {
    "llama4": ("feed_forward.experts", "gate_up_proj", "down_proj"),
    "gpt-oss": ("mlp.experts", "gate_up_proj", "down_proj"),
    "mixtral": ("mlp.experts", "gate_up_proj", "down_proj"),
    "qwen3-moe": ("mlp.experts", "gate_up_proj", "down_proj"),
    "granite-moe": ("block_sparse_moe.experts", "gate_up_proj", "down_proj"),
}


def configs(path: str, up: str, down: str) -> dict:
    """The tests' adapters, and patterns that name a parameter or its module."""
    ups, downs = f"{path}.{up}", f"{path}.{down}"
    both = TASK | {"target_modules": [], "target_parameters": [downs, ups]}
    return {
        "down": lora(**TASK, target_modules=[], target_parameters=[downs]),
        "up": lora(**TASK, target_modules=[], target_parameters=[ups]),
        "one-each": lora(**TASK, target_modules=[], target_parameters=[f"0.{ups}", f"1.{downs}"]),
        "both": lora(**both, r=8, lora_alpha=32),
        "both-up-first": lora(**TASK, target_modules=[], target_parameters=[ups, downs]),
        "both-rslora": lora(**both, r=3, lora_alpha=5, use_rslora=True),
        "with-attention": lora(**TASK, target_modules=["q_proj", "v_proj"], target_parameters=[downs]),
        "attention": lora(**TASK, target_modules=["q_proj", "v_proj"]),
        "rank-pattern": lora(
            **TASK | {"lora_alpha": 32, "r": 8}, target_modules=["q_proj"], target_parameters=[ups], rank_pattern={ups: 2}
        ),
        "alpha-pattern": lora(**both, alpha_pattern={ups: 32}),
        "alpha-pattern-text": lora(**both, alpha_pattern={rf".*\.{up}": 32}),
        "patterns": lora(**both, rank_pattern={ups: 4}, alpha_pattern={downs: 3, ups: 16}),
        "pattern-module": lora(**both, rank_pattern={path: 4}, alpha_pattern={path: 3}),
        "router": lora(**TASK, target_modules=["q_proj"], target_parameters=[downs], bias="none"),
        "all-linear": lora(**TASK, target_modules="all-linear"),
        "names": lora(**TASK, target_modules=["gate_proj", "up_proj", "down_proj"]),
        "names-mixtral": lora(**TASK, target_modules=["w1", "w2", "w3", "q_proj"]),
        "twice": [lora(**both), lora(**both, lora_alpha=3)],
    }


def cases():
    found = [case for name, base in EXPERTS.items() for case in grid("experts", {name: base}, configs(*WHERE[name]))]
    dense = lora(**TASK, target_modules=[], target_parameters=["gate_proj.weight"])
    found += grid("experts", {"llama": DECODERS["llama"]}, {"gate-parameter": dense})
    few = [case for case in found if case.name.endswith(("/both", "/alpha-pattern-text", "/with-attention"))]
    return found + narrow(few, "bfloat16")
