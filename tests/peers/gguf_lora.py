"""Reads lorakit's GGUF adapters with gguf-py: they hold what llama.cpp needs, and the factors PEFT wrote.

usage: gguf_lora.py PATH_OF_LORAKIT
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFReader, GGUFValueType, dequantize
from safetensors import safe_open

PEFT = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "golden" / "peft"
NAMES = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def swapped(values, heads):
    """As `LlamaModel.permute` of llama.cpp's converter."""
    rows, cols = values.shape
    return values.reshape(heads, 2, rows // heads // 2, cols).swapaxes(1, 2).reshape(rows, cols)


def check(lorakit, folder, case, base, architecture):
    model = json.loads((PEFT / "bases" / base / "config.json").read_text())
    # Only Llama's rows of q and k are in another order in GGUF.
    heads = {"attn_q": model["num_attention_heads"], "attn_k": model["num_key_value_heads"]}
    heads = heads if architecture == "llama" else {}
    source, out = PEFT / "adapters" / case, folder / f"{case}.gguf"
    command = [lorakit, "convert", source, "-o", out, "--to", "gguf", "--base", PEFT / "bases" / base]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    reader = GGUFReader(out)
    fields = reader.fields
    text = lambda key: fields[key].contents()
    assert (text("general.architecture"), text("general.type"), text("adapter.type")) == (architecture, "adapter", "lora")
    # llama.cpp rejects any other type.
    assert fields["adapter.lora.alpha"].types == [GGUFValueType.FLOAT32]
    config = json.loads((source / "adapter_config.json").read_text())
    r, alpha = config["r"], config["lora_alpha"]
    scale = alpha / r**0.5 if config["use_rslora"] else alpha / r
    assert abs(text("adapter.lora.alpha") / r - scale) < 1e-6 * scale

    expected = reader.data_offset
    found = {}
    for tensor in reader.tensors:
        assert len(tensor.name.encode()) < 64, tensor.name
        assert tensor.data_offset == expected, f"{tensor.name}: offsets are the running sum"
        expected += -(-int(tensor.n_bytes) // 32) * 32
        found[tensor.name] = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
    assert expected == out.stat().st_size

    names = set()
    with safe_open(source / "adapter_model.safetensors", "np") as file:
        keys = set(file.keys())
        for name, values in found.items():
            target, half = name.rsplit(".lora_", 1)
            _, layer, kind, _ = target.split(".")
            key = f"base_model.model.model.layers.{layer}.{NAMES[kind]}.lora_{half.upper()}.weight"
            theirs = file.get_tensor(key).astype(np.float32)
            if half == "b" and kind in heads:
                theirs = swapped(theirs, heads[kind])
            assert np.array_equal(values, theirs), name
            names.add(key)
    assert names == keys, "nothing is left out"
    return len(found)


def main():
    lorakit = pathlib.Path(sys.argv[1]).resolve()
    cases = [
        ("f32", "llama-f32", "llama"), ("f16", "llama-f16", "llama"),
        ("rslora", "llama-bf16", "llama"), ("qwen2", "qwen2-bf16", "qwen2"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        checked = sum(check(lorakit, pathlib.Path(folder), *case) for case in cases)
    print(f"gguf-py reads {len(cases)} adapters: {checked} factors are PEFT's, in GGUF's order")


main()
