#!/usr/bin/env bash
# Proves that the models can fail: puts one bug at a time into a copy of the crate, and requires that what the bug's
# patch names turns red: a model or scenario of the package that the patch lies in (`file::model`), or a test of the
# normal suite (`tests/file::test`). Not part of the normal run: some ten minutes.
# Arguments are parts of patch names: `ci/seeds.sh 03 busy` tries some only.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A flags=(
    [loom-tests]="${RUSTFLAGS:-} --cfg loom --cfg crossbeam_loom --cfg crossbeam_sanitize"
    [shuttle-tests]="${RUSTFLAGS:-} --cfg shuttle --cfg crossbeam_sanitize"
    [.]="${RUSTFLAGS:-}"
)
export RUST_BACKTRACE=0
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
# Kept between runs, so that only what a patch touches is built.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/loom-tests/target/seeds}"
export CARGO_PROFILE_RELEASE_DEBUG=false
tar -c --exclude=target --exclude=.git . | tar -x -C "$copy"

survivors=0
row() { printf '%-32s | %-72s | %s\n' "$@"; }
row seed model result
for patch in "$PWD"/{loom,shuttle}-tests/seeds/*.patch; do
    package=$(basename "${patch%/seeds/*}")
    name=${package%-tests}/$(basename "$patch" .patch)
    if (($#)) && ! grep -qF "${@/#/-e}" <<<"$name"; then continue; fi
    read -ra models < <(sed -n '1s/.*Red: //p' "$patch")
    rm -rf "$copy/src" && cp -r src "$copy/src"
    if ! patch -s -p1 -d "$copy" <"$patch"; then
        row "$name" - "the patch doesn't apply"
        survivors=$((survivors + 1))
        continue
    fi
    find "$copy/src" -name '*.rs' -exec touch {} +
    for model in "${models[@]}"; do
        where=$package file=${model#tests/}
        [[ $model == tests/* ]] && where=.
        run=(env "RUSTFLAGS=${flags[$where]}" cargo test --quiet --manifest-path "$copy/$where/Cargo.toml" --release
            --test "${file%%::*}")
        if ! "${run[@]}" --no-run >"$copy/log" 2>&1; then
            row "$name" "$model" "doesn't build"
            survivors=$((survivors + 1))
        # A model that doesn't end is red as well.
        elif timeout 180 "${run[@]}" -- --exact "${model##*::}" >"$copy/log" 2>&1; then
            row "$name" "$model" "SURVIVED"
            survivors=$((survivors + 1))
        else
            row "$name" "$model" red
        fi
    done
done
exit $((survivors > 0))
