"""`test_decoder_models.py`: causal models, with the adapters that people train for them."""

import torch
from peft import TaskType

from .case import Case, grid, lora, narrow
from .models import DECODERS

TASK = {"task_type": TaskType.CAUSAL_LM}
#: As in PEFT's tests: rank 8, alpha 32, the default targets of the architecture.
USUAL = TASK | {"r": 8, "lora_alpha": 32, "lora_dropout": 0.05}
#: `(embedding, head, a linear layer of the attention, one of the feed-forward)` of each model.
NAMES = {
    "opt": ("embed_tokens", "lm_head", "q_proj", "fc1"),
    "opt-projected": ("embed_tokens", "lm_head", "q_proj", "fc1"),
    "gpt2": ("wte", "lm_head", "c_attn", "c_fc"),
    "gptj": ("wte", "lm_head", "q_proj", "fc_in"),
    "gpt-neox": ("embed_in", "embed_out", "query_key_value", "dense_h_to_4h"),
    "bloom": ("word_embeddings", "lm_head", "query_key_value", "dense_h_to_4h"),
    "falcon": ("word_embeddings", "lm_head", "query_key_value", "dense_h_to_4h"),
    "phi": ("embed_tokens", "lm_head", "q_proj", "fc1"),
}
LLAMA = ("embed_tokens", "lm_head", "q_proj", "up_proj")


def grown(model):
    """A vocabulary of a few more tokens, as training with new special tokens does it."""
    torch.manual_seed(3)
    model.resize_token_embeddings(52, mean_resizing=False)
    return model


def configs(embedding: str, head: str, attention: str, forward: str) -> dict:
    """Every kind of adapter for one model."""
    two = TASK | {"target_modules": [attention, forward]}
    return {
        "usual": lora(**USUAL),
        "rslora": lora(**USUAL, use_rslora=True),
        "all-linear": lora(**USUAL, target_modules="all-linear"),
        "dora": lora(**USUAL, use_dora=True),
        "dora-all": lora(**TASK, target_modules="all-linear", use_dora=True),
        "attention-forward": lora(**two),
        "tokens": lora(**USUAL, trainable_token_indices=[0, 1, 3]),
        "embed": lora(**TASK, target_modules=[embedding, attention]),
        "embed-only": lora(**TASK, target_modules=rf".*\.{embedding}"),
        "embed-tied": lora(**TASK, target_modules=[embedding, attention], ensure_weight_tying=True),
        "embed-dora": lora(**TASK, target_modules=[embedding], use_dora=True),
        "head": lora(**TASK, target_modules=[head, attention]),
        "embed-head": lora(**TASK, target_modules=[embedding, head, attention]),
        "save-head": lora(**two, modules_to_save=[head]),
        "save-embed": lora(**two, modules_to_save=[embedding]),
        "save-both": lora(**two, modules_to_save=[embedding, head]),
        "save-both-tied": lora(**two, modules_to_save=[embedding], ensure_weight_tying=True),
        "bias-all": lora(**two, bias="all"),
        "bias-lora": lora(**two, bias="lora_only"),
        "bias-all-save": lora(**two, bias="all", modules_to_save=[head]),
        "lora-bias": lora(**two, lora_bias=True),
        "layers": lora(**two, layers_to_transform=[1]),
        "exclude": lora(**TASK, target_modules="all-linear", exclude_modules=[forward]),
        "patterns": lora(**two, rank_pattern={attention: 3}, alpha_pattern={forward: 5}),
        "patterns-rslora": lora(**two, rank_pattern={f"0.*{attention}": 3}, alpha_pattern={attention: 5}, use_rslora=True),
        "parameter": lora(**TASK, target_modules=[], target_parameters=[f"{forward}.weight"]),
        "invocation": lora(**USUAL, alora_invocation_tokens=[1]),
        "replicated": lora(**two, layer_replication=[[0, 1], [0, 2], [1, 2]]),
        "twice": [lora(**two), lora(**two, r=4, lora_alpha=16)],
        "overlap": [lora(**two), lora(**TASK, target_modules=[attention], use_rslora=True)],
    }


def cases():
    found = []
    for name in DECODERS:
        adapters = configs(*NAMES.get(name, LLAMA))
        found += grid("decoders", {name: DECODERS[name]}, adapters)
        if name in ("llama", "llama-tied", "qwen2", "gpt2", "opt", "gemma3"):
            small = {key: adapters[key] for key in ("usual", "all-linear", "dora", "embed", "tokens", "save-both", "twice")}
            found += narrow(grid("decoders", {name: DECODERS[name]}, small), "bfloat16", "float16")
        if name in ("llama", "llama-tied", "qwen2", "gpt2"):
            embedding, head, attention, _ = NAMES.get(name, LLAMA)
            for kind, more in {
                "save": {"target_modules": [attention], "modules_to_save": [embedding, head]},
                "embed": {"target_modules": [attention, embedding]},
                "auto": {"target_modules": [attention]},
                "tokens": {"target_modules": [attention], "trainable_token_indices": [1, 49, 50]},
            }.items():
                adapter = lora(**TASK, **more)
                found.append(Case(f"decoders/{name}/grown-{kind}", DECODERS[name], [adapter], prepare=grown))
                if kind == "embed" and "llama" in name:
                    found += narrow(found[-1:], "bfloat16")
        for saved in (True, False):
            if name in ("llama", "gpt2", "llama-tied"):
                embedding, _, attention, _ = NAMES.get(name, LLAMA)
                adapter = lora(**TASK, target_modules=[attention, embedding])
                case = Case(f"decoders/{name}/saved-{saved}", DECODERS[name], [adapter])
                case.save = {"save_embedding_layers": saved}
                found.append(case)
    return found
