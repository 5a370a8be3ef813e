"""`test_feature_extraction_models.py` and `test_seq_classifier.py`: encoders, bare and with a classifier."""

from peft import TaskType

from .case import grid, lora, narrow
from .models import CLASSIFIERS, ENCODERS, MASKED


def configs(task: TaskType, embedding: str = "word_embeddings") -> dict:
    """The tests' adapters, and what else is usual."""
    usual = {"task_type": task, "r": 8, "lora_alpha": 32, "lora_dropout": 0.05}
    return {
        "usual": lora(**usual),
        "dora": lora(**usual, use_dora=True),
        "all-linear": lora(**usual, target_modules="all-linear"),
        "tokens": lora(**usual, trainable_token_indices=[0, 1, 3]),
        "embed": lora(**usual, target_modules=[embedding]),
        "bias-all": lora(**usual, bias="all"),
        "lora-bias": lora(**usual, lora_bias=True),
        "save-norm": lora(**usual, modules_to_save=["LayerNorm", "input_layernorm"]),
        "twice": [lora(**usual), lora(**usual | {"r": 2})],
    }


def cases():
    found = grid("encoders", ENCODERS, configs(TaskType.FEATURE_EXTRACTION))
    for name, base in CLASSIFIERS.items():
        embedding = "embed_tokens" if "llama" in name else "word_embeddings"
        found += grid("encoders", {name: base}, configs(TaskType.SEQ_CLS, embedding))
    masked = configs(None)
    masked["head"] = lora(target_modules=["query", "decoder"])
    masked["save-head"] = lora(target_modules=["query"], modules_to_save=["decoder"])
    masked["save-cls"] = lora(target_modules=["query"], modules_to_save=["cls"])
    found += grid("encoders", MASKED, masked)
    for case in found:
        if case.name.startswith("encoders/bert-mlm/"):
            # The head adds `decoder.bias`. transformers before 5 makes one of both again, so lorakit writes one value.
            case.idle = ("cls.predictions.bias",)
        if case.name == "encoders/bert-mlm/tokens":
            case.unlike_live = "PEFT's layer for rows of a tied head leaves out the bias of the head"
    usual = [case for case in found if case.name.rsplit("/")[-1] in ("usual", "tokens", "bias-all")]
    return found + narrow(usual, "bfloat16")
