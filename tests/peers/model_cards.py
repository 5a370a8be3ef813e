"""Reads the model cards of every verb and library with huggingface_hub: the hub must find the metadata in them.

usage: model_cards.py PATH_OF_LORAKIT
"""

import json
import logging
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK

PEFT = pathlib.Path(__file__).resolve().parents[2] / "fixtures" / "golden" / "peft"
OWN = """---
# what I know
language:
- en
- "no"
license: other
license_name: tiny
license_link: https://example.org/tiny
tags: [poetry, 2024-01-01]   # and a date
model-index:
- name: tiny
  results:
  - task: {type: text-generation}
    dataset: {type: rhymes, name: Rhymes}
    metrics: [{type: accuracy, value: 0.5}]
---
# Tiny

It rhymes.
"""
# A command, and what its card says of the base, its relation, the library and the licence.
COMMANDS = [
    # The licences of base and style differ.
    ("merge tiny-llama style=0.5 facts", "org/tiny-llama", "merge", "transformers", None),
    ("merge tiny-llama facts --quantize nf4", "org/tiny-llama", "merge", "transformers", "other"),
    ("quantize tiny-llama --type fp8", "org/tiny-llama", "quantized", "transformers", "other"),
    # A merge stays one.
    ("quantize merged --type int8", "org/tiny-llama", "merge", "transformers", "other"),
    ("convert model.gguf --to hf", None, None, "transformers", "other"),
    ("convert style --to peft", "org/tiny-llama", "adapter", "peft", "mit"),
    ("convert style --to mlx --base tiny-llama", "org/tiny-llama", "adapter", "mlx", "mit"),
    ("convert style --to torchtune --base tiny-llama", "org/tiny-llama", "adapter", "torchtune", "mit"),
    ("reduce style --rank 2", "org/tiny-llama", "adapter", "peft", "mit"),
    ("reduce facts --energy 0.9", "org/tiny-llama", "adapter", "peft", None),
    ("combine style=0.7 facts=0.3 --method cat", "org/tiny-llama", "adapter", "peft", "mit"),
    ("extract tiny-llama merged --rank 4", "org/tiny-llama", "adapter", "peft", "other"),
    ("reduce windows --rank 2", "org/tiny-llama", "adapter", "peft", "mit"),
]


def workshop(folder, lorakit):
    for source, name in [("bases/llama-bf16", "tiny-llama"), ("adapters/plain", "style"), ("adapters/all-r8-second", "facts"),
                         ("adapters/plain", "windows")]:
        shutil.copytree(PEFT / source, folder / name)
    config = folder / "tiny-llama" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_name_or_path": "org/tiny-llama"}))
    for name in ["style", "facts", "windows"]:
        config = folder / name / "adapter_config.json"
        known = json.loads(config.read_text())
        config.write_text(json.dumps(known | {"base_model_name_or_path": "org/tiny-llama"}))
    (folder / "tiny-llama" / "README.md").write_text(OWN)
    (folder / "style" / "README.md").write_text("---\nlicense: mit\n---\n\n# Style\n")
    (folder / "windows" / "README.md").write_bytes(b"\xef\xbb\xbf---\r\nlicense: mit\r\n---\r\n\r\n# Style\r\n")
    run = lambda line: subprocess.run([lorakit, *line.split()], check=True, cwd=folder, capture_output=True)
    run("merge tiny-llama facts -o merged")
    tiny = folder / "tiny"
    shutil.copytree(PEFT.parents[1] / "tiny-orders", tiny)
    (tiny / "README.md").write_text(OWN)
    run("convert tiny --to gguf -o model.gguf")


def main(lorakit):
    lorakit = pathlib.Path(lorakit).resolve()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        workshop(folder, lorakit)
        for i, (line, base, relation, library, licence) in enumerate(COMMANDS):
            out = folder / f"out{i}"
            done = subprocess.run([lorakit, *line.split(), "-o", out], cwd=folder, capture_output=True, text=True)
            assert done.returncode == 0, f"{line}: {done.stderr}"
            path = out / "README.md"
            card = ModelCard.load(path)
            data = card.data
            found = (data.base_model, data.get("base_model_relation"), data.library_name, data.license)
            assert found == (base, relation, library, licence), f"{line}: {found}"
            assert data.tags, line
            assert "```python" in card.text and str(folder) not in card.content, line
            # Parsed from a string, and written again by the library, it says the same.
            content = path.read_bytes().decode()
            assert ModelCard(content).data.to_dict() == data.to_dict(), line
            assert ModelCard(str(card)).data.to_dict() == data.to_dict(), line
            assert yaml.safe_load(REGEX_YAML_BLOCK.search(content).group(2)), line
            if line.startswith(("merge tiny-llama", "quantize tiny-llama")):
                assert data.language == ["en", "no"] and data.eval_results[0].metric_value == 0.5, line
                assert '# what I know\nlanguage:\n- en\n- "no"\n' in content, line
        print(f"huggingface_hub reads the model cards of {len(COMMANDS)} commands")


main(sys.argv[1])
