"""`combine --method svd` of two adapters, PEFT's way and lorakit's, on a small shape.

    pip install torch peft transformers
    python benches/peers/combine_svd.py target/release/lorakit [HIDDEN] [LAYERS]

PEFT decomposes each whole delta, out x in; lorakit decomposes its factors. Both take adapters of rank 16 on all linear
layers, in f32, and give one of rank 16. Times are those of the work alone for PEFT (the model is loaded), and of the
whole command for lorakit (read, combine, write, read again, compare).
"""

import pathlib
import subprocess
import sys
import tempfile
import time
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

RANK = 16
WEIGHTS = [0.7, 0.3]


def model(hidden: int, layers: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=hidden * 7 // 2, num_hidden_layers=layers, vocab_size=256,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 256,
    )
    return LlamaForCausalLM(config)


def write_adapter(base, seed: int, folder: pathlib.Path) -> None:
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config)
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(folder)
    adapted.unload()


def products(folder: pathlib.Path, scale: float) -> dict:
    tensors = {k: v.double() for k, v in load_file(folder / "adapter_model.safetensors").items()}
    modules = {k.split(".lora_")[0] for k in tensors}
    return {m: scale * tensors[m + ".lora_B.weight"] @ tensors[m + ".lora_A.weight"] for m in modules}


def main() -> None:
    program = pathlib.Path(sys.argv[1]).resolve()
    hidden, layers = (int(x) for x in (sys.argv[2:4] + ["1024", "2"][len(sys.argv) - 2 :]))
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        one, two, mine, theirs = (pathlib.Path(work) / name for name in ["one", "two", "mine", "theirs"])
        base = model(hidden, layers)
        write_adapter(base, 1, one)
        write_adapter(base, 2, two)

        peft = PeftModel.from_pretrained(base, one, adapter_name="one")
        peft.load_adapter(two, adapter_name="two")
        start = time.monotonic()
        peft.add_weighted_adapter(["one", "two"], WEIGHTS, "theirs", combination_type="svd", svd_rank=RANK)
        of_peft = time.monotonic() - start
        peft.save_pretrained(work, selected_adapters=["theirs"])

        command = [program, "combine", f"{one}={WEIGHTS[0]}", f"{two}={WEIGHTS[1]}", "-o", mine, "-q", "--force"]
        times = []
        for _ in range(5):
            start = time.monotonic()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.monotonic() - start)
        of_lorakit = sorted(times)[2]

        meant, found = products(theirs, 1.0), products(mine, 1.0)
        off = max(((meant[m] - found[m]).norm() / meant[m].norm()).item() for m in meant)
    print(f"hidden {hidden}, {layers} layers, {len(meant)} modules; products differ by {off:.1e} at most")
    print(f"PEFT {of_peft:.2f} s, lorakit {of_lorakit:.3f} s, ratio {of_peft / of_lorakit:.0f}")


if __name__ == "__main__":
    main()
