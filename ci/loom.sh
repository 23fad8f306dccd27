#!/usr/bin/env bash
# Runs the models of `loom-tests`: every interleaving of small races, up to a number of preemptions.
# Arguments go to cargo: `ci/loom.sh --test count` runs one file.
set -euo pipefail
cd "$(dirname "$0")/../loom-tests"

# `loom` switches this crate, `crossbeam_loom` the collector; `crossbeam_sanitize` gives it bags of four, so
# that memory is given back within a model.
export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom --cfg crossbeam_loom --cfg crossbeam_sanitize"
# Apart from other builds, which have other flags.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

exec cargo test --release "$@" -- --test-threads="$(nproc)" --nocapture
