"""Runs one case and says what became of it."""

import json
import pathlib
import subprocess
import traceback

import torch
from safetensors import safe_open

from . import adapters, reasons, truth
from .case import Case

#: Outcomes, and whether they are as they should be.
OUTCOMES = {
    "equal": True,
    "within rounding": True,
    "refused as PEFT refuses": True,
    "refused with a reason": True,
    "no such adapter": True,
    "refused": False,
    "different": False,
    "crash": False,
    "broken case": False,
}
#: How far outputs may be off, as a part of what the adapter changes in them.
NEAR = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.05}


def tensors(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    """Every tensor of a folder."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as reader:
            found |= {name: reader.get_tensor(name) for name in reader.keys()}
    return found


def rounding(wanted: torch.Tensor, base: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """What one rounding to `dtype`, and a sum over the rank in f32, may change in each value."""
    largest = wanted.abs()
    if base is not None and base.shape == wanted.shape:
        largest = torch.maximum(largest, base.abs().double())
    tiny = 2.0**-24 if dtype == torch.float16 else 0.0
    return largest * torch.finfo(dtype).eps / 2 * 1.01 + 2e-6 * wanted.abs().mean() + 2e-6 * largest + tiny


def compare(found: dict, wanted: dict, base: dict, untied: bool, idle: tuple = ()) -> tuple[list[str], float]:
    """What is wrong with the merged tensors, and how far they are off in units of what rounding explains."""
    wrong, worst = [], 0.0
    # The sides of a pair that are no longer tied have two names, of which the output may use others.
    absent = [] if untied else sorted(set(wanted) - set(found))
    extra = [] if untied else sorted(set(found) - set(wanted))
    wrong += [f"{name} is missing" for name in absent] + [f"{name} is unexpected" for name in extra]
    for name in sorted((set(found) & set(wanted)) - set(idle)):
        one, other = found[name], wanted[name]
        if one.shape != other.shape:
            wrong.append(f"{name} is {list(one.shape)}, not {list(other.shape)}")
            continue
        if not one.is_floating_point():
            wrong += [] if torch.equal(one, other) else [f"{name} differs"]
            continue
        off = (one.double() - other.double()).abs() / (rounding(other.double(), base.get(name), one.dtype) + 1e-300)
        far = off.max().item() if off.numel() else 0.0
        worst = max(worst, far)
        if not far <= 1:
            changed = base.get(name) is not None and torch.equal(one, base[name])
            wrong.append(f"{name} is off by {far:.3g} roundings" + (", unchanged" if changed else ""))
    return wrong, worst


def identical(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        x.dtype == other[name].dtype and torch.equal(x, other[name]) for name, x in one.items()
    )


def distance(one: torch.Tensor, other: torch.Tensor, plain: torch.Tensor) -> float:
    """How far outputs are off, as a part of what the adapter changes."""
    if one.shape != other.shape:
        return float("inf")
    moved = (other - plain).norm() if other.shape == plain.shape else other.norm()
    return ((one - other).norm() / moved.clamp_min(1e-12)).item()


def reference(case: Case, base: pathlib.Path, folders: list, work: pathlib.Path, row: dict):
    """The outputs of the live model, and the tensors of the truth in `work/truth`."""
    plain = case.base.outputs(case.base.load(base, case.exact))
    row["untied"] = False
    try:
        live = adapters.live(case, base, folders, case.exact)
        wanted = case.base.outputs(live)
    except Exception as error:
        # PEFT does not use these adapters together, or not in this model: one is the base of the next.
        row["truth"] = f"PEFT, one after another: {type(error).__name__}: {error}"[:300]
        model = adapters.stacked(case, base, folders)
        wanted = case.base.outputs(model)
    else:
        with torch.no_grad():
            model = case.prepare(case.base.load(base, case.exact))
            try:
                row["untied"] = truth.apply(model, truth.values(live))
                row["truth"] = "rule"
            except truth.Unknown as layer:
                row["truth"] = f"PEFT in f64: {layer}"
                model = adapters.merged(live)
    case.base.store(model, work / "truth")
    outputs = case.base.outputs(model)
    row["truth_outputs"] = distance(outputs, wanted, plain)
    return (outputs if case.unlike_live else wanted), plain


def peer(case: Case, base: pathlib.Path, folders: list, work: pathlib.Path, row: dict) -> bool:
    """PEFT's own merge, in `work/peft`."""
    try:
        model = adapters.merged(adapters.live(case, base, folders, case.dtype))
        case.base.store(model, work / "peft")
    except Exception as error:
        row["peft"] = f"{type(error).__name__}: {error}"[:300]
        return False
    return True


def run(case: Case, program: str, work: pathlib.Path) -> dict:
    """The row of a case."""
    row = {"case": case.name, "dtype": str(case.dtype).removeprefix("torch.")}
    try:
        row["outcome"] = outcome(case, program, work, row)
    except Exception:
        row["outcome"] = "broken case"
        row["why"] = traceback.format_exc()[-4000:]
    return row


def outcome(case: Case, program: str, work: pathlib.Path, row: dict) -> str:
    base, folders = work / "base", [work / f"adapter{index}" for index in range(len(case.adapters))]
    case.base.save(base, case.dtype)
    try:
        adapters.make(case, base, folders)
    except Exception as error:
        row["why"] = f"{type(error).__name__}: {error}"[:300]
        return "no such adapter"
    merged = peer(case, base, folders, work, row)
    out = work / "out"
    done = subprocess.run([program, "merge", base, *folders, "-o", out, "--json"], capture_output=True, text=True)
    row["exit"], row["stderr"] = done.returncode, done.stderr[-3000:]
    if done.returncode < 0 or done.returncode > 3:
        return "crash"
    if done.returncode:
        error = json.loads(done.stderr.strip().splitlines()[-1])["error"]
        row["kind"], row["why"] = error["kind"], " | ".join([error["message"], *error["details"]])[:600]
        if not merged:
            return "refused as PEFT refuses"
        row["reason"] = reasons.why(row["why"])
        return "refused with a reason" if row["reason"] else "refused"
    return judged(case, base, folders, work, row, merged)


def judged(case: Case, base: pathlib.Path, folders: list, work: pathlib.Path, row: dict, merged: bool) -> str:
    """The outcome of a merge that lorakit says has succeeded."""
    wanted, plain = reference(case, base, folders, work, row)
    found, before = tensors(work / "out"), tensors(base)
    wrong, row["roundings"] = compare(found, tensors(work / "truth"), before, row["untied"], case.idle)
    try:
        row["outputs"] = distance(case.base.outputs(case.base.load(work / "out", case.exact)), wanted, plain)
    except Exception as error:
        wrong.append(f"the output does not load: {error}"[:400])
    if row["truth_outputs"] > 1e-4 and not case.unlike_live:
        wrong.append(f"the truth itself is {row['truth_outputs']:.2e} off the live model")
    if not row.get("outputs", 0) <= NEAR[case.dtype]:
        wrong.append(f"outputs are {row['outputs']:.2e} off those of the live model")
    same = merged and identical(found, tensors(work / "peft"))
    row["as_peft"] = same
    row["why"] = " | ".join(wrong)[:800]
    if wrong:
        return "different"
    return "equal" if same else "within rounding"
