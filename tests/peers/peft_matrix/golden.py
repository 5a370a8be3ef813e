"""Writes the cases of the matrix that CI repeats without torch: `fixtures/golden/peft-matrix`.

    python -m peft_matrix.golden LORAKIT    (in tests/peers)

Each case has its base (shared by cases with the same one), its adapters, and the tensors that the merge changes: PEFT's
own where lorakit's are equal bit for bit, else the truth in f64, rounded once. Cases that lorakit refuses have the kind
of the error. A case that the matrix calls wrong is not written, and makes this script fail.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import torch
from safetensors.torch import save_file

from . import judge, run

FOLDER = pathlib.Path(__file__).parents[3] / "fixtures/golden/peft-matrix"
LIMITS = 40, 400_000
#: What CI repeats: each kind of layer and each way to say what is adapted, once.
CASES = [
    *(f"custom/mlp/{name}" for name in ("both/bfloat16", "rslora", "save", "bias-all", "bias-lora", "lora-bias")),
    "custom/conv2d-groups/conv",
    "custom/mha/mha",
    "custom/mlp/bd-both",
    *(f"custom/mlp/{name}" for name in ("rank-anchored", "exclude", "parameter", "dora-lin0-lin1", "mica")),
    "custom/mlp-no-bias/lora-bias",
    "custom/deep/layers",
    *(f"custom/emb-conv1d/{name}" for name in ("both", "tokens", "dora-emb-conv1d")),
    "custom/embed-tokens/saved-True",
    "custom/conv1d/conv",
    "custom/conv1d-kernel1/conv",
    *(f"custom/conv2d/{name}" for name in ("conv-lin", "lora-bias/float16", "dora-conv2d")),
    "custom/conv2d-1x1/conv",
    "custom/conv3d/conv",
    "custom/parameters/both",
    "initial/three/patterns-rslora",
    "initial/wide/pissa-converted",
    *(f"mixed/mlp/{name}" for name in ("partly", "dora-lora", "save-once", "save-both", "dora-dora")),
    "mixed/emb-conv1d/tokens-different",
    *(f"decoders/llama-tied/{name}/bfloat16" for name in ("usual", "embed", "tokens", "grown-embed")),
]
#: What would belong here as well, if the limits allowed it.
LATER = [
    "custom/mlp/bias-all-save",
    "custom/mlp/velora-random",
    "custom/mlp/monteclora",
    "custom/mha/bias-all",
    "mixed/mlp/lora-dora",
    "mixed/simple/lora-loha",
    "methods/mlp/AdaLora-lin0-lin1",
    "methods/mlp/LoKr-lin0-decompose_factor=4-alpha=3",
    "methods/mlp/IA3-lin0-lin1-feedforward_modules=lin0+lin1",
    "tokens/pair/alone",
    "initial/wide/pissa",
    "experts/llama4/alpha-pattern-text/bfloat16",
    "experts/granite-moe/both",
    "decoders/llama-tied/grown-tokens",
    "encoders/bert-mlm/embed",
    "vision/resnet/convolution-save",
]


def written(name: str, case, program: str, work: pathlib.Path) -> dict | None:
    """Copies the case to the folder; returns its entry in the index."""
    row = judge.run(case, program, work)
    if not judge.OUTCOMES[row["outcome"]]:
        print(f"{row['outcome']}: {name}: {row.get('why')}", file=sys.stderr)
        return None
    base = f"{name.split('/')[1]}-{row['dtype']}"
    if not (FOLDER / "bases" / base).exists():
        copy(work / "base", FOLDER / "bases" / base)
    folder = name.replace("/", "-")
    for index in range(len(case.adapters)):
        copy(work / f"adapter{index}", FOLDER / folder / f"adapter{index}")
    entry = {"name": name, "folder": folder, "base": base, "adapters": len(case.adapters)}
    if row["outcome"].startswith("refused"):
        return entry | {"refused": row["kind"]}
    equal = row["outcome"] == "equal"
    before, wanted = judge.tensors(work / "base"), judge.tensors(work / ("peft" if equal else "truth"))
    rounded = {key: tensor if equal else tensor.to(case.dtype) for key, tensor in wanted.items()}
    changed = {k: t.contiguous() for k, t in rounded.items() if k not in before or not torch.equal(t, before[k])}
    save_file(changed, FOLDER / folder / "changed.safetensors")
    return entry | {"equal": equal, "dropped": sorted(before.keys() - wanted.keys())}


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """The tensors and the configurations of a folder."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".safetensors") and file.name != "generation_config.json":
            shutil.copyfile(file, target / file.name)


def main() -> None:
    run.quiet()
    known = run.cases()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    index = []
    for name in CASES:
        with tempfile.TemporaryDirectory() as work:
            index.append(written(name, known[name], str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(work)))
    (FOLDER / "matrix.json").write_text(json.dumps([entry for entry in index if entry], indent=1) + "\n")
    size = sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file())
    print(f"{len(index)} cases, {size / 1000:.0f} kB in {FOLDER}")
    sys.exit(None in index or len(index) > LIMITS[0] or size > LIMITS[1])


if __name__ == "__main__":
    main()
