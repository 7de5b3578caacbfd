#!/bin/sh
# Stands in for rustc for our own crates only (RUSTC_WORKSPACE_WRAPPER): adds the counters libFuzzer is guided by, and
# libFuzzer itself (LIBFUZZER) where a program is linked. So the four hundred crates from outside are taken as `make build`
# left them; none of these flags needs a nightly compiler.
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
  "-Clink-arg=${LIBFUZZER:-}" -Clink-arg=-lstdc++
