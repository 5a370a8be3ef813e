"""`test_custom_models.py`: each kind of layer in a module of its own."""

import torch
from peft import KasaConfig, MontecloraConfig, VeloraConfig
from peft.tuners.lora.config import BdLoraConfig

from . import layers
from .case import Case, Plain, lora, narrow


def reals(*shape):
    return lambda: torch.randn(9, *shape)


def tokens():
    return torch.randint(0, 30, (9, 10))


BASES = {
    "mlp": Plain(layers.mlp, reals(10)),
    "mlp-no-bias": Plain(lambda: layers.mlp(bias=False), reals(10)),
    "norms": Plain(layers.norms, reals(10)),
    "deep": Plain(layers.deep, reals(10)),
    "emb-conv1d": Plain(layers.embedding, tokens),
    "embed-tokens": Plain(lambda: layers.embedding("embed_tokens", kind=layers.WithEmbedding), tokens),
    "conv1d": Plain(layers.conv1d, reals(10)),
    "conv1d-wide": Plain(layers.conv1d_wide, reals(64, 10)),
    "conv1d-kernel1": Plain(layers.conv1d_kernel1, reals(3, 10)),
    "conv1d-groups": Plain(layers.conv1d_groups, reals(8, 10)),
    "conv2d": Plain(layers.conv2d, reals(5, 3, 3)),
    "conv2d-no-bias": Plain(lambda: layers.conv2d(bias=False), reals(5, 3, 3)),
    "conv2d-between": Plain(layers.conv2d_between, reals(10)),
    "conv2d-1x1": Plain(layers.conv2d_1x1, reals(1, 3, 3)),
    "conv2d-groups": Plain(layers.conv2d_groups, reals(16, 3, 3)),
    "conv2d-groups2": Plain(lambda: layers.conv2d_groups(2, 32), reals(16, 3, 3)),
    "conv3d": Plain(layers.conv3d, reals(5, 3, 3, 3)),
    "mha": Plain(layers.Attend, reals(3, 10)),
    "mha-no-bias": Plain(lambda: layers.Attend(bias=False), reals(3, 10)),
    "mha-added": Plain(lambda: layers.Attend(add_bias_kv=True), reals(3, 10)),
    "parameters": Plain(layers.times, reals(10)),
}

ONE, TWO = {"target_modules": ["lin0"]}, {"target_modules": ["lin0", "lin1"]}

#: `(base, name, arguments of LoraConfig)`.
PLAIN = [
    ("mlp", "text", {"target_modules": "lin0"}),
    ("mlp", "list", ONE),
    ("mlp", "last", {"target_modules": ["lin1"]}),
    ("mlp", "both", TWO),
    ("mlp", "expression", {"target_modules": r".*lin[01]$"}),
    ("mlp", "save", ONE | {"modules_to_save": ["lin1"]}),
    ("mlp", "alpha", ONE | {"lora_alpha": 4, "lora_dropout": 0.1}),
    ("mlp", "rslora", TWO | {"use_rslora": True, "lora_alpha": 5}),
    ("mlp", "bias-all", ONE | {"bias": "all"}),
    ("mlp", "bias-lora", ONE | {"bias": "lora_only"}),
    ("mlp", "bias-all-save", ONE | {"bias": "all", "modules_to_save": ["lin1"]}),
    ("mlp", "lora-bias", TWO | {"lora_bias": True, "lora_alpha": 32}),
    ("mlp", "rank-pattern", TWO | {"rank_pattern": {"lin0": 4}, "alpha_pattern": {"lin0": 4}}),
    ("mlp", "rank-anchored", TWO | {"rank_pattern": {"^lin0": 4}, "alpha_pattern": {"^lin1": 3}}),
    ("mlp", "exclude", {"target_modules": r".*lin[01]$", "exclude_modules": ["lin0"]}),
    ("mlp", "rank-1", TWO | {"r": 1}),
    ("mlp", "rank-large", ONE | {"r": 64}),
    ("mlp-no-bias", "both", TWO),
    ("mlp-no-bias", "lora-bias", ONE | {"lora_bias": True}),
    ("norms", "save", ONE | {"modules_to_save": ["layernorm0"]}),
    ("norms", "bias-all", TWO | {"bias": "all"}),
    ("deep", "both", TWO),
    ("deep", "layers", TWO | {"layers_to_transform": [1, 3], "layers_pattern": "layers"}),
    (
        "deep",
        "patterns",
        TWO
        | {
            "r": 4,
            "lora_alpha": 8,
            "rank_pattern": {f"layers.{i}.lin{j}": 64 // (i + 1) for i in range(10) for j in range(2)},
            "alpha_pattern": {f"layers.{i}.lin{j}": 2 * (64 // (i + 1)) for i in range(10) for j in range(2)},
        },
    ),
    ("emb-conv1d", "conv1d", {"target_modules": ["conv1d"]}),
    ("emb-conv1d", "emb", {"target_modules": ["emb"]}),
    ("emb-conv1d", "emb-text", {"target_modules": r"^emb"}),
    ("emb-conv1d", "both", {"target_modules": ["emb", "conv1d"]}),
    ("emb-conv1d", "tokens", {"target_modules": ["conv1d"], "trainable_token_indices": {"emb": [0, 10]}}),
    ("emb-conv1d", "save", {"target_modules": ["emb", "conv1d"], "modules_to_save": ["lin0"]}),
    ("embed-tokens", "embed", {"target_modules": ["embed_tokens", "lin0"]}),
    ("embed-tokens", "lin0", ONE),
    ("conv1d", "conv", {"target_modules": ["conv1d"]}),
    ("conv1d-wide", "conv", {"target_modules": ["conv1d"], "r": 4}),
    ("conv1d-kernel1", "conv", {"target_modules": ["conv1d"]}),
    ("conv1d-groups", "conv", {"target_modules": ["conv1d"], "r": 4}),
    ("conv2d", "conv", {"target_modules": ["conv2d"]}),
    ("conv2d", "conv-lin", {"target_modules": ["conv2d", "lin0"]}),
    ("conv2d", "lora-bias", {"target_modules": ["conv2d"], "lora_bias": True, "lora_alpha": 32}),
    ("conv2d", "rslora", {"target_modules": ["conv2d"], "use_rslora": True, "r": 3}),
    ("conv2d-no-bias", "lora-bias", {"target_modules": ["conv2d"], "lora_bias": True}),
    ("conv2d-between", "conv-lin", {"target_modules": ["conv2d", "lin0"]}),
    ("conv2d-1x1", "conv", {"target_modules": ["conv2d"]}),
    ("conv2d-groups", "conv", {"target_modules": ["conv2d"]}),
    ("conv2d-groups2", "conv", {"target_modules": ["conv2d"]}),
    ("conv2d-groups2", "rank-2", {"target_modules": ["conv2d"], "r": 2}),
    ("conv3d", "conv", {"target_modules": ["conv3d"]}),
    ("conv3d", "conv-lin", {"target_modules": ["conv3d", "lin0"]}),
    ("conv3d", "lora-bias", {"target_modules": ["conv3d"], "lora_bias": True, "lora_alpha": 32}),
    ("mha", "mha", {"target_modules": ["mha"]}),
    ("mha", "mha-lin", {"target_modules": ["mha", "lin0"]}),
    ("mha", "bias-all", {"target_modules": ["mha"], "bias": "all"}),
    ("mha", "alpha-pattern", {"target_modules": ["mha"], "alpha_pattern": {"out_proj": 32}}),
    ("mha", "alpha-pattern-mha", {"target_modules": ["mha"], "alpha_pattern": {"mha": 32}}),
    ("mha-no-bias", "mha", {"target_modules": ["mha"]}),
    ("mha-added", "mha", {"target_modules": ["mha"]}),
    ("parameters", "lin0", {"target_parameters": ["lin0.weight"]}),
    ("parameters", "both", {"target_parameters": ["lin0.weight", "lin1.weight"], "r": 2}),
    ("mlp", "parameter", ONE | {"target_parameters": ["lin1.weight"]}),
]

DORA = [
    ("mlp", ONE),
    ("mlp", TWO),
    ("mlp", {"target_modules": "lin1", "lora_alpha": 32}),
    ("mlp-no-bias", TWO),
    ("emb-conv1d", {"target_modules": ["conv1d"]}),
    ("emb-conv1d", {"target_modules": ["emb"]}),
    ("emb-conv1d", {"target_modules": ["emb", "conv1d"]}),
    ("conv1d", {"target_modules": ["conv1d"]}),
    ("conv2d", {"target_modules": ["conv2d"]}),
    ("conv2d", {"target_modules": ["conv2d", "lin0"]}),
    ("conv2d-1x1", {"target_modules": ["conv2d"]}),
    ("conv2d-groups", {"target_modules": ["conv2d"]}),
    ("conv2d-groups2", {"target_modules": ["conv2d"]}),
    ("conv3d", {"target_modules": ["conv3d"]}),
    ("conv3d", {"target_modules": ["conv3d", "lin0"]}),
    ("mha", {"target_modules": ["mha"]}),
]


def variants():
    """LoRA with something more. Configurations of the addition are made anew each time, as PEFT changes them."""
    return [
        ("kasa", lambda: lora(**ONE, r=4, kasa_config=KasaConfig())()),
        ("mica", lora(**ONE, r=4, init_lora_weights="mica")),
        ("velora-random", lambda: lora(**ONE, velora_config=VeloraConfig(num_groups=2, init_type="random"))()),
        ("velora-average", lambda: lora(**TWO, velora_config=VeloraConfig(num_groups=2, init_type="batch_average"))()),
        ("velora-once", lambda: lora(**ONE, velora_config=VeloraConfig(num_groups=2, init_type="batch_average_once"))()),
        ("monteclora", lambda: lora(**ONE, monteclora_config=MontecloraConfig(num_samples=2))()),
        ("bd-a", lambda: lora(**TWO, use_bdlora=BdLoraConfig(target_modules_bd_a=["lin0"], match_strict=False))()),
        (
            "bd-b",
            lambda: lora(
                **TWO, use_bdlora=BdLoraConfig(target_modules_bd_b=["lin1"], nblocks=2, match_strict=False)
            )(),
        ),
        (
            "bd-both",
            lambda: lora(
                **TWO,
                use_bdlora=BdLoraConfig(target_modules_bd_a=["lin0"], target_modules_bd_b=["lin1"], nblocks=2),
            )(),
        ),
    ]


def cases():
    found = [Case(f"custom/{base}/{name}", BASES[base], [lora(**options)]) for base, name, options in PLAIN]
    for base, options in DORA:
        suffix = "-".join([*options["target_modules"]] if isinstance(options["target_modules"], list) else ["text"])
        found.append(Case(f"custom/{base}/dora-{suffix}", BASES[base], [lora(**options, use_dora=True)]))
    for name, config in variants():
        exact = torch.float32 if name == "mica" else torch.float64
        found.append(Case(f"custom/mlp/{name}", BASES["mlp"], [config], exact=exact))
    for base in ("emb-conv1d", "embed-tokens"):
        name = "emb" if base == "emb-conv1d" else "embed_tokens"
        for saved in (True, False):
            config = lora(target_modules=[name, "lin0"])
            case = Case(f"custom/{base}/saved-{saved}", BASES[base], [config], save={"save_embedding_layers": saved})
            found.append(case)
    return found + narrow(found, "float16", "bfloat16")
