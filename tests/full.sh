#!/usr/bin/env bash
# What takes too long for CI: damaged files by the thousand, every verb on 200,000 tensors, peers that need torch,
# and planted faults.
# Needs what `.ci/run` installs, and 6 GB in /dev/shm. Arguments choose parts: `tests/full.sh mutation peft`.
set -euo pipefail
cd "$(dirname "$0")/.."

mutation() {
    # A new seed each time: a failure names it, and `LORAKIT_MUTATION_RUN` repeats one run.
    export LORAKIT_MUTATIONS=${LORAKIT_MUTATIONS:-20000} LORAKIT_MUTATION_SEED=${LORAKIT_MUTATION_SEED:-$RANDOM}
    echo "$LORAKIT_MUTATIONS damaged files, seed $LORAKIT_MUTATION_SEED"
    cargo test --workspace --test it -- mutation
}

many() {
    cargo build --release --workspace
    target/release/lorakit-benches many --once --stop --verbose
}

peft() {
    python3 -m venv target/peft
    target/peft/bin/pip install --quiet --disable-pip-version-check torch peft transformers diffusers attrs
    cargo build --workspace
    for peer in extract_peft peft_methods peft_loads tied_families diffusers_loads; do
        target/peft/bin/python "tests/peers/$peer.py" target/debug/lorakit
    done
}

mutants() {
    python3 tests/mutants/run.py
}

# Every LoRA case of PEFT's test suite, merged by both.
matrix() {
    target/peft/bin/python tests/peers/peft_matrix.py target/debug/lorakit --json target/peft-matrix.json
}

for part in "${@:-mutation many peft matrix mutants}"; do
    for name in $part; do
        echo "== $name"
        "$name"
    done
done
