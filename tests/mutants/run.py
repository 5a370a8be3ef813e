"""Plants faults in lorakit, one at a time, and sees that a test fails at each.

    python3 tests/mutants/run.py             all faults of faults.toml
    python3 tests/mutants/run.py fit verify  those whose names begin so
    python3 tests/mutants/run.py --check     only whether every fault still has its place; nothing is compiled

All faults are compiled at once into a copy of the sources, `target/mutants/tree`: each place becomes
`if crate::planted(N) { fault } else { what was there }`, and the file `target/mutants/planted` says which N is. So one
build serves all, and the working tree is never touched. Compiled dependencies are shared with other builds.

A fault in `faults.toml`:

    name   unique; begins with its area
    file   where, from the root of the repository
    old    the expression or statement that is wrong; `line` is a text around it if it is not unique in the file
    new    what is planted; empty for a statement that is left out
    test   the test binary, then filters of its tests: `it verify::spoiled`, `lib fit::tests`, `adapters uniform`

Fails if a place is gone or there twice, if a fault does not compile, if no test has the filter, if the tests fail
without a fault, and if a fault survives.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / "target" / "mutants"
TREE = HOME / "tree"
PLANTED = HOME / "planted"
# What tests of the command run.
COMMAND = ROOT / "target" / "debug" / "lorakit"
SECONDS = 900

# The package, the target and the source of the binary of a test.
BINARIES = {
    "it": ("lorakit-cli", "--test=it", "tests/it/main.rs"),
    "lib": ("lorakit", "--lib", "crates/lorakit/src/lib.rs"),
    "train": ("lorakit-train", "--lib", "crates/lorakit-train/src/lib.rs"),
    "adapters": ("lorakit", "--test=adapters", "crates/lorakit/tests/adapters.rs"),
}

# A file says which fault it is, because the command under test gets no environment.
SWITCH = """

/// Whether fault `number` is planted.
#[allow(warnings, clippy::all)]
#[doc(hidden)]
pub fn planted(number: u32) -> bool {
    static PLANTED: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        std::fs::read_to_string(%s).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    });
    *PLANTED == number
}
"""


def read_faults(chosen):
    faults = tomllib.loads((ROOT / "tests/mutants/faults.toml").read_text())["fault"]
    names = [fault["name"] for fault in faults]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two faults are called {twice}"
    for number, fault in enumerate(faults, 1):
        fault["number"] = number
    return [f for f in faults if not chosen or any(f["name"].startswith(c) for c in chosen)]


def place(fault, text):
    """Where the old text begins in `text`, or why it cannot be said."""
    line = fault.get("line", fault["old"])
    found = text.count(line)
    if found != 1:
        return None, f"`{line}` is {found} times in {fault['file']}"
    found = line.count(fault["old"])
    if found != 1:
        return None, f"`{fault['old']}` is {found} times in its line"
    return text.index(line) + line.index(fault["old"]), None


def plant(faults):
    """The texts of all files with their faults, each behind its number."""
    files, lost = {}, []
    by_file = {}
    for fault in faults:
        by_file.setdefault(fault["file"], []).append(fault)
    for file, own in by_file.items():
        path = ROOT / file
        text = path.read_text() if path.is_file() else ""
        places = []
        for fault in own:
            at, problem = place(fault, text)
            if problem:
                lost.append(f"{fault['name']}: {problem}")
            else:
                places.append((at, at + len(fault["old"]), fault))
        # The outermost and last first; faults in one expression are nested by planting the others in the old text.
        groups = []
        for start, end, fault in sorted(places, key=lambda p: (p[0], -p[1])):
            if groups and start < groups[-1][1]:
                groups[-1][2].append((start, end, fault))
                groups[-1][1] = max(groups[-1][1], end)
            else:
                groups.append([start, end, [(start, end, fault)]])
        for start, end, members in reversed(groups):
            text = text[:start] + planted(text, start, end, members) + text[end:]
        files[file] = text
    return files, lost


def planted(text, start, end, members):
    """`text[start:end]` with the faults of `members`, which overlap: each is a copy of all with one changed."""
    whole = text[start:end]
    statement = any(fault["new"] == "" or fault["old"].rstrip().endswith(";") for _, _, fault in members)
    result = whole
    for own_start, own_end, fault in members:
        changed = whole[: own_start - start] + fault["new"] + whole[own_end - start :]
        result = f"if crate::planted({fault['number']}) {{ {changed} }} else {{ {result} }}"
    return result if statement else f"({result})"


def copy_tree(files):
    """The sources as they are, without what git ignores, and the files with faults. Unchanged files stay untouched."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    names = [name for name in listed.stdout.decode().split("\0") if name and not name.startswith("fixtures/")]
    for name in names:
        source, target = ROOT / name, TREE / name
        if source.is_file():
            write(target, files[name].encode() if name in files else source.read_bytes())
    # What was moved or deleted since the last run would still be compiled.
    for old in TREE.rglob("*.rs"):
        if str(old.relative_to(TREE)) not in names and not old.is_relative_to(TREE / "fixtures"):
            old.unlink()
    if (ROOT / ".cargo").is_dir():
        shutil.copytree(ROOT / ".cargo", TREE / ".cargo", dirs_exist_ok=True)
    fixtures = TREE / "fixtures"
    if not fixtures.is_symlink():
        fixtures.symlink_to(ROOT / "fixtures")
    for crate in {name.split("/src/")[0] for name in files}:
        lib = TREE / crate / "src/lib.rs"
        text = lib.read_text() if crate + "/src/lib.rs" in files else (ROOT / crate / "src/lib.rs").read_text()
        write(lib, ("#![allow(warnings)]\n" + text + SWITCH % json.dumps(str(PLANTED))).encode())


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != content:
        path.write_bytes(content)


def build(kinds):
    """The test binaries, by kind; the command under test is built along, whose features all have."""
    packages = {"lorakit-cli"} | {BINARIES[kind][0] for kind in kinds}
    line = [os.environ.get("CARGO", "cargo"), "test", "--no-run", "--message-format=json-render-diagnostics"]
    line += [f"--package={package}" for package in sorted(packages)]
    line += sorted({BINARIES[kind][1] for kind in kinds}) + ["--target-dir", str(ROOT / "target")]
    # A profile of their own, or cargo would take them for the crates of the working tree, which have the same names. All
    # that depend on them follow.
    for crate in sorted({fault["file"].split("/")[1] for fault in read_faults([])}):
        line += ["--config", f"profile.dev.package.{crate}.codegen-units=255"]
    run = subprocess.run(line, cwd=TREE, stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit("a fault does not compile; the error above shows it in target/mutants/tree")
    built = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    built = [message for message in built if message.get("executable") and message["profile"]["test"]]
    sources = {str(Path(message["target"]["src_path"]).resolve()): message["executable"] for message in built}
    found = {kind: Path(sources[str((TREE / BINARIES[kind][2]).resolve())]) for kind in kinds}
    return {**found, "command": stamp(COMMAND)}


def stamp(path):
    """What tells one build of a program from another."""
    meta = path.stat()
    return meta.st_ino, meta.st_size, meta.st_mtime_ns


def run_tests(binaries, kind, filters, number):
    """The tests that fail with that fault; `None` if they took too long."""
    if kind == "it" and stamp(COMMAND) != binaries["command"]:
        sys.exit("another build has replaced target/debug/lorakit meanwhile: build nothing while this runs")
    binary = binaries[kind]
    PLANTED.write_text(str(number))
    # As cargo does: tests run in the folder of their package.
    package = TREE / "crates" / BINARIES[kind][0]
    environment = {**os.environ, "INSTA_UPDATE": "no", "CARGO_MANIFEST_DIR": str(package)}
    try:
        done = subprocess.run(
            [binary, *filters], cwd=package, capture_output=True, text=True, timeout=SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return None
    failed = re.findall(r"^test (\S+)(?: - should panic)? \.\.\. FAILED$", done.stdout, re.M)
    return failed or ["the whole binary"] * (done.returncode != 0)


def count_tests(binary, filters):
    listed = subprocess.run([binary, "--list", *filters], capture_output=True, text=True, check=True)
    return listed.stdout.count(": test\n")


def check_without_faults(binaries, faults):
    """Every filter must name tests, and all of them must pass."""
    filters = {kind: set() for kind in binaries if kind != "command"}
    for fault in faults:
        kind, *own = fault["test"].split()
        for name in own:
            if name not in filters[kind] and not count_tests(binaries[kind], [name]):
                sys.exit(f"no test matches `{name}` of {kind}, which `{fault['name']}` needs")
            filters[kind].add(name)
    for kind, names in filters.items():
        failed = run_tests(binaries, kind, sorted(names), 0)
        if failed or failed is None:
            sys.exit(f"without a fault, tests of {kind} fail: " + ", ".join(failed or ["they take too long"]))


def main(arguments):
    chosen = [argument for argument in arguments if not argument.startswith("-")]
    faults = read_faults(chosen)
    files, lost = plant(faults)
    if lost:
        sys.exit("these places are gone; say in faults.toml where they are now:\n  " + "\n  ".join(lost))
    if "--check" in arguments:
        print(f"all {len(faults)} faults have their place")
        return
    HOME.mkdir(parents=True, exist_ok=True)
    copy_tree(files)
    binaries = build({fault["test"].split()[0] for fault in faults})
    check_without_faults(binaries, faults)
    survivors, began = [], time.monotonic()
    for fault in faults:
        kind, *filters = fault["test"].split()
        failed = run_tests(binaries, kind, filters, fault["number"])
        seen = "no test fails" if failed == [] else f"{len(failed)} fail, as {failed[0]}" if failed else "never ends"
        print(f"{'SURVIVED' if failed == [] else 'killed  '}  {fault['name']}  ({seen})", flush=True)
        if failed == []:
            survivors.append(fault["name"])
    PLANTED.write_text("0")
    seconds = time.monotonic() - began
    print(f"{len(faults) - len(survivors)} of {len(faults)} killed in {seconds:.0f} seconds")
    if survivors:
        sys.exit("survivors: " + ", ".join(survivors))


main(sys.argv[1:])
