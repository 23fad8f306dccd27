#!/usr/bin/env bash
# Proves that models and scenarios can fail: puts one bug at a time into a copy of the crate, and requires that
# the tests which the bug's patch names turn red. Not part of the normal run: a quarter of an hour.
# A patch's first line names tests of the package that it lies with (`file::test`) or of the normal suite
# (`tests/file::test`), the second perhaps some of `shuttle-tests`.
# Arguments are parts of patch names: `ci/seeds.sh 03 busy` tries some only.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A cfgs=(
    [loom-tests]='--cfg loom --cfg crossbeam_loom --cfg crossbeam_sanitize'
    [shuttle-tests]='--cfg shuttle --cfg crossbeam_sanitize'
    [.]=''
)
export RUST_BACKTRACE=0 CARGO_PROFILE_RELEASE_DEBUG=false
# Kept between runs, so that only what a patch touches is built.
target=${CARGO_TARGET_DIR:-$PWD/target/seeds}
mkdir -p "$target"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
tar -c --exclude=target --exclude=.git . | tar -x -C "$copy"

survivors=0
row() { printf '%-36s | %-52s | %s\n' "$@"; }

# survivor NAME TEST HOW: reports what should have turned red.
survivor() {
    row "$@"
    survivors=$((survivors + 1))
}

# must_fail NAME PACKAGE FILE::TEST
must_fail() {
    local name=$1 package=$2 test=${3#tests/}
    [[ $3 != tests/* ]] || package=.
    local run=(env RUSTFLAGS="${RUSTFLAGS:-} ${cfgs[$package]}" CARGO_TARGET_DIR="$target/$package"
        cargo test --quiet --manifest-path "$copy/$package/Cargo.toml" --release --test "${test%%::*}")
    [[ $package != . ]] || run+=(--all-features)
    if ! "${run[@]}" --no-run >"$copy/log" 2>&1; then
        survivor "$name" "$test" "doesn't build"
    # A test that doesn't end is red as well.
    elif timeout 180 "${run[@]}" -- --exact "${test#*::}" >"$copy/log" 2>&1; then
        survivor "$name" "$test" 'SURVIVED'
    else
        row "$name" "$test" red
    fi
}

row seed test result
for patch in loom-tests/seeds/*.patch shuttle-tests/seeds/*.patch; do
    name=$(basename "$patch" .patch)
    if (($#)) && ! grep -qF "${@/#/-e}" <<<"$name"; then continue; fi
    read -ra own < <(sed -n '1s/.*Red: //p' "$patch") || true
    read -ra more < <(sed -n '2s/^# Under shuttle: //p' "$patch") || true
    rm -rf "$copy/src" && cp -r src "$copy/src"
    if ! patch -s -p1 -d "$copy" <"$patch"; then
        survivor "$name" - "the patch doesn't apply"
        continue
    fi
    find "$copy/src" -name '*.rs' -exec touch {} +
    for test in "${own[@]}"; do must_fail "$name" "${patch%%/*}" "$test"; done
    for test in "${more[@]}"; do must_fail "$name" shuttle-tests "$test"; done
done
exit $((survivors > 0))
