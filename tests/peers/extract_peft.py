"""Does PEFT turn the base and the extracted adapter into the tuned model? Run by `just full`: torch is not in CI.

    pip install torch peft transformers
    python tests/peers/extract_peft.py target/debug/lorakit

Extracts adapters from PEFT's golden merges, loads base and adapter in PEFT, and compares logits with the merge's.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

GOLDEN = pathlib.Path(__file__).parents[2] / "fixtures/golden/peft"
CASES = [
    ("plain", []),
    ("gpt2", []),
    ("modules-to-save", []),
    ("lora-bias", []),
    ("tied-save", []),
    ("tied-embed", []),
    ("tied-embed", ["--embeddings", "factors"]),
    ("tied-head", []),
    ("embed", ["--embeddings", "factors"]),
]


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def main() -> None:
    program = pathlib.Path(sys.argv[1]).resolve()
    bases = json.loads((GOLDEN / "peft.json").read_text())["cases"]
    tokens = torch.arange(3, 35).reshape(2, 16)
    warnings.filterwarnings("ignore")
    worst = 0.0
    for name, options in CASES:
        base, tuned = GOLDEN / "bases" / bases[name]["base"], GOLDEN / "merged" / name
        with tempfile.TemporaryDirectory() as work, torch.no_grad():
            adapter = pathlib.Path(work) / "adapter"
            command = [program, "extract", base, tuned, "-o", adapter, "--rank", "512", "-q", *options]
            subprocess.run(command, check=True, capture_output=True)
            meant, plain = load(tuned)(tokens).logits, load(base)(tokens).logits
            found = PeftModel.from_pretrained(load(base), adapter)(tokens).logits
        off, moved = ((x - meant).norm().item() / meant.norm().item() for x in (found, plain))
        print(f"{' '.join([name, *options]):32} base {moved:.1e}, base and adapter {off:.1e} off")
        worst = max(worst, off)
    sys.exit(worst > 1e-5)


if __name__ == "__main__":
    main()
