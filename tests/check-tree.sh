#!/usr/bin/env bash
# Rules of the tree that no compiler knows: bindings are fresh, the server cannot read payloads, links in the docs lead somewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

# The server carries, it does not read: the payload crate must not be in its program (docs/ARCHITECTURE.md).
server=$(cargo tree --locked -p lotse-server -e normal --prefix none)
grep -q '^lotse-protocol ' <<<"$server" || { echo "check: the dependency tree of lotse-server could not be read" >&2; exit 1; }
if grep -q '^lotse-payload ' <<<"$server"; then
  echo "check: lotse-server depends on lotse-payload. It may only move payloads as bytes. See who brings it: cargo tree -p lotse-server -i lotse-payload" >&2
  exit 1
fi

# Every relative link of every page leads to a file of this repository.
lost=0
while IFS= read -r page; do
  while IFS= read -r link; do
    target=$(dirname "$page")/${link%%#*}
    [ -e "$target" ] || { echo "check: $page links to $link, which does not exist" >&2; lost=1; }
  done < <(grep -oE '\]\([^)#][^)]*\)' "$page" | sed -E 's/^\]\(//; s/\)$//' | grep -vE '^[a-z]+:' || true)
done < <(git ls-files '*.md')
[ "$lost" = 0 ] || exit 1

# ts-rs writes the TypeScript types while the tests of the protocol crates run: nothing may change by that.
bindings=server/protocol/bindings
sums() { find "$bindings" -name '*.ts' -type f -print0 | sort -z | xargs -0 -r sha256sum; }
before=$(sums)
[ -n "$before" ] || { echo "check: no bindings in $bindings" >&2; exit 1; }
cargo test --quiet --locked --workspace --lib export_bindings
if [ "$before" != "$(sums)" ]; then
  echo "check: the bindings in $bindings were stale and have just been written anew. Commit them:" >&2
  diff <(echo "$before") <(sums) | sed -n 's/^[<>] [0-9a-f]*  /  /p' | sort -u >&2
  exit 1
fi
