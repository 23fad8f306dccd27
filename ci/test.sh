#!/usr/bin/env bash
# Everything that must be true before a change lands. Runs the same by hand and in CI.
set -uo pipefail
cd "$(dirname "$0")/.."

# Everything is built once, and backtraces need no more than lines.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only CARGO_PROFILE_TEST_DEBUG=line-tables-only

started=$SECONDS
passed=()
failed=()

# step NAME COMMAND…: runs one step, goes on if it fails, and remembers how it went.
step() {
    local name=$1 from=$SECONDS
    shift
    printf '\n==> %s\n' "$name"
    if "$@"; then
        passed+=("$name ($((SECONDS - from)) s)")
    else
        failed+=("$name ($((SECONDS - from)) s)")
    fi
}

# Documentation must not have a warning, for users or for developers.
documentation() {
    RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features &&
        RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features --document-private-items
}

# The packages beside the library.
packages() {
    for package in loom-tests shuttle-tests fuzz benches/peers; do
        cargo fmt --check --manifest-path "$package/Cargo.toml" || return 1
    done
    cargo clippy --manifest-path benches/peers/Cargo.toml --all-targets -- -D warnings &&
        RUSTFLAGS='--cfg loom --cfg crossbeam_loom --cfg crossbeam_sanitize' \
            cargo clippy --manifest-path loom-tests/Cargo.toml --all-targets -- -D warnings &&
        RUSTFLAGS='--cfg shuttle --cfg crossbeam_sanitize' \
            cargo clippy --manifest-path shuttle-tests/Cargo.toml --all-targets -- -D warnings
}

for component in cargo-fmt cargo-clippy; do
    command -v "$component" > /dev/null && continue
    rustup component add "${component/cargo-fmt/rustfmt}" || exit 1
done
ci/redis.sh || exit 1

step 'tidy' ci/tidy.sh
step 'fmt' cargo fmt --all --check
step 'clippy, all features' cargo clippy --workspace --all-targets --all-features -- -D warnings
step 'clippy, no features' cargo clippy --all-targets --no-default-features -- -D warnings
step 'clippy, the command without Redis' cargo clippy --package hapax-cli --all-targets --no-default-features -- -D warnings
step 'packages: fmt and clippy' packages
step 'tests, examples and the command, all features' cargo test --workspace --all-features --no-fail-fast
step 'tests and examples, no features' cargo test --no-default-features
# Where the optimiser may matter. What processes and servers do to locks it doesn't change.
step 'tests, optimised' cargo test --profile optimised --features serde,sync --tests
step 'documentation' documentation
step 'comparison: what the peers do' cargo test --manifest-path benches/peers/Cargo.toml
step 'loom' ci/loom.sh
step 'shuttle' ci/shuttle.sh

printf '\n==> summary, after %d s\n' $((SECONDS - started))
printf 'ok      %s\n' "${passed[@]}"
((${#failed[@]} == 0)) || printf 'FAILED  %s\n' "${failed[@]}"
printf '%d passed, %d failed\n' "${#passed[@]}" "${#failed[@]}"
((${#failed[@]} == 0))
