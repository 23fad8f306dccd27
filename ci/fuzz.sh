#!/usr/bin/env bash
# Runs each fuzz target for a while, from its corpus on, and fails if one finds something. Not part of the normal
# run, which replays the corpora.
#
#   ci/fuzz.sh [SECONDS [TARGET…]]     each target for so many seconds, 60 if nothing is said
#   ci/fuzz.sh minimise [TARGET…]      adds what was found since to the corpora, and makes them small again
#
# Needs a nightly toolchain and cargo-fuzz.
set -uo pipefail
cd "$(dirname "$0")/.."

# As long as a program of the most steps, with the longest records.
longest=2100
# Inputs that reach something new. Kept between runs, and apart from the corpora, which change on purpose only.
found=fuzz/artifacts/found

refuse() {
    printf '\nFUZZING WAS NOT DONE: %s\n\n' "$1" >&2
    exit 1
}
cargo +nightly --version > /dev/null 2>&1 ||
    refuse 'there is no nightly toolchain; rustup toolchain install nightly'
cargo +nightly fuzz --version > /dev/null 2>&1 ||
    refuse 'there is no cargo-fuzz; cargo install cargo-fuzz'

# run TARGET SECONDS: says which file to replay, and how, if something is found.
run() {
    local target=$1 seconds=$2 started=fuzz/artifacts/$1/.started artifact
    mkdir -p "$found/$target" "fuzz/artifacts/$target"
    touch "$started"
    cargo +nightly fuzz run "$target" "$found/$target" "fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=$longest -timeout=120 -print_final_stats=1 && return
    printf '\nFUZZING FAILED: %s\n' "$target" >&2
    find "fuzz/artifacts/$target" -type f -newer "$started" | while read -r artifact; do
        printf 'to replay:           cargo +nightly fuzz run %s %s\n' "$target" "$artifact"
        printf 'to replay for good:  cp %s fuzz/corpus/%s/ && cargo test --all-features --test operations %s\n' \
            "$artifact" "$target" "the_corpus_of_$target"
    done >&2
    return 1
}

# minimise TARGET: keeps what is needed to run the same code. How often it runs doesn't count, or the corpus
# would be ten times as large.
minimise() {
    local target=$1
    mkdir -p "$found/$target"
    find "$found/$target" -type f -exec cp -t "fuzz/corpus/$target" {} +
    cargo +nightly fuzz cmin "$target" -- -set_cover_merge=1 -use_counters=0 -max_len=$longest
    printf '%s: %s files\n' "$target" "$(find "fuzz/corpus/$target" -type f | wc -l)"
}

what=${1:-60}
shift
(($#)) || set -- interner map serde hostile
failed=()
for target; do
    printf '\n==> %s\n' "$target"
    if [ "$what" = minimise ]; then
        minimise "$target" || failed+=("$target")
    else
        run "$target" "$what" || failed+=("$target")
    fi
done
((${#failed[@]} == 0)) || printf '\nFAILED  %s\n' "${failed[@]}" >&2
((${#failed[@]} == 0))
