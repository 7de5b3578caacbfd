#!/usr/bin/env bash
# Fuzzes each target in turn with libFuzzer, from its committed corpus.
#
# Usage: tests/fuzz/fuzz.sh [TARGET…]            FUZZ_SECONDS a target (600), each in one process; what was found lies in target/fuzz/
#        tests/fuzz/fuzz.sh minimise [TARGET…]   takes what reaches more code into tests/fuzz/corpus, and leaves out what reaches nothing new
# Ends with 1 and names the input when a target fails: mend it, add a test, and put the input into the corpus.
# FUZZ_PROGRAM names a program that was built before.
# Owns: target/fuzz. Never: a second build of the crates from outside (`instrument.sh`).
set -euo pipefail
cd "$(dirname "$0")/../.."

seconds=${FUZZ_SECONDS:-600}
# Files above this are not kept, bytes: the corpora are in everybody's clone.
longest=${FUZZ_MAX_LEN:-16384}

# Bytes and number of found inputs kept for each target when minimising.
share=60000
most=80

command -v clang >/dev/null || { echo "fuzz: clang is missing. Run: tests/setup.sh fuzz" >&2; exit 1; }
LIBFUZZER=$(clang -print-file-name="libclang_rt.fuzzer-$(uname -m).a")
[ -f "$LIBFUZZER" ] || LIBFUZZER=$(clang -print-file-name=libclang_rt.fuzzer.a)
[ -f "$LIBFUZZER" ] || { echo "fuzz: clang's libFuzzer is missing. Run: tests/setup.sh fuzz" >&2; exit 1; }
export LIBFUZZER

program=${FUZZ_PROGRAM:-$PWD/target/debug/lotse-fuzz}
[ "${FUZZ_PROGRAM:-}" ] || RUSTC_WORKSPACE_WRAPPER=$PWD/tests/fuzz/instrument.sh \
  cargo build --locked --workspace --bin lotse-fuzz --features lotse-fuzz/engine

minimise=
if [ "${1:-}" = minimise ]; then
  minimise=1
  shift
fi
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls tests/fuzz/corpus)

failed=()
for target in "${targets[@]}"; do
  corpus=tests/fuzz/corpus/$target
  found=target/fuzz/$target
  log=target/fuzz/$target.log
  mkdir -p "$found/crashes"
  if [ "$minimise" ]; then
    merged=$(mktemp -d)
    # Each place in the code counts once, however often it is passed: thousands of inputs become some dozens.
    FUZZ_TARGET=$target "$program" -set_cover_merge=1 -use_counters=0 -max_len="$longest" "$merged" "$corpus" "$found" 2>"$log" ||
      { tail -5 "$log" >&2; exit 1; }
    # Seeds made from real input stay under their names; they are what a reader looks at. Of the rest some are kept, whichever.
    find "$corpus" -type f -not -name 'seed-*' -delete
    seeds=$(sha1sum "$corpus"/seed-* | cut -c1-40)
    kept=0 number=0
    while read -r size input; do
      name=$(basename "$input")
      # libFuzzer names an input by its SHA-1.
      grep -qxF "$name" <<<"$seeds" && continue
      kept=$((kept + size)) number=$((number + 1))
      [ "$kept" -le "$share" ] && [ "$number" -le "$most" ] || break
      cp "$input" "$corpus/${name:0:12}"
    done < <(find "$merged" -type f -printf '%s %p\n' | sort -k2)
    rm -r "$merged"
    echo "fuzz: $target: $(find "$corpus" -type f | wc -l) inputs, $(du -sb "$corpus" | cut -f1) bytes"
    continue
  fi
  echo "fuzz: $target, $seconds s"
  if ! FUZZ_TARGET=$target nice "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len="$longest" \
    -artifact_prefix="$found/crashes/" -print_final_stats=1 "$found" "$corpus" 2>"$log"; then
    failed+=("$target")
    echo "fuzz: $target failed:" >&2
    grep -aE 'panicked|ERROR: libFuzzer|Test unit written' -A1 "$log" | tail -12 >&2 || true
  fi
  grep -aE 'number_of_executed_units|DONE|peak_rss' "$log" | sed 's/^/fuzz:   /' || true
done
[ ${#failed[@]} -eq 0 ] || { echo "fuzz: failed: ${failed[*]}. Their inputs lie in target/fuzz/*/crashes/" >&2; exit 1; }
