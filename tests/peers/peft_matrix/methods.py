"""Other methods of PEFT: those whose deltas are exact are merged, the others are refused by name."""

import peft

from .case import Case
from .custom import BASES
from .models import CLASSIFIERS, DECODERS


def on(name: str, base: str, **options) -> Case:
    """An adapter of a method by the stem of its configuration's name."""
    kind = getattr(peft, f"{name}Config")
    bases = BASES | DECODERS | CLASSIFIERS
    text = lambda value: "+".join(value) if isinstance(value, list) else value
    hidden = ("target_modules", "total_step", "task_type")
    suffix = "-".join(f"{key}={text(value)}" for key, value in options.items() if key not in hidden)
    targets = options.get("target_modules", "default")
    where = targets if isinstance(targets, str) else "-".join(targets)
    return Case(f"methods/{base}/{name}-{where}-{suffix}".rstrip("-"), bases[base], [lambda: kind(**options)])


def exact():
    for targets in (["lin0"], ["lin0", "lin1"]):
        yield on("AdaLora", "mlp", target_modules=targets, total_step=1)
        yield on("LoHa", "mlp", target_modules=targets)
        yield on("LoKr", "mlp", target_modules=targets)
        yield on("IA3", "mlp", target_modules=targets, feedforward_modules=[])
        yield on("IA3", "mlp", target_modules=targets, feedforward_modules=targets)
        yield on("OFT", "mlp", target_modules=targets, oft_block_size=2)
    yield on("AdaLora", "mlp", target_modules=["lin0"], total_step=1, modules_to_save=["lin1"])
    yield on("LoHa", "mlp", target_modules=["lin0"], alpha=4, modules_to_save=["lin1"])
    yield on("LoKr", "mlp", target_modules=["lin0"], decompose_both=True, r=2)
    yield on("LoKr", "mlp", target_modules=["lin0"], decompose_factor=4, alpha=3)
    for base in ("conv2d", "conv2d-1x1", "conv1d-wide"):
        layer = base.split("-")[0]
        for effective in (False, True):
            yield on("LoHa", base, target_modules=[layer], use_effective_conv2d=effective, r=2)
            yield on("LoKr", base, target_modules=[layer], use_effective_conv2d=effective, r=2)
    yield on("IA3", "conv2d", target_modules=["conv2d"], feedforward_modules=[])
    yield on("IA3", "conv2d", target_modules=["conv2d"], feedforward_modules=["conv2d"])
    yield on("IA3", "emb-conv1d", target_modules=["conv1d"], feedforward_modules=["conv1d"])
    yield on("OFT", "conv2d", target_modules=["conv2d"], oft_block_size=5)
    yield on("LNTuning", "norms", target_modules=["layernorm0"])
    yield on("LNTuning", "llama")
    for base in ("llama", "gpt2"):
        yield on("AdaLora", base, total_step=1, task_type="CAUSAL_LM")
        yield on("IA3", base, task_type="CAUSAL_LM")
        yield on("LoHa", base, target_modules=["q_proj", "c_attn"], task_type="CAUSAL_LM")
        yield on("LoKr", base, target_modules=["q_proj", "c_attn"], task_type="CAUSAL_LM")
        yield on("OFT", base, target_modules=["q_proj", "c_attn"], oft_block_size=4, task_type="CAUSAL_LM")
    yield on("AdaLora", "bert-cls", total_step=1, task_type="SEQ_CLS")


def refused():
    yield on("BOFT", "mlp", target_modules=["lin0"], boft_block_size=2)
    yield on("HRA", "mlp", target_modules=["lin0"], r=2)
    yield on("Vera", "mlp", target_modules=["lin0"])
    yield on("VBLoRA", "mlp", target_modules=["lin0"], vector_length=2, num_vectors=8)
    yield on("FourierFT", "mlp", target_modules=["lin0"], n_frequency=10)
    yield on("RandLora", "mlp", target_modules=["lin0"])
    yield on("Shira", "mlp", target_modules=["lin0"], r=1)
    yield on("Miss", "mlp", target_modules=["lin0"], r=2)
    yield on("C3A", "mlp", target_modules=["lin0"], block_size=2)
    yield on("Road", "mlp", target_modules=["lin0"], group_size=2)
    yield on("WaveFT", "mlp", target_modules=["lin0"], n_frequency=8)
    yield on("Delora", "mlp", target_modules=["lin0"])
    yield on("Gralora", "mlp", target_modules=["lin0"])
    yield on("Beft", "mlp", target_modules=["lin0"])
    yield on("Lily", "mlp", target_modules=["lin0"])


def cases():
    return [*exact(), *refused()]
