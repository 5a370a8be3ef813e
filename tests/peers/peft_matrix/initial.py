"""`test_initialization.py`: scales, patterns, and initialisations that change the base or need data."""

import torch
from peft import EvaConfig, LoraConfig, initialize_lora_eva_weights
from peft.tuners.lora.config import CordaConfig

from . import layers
from .case import Case, Plain, lora, narrow


def tokens():
    return torch.randint(0, 30, (5, 3))


def reals():
    return torch.randn(9, 64)


THREE = Plain(layers.mixed_layers, tokens)
WIDE = Plain(lambda: layers.Chain(linear=torch.nn.Linear(64, 48), out=torch.nn.Linear(48, 3)), reals)
LINEAR = {"target_modules": ["linear"], "r": 8}
ALL = {"target_modules": ["linear", "embed", "conv2d"]}
PATTERNS = ALL | {
    "rank_pattern": {"embed": 9, "conv2d": 16},
    "alpha_pattern": {"linear": 11, "conv2d": 13},
    "lora_alpha": 17,
    "r": 25,
}


def converted(model, folder):
    """What PEFT offers for initialisations that change the base: a LoRA of twice the rank for the published one."""
    model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(folder / "init"))


class Corda:
    """Needs the base and data before there is an adapter: a configuration, and what prepares the base."""

    def __init__(self, **options):
        self.options = {"init_lora_weights": "corda", **LINEAR, **options}

    def config(self):
        return LoraConfig(corda_config=CordaConfig(corda_method="kpm"), **self.options)

    def prepare(self, model):
        # Needs the package attrs, which nothing else here does.
        from peft.tuners.lora.corda import preprocess_corda

        data = torch.randn(64, 64, generator=torch.Generator().manual_seed(2)).to(next(model.parameters()).dtype)
        preprocess_corda(model, self.config(), run_model=lambda: model(data))
        return model


def eva(model):
    data = [torch.randn(16, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    initialize_lora_eva_weights(
        model,
        dataloader=data,
        forward_fn=lambda model, batch: model(batch),
        prepare_model_inputs_fn=None,
        prepare_layer_inputs_fn=lambda inputs, *_: inputs[0] if isinstance(inputs, tuple) else inputs,
        show_progress_bar=False,
    )


def scales():
    for name, options in {
        "default": ALL | {"lora_alpha": 3, "r": 16},
        "rslora": ALL | {"lora_alpha": 3, "r": 16, "use_rslora": True},
        "patterns": PATTERNS,
        "patterns-rslora": PATTERNS | {"use_rslora": True},
        "bias-all": ALL | {"bias": "all"},
        "bias-lora": ALL | {"bias": "lora_only"},
        "gaussian": ALL | {"init_lora_weights": "gaussian"},
        "dora": ALL | {"use_dora": True},
        "parameter": {"target_modules": [], "target_parameters": ["linear.weight"]},
        "parameter-embed": {"target_modules": [], "target_parameters": ["embed.weight"]},
        "fraction-alpha": ALL | {"lora_alpha": 2.5},
        "zero-alpha": ALL | {"lora_alpha": 0},
    }.items():
        yield Case(f"initial/three/{name}", THREE, [lora(**options)])


def olora():
    """OLoRA beside whatever PEFT can do with it: DoRA, a plain LoRA before or after it, wrapped parameters. What PEFT
    leaves of a 16-bit base is rounded, which no truth in more bits knows: `fixtures/generate/peft_olora.py` has those."""
    start = {"init_lora_weights": "olora", "lora_alpha": 12}
    plain = lora(**LINEAR, lora_alpha=4)
    for name, adapters in {
        "usual": [lora(**LINEAR, **start)],
        "full": [lora(**LINEAR | {"r": 48}, **start)],
        "dora": [lora(**LINEAR, **start, use_dora=True)],
        "before": [lora(**LINEAR, **start), plain],
        "after": [plain, lora(**LINEAR, **start)],
        "parameter": [lora(r=8, target_modules=[], target_parameters=["linear.weight"], **start)],
    }.items():
        yield Case(f"initial/wide/olora-{name}", WIDE, adapters, exact=torch.float32)


def initialisations():
    more = {"": {}, "-rank": {"rank_pattern": {"linear": 32}}, "-alpha": {"alpha_pattern": {"linear": 5}}}
    more["-rslora"] = {"use_rslora": True}
    for name in ("pissa", "pissa_niter_16", "olora"):
        # These decompose the base when an adapter is added, and know neither f64 nor, on a CPU, f16.
        for suffix, options in more.items():
            adapter = lora(**LINEAR, init_lora_weights=name, **options)
            yield Case(f"initial/wide/{name}{suffix}", WIDE, [adapter], exact=torch.float32)
            yield Case(f"initial/wide/{name}{suffix}-converted", WIDE, [adapter], finish=converted)
    yield from olora()
    for name in ("orthogonal", "mica", "lora_ga"):
        yield Case(f"initial/wide/{name}", WIDE, [lora(**LINEAR, init_lora_weights=name)], exact=torch.float32)
    for suffix, options in more.items():
        corda = Corda(**options)
        yield Case(f"initial/wide/corda{suffix}", WIDE, [corda.config], wrap=corda.prepare, exact=torch.float32)
        name = f"initial/wide/corda{suffix}-converted"
        yield Case(name, WIDE, [corda.config], wrap=corda.prepare, finish=converted)
    adapter = lora(**LINEAR, init_lora_weights="eva", eva_config=EvaConfig())
    yield Case("initial/wide/eva", WIDE, [adapter], start=eva, exact=torch.float32)


def cases():
    found = [*scales()]
    return found + narrow(found, "bfloat16") + [*initialisations()]
