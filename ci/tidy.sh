#!/usr/bin/env bash
# Rules of this repository that no other tool checks.
set -uo pipefail
cd "$(dirname "$0")/.."

status=0

# complain RULE LINES: reports what breaks a rule.
complain() {
    [ -z "$2" ] && return
    printf 'tidy: %s\n%s\n' "$1" "$2"
    status=1
}

complain 'atomics go through table/primitive, so that loom and shuttle see them' \
    "$(git grep -nE '(std|core)::sync::atomic' -- src | grep -v '^src/table/primitive/' | grep -vE '^[^:]+:[0-9]+: *//[/!]')"
complain 'sync blocks through sync/primitive, so that loom and shuttle see it' \
    "$(git grep -nE 'parking_lot::|thread::park' -- src/sync | grep -v '^src/sync/primitive/' | grep -vE '^[^:]+:[0-9]+: *//[/!]')"
complain 'crossbeam-epoch is called from table/retire.rs only' \
    "$(git grep -n 'crossbeam_epoch' -- src | grep -v '^src/table/retire.rs:' | grep -vE '^[^:]+:[0-9]+: *//[/!]')"
complain 'nothing unfinished' \
    "$(git grep -nE 'todo!|FIXME|XXX|#\[ignore\]' -- '*.rs')"
complain 'SeqCst hides an argument that nobody made' \
    "$(git grep -n 'SeqCst' -- src | grep -vE '^[^:]+:[0-9]+: *//[/!]')"
complain 'a file of more than 900 lines holds two concepts' \
    "$(git ls-files 'src/*.rs' | xargs wc -l | awk '$2 != "total" && $1 > 900')"
complain 'every atomic access says why its ordering suffices, nearby' \
    "$(for file in src/table/*.rs src/sync/*.rs src/sync/*/*.rs src/finalize/*.rs; do
        awk -v file="$file" '
            /(Relaxed|Acquire|Release|AcqRel)[:. ]/ && /\/\// { said = NR }
            /^use |maybe_const_fn,$/ { next }
            /Ordering::(Relaxed|Acquire|Release|AcqRel)/ && !/\/\// && NR - said > 14 { print file ":" NR ": " $0 }
        ' "$file"
    done)"
complain 'lock files stay out' "$(git ls-files | grep 'Cargo.lock$')"

exit $status
