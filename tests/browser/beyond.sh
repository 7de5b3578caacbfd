#!/usr/bin/env bash
# Real networks: glasses and a real Chromium behind a router with NAT, with and without UDP, and with a relay as the only way.
#
#   client 192.168.7.2 ── 192.168.7.1 router (nftables: NAT, filter) 203.0.113.1 ── 203.0.113.7 server, 203.0.113.8 coturn
#
# Owns: three network namespaces and what runs in them, gone at the end. Needs root, a kernel with nftables NAT, and built
# programs and examples (LOTSE_BIN). Elsewhere: the page's own story (story.spec.ts), which has no router in it.
set -euo pipefail
cd "$(dirname "$0")/../.."
BIN=${LOTSE_BIN:-$PWD/target/debug}
ROOM=$BIN/examples/browser_room
id=$$
server=lotse-s-$id client=lotse-c-$id router=lotse-r-$id
work=$(mktemp -d)
pids=()

fail() {
  printf 'beyond: FAIL %s\n' "$*" >&2
  for log in "$work"/*.log; do printf -- '--- %s\n' "$log" && tail -n 15 "$log"; done >&2
  exit 1
}
ok() { printf 'beyond: ok   %s\n' "$*"; }
end() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for ns in "$server" "$client" "$router"; do ip netns del "$ns" 2>/dev/null || true; done
  rm -rf "$work"
}
trap end EXIT

for need in nft turnserver ffmpeg node; do command -v "$need" >/dev/null || { echo "beyond: $need is missing. Run: make setup" >&2; exit 1; }; done
[ -x "$ROOM" ] || { echo "beyond: $ROOM is not built. Run: cargo build --workspace --bins --examples" >&2; exit 1; }
ip netns add "$server" 2>/dev/null || { echo "beyond: network namespaces need root. Run it with sudo." >&2; exit 1; }
ip netns add "$client"
ip netns add "$router"
for ns in "$server" "$client" "$router"; do ip -n "$ns" link set lo up; done
ip link add pub type veth peer name wan netns "$router" 2>/dev/null && ip link set pub netns "$server"
ip link add cli type veth peer name lan netns "$router" && ip link set cli netns "$client"
ip -n "$server" addr add 203.0.113.7/24 dev pub
ip -n "$server" addr add 203.0.113.8/24 dev pub
ip -n "$server" link set pub up
ip -n "$server" route add default via 203.0.113.1
ip -n "$client" addr add 192.168.7.2/24 dev cli
ip -n "$client" link set cli up
ip -n "$client" route add default via 192.168.7.1
ip -n "$router" addr add 203.0.113.1/24 dev wan
ip -n "$router" link set wan up
ip -n "$router" addr add 192.168.7.1/24 dev lan
ip -n "$router" link set lan up
ip netns exec "$router" sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'

# allow RULE...: NAT as at home, and of what the client begins only what the rules let through
allow() {
  local rules=''
  for rule in "$@"; do rules+="$rule accept; "; done
  ip netns exec "$router" nft -f - <<NFT
flush ruleset
table ip home {
  chain out { type nat hook postrouting priority 100; oifname "wan" masquerade; }
  chain pass { type filter hook forward priority 0; policy drop; ct state established,related accept; $rules }
}
NFT
  # What was allowed before must not go on as established.
  ip netns exec "$router" sh -c 'cat /proc/sys/net/netfilter/nf_conntrack_count' >/dev/null
}

# has FILE WORD SECONDS
has() {
  local tick
  for ((tick = 0; tick < $3 * 5; tick++)); do
    grep -q "$2" "$1" 2>/dev/null && return 0
    sleep 0.2
  done
  return 1
}

setup=(env LOTSE_HTTP_LISTEN=203.0.113.7:8443 LOTSE_TLS_FROM=own-ca LOTSE_MEDIA_PUBLIC_IP=203.0.113.7 LOTSE_DATA_DIR="$work/data"
  LOTSE_DATA_KEYS="$work/keys" LOTSE_TURN_URLS="turn:203.0.113.8:3478?transport=tcp" LOTSE_LOG=info,lotse_server=debug)
"${setup[@]}" "$BIN/lotse-server" admin make-ca >"$work/ca.log"
"${setup[@]}" "$BIN/lotse-server" admin seed-demo >"$work/seed.log"
ip netns exec "$server" "${setup[@]}" "$BIN/lotse-server" serve >"$work/server.log" 2>&1 &
pids+=($!)
has "$work/server.log" '"ready"' 30 || fail "the server did not start"

# glasses NAME: in the client's network, calling at once
glasses() {
  local code
  code=$(sed -n "s/.*\"code\":\"\([^\"]*\)\".*\"name\":\"$1\".*/\1/p" "$work/seed.log")
  ip netns exec "$client" env LOTSE_SERVER_URL=https://203.0.113.7:8443 LOTSE_SERVER_PAIRING_CODE="$code" LOTSE_DATA_DIR="$work/$1" \
    LOTSE_CAMERA_SOURCE=test LOTSE_SOUND_MICROPHONE=test LOTSE_SOUND_SPEAKER=none LOTSE_HUD_DISPLAYS="png:$work/$1-hud" \
    LOTSE_DEVICE_NAME="$1" "$BIN/lotse-glass" run >"$work/$1.log" 2>&1 &
  pids+=($!)
}

allow 'ip protocol { tcp, udp, icmp }'
ip netns exec "$server" true
glasses helmet-1
has "$work/server.log" 'media connected' 60 || fail "glasses behind NAT got no media"
! grep -q 'media over TCP' "$work/helmet-1.log" || fail "glasses behind NAT used TCP although UDP works"
ok "glasses behind NAT: https by pin, media by UDP"

allow 'ip protocol tcp'
: >"$work/server.log"
glasses helmet-2
has "$work/server.log" 'media connected' 60 || fail "glasses without UDP got no media"
grep -q 'trying media over TCP' "$work/helmet-2.log" || fail "glasses without UDP did not say that they tried TCP"
ok "glasses behind NAT without UDP: media over TCP on port 8443"

ip netns exec "$client" "${setup[@]}" "$BIN/lotse-server" doctor >"$work/doctor.log" 2>&1 && fail "doctor found nothing wrong where UDP is blocked"
grep -q 'NOT OK  media .*UDP 203.0.113.7:40000' "$work/doctor.log" || fail "doctor did not name the blocked port"
allow 'ip protocol { tcp, udp, icmp }'
ip netns exec "$client" "${setup[@]}" LOTSE_TURN_URLS= "$BIN/lotse-server" doctor >"$work/doctor.log" 2>&1 || true
grep -q 'ok      media .*UDP 203.0.113.7:40000' "$work/doctor.log" || fail "doctor did not reach the open port"
grep -q 'ok      certificate' "$work/doctor.log" || fail "doctor did not believe the certificate"
ok "doctor from afar: blocked and open media ports, certificate"

ffmpeg -loglevel error -y -t 4 -i tests/footage/workshop.mp4 -an -vf scale=640:-2 -c:v libvpx -deadline realtime -b:v 800k -g 30 "$work/clip.ivf"
printf '#!/bin/sh\nexec ip netns exec %s env ROOM_IP=203.0.113.7 %s "$@"\n' "$server" "$ROOM" >"$work/room"
chmod +x "$work/room"
# watch WAY: a real Chromium in the client's network gets the picture by that way
watch() {
  ROOM_IP=203.0.113.7 PLAYWRIGHT=$PWD/tests/browser/package.json ip netns exec "$client" node server/sfu/examples/browser_room.mjs "$work/room" "$work/clip.ivf" "$1" >"$work/chromium-$1.log" 2>&1 || { cat "$work/chromium-$1.log" >&2; fail "Chromium by $1"; }
}
allow 'ip protocol { tcp, udp }'
watch udp
ok "Chromium behind NAT: picture and voice by UDP"
allow 'ip protocol tcp'
watch tcp
ok "Chromium behind NAT without UDP: picture and voice by ICE-TCP"

"${setup[@]}" "$BIN/lotse-server" admin turn-config >"$work/turn.conf"
printf 'listening-ip=203.0.113.8\nrelay-ip=203.0.113.8\nlog-file=stdout\npidfile=%s/turn.pid\nuserdb=%s/turn.db\n' "$work" "$work" >>"$work/turn.conf"
ip netns exec "$server" turnserver -c "$work/turn.conf" >"$work/turn.log" 2>&1 &
pids+=($!)
sleep 1
user=$(($(date +%s) + 3600)):trial
secret=$(sed -n 's/^static-auth-secret=//p' "$work/turn.conf")
pass=$(printf %s "$user" | openssl dgst -sha1 -hmac "$secret" -binary | base64)
export ICE_SERVERS="[{\"urls\":\"turn:203.0.113.8:3478?transport=tcp\",\"username\":\"$user\",\"credential\":\"$pass\"}]"
allow 'ip daddr 203.0.113.8 tcp dport 3478'
watch relay
ok "Chromium with nothing but the relay: picture and voice by coturn"
