"""Does PEFT load what lorakit writes, and apply all of it? Run by `just full`: torch is not in CI.

    pip install torch peft transformers
    python tests/peers/peft_loads.py target/debug/lorakit

Makes tiny random models of several families, and adapters of them that PEFT writes itself. Runs the verbs that write
PEFT's folders, loads each folder in PEFT, counts the wrappers that it applies, compares their deltas with those that
NumPy computes in f64 from the sources, and compares logits with those of the base with these deltas.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import Embedding, ParamWrapper
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GptOssConfig,
    GraniteMoeConfig,
    Llama4TextConfig,
    LlamaConfig,
    MixtralConfig,
    Qwen3MoeConfig,
)

COMMON = dict(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
EXPERTS = dict(num_local_experts=3, num_experts_per_tok=2)
ATTENTION = ["q_proj", "o_proj"]
PACKED = ["experts.gate_up_proj", "experts.down_proj"]
FAMILIES = {
    "llama": (LlamaConfig(intermediate_size=48, **COMMON), dict(target_modules=[*ATTENTION, "down_proj"])),
    "mixtral": (
        MixtralConfig(intermediate_size=48, **EXPERTS, **COMMON),
        dict(target_modules=["q_proj", "w1", "w2", "w3", "gate"]),
    ),
    "qwen3-moe": (
        Qwen3MoeConfig(intermediate_size=48, moe_intermediate_size=24, num_experts=3, num_experts_per_tok=2, head_dim=8, **COMMON),
        dict(target_modules=["q_proj", "gate_proj", "up_proj", "down_proj"]),
    ),
    "gpt-oss": (
        GptOssConfig(intermediate_size=32, head_dim=8, **EXPERTS, **COMMON),
        dict(target_modules=["q_proj"], target_parameters=[*PACKED, "experts.gate_up_proj_bias"]),
    ),
    "granite-moe": (
        GraniteMoeConfig(intermediate_size=24, **EXPERTS, **COMMON),
        dict(target_modules=["q_proj"], target_parameters=PACKED),
    ),
    "llama-4": (
        Llama4TextConfig(intermediate_size=24, intermediate_size_mlp=48, head_dim=8, num_local_experts=3, num_experts_per_tok=1, **COMMON),
        dict(target_modules=["q_proj"], target_parameters=PACKED),
    ),
}
TOKENS = torch.arange(3, 35).reshape(2, 16)


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments), "-q"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")


def base_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, experts_implementation="eager")


def load(base, adapter):
    """The model with the adapter, in f64, and what PEFT said of missing and unexpected tensors."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base_of(base), adapter, autocast_adapter_dtype=False).double()
    missing = [str(w.message) for w in said if "missing adapter keys" in str(w.message)]
    return model, missing


def deltas(model):
    """The delta of each parameter that an adapter changes, in f64."""
    found = {}
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer) and "default" in module.scaling:
            plain = name.replace(".base_layer", "")
            leaf = module.parameter_name if isinstance(module, ParamWrapper) else "weight"
            found[f"{plain}.{leaf}"] = module.get_delta_weight("default").detach().numpy().astype(np.float64)
    return found


def truncated(delta, rank):
    def cut(matrix):
        u, s, v = np.linalg.svd(matrix)
        return (u[:, :rank] * s[:rank]) @ v[:rank]

    return np.stack([cut(part) for part in delta]) if delta.ndim == 3 else cut(delta)


def logits(base, changes):
    model = base_of(base)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, delta in changes.items():
            parameters[name] += torch.from_numpy(delta)
        return model(TOKENS).logits.numpy()


def off(found, meant):
    norm = np.linalg.norm(meant)
    return np.linalg.norm(found - meant) / norm if norm else np.linalg.norm(found)


def judge(what, base, adapter, meant, limit=1e-5):
    """Prints one line; whether everything is as it is meant."""
    model, missing = load(base, adapter)
    found = deltas(model)
    applied = sum(1 for delta in found.values() if np.any(delta))
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        stored = sum(1 for name in file.keys() if ".lora_A." in name or name.endswith("lora_embedding_A"))
    wrong = {k: v for k, v in meant.items() if np.any(v)}
    worst = max((off(found.get(k, np.zeros_like(v)), v) for k, v in wrong.items()), default=0.0)
    extra = sum(1 for k, v in found.items() if np.any(v) and k not in wrong)
    with torch.no_grad():
        moved = off(model(TOKENS).logits.numpy(), logits(base, meant))
    fine = worst < limit and moved < limit and applied == len(wrong) and not extra and not missing
    print(
        f"{what:44} {stored:3} stored, {applied:3} of {len(wrong):3} applied, deltas {worst:.0e}, logits {moved:.0e} off"
        f"{'' if fine else '   WRONG'}{'; missing keys' if missing else ''}"
    )
    return fine


def train(folder, config, options, seed, rank):
    """An adapter of `folder` as PEFT saves it, with random factors."""
    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(config, dtype=torch.float32),
        LoraConfig(r=rank, lora_alpha=3 * rank, task_type="CAUSAL_LM", **options),
    )
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)


def family(name, program, work):
    config, options = FAMILIES[name]
    base = work / "base"
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(base)
    one, two = work / "one", work / "two"
    train(one, base, options, 1, 2)
    train(two, base, options, 2, 2)
    first, second = (deltas(load(base, adapter)[0]) for adapter in (one, two))
    results = []

    def verb(what, meant, *arguments):
        out = work / f"out-{len(results)}"
        try:
            run(program, *arguments, "-o", out)
            results.append(judge(f"{name}: {what}", base, out, meant))
        except Exception as error:
            text = str(error).splitlines()
            print(f"{name}: {what:30} {type(error).__name__}: {' '.join(text)[:300]}   WRONG")
            results.append(False)

    results.append(judge(f"{name}: as PEFT wrote it", base, one, first))
    verb("convert", first, "convert", one, "--to", "peft")
    verb("reduce --rank 1", {k: truncated(v, 1) for k, v in first.items()}, "reduce", one, "--rank", 1)
    verb("reduce --energy 1", first, "reduce", one, "--energy", 1)
    total = {k: first[k] + second[k] for k in first}
    verb("combine", total, "combine", one, two, "--method", "cat")
    verb("combine --method linear, one scaled", {k: 0.5 * v for k, v in first.items()}, "combine", f"{one}=0.5")
    if options.get("target_parameters") or "w1" in options["target_modules"] or "gate_proj" in options["target_modules"]:
        attention = {k: v for k, v in first.items() if "experts" not in k}
        verb("combine --skip experts", attention, "combine", one, "--skip", "experts")
    inner = {k: v for k, v in first.items() if "down_proj" not in k}
    verb("combine --skip down_proj", inner, "combine", one, "--skip", "down_proj")
    verb("edit --fold-alpha", first, "edit", one, "--fold-alpha")
    tuned = work / "tuned"
    run(program, "merge", base, one, "-o", tuned)
    changed = {k: v for k, v in first.items() if v.ndim > 1 and not k.endswith("_bias")}
    if changed.keys() == first.keys():
        verb("extract --rank 8", first, "extract", base, tuned, "--rank", 8)
    return results


def classifier(program, work):
    """A head that did not change does not become part of the adapter."""
    config = LlamaConfig(intermediate_size=48, num_labels=3, pad_token_id=0, **COMMON)
    torch.manual_seed(7)
    model = AutoModelForSequenceClassification.from_config(config)
    base, tuned, out = work / "base", work / "tuned", work / "out"
    model.save_pretrained(base)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight += 0.1 * torch.randn(32, 2) @ torch.randn(2, 32)
        meant = model(TOKENS).logits.numpy()
    model.save_pretrained(tuned)
    run(program, "extract", base, tuned, "--rank", 2, "-o", out)
    plain = AutoModelForSequenceClassification.from_pretrained(base)
    with torch.no_grad():
        found = PeftModel.from_pretrained(plain, out)(TOKENS).logits.numpy()
    error = off(found, meant)
    print(f"{'classifier: extract':44} logits {error:.0e} off{'' if error < 1e-4 else '   WRONG'}")
    return [bool(error < 1e-4)]


def sequence(program, work):
    """Modules that are called `0` and `2`, and others that end so."""
    from safetensors.torch import save_file

    def model():
        inner = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.ReLU(), torch.nn.Linear(6, 6))
        return torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.ReLU(), inner)

    torch.manual_seed(7)
    net = model()
    base, tuned, out = work / "base.safetensors", work / "tuned.safetensors", work / "out"
    state = {k: v.clone() for k, v in net.state_dict().items()}
    save_file(state, base)
    changed = dict(state)
    changed["0.weight"] = state["0.weight"] + 0.5 * torch.randn(6, 1) @ torch.randn(1, 6)
    save_file(changed, tuned)
    run(program, "extract", base, tuned, "--rank", 1, "-o", out)
    fresh = model()
    fresh.load_state_dict(state)
    loaded = PeftModel.from_pretrained(fresh, out)
    wrapped = [name for name, module in loaded.get_base_model().named_modules() if isinstance(module, LoraLayer)]
    fine = wrapped == ["0"]
    print(f"{'modules called 0: extract':44} wraps {wrapped}{'' if fine else '   WRONG'}")
    return [fine]


def main() -> None:
    program = pathlib.Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:]
    torch.set_num_threads(1)
    results = []
    for name in FAMILIES:
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as work:
            results += family(name, program, pathlib.Path(work))
    for case in (classifier, sequence):
        if not wanted or case.__name__ in wanted:
            with tempfile.TemporaryDirectory() as work:
                results += case(program, pathlib.Path(work))
    print(f"{sum(results)} of {len(results)} as they should be")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
