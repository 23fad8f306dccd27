#!/usr/bin/env bash
# Runs the crate under tools that see what its tests alone don't: AddressSanitizer with LeakSanitizer,
# ThreadSanitizer, Miri. Each needs a nightly toolchain. Nothing is installed: a tool that isn't there is named, in
# the summary too, and is no failure.
# Arguments choose tools: `ci/sanitizers.sh address thread miri`. Not part of the normal run: some minutes each.
set -uo pipefail
cd "$(dirname "$0")/.."

export RUST_BACKTRACE=0 RUSTUP_AUTO_INSTALL=0
folder=${CARGO_TARGET_DIR:-$PWD/target}/sanitizers
host=$(rustc -vV | sed -n 's/^host: //p')

started=$SECONDS
passed=()
failed=()
missing=()

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

# lacks NAME REASON: says that something isn't run.
lacks() {
    printf '\n==> %s\n******** NOT RUN: %s ********\n' "$@"
    missing+=("$1: $2")
}

# sanitizer NAME COMMAND: runs a sanitizer, if there is what it needs.
sanitizer() {
    if ! cargo +nightly --version > /dev/null 2>&1; then
        lacks "$1" 'no nightly toolchain'
    # It gives functions the names that suppressions go by.
    elif ! command -v llvm-symbolizer > /dev/null; then
        lacks "$1" 'no llvm-symbolizer'
    else
        step "$@"
    fi
}

# Miri builds a std of its own.
has_miri() {
    cargo +nightly miri --version > /dev/null 2>&1 &&
        [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ]
}

# All tests, and those of the documentation, but one: it measures resident memory, which is mostly the tool's.
# Nodes aren't used again without the allocator, by which the tool knows them.
address() {
    local flags='-Zsanitizer=address --cfg hapax_no_reuse'
    RUSTFLAGS=$flags RUSTDOCFLAGS=$flags CARGO_TARGET_DIR=$folder/address \
        LSAN_OPTIONS=suppressions=$PWD/ci/lsan.supp \
        cargo +nightly test --no-fail-fast --all-features --target "$host" -- \
        --skip an_entry_takes_55_bytes_of_resident_memory_beside_a_string_of_30
}

# A program with a `main` of its own. std isn't built with the sanitizer, so that it doesn't see how the test
# harness orders its threads, and takes that for races. The first race ends the program.
thread() {
    RUSTFLAGS='-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer' CARGO_TARGET_DIR=$folder/thread \
        CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true \
        cargo +nightly build --release --example soak --target "$host" &&
        TSAN_OPTIONS="suppressions=$PWD/ci/tsan.supp halt_on_error=1" \
            "$folder/thread/$host/release/examples/soak" \
            --seconds 75 --threads 4 --growth 3000 --ignore-memory
}

# interpret SEEDS TESTS…: runs tests in Miri, once for each of the seeds of its choices. Tables are tiny there, and
# tests do little: see `cfg(miri)`.
#
# Neither strict provenance nor a model of aliasing can be asked for: crossbeam-epoch 0.9 makes pointers from
# integers, and fits neither of the models (crossbeam issues 545 and 1181). What it holds in the end counts as
# leaked (issue 579); the tests count their values themselves.
interpret() {
    local seeds=$1
    shift
    MIRIFLAGS="-Zmiri-permissive-provenance -Zmiri-disable-stacked-borrows -Zmiri-ignore-leaks \
        -Zmiri-many-seeds=$seeds" CARGO_TARGET_DIR=$folder/miri \
        cargo +nightly miri test --all-features "$@"
}

for tool in "${@:-all}"; do
    case $tool in
    address | thread | miri | all) ;;
    *)
        echo "sanitizers.sh: no tool '$tool'; there are address, thread and miri" >&2
        exit 2
        ;;
    esac
done

# chosen TOOL: whether the arguments name it.
arguments=" ${*:-all} "
chosen() {
    [[ $arguments == *" all "* || $arguments == *" $1 "* ]]
}

if chosen address; then
    sanitizer 'AddressSanitizer, LeakSanitizer' address
fi
if chosen thread; then
    sanitizer ThreadSanitizer thread
fi
if chosen miri && has_miri; then
    step 'Miri, one seed' interpret 0..1 --lib --test interner --test handles --test map --test identity \
        --test guarantees --test bad_input
    step 'Miri, many seeds' interpret 0..32 --test stress --test same_address
elif chosen miri; then
    lacks Miri 'no Miri, or no source of std, in the nightly toolchain'
fi

printf '\n==> summary, after %d s\n' $((SECONDS - started))
((${#passed[@]} == 0)) || printf 'ok       %s\n' "${passed[@]}"
((${#failed[@]} == 0)) || printf 'FAILED   %s\n' "${failed[@]}"
((${#missing[@]} == 0)) || printf 'NOT RUN  %s\n' "${missing[@]}"
printf '%d passed, %d failed, %d not run\n' "${#passed[@]}" "${#failed[@]}" "${#missing[@]}"
((${#failed[@]} == 0))
