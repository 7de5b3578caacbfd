#!/usr/bin/env bash
# Runs the browser story in a network namespace that has addresses but no route to anywhere, and fails if any
# program in it so much as tried to reach a foreign host.
#
# The kernel counts every IPv4 send or connect without a route (Ip OutNoRoutes, per namespace); the count must not move.
# A foreign attempt is made on purpose first, to see that the count would move. IPv6 is not judged here: Chromium
# itself asks once for a route to 2001:4860:4860::8888 at start; pages are judged by their requests in the story.
set -euo pipefail
cd "$(dirname "$0")"

ns="lotse-story-$$"
if ! ip netns add "$ns" 2>/dev/null; then
  echo "offline story: making a network namespace needs root. Run it as root or with sudo." >&2
  exit 1
fi
trap 'ip netns del "$ns"' EXIT
ip -n "$ns" link set lo up
# Chromium ignores loopback for media; an address on a cable that leads nowhere serves.
ip -n "$ns" link add inside type veth peer name outside
ip -n "$ns" addr add 10.99.0.1/24 dev inside
ip -n "$ns" link set inside up
ip -n "$ns" link set outside up
# Chromium's WebRTC asks the kernel, once a call, which own address would lead to 8.8.8.8 (a connect without a packet).
# That one address is answered with "unreachable", which is not counted; everything else is.
ip -n "$ns" route add unreachable 8.8.8.8/32

no_routes() {
  ip netns exec "$ns" awk '/^Ip:/ { if (!n) { n = split($0, key) } else { split($0, val); for (i in key) if (key[i] == "OutNoRoutes") print val[i] } }' /proc/net/snmp
}

ip netns exec "$ns" bash -c 'exec 3<>/dev/udp/192.0.2.1/9' 2>/dev/null && { echo "offline story: the namespace has a route out" >&2; exit 1; }
before=$(no_routes)
if [ "$before" -lt 1 ]; then
  echo "offline story: the kernel did not count an attempt made on purpose; this check would prove nothing" >&2
  exit 1
fi

LOTSE_OFFLINE=1 ip netns exec "$ns" npm test -- "$@"

after=$(no_routes)
if [ "$after" -ne "$before" ]; then
  echo "offline story: $((after - before)) attempts to reach a foreign host" >&2
  exit 1
fi
echo "offline story: no attempt to reach a foreign host"
