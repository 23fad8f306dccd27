#!/usr/bin/env bash
# Runs `shuttle-tests`: programs of four to eight threads under random schedules, and each operation with its
# thread stopped at each of its steps while all others go on.
# Arguments go to cargo: `ci/shuttle.sh --test map` runs one file. `HAPAX_SHUTTLE_TIMES=50` makes the run so many
# times as long.
#
# A schedule that fails is printed. To run it again, and no other, copy its lines to a file and name the test:
#     HAPAX_SHUTTLE_REPLAY=/tmp/schedule ci/shuttle.sh --test map values_are_built_once
# The tests of `lock_freedom` have the same schedules each time: to run such a test again, just run it.
set -euo pipefail
cd "$(dirname "$0")/../shuttle-tests"

# `shuttle` switches this crate; `crossbeam_sanitize` gives the collector bags of four, so that memory is given
# back within an execution.
export RUSTFLAGS="${RUSTFLAGS:-} --cfg shuttle --cfg crossbeam_sanitize"
# Apart from other builds, which have other flags.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

exec cargo test --release "$@" -- --test-threads="$(nproc)" --nocapture
