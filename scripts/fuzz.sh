#!/usr/bin/env bash
# Builds the fuzz targets of chaos-tests/fuzz and runs each for some time, one after the other. Status 1: one of them found
# something; it says which input, and how to run it again. Writes nothing into the checkout.
#
#   SECONDS_EACH=60       how long each runs
#   TARGET=client_frame   only this one
#   FUZZ_SANITIZER=none   without AddressSanitizer; without a word, it is used where the toolchain has it
#   fuzz.sh [-FLAG=...]   more flags for libFuzzer
#
# cargo-fuzz wants flags that only a nightly compiler takes. RUSTC_BOOTSTRAP=1 makes the pinned stable one take them, so that what is
# fuzzed is compiled by the compiler that builds the product, and no second toolchain is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${SECONDS_EACH:-60}
cache=${EVERDESK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/everdesk}
# Apart from other builds: RUSTC_BOOTSTRAP would make cargo build them anew.
target_dir=${FUZZ_TARGET_DIR:-${CARGO_TARGET_DIR:-$PWD/target}/fuzz}
out=${FUZZ_OUT:-$target_dir/runs}

say() { printf 'fuzz: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

command -v cargo-fuzz >/dev/null ||
  fail "cargo-fuzz is missing. To install it: cargo install cargo-fuzz --locked --root '$cache/tools'"
command -v c++ >/dev/null || command -v g++ >/dev/null || fail "a C++ compiler is missing; libFuzzer is C++"
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1
rustc -Zhelp >/dev/null 2>&1 ||
  fail "$(rustc --version) takes no flags of a nightly, not even with RUSTC_BOOTSTRAP=1. Install one and call RUSTUP_TOOLCHAIN=nightly make fuzz"

sanitizer=${FUZZ_SANITIZER:-}
if [ -z "$sanitizer" ]; then
  sanitizer=address
  if ! compgen -G "$(rustc --print sysroot)/lib/rustlib/$host/lib/librustc-*rt.asan.a" >/dev/null; then
    say "this toolchain has no AddressSanitizer for $host: it is left out"
    sanitizer=none
  fi
fi

names=$(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' chaos-tests/fuzz/Cargo.toml)
if [ -n "${TARGET:-}" ]; then
  grep -qxF "$TARGET" <<<"$names" || fail "there is no target $TARGET; there are: $(tr '\n' ' ' <<<"$names")"
  names=$TARGET
fi

# As it is shipped: without `cfg(fuzzing)`, which some crates take for leave to skip checks.
export CARGO_TARGET_DIR=$target_dir
cargo fuzz build --fuzz-dir chaos-tests/fuzz --sanitizer "$sanitizer" --no-cfg-fuzzing ${TARGET:+"$TARGET"}

mkdir -p "$out"
figures=$out/figures.tsv
[ -s "$figures" ] || printf 'target\tseconds\tcpu_seconds\texecutions\tcoverage\tfeatures\tinputs\tpeak_rss_mb\tfound\n' >"$figures"
found_any=0
for name in $names; do
  corpus=$out/corpus/$name seeds=$out/seeds/$name log=$out/$name.log
  rm -rf "$seeds"
  mkdir -p "$corpus" "$seeds" "$out/found/$name"
  status=0
  { TIMEFORMAT='%U %S'; time EVERDESK_FUZZ_SEEDS=$seeds "$target_dir/$host/release/$name" "$corpus" "$seeds" \
    -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=512 -timeout=10 -max_len=16384 -print_final_stats=1 \
    -artifact_prefix="$out/found/$name/" "$@" >"$log" 2>&1; } 2>"$log.cpu" || status=$?
  stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  last() { grep -aoE "$1: [0-9]+" "$log" | tail -1 | grep -oE '[0-9]+' || true; }
  took=$(sed -nE 's/^Done [0-9]+ runs in ([0-9]+) second.*/\1/p' "$log" | tail -1)
  cpu=$(awk '{printf "%.0f", $1 + $2}' "$log.cpu")
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "${took:-?}" "$cpu" "$(stat number_of_executed_units)" "$(last cov)" "$(last ft)" \
    "$(last corp)" "$(stat peak_rss_mb)" "$status" | tee -a "$figures" >&2
  if [ "$status" -ne 0 ]; then
    found_any=1
    say "$name found something:"
    grep -aE 'panicked|ERROR|SUMMARY|Test unit written|limit' "$log" | head -8 >&2 || true
    say "again: $target_dir/$host/release/$name $out/found/$name/INPUT; the whole log: $log"
  fi
done
say "figures: $figures"
exit "$found_any"
