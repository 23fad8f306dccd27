#!/usr/bin/env bash
# Proves that every memory ordering is needed: weakens one at a time, and requires that a model turns red.
#
# Acquire and Release become Relaxed; AcqRel becomes Relaxed, Acquire and Release in turn. A site is named by its
# file, function and ordering, and a number where those repeat. A site that survives must be listed in
# docs/TESTING.md, with the reason. Not part of the normal run: it takes about half an hour on two cores.
#
# Arguments are parts of site names: `ci/orderings.sh link.rs 'count.rs take'` tries those only.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="${RUSTFLAGS:-} --cfg loom --cfg crossbeam_loom --cfg crossbeam_sanitize"
export RUST_BACKTRACE=0
export work
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Kept between runs, for what doesn't change.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/loom-tests/target/orderings}"
export CARGO_PROFILE_RELEASE_DEBUG=false

if git grep -nE '\bfence\(' -- src; then
    echo "a fence: this script can't take fences out yet" >&2
    exit 2
fi

# A copy in which each ordering asks at run time what it is today: one build serves all sites.
mkdir "$work/copy"
tar -c --exclude=target --exclude=.git . | tar -x -C "$work/copy"
while read -r file; do
    awk -v file="$file" -v sites="$work/sites" '
        /^ *\/\// { print; next }
        /(^| )fn [a-z_]+/ { name = $0; sub(/.*fn /, "", name); sub(/[^a-z_0-9].*/, "", name) }
        {
            done = ""
            rest = $0
            while (match(rest, /Ordering::(Acquire|Release|AcqRel|SeqCst)/)) {
                order = substr(rest, RSTART + 10, RLENGTH - 10)
                site = file " " name " " order
                sub(/^src\/(table\/|sync\/|finalize\/)?/, "", site)
                site = site (++seen[site] > 1 ? " " seen[site] : "")
                done = done substr(rest, 1, RSTART - 1) "crate::table::primitive::earned(\"" site "\", Ordering::" order ")"
                rest = substr(rest, RSTART + RLENGTH)
                print site "|" file ":" NR "|" order >> sites
            }
            print done rest
        }' "$file" > "$work/copy/$file"
done < <(git grep -lE 'Ordering::(Acquire|Release|AcqRel|SeqCst)' -- src)
cat >> "$work/copy/src/table/primitive/mod.rs" << 'END'

/// The ordering of a site: weaker if `WEAKEN` names it. Notes in `REACHED` that a model came here.
pub(crate) fn earned(site: &'static str, order: Ordering) -> Ordering {
    use std::io::Write;
    use std::sync::{LazyLock, Mutex};
    static WEAKEN: LazyLock<Option<(String, Ordering)>> = LazyLock::new(|| {
        let weaken = std::env::var("WEAKEN").ok()?;
        let (site, order) = weaken.split_once('=').unwrap();
        let order = match order {
            "Relaxed" => Ordering::Relaxed,
            "Acquire" => Ordering::Acquire,
            "Release" => Ordering::Release,
            other => panic!("{other} is no ordering"),
        };
        Some((site.to_owned(), order))
    });
    static REACHED: LazyLock<Option<Mutex<(std::fs::File, std::collections::HashSet<&str>)>>> =
        LazyLock::new(|| {
            let file = std::fs::File::create(std::env::var_os("REACHED")?).unwrap();
            Some(Mutex::new((file, Default::default())))
        });
    if let Some(reached) = &*REACHED {
        let (file, seen) = &mut *reached.lock().unwrap();
        if seen.insert(site) {
            writeln!(file, "{site}").unwrap();
        }
    }
    match &*WEAKEN {
        Some((weak, order)) if weak == site => *order,
        _ => order,
    }
}
END

# The models, the quick ones first, and which sites each of them comes to.
cargo test --manifest-path "$work/copy/loom-tests/Cargo.toml" --release --no-run 2>&1 | tee "$work/build" |
    sed -n 's/.*Executable tests.*(\(.*\))$/\1/p' > "$work/binaries"
[[ -s $work/binaries ]] || { cat "$work/build"; exit 2; }
reach() {
    local binary=$1 model=$2 from=$EPOCHREALTIME
    REACHED=$work/reached.$model timeout 600 "$binary" --exact "$model" > "$work/$model.log" 2>&1 ||
        { echo "$model fails without any change" >&2; cat "$work/$model.log" >&2; exit 255; }
    printf '%s %s %s\n' "$(((${EPOCHREALTIME/./} - ${from/./}) / 1000))" "$binary" "$model" >> "$work/models"
}
export -f reach
while read -r binary; do
    "$binary" --list 2> /dev/null | sed -n "s|\(.*\): test$|$binary \1|p"
done < "$work/binaries" | xargs -P "$(nproc)" -L 1 bash -c 'reach "$@"' reach
sort -n -o "$work/models" "$work/models"
printf '%d sites, %d models\n' "$(wc -l < "$work/sites")" "$(wc -l < "$work/models")"

row() { printf '%-44s | %-26s | %-7s | %s\n' "$@"; }
try() {
    local site=$1 place=$2 order=$3 milliseconds binary model reached=0
    while read -r milliseconds binary model; do
        grep -qxF "$site" "$work/reached.$model" || continue
        reached=$((reached + 1))
        # A model that doesn't end is red as well. The braces catch what bash says of one that aborts.
        if ! { WEAKEN="$site=$order" timeout 600 "$binary" --exact "$model" > /dev/null; } 2> /dev/null; then
            row "$site" "$place" "$order" "red: $model"
            return
        fi
    done < "$work/models"
    if grep -qF "| \`$site\` | $order |" docs/TESTING.md; then
        row "$site" "$place" "$order" "survives $reached models, as listed"
    else
        row "$site" "$place" "$order" "SURVIVES $reached models"
    fi
}
export -f row try
row site place becomes result
while IFS='|' read -r site place order; do
    if (($#)) && ! grep -qF "${@/#/-e}" <<< "$site"; then continue; fi
    printf '%s\0%s\0%s\0' "$site" "$place" Relaxed
    if [[ $order != Acquire && $order != Release ]]; then
        printf '%s\0%s\0%s\0' "$site" "$place" Acquire "$site" "$place" Release
    fi
done < "$work/sites" | xargs -0 -P "$(nproc)" -n 3 bash -c 'try "$@"' try | tee "$work/table"

# What is listed must be true: a row of a site that is red by now, or gone, is out of date.
outdated=0
if ! (($#)); then
    while IFS='|' read -r _ site order _; do
        site=${site# \`} site=${site%\` }
        if ! awk -F ' *[|] *' -v site="$site" -v order="${order// /}" \
            '$1 == site && $3 == order && /survives/ { found = 1 } END { exit !found }' "$work/table"; then
            echo "listed in docs/TESTING.md, but doesn't survive:$site, $order"
            outdated=1
        fi
    done < <(grep -E '^\| `[a-z_]+\.rs [a-z_]+ (Acquire|Release|AcqRel|SeqCst)( [0-9]+)?` \|' docs/TESTING.md)
fi
echo "$(grep -c 'red:' "$work/table") red, $(grep -c 'as listed' "$work/table") survive as listed," \
    "$(grep -c SURVIVES "$work/table") survive"
! grep -q SURVIVES "$work/table" && ((!outdated))
