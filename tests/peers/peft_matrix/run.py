"""The command: which cases run, how many at once, and what is printed."""

import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

GROUPS = ["custom", "decoders", "encoders", "seq2seq", "vision", "experts", "initial", "mixed", "tokens", "methods"]


def cases(only: str = "") -> dict:
    """Every case by its name."""
    from importlib import import_module

    found = {}
    for group in GROUPS:
        for case in import_module(f".{group}", __package__).cases():
            if case.name in found:
                raise ValueError(f"two cases are called {case.name}")
            found[case.name] = case
    return {name: case for name, case in found.items() if re.search(only, name)}


def quiet() -> None:
    """One thread each, and no word from the libraries."""
    import logging
    import warnings

    import torch
    from transformers.utils import logging as noise

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    noise.set_verbosity_error()
    noise.disable_progress_bar()


KNOWN: dict = {}


def one(name: str, program: str, keep: str | None) -> dict:
    """Runs a case in a worker, where all cases are made once."""
    from . import judge

    if not KNOWN:
        quiet()
        KNOWN.update(cases())
    start = time.monotonic()
    folder = pathlib.Path(keep or tempfile.gettempdir()) / re.sub(r"[^\w.-]+", "_", name)
    if keep is None:
        folder = pathlib.Path(tempfile.mkdtemp())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        row = judge.run(KNOWN[name], program, folder)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return row | {"seconds": round(time.monotonic() - start, 2)}


def table(rows: list[dict], outcomes: list[str]) -> str:
    """How often each outcome occurs in each group."""
    counts = collections.Counter((row["case"].split("/")[0], row["outcome"]) for row in rows)
    groups = list(dict.fromkeys(row["case"].split("/")[0] for row in rows))
    used = [outcome for outcome in outcomes if any(counts[group, outcome] for group in groups)]
    lines = [f"{'':10} " + "  ".join([*used, "all"])]
    for group in [*groups, "all"]:
        of = [group] if group != "all" else groups
        numbers = [sum(counts[name, outcome] for name in of) for outcome in used]
        cells = [f"{number:{len(head)}}" for head, number in zip([*used, "all"], [*numbers, sum(numbers)])]
        lines.append(f"{group:10} " + "  ".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Merges the cases of PEFT's test suite with PEFT and with lorakit.")
    parser.add_argument("lorakit")
    parser.add_argument("--only", default="", metavar="REGEX", help="only cases whose name matches")
    parser.add_argument("--json", default="peft-matrix.json", help="where to write every case")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the files of each case in a folder of this one")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="print the names of the cases and stop")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    names = list(cases(options.only))
    if options.list:
        print("\n".join(names))
        return
    program, start = str(pathlib.Path(options.lorakit).resolve()), time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        waiting = [pool.submit(one, name, program, options.keep) for name in names]
        rows = []
        for job in waiting:
            rows.append(job.result())
            if len(rows) % 20 == 0 or len(rows) == len(names):
                pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))
    from .judge import OUTCOMES

    for row in rows:
        if not OUTCOMES[row["outcome"]]:
            print(f"{row['outcome']}: {row['case']}: {(row.get('why') or row.get('stderr', ''))[-400:]}\n")
    print(table(rows, list(OUTCOMES)))
    print(f"{len(rows)} cases in {time.monotonic() - start:.0f} s; each in {options.json}")
    sys.exit(not all(OUTCOMES[row["outcome"]] for row in rows))
