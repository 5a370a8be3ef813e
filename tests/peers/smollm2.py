"""Reads lorakit's outputs for the real SmolLM2 with the reference readers, gguf-py and safetensors.

usage: smollm2.py PATH_OF_LORAKIT
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors import safe_open

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures"
GGUF = FIXTURES / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
ADAPTER = FIXTURES / "smollm2-orders-lora"
HEADS = {"attn_q": 9, "attn_k": 3}
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}


def hf_name(name):
    if name.startswith("blk."):
        _, layer, kind, _ = name.split(".")
        return f"model.layers.{layer}.{NAMES[kind]}.weight", kind
    return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[name], ""


def bf16(values):
    """Rounds f32 values to bfloat16, ties to even; returns the 16-bit patterns."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widen(bits):
    """The f64 values of bfloat16 patterns."""
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def reference(path=GGUF):
    """Every tensor by Hugging Face name, decoded by gguf-py, rows in Hugging Face order."""
    for tensor in GGUFReader(path).tensors:
        values = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        name, kind = hf_name(tensor.name)
        if heads := HEADS.get(kind):
            rows, cols = values.shape
            values = values.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)
        yield name, values


def raw(path):
    """Tensors of a BF16 safetensors file as 16-bit patterns: numpy has no bfloat16."""
    with safe_open(path, "np") as file:
        keys = set(file.keys())
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    assert set(header) == keys, "safetensors lists other tensors than the header"
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert entry["dtype"] == "BF16", (name, entry["dtype"])
        flat = np.frombuffer(data[8 + length + begin : 8 + length + end], np.uint16)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def adapter():
    """`{module: {"lora_A": ..., "lora_B": ...}}` in f64, and the scale."""
    config = json.loads((ADAPTER / "adapter_config.json").read_text())
    modules = {}
    for key, bits in raw(ADAPTER / "adapter_model.safetensors").items():
        module, part = key.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        modules.setdefault(module, {})[part] = widen(bits)
    return modules, config["lora_alpha"] / config["r"]


def check_quantised(path, merged):
    """gguf-py reads a merge into a quantised file, and finds the merged weights in it."""
    fields = GGUFReader(path).fields
    contents = {key: fields[key].contents() for key in ("general.architecture", "general.file_type", "llama.block_count")}
    assert contents == {"general.architecture": "llama", "general.file_type": 15, "llama.block_count": 30}, contents
    assert len(fields["tokenizer.ggml.tokens"].data) == 49152
    worst = 0.0
    for name, values in reference(path):
        exact = widen(merged.pop(name))
        worst = max(worst, np.linalg.norm(values - exact) / np.linalg.norm(exact))
    assert not merged, "tensors are left over"
    assert worst < 0.1, f"a tensor is off by {worst:.1%}"
    return worst


def main():
    lorakit = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        run = lambda *args: subprocess.run([lorakit, *map(str, args)], check=True, stdout=subprocess.DEVNULL)
        run("convert", GGUF, "-o", folder / "hf", "--to", "hf")
        run("merge", GGUF, ADAPTER, "-o", folder / "merged")
        converted, merged = (raw(folder / f / "model.safetensors") for f in ("hf", "merged"))
        run("merge", folder / "hf", ADAPTER, "-o", folder / "merged.gguf", "--quantize", "Q4_K_M")
        worst = check_quantised(folder / "merged.gguf", dict(merged))
        print(f"peers: merged to Q4_K_M in one pass, read by gguf-py, error of a tensor at most {worst:.1%}")
        modules, scale = adapter()
        weights = differing = 0
        for name, values in reference():
            assert np.array_equal(converted.pop(name), bf16(values)), f"{name} differs from gguf-py"
            base = values
            if factors := modules.pop(name.removesuffix(".weight"), None):
                values = values.astype(np.float64) + scale * (factors["lora_B"] @ factors["lora_A"])
            expected, found = widen(bf16(values)), widen(merged.pop(name))
            weights += found.size
            differing += np.count_nonzero(expected != found)
            # One step of the larger of result and base weight: if they cancel, the result's steps are tiny.
            step = 2.0 ** (np.floor(np.log2(np.maximum(np.maximum(np.abs(expected), np.abs(base)), 1e-38))) - 7)
            assert np.all(np.abs(expected - found) <= step), f"{name} is off by more than one step"
        assert not converted and not merged and not modules, "tensors are left over"
        assert differing <= weights * 1e-4, f"{differing} of {weights} weights differ from f64"
        print(f"peers: {weights} weights, conversion equal to gguf-py, {differing} merged weights differ from f64")


main()
