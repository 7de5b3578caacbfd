#!/usr/bin/env bash
# Real networks: a call between glasses behind one router with NAT and a real Chromium behind another, recorded by an archivist in a
# third place; with UDP, without it, and with a relay as the expert's only way.
#
#   glasses 192.168.7.2 ── router 203.0.113.1 ─┐
#                                              ├─ 203.0.113.7 server, 203.0.113.8 coturn
#   expert  192.168.8.2 ── router 203.0.113.2 ─┤
#                         archivist 203.0.113.9 ┘
#
# Owns: six network namespaces and what runs in them, gone at the end. Needs root, a kernel with nftables NAT, and built programs
# (LOTSE_BIN). Elsewhere: what the people do (beyond.ts), the page's own story (story.spec.ts), which has no router in it.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=${LOTSE_BIN:-$PWD/target/debug}
id=$$
server=lotse-s-$id archive=lotse-a-$id
glasses=lotse-g-$id glasses_router=lotse-gr-$id
expert=lotse-e-$id expert_router=lotse-er-$id
all=("$server" "$archive" "$glasses" "$glasses_router" "$expert" "$expert_router")
work=$(mktemp -d)
pids=()
url=https://203.0.113.7:8443
export LOTSE_PROGRAMS=$BIN

fail() {
  printf 'beyond: FAIL %s\n' "$*" >&2
  for log in "$work"/*.log; do printf -- '--- %s\n' "$log" && tail -n 15 "$log"; done >&2
  exit 1
}
ok() { printf 'beyond: ok   %3s s  %s\n' "$SECONDS" "$*"; }
end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for ns in "${all[@]}"; do ip netns del "$ns" 2>/dev/null || true; done
  [ -n "${LOTSE_KEEP:-}" ] || rm -rf "$work"
}
trap end EXIT

for need in nft turnserver ffmpeg node; do command -v "$need" >/dev/null || { echo "beyond: $need is missing. Run: make setup" >&2; exit 1; }; done
[ -x "$BIN/lotse-server" ] || { echo "beyond: $BIN/lotse-server is not built. Run: make build" >&2; exit 1; }
ip netns add "$server" 2>/dev/null || { echo "beyond: network namespaces need root. Run it with sudo." >&2; exit 1; }
for ns in "${all[@]:1}"; do ip netns add "$ns"; done
for ns in "${all[@]}"; do ip -n "$ns" link set lo up; done

# The public net: a bridge in the server's namespace.
ip -n "$server" link add pub type bridge
ip -n "$server" addr add 203.0.113.7/24 dev pub
ip -n "$server" addr add 203.0.113.8/24 dev pub
ip -n "$server" link set pub up
# joins NAMESPACE ADDRESS: a place in the public net, by a cable of its own
cables=0
joins() {
  cables=$((cables + 1))
  ip -n "$server" link add "port$cables" type veth peer name wan netns "$1"
  ip -n "$server" link set "port$cables" master pub up
  ip -n "$1" addr add "$2/24" dev wan
  ip -n "$1" link set wan up
}
joins "$archive" 203.0.113.9
# home CLIENT ROUTER NET PUBLIC: a client behind its router
home() {
  joins "$2" "$4"
  ip -n "$1" link add cli type veth peer name lan netns "$2"
  ip -n "$1" addr add "$3.2/24" dev cli
  ip -n "$1" link set cli up
  ip -n "$2" addr add "$3.1/24" dev lan
  ip -n "$2" link set lan up
  ip -n "$1" route add default via "$3.1"
  ip netns exec "$2" sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
}
home "$glasses" "$glasses_router" 192.168.7 203.0.113.1
home "$expert" "$expert_router" 192.168.8 203.0.113.2

# allow ROUTER RULE...: NAT as at home, and of what its client begins only what the rules let through
allow() {
  local rules='' router=$1
  for rule in "${@:2}"; do rules+="$rule accept; "; done
  ip netns exec "$router" nft -f - <<NFT
flush ruleset
table ip home {
  chain out { type nat hook postrouting priority 100; oifname "wan" masquerade; }
  chain pass { type filter hook forward priority 0; policy drop; ct state established,related accept; $rules }
}
NFT
}
# The archivist's place has no NAT, only a filter.
archive_without_udp() { ip netns exec "$archive" nft 'add table ip shut; add chain ip shut out { type filter hook output priority 0; }; add rule ip shut out ip protocol udp drop'; }
UDP_TOO='ip protocol { tcp, udp, icmp }' TCP_ONLY='ip protocol tcp'

# has FILE WORD SECONDS
has() {
  local tick
  for ((tick = 0; tick < $3 * 5; tick++)); do
    grep -q "$2" "$1" 2>/dev/null && return 0
    sleep 0.2
  done
  return 1
}
# ends PID: and is waited for
ends() {
  kill "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

settings=(env LOTSE_HTTP_LISTEN=203.0.113.7:8443 LOTSE_TLS_FROM=own-ca LOTSE_MEDIA_PUBLIC_IP=203.0.113.7 LOTSE_DATA_DIR="$work/data"
  LOTSE_DATA_KEYS="$work/keys" LOTSE_TURN_URLS="turn:203.0.113.8:3478?transport=tcp" LOTSE_ARCHIVE_URL=http://203.0.113.9:8081
  LOTSE_PAGES_DIR="$PWD/web-expert/dist")
"${settings[@]}" "$BIN/lotse-server" admin make-ca >"$work/ca.log"
"${settings[@]}" "$BIN/lotse-server" admin seed-demo >"$work/seed.log"
# The demo's passwords are known to everybody and count on loopback only.
export LOTSE_NEW_PASSWORD=beyond-loopback
"${settings[@]}" "$BIN/lotse-server" admin add-user expert --name 'Anton Weber' --role expert >"$work/add.log"
"${settings[@]}" "$BIN/lotse-server" admin add-user manager --name 'Ines Lehner' --role manager >>"$work/add.log"
# said KIND NAME KEY: out of what seed-demo printed
said() { sed -n "s/.*\"$3\":\"\([^\"]*\)\".*/\1/p" <(grep "\"kind\":\"$1\"" "$work/seed.log" | grep "\"$2\""); }
# serves SETTING...: the server, until the next word about it
serves() {
  : >"$work/server.log"
  ip netns exec "$server" "${settings[@]}" "$@" "$BIN/lotse-server" serve >"$work/server.log" 2>&1 &
  server_pid=$!
  pids+=("$server_pid")
  has "$work/server.log" '"ready"' 30 || fail "the server did not start"
}
serves
archivist=(ip netns exec "$archive" env LOTSE_SERVER_URL=$url LOTSE_SERVER_PAIRING_CODE="$(said pairing archivist code)" LOTSE_HTTP_LISTEN=203.0.113.9:8081
  LOTSE_DATA_DIR="$work/archive" LOTSE_DATA_KEYS="$work/archive-keys" "$BIN/lotse-archivist")
"${archivist[@]}" serve >"$work/archivist.log" 2>&1 &
pids+=($!)
has "$work/archivist.log" '"ready"' 30 || fail "the archivist did not start"
"${settings[@]}" "$BIN/lotse-server" admin turn-config >"$work/turn.conf"
printf 'listening-ip=203.0.113.8\nrelay-ip=203.0.113.8\nlog-file=stdout\npidfile=%s/turn.pid\nuserdb=%s/turn.db\n' "$work" "$work" >>"$work/turn.conf"
ip netns exec "$server" turnserver -c "$work/turn.conf" >"$work/turn.log" 2>&1 &
pids+=($!)

# call NAME WAY: those glasses call, an expert's page takes the call and gets media by WAY; what follows is in beyond.ts
call() {
  local folder=$work/$2
  mkdir -p "$folder/hud"
  ip netns exec "$glasses" env LOTSE_SERVER_URL=$url LOTSE_SERVER_PAIRING_CODE="$(said pairing "$1" code)" LOTSE_DATA_DIR="$work/$1" \
    LOTSE_CAMERA_SOURCE="file:$PWD/tests/footage/workshop.mp4" LOTSE_SOUND_MICROPHONE=file LOTSE_SOUND_SPEAKER=none \
    LOTSE_HUD_DISPLAYS="png:$folder/hud" LOTSE_HUD_LANGUAGE=en LOTSE_INPUT_SOURCES="socket:$folder/input.sock" LOTSE_DEVICE_NAME="$1" \
    LOTSE_CALL_ON_START=true LOTSE_CALL_TITLE="Seal leaks, seen by $2" LOTSE_CALL_ASSET=p-204 "$BIN/lotse-glass" run >"$work/glasses-$2.log" 2>&1 &
  local worn=$!
  pids+=("$worn")
  (cd tests/browser && ip netns exec "$expert" env BEYOND_WAY="$2" BEYOND_URL=$url BEYOND_RELAY=203.0.113.8 BEYOND_FOLDER="$folder" BEYOND_PIN="$pin" \
    npx playwright test -c beyond.config.ts) >"$work/page-$2.log" 2>&1 ||
    { cat "$work/page-$2.log" >&2; fail "a call by $2"; }
  ends "$worn"
}
pin=$(sed -n 's/.*"pin":"\([^"]*\)".*/\1/p' "$work/ca.log")

allow "$glasses_router" "$UDP_TOO"
allow "$expert_router" "$UDP_TOO"
call helmet-1 udp
! grep -q 'media over TCP' "$work/glasses-udp.log" || fail "glasses behind NAT used TCP although UDP works"
has "$work/archivist.log" 'media connected.*UDP' 1 || fail "the archivist did not use UDP although it works"
"${archivist[@]}" doctor >"$work/archivist-doctor.log" 2>&1 || true # a small disk is none of this
grep -q 'ok      media .*by UDP' "$work/archivist-doctor.log" || fail "the archivist's doctor does not say that media came by UDP"
ok "by UDP, each behind its own NAT: picture, mark and receipts, recorded and proven"

allow "$glasses_router" "$TCP_ONLY"
# A page takes whichever way answers first, and on a busy machine that was once the relay: here only the port can carry it.
allow "$expert_router" 'ip daddr 203.0.113.7 tcp dport 8443'
archive_without_udp
call helmet-2 tcp
allow "$expert_router" "$TCP_ONLY"
grep -q 'trying media over TCP' "$work/glasses-tcp.log" || fail "glasses without UDP did not say that they tried TCP"
has "$work/archivist.log" 'media connected.*TCP' 1 || fail "the archivist without UDP did not use TCP"
"${archivist[@]}" doctor >"$work/archivist-doctor.log" 2>&1 || true # a small disk is none of this
grep -q 'ok      media .*over TCP' "$work/archivist-doctor.log" || fail "the archivist's doctor does not say that media came over TCP"
ok "without UDP anywhere: the same over TCP on port 8443, glasses, page and archivist"

ip netns exec "$expert" "${settings[@]}" "$BIN/lotse-server" doctor >"$work/doctor.log" 2>&1 && fail "doctor found nothing wrong where UDP is blocked"
grep -q 'NOT OK  media .*UDP 203.0.113.7:40000' "$work/doctor.log" || fail "doctor did not name the blocked port"
allow "$expert_router" "$UDP_TOO"
ip netns exec "$expert" "${settings[@]}" LOTSE_TURN_URLS= "$BIN/lotse-server" doctor >"$work/doctor.log" 2>&1 || true
grep -q 'ok      media .*UDP 203.0.113.7:40000' "$work/doctor.log" || fail "doctor did not reach the open port"
grep -q 'ok      certificate' "$work/doctor.log" || fail "doctor did not believe the certificate"
ok "doctor from afar: blocked and open media ports, certificate"

# A server behind a proxy that hands no media on; the expert's network lets nothing through but the page and the relay.
ends "$server_pid"
serves LOTSE_MEDIA_TCP_PORT=off
ip netns exec "$archive" nft flush ruleset
allow "$glasses_router" "$UDP_TOO"
allow "$expert_router" 'ip daddr 203.0.113.7 tcp dport 8443' 'ip daddr 203.0.113.8 tcp dport 3478'
call helmet-1 relay
ok "with nothing but the page's port and the relay: the expert by coturn"
