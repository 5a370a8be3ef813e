#!/usr/bin/env python3
"""Merges adapters of PEFT's methods with PEFT and with lorakit, and compares tensors and logits.

usage: peft_methods.py LORAKIT [CASE ...] [--goldens FOLDER]

Models are tiny and random, adapters are random and not zero. In float32, tensors may differ by a few units in the
last place of the larger of weight and delta; in bfloat16, lorakit's must be the correctly rounded float64 truth up to one
step. Logits are compared with the live model of PEFT (adapter beside base), which no rounding of weights has touched.
With --goldens, the small cases are written there: base, adapter and the merged weights of PEFT.

Needs torch, transformers, peft 0.21.2 and safetensors.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import peft
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig
from transformers.utils import logging

logging.set_verbosity_error()

QV = ["q_proj", "v_proj"]


def llama(**more):
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False, **more)
    return AutoModelForCausalLM.from_config(config)


def gpt2():
    config = GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2)
    return AutoModelForCausalLM.from_config(config)


class Convolutions(nn.Module):
    """Convolutions of every size, and a linear layer with a bias."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(3, 8, 3, padding=1)
        self.point = nn.Conv2d(8, 8, 1)
        self.line = nn.Conv1d(8, 6, 3, padding=1)
        self.out = nn.Linear(6, 5)

    def forward(self, x):
        x = self.point(torch.relu(self.wide(x))).flatten(2)
        return self.out(torch.relu(self.line(x)).mean(-1))


class Attention(nn.Module):
    """nn.MultiheadAttention with biases."""

    def __init__(self):
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 5)

    def forward(self, x):
        return self.out(self.attn(x, x, x, need_weights=False)[0])


def tokens():
    return {"input_ids": torch.tensor([[1, 3, 5, 7, 2, 9]])}


def image():
    return {"x": torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(3))}


def sequence():
    return {"x": torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(3))}


class Case:
    def __init__(self, model, config, inputs=tokens, loose=False, refused=None, spread=0.3):
        self.model, self.config, self.inputs = model, config, inputs
        # Whether PEFT's own f32 product has larger errors; the words of a refusal; the size of random values.
        self.loose, self.refused, self.spread = loose, refused, spread


CASES = {
    "adalora": Case(llama, lambda: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, lora_alpha=8, target_modules=QV)),
    "adalora-conv1d": Case(gpt2, lambda: peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=["c_attn"], fan_in_fan_out=True)),
    "loha": Case(llama, lambda: peft.LoHaConfig(r=4, alpha=6, target_modules=QV)),
    "loha-patterns": Case(llama, lambda: peft.LoHaConfig(r=4, alpha=6, target_modules=QV, rank_pattern={"v_proj": 2}, alpha_pattern={"layers.1.self_attn.q_proj": 3})),
    "loha-convolutions": Case(Convolutions, lambda: peft.LoHaConfig(r=2, target_modules=["wide", "point", "line", "out"]), image),
    "loha-effective": Case(Convolutions, lambda: peft.LoHaConfig(r=2, target_modules=["wide", "line", "out"], use_effective_conv2d=True), image),
    "lokr": Case(llama, lambda: peft.LoKrConfig(r=2, alpha=6, target_modules=QV + ["down_proj"])),
    "lokr-whole": Case(llama, lambda: peft.LoKrConfig(r=8, alpha=6, target_modules=QV)),
    "lokr-both": Case(llama, lambda: peft.LoKrConfig(r=1, alpha=6, target_modules=QV, decompose_both=True, decompose_factor=4)),
    "lokr-convolutions": Case(Convolutions, lambda: peft.LoKrConfig(r=1, target_modules=["wide", "point", "out"]), image),
    "lokr-effective": Case(Convolutions, lambda: peft.LoKrConfig(r=1, target_modules=["wide"], use_effective_conv2d=True), image),
    "lokr-conv1d-whole": Case(Convolutions, lambda: peft.LoKrConfig(r=8, target_modules=["line"]), image, refused="one-dimensional"),
    "trainable-tokens": Case(llama, lambda: peft.TrainableTokensConfig(token_indices=[3, 5], target_modules=["embed_tokens"])),
    "ln-tuning": Case(llama, lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "norm"])),
    "ln-tuning-biases": Case(gpt2, lambda: peft.LNTuningConfig(target_modules=["ln_1", "ln_f"])),
    "velora": Case(llama, lambda: peft.LoraConfig(r=4, target_modules=QV, velora_config=peft.tuners.lora.config.VeloraConfig(num_groups=4))),
    "monteclora": Case(llama, lambda: peft.LoraConfig(r=4, target_modules=QV, monteclora_config=peft.tuners.lora.config.MontecloraConfig())),
    "bdlora": Case(llama, lambda: peft.LoraConfig(r=4, target_modules=["q_proj", "o_proj", "down_proj"], use_bdlora=peft.BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2, match_strict=False))),
    "ia3": Case(llama, lambda: peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3-biases": Case(lambda: llama(attention_bias=True, mlp_bias=True), lambda: peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3-conv1d": Case(gpt2, lambda: peft.IA3Config(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True)),
    "ia3-convolutions": Case(Convolutions, lambda: peft.IA3Config(target_modules=["wide", "point", "out"], feedforward_modules=["wide"]), image),
    "oft": Case(llama, lambda: peft.OFTConfig(oft_block_size=4, target_modules=QV + ["down_proj"]), loose=True, spread=0.1),
    "oft-cayley": Case(llama, lambda: peft.OFTConfig(oft_block_size=8, target_modules=QV, use_cayley_neumann=False), loose=True),
    "oft-terms": Case(llama, lambda: peft.OFTConfig(oft_block_size=4, target_modules=QV, num_cayley_neumann_terms=3), loose=True, spread=0.1),
    "oft-shared": Case(llama, lambda: peft.OFTConfig(oft_block_size=4, target_modules=QV, block_share=True), loose=True, spread=0.1),
    "oft-constrained": Case(llama, lambda: peft.OFTConfig(oft_block_size=4, target_modules=QV, coft=True, eps=0.05), loose=True, spread=0.1),
    "oft-embedding": Case(llama, lambda: peft.OFTConfig(oft_block_size=4, target_modules=["embed_tokens", "q_proj"]), loose=True, spread=0.1),
    "oft-pointwise": Case(Convolutions, lambda: peft.OFTConfig(oft_block_size=4, target_modules=["point"]), image, loose=True, spread=0.1),
    "oft-kernel": Case(Convolutions, lambda: peft.OFTConfig(oft_block_size=3, target_modules=["wide"]), image, refused="rotates patches"),
    "mha": Case(Attention, lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=["attn"]), sequence),
    "mha-biases": Case(Attention, lambda: peft.LoraConfig(r=2, lora_alpha=4, target_modules=["attn", "out"], bias="all"), sequence),
    "pissa": Case(llama, lambda: peft.LoraConfig(r=2, target_modules=QV, init_lora_weights="pissa"), refused="pissa"),
    "olora": Case(llama, lambda: peft.LoraConfig(r=2, target_modules=QV, init_lora_weights="olora")),
}

GOLDENS = ["adalora", "loha", "loha-effective", "lokr", "trainable-tokens", "ln-tuning-biases", "velora", "bdlora",
           "ia3-biases", "ia3-conv1d", "oft", "oft-cayley", "mha-biases"]


def randomise(model, spread):
    """Random values for whatever is trained."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in sorted(model.named_parameters()):
        parts = name.split(".")
        if "ranknum" in name:
            continue
        trained = parameter.requires_grad or any(p.startswith(("lora_", "hada_", "lokr_", "ia3_", "oft_")) for p in parts)
        if trained:
            around = 1.0 if "ia3_l" in name else 0.0
            values = around + spread * torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(values.to(parameter.dtype))


def logits(model, inputs):
    model.eval()
    with torch.no_grad():
        out = model(**inputs)
    return getattr(out, "logits", out).double()


def save_base(model, folder):
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        folder.mkdir()
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")


def tensors_of(folder):
    return load_file(next(p for p in sorted(pathlib.Path(folder).glob("*.safetensors"))))


def fresh(case, folder, dtype):
    if folder.joinpath("config.json").exists():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model = case.model().to(dtype)
    model.load_state_dict(tensors_of(folder))
    return model


def built(case, folder, dtype):
    """Base and adapter in `folder`; the logits of the live model, and the tensors that PEFT's merge makes."""
    torch.manual_seed(1)
    base = case.model().to(dtype)
    for _, parameter in base.named_parameters():
        if parameter.dim() == 1:
            parameter.data.add_(0.2 * torch.randn(parameter.shape).to(dtype))
    save_base(base, folder / "base")
    base = fresh(case, folder / "base", dtype)
    model = peft.get_peft_model(base, case.config())
    randomise(model, case.spread)
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(folder / "adapter")
    model = peft.PeftModel.from_pretrained(fresh(case, folder / "base", dtype), folder / "adapter")
    live = logits(model, case.inputs()) if dtype == torch.float32 else None
    merged = model.merge_and_unload()
    return live, {k: v.contiguous() for k, v in merged.state_dict().items()}, merged


def check(name, case, lorakit, dtype, goldens):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        live, expected, merged = built(case, folder, dtype)
        command = [lorakit, "merge", folder / "base", folder / "adapter", "-o", folder / "out"]
        run = subprocess.run(command, capture_output=True, text=True)
        said = run.stdout + run.stderr
        if case.refused:
            known = run.returncode == 1 and case.refused in said
            return f"refused: {case.refused}" if known else f"WRONG: not refused for `{case.refused}`\n{said}", known
        if run.returncode != 0:
            return f"WRONG: exit {run.returncode}\n{said}", False
        ours, base = tensors_of(folder / "out"), tensors_of(folder / "base")
        changed, worst = 0, 0.0
        for key, ours_value in ours.items():
            theirs = expected[key]
            assert ours_value.dtype == theirs.dtype, key
            changed += not torch.equal(ours_value, base[key]) if key in base else 1
            step = torch.finfo(dtype).eps
            size = torch.maximum(base[key].double().abs().max(), theirs.double().abs().max())
            off = (ours_value.double() - theirs.double()).abs().max() / (size * step)
            worst = max(worst, off.item())
        lost = (set(expected) - set(ours)) & set(base)
        text = f"{changed:3} tensors changed, largest difference {worst:5.2f} eps of the largest value"
        good = changed > 0 and worst <= (16 if case.loose else 4) and not lost
        if lost:
            text += f", LOST {sorted(lost)}"
        if live is not None:
            if (folder / "out" / "config.json").exists():
                model = AutoModelForCausalLM.from_pretrained(folder / "out", dtype=dtype)
            else:
                model = case.model().to(dtype)
                model.load_state_dict(ours)
            apart = (logits(model, case.inputs()) - live).abs().max().item()
            base_model = fresh(case, folder / "base", dtype)
            moved = (logits(base_model, case.inputs()) - live).abs().max().item()
            text += f"; logits {apart:.1e} from the live ones, which moved by {moved:.1e}"
            good &= apart < 1e-3 * moved
        if good and goldens and dtype == torch.float32 and name in GOLDENS:
            keep(name, folder, expected, goldens)
        return text if good else "WRONG: " + text + "\n" + said, good


def keep(name, folder, expected, goldens):
    """The adapter, and of base and merge only what the adapter changes; a model's configuration without its other tensors."""
    target = goldens / name
    shutil.rmtree(target, ignore_errors=True)
    (target / "base").mkdir(parents=True)
    base = tensors_of(folder / "base")
    changed = {k: v for k, v in expected.items() if k in base and not torch.equal(v, base[k])}
    save_file({k: base[k] for k in changed}, target / "base/model.safetensors")
    save_file(changed, target / "merged.safetensors")
    if (folder / "base/config.json").exists():
        shutil.copy(folder / "base/config.json", target / "base/config.json")
    shutil.copytree(folder / "adapter", target / "adapter", ignore=shutil.ignore_patterns("README.md"))


def main():
    arguments = sys.argv[1:]
    goldens = None
    if "--goldens" in arguments:
        at = arguments.index("--goldens")
        goldens = pathlib.Path(arguments[at + 1])
        del arguments[at:at + 2]
    lorakit = pathlib.Path(arguments[0]).resolve()
    wrong = 0
    for name, case in CASES.items():
        if arguments[1:] and name not in arguments[1:]:
            continue
        for dtype in (torch.float32, torch.bfloat16):
            try:
                text, good = check(name, case, lorakit, dtype, goldens)
            except Exception as error:  # PEFT itself may refuse
                text, good = f"WRONG: {type(error).__name__}: {error}", False
            wrong += not good
            print(f"{name:20} {str(dtype)[6:]:9} {text}", flush=True)
    sys.exit(1 if wrong else 0)


main()
