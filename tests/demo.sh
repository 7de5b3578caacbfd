#!/usr/bin/env bash
# Starts the demo: server, archivist and two simulated pairs of glasses that wait in a call.
#
# Usage: tests/demo.sh       runs until Ctrl-C, or for DEMO_SECONDS=n; `make demo` sets up and builds first
#        tests/demo.sh ports only says whether its ports are free
#        LAN=1 (or LAN=ADDRESS): for phones on the same network, by TLS with an authority of its own (.demo-lan/)
#        LINK=lte|hall|lift|cellar: the glasses reach the server over a link as bad as that, changed on their pages while it runs
# Owns: the processes it starts, and .demo/ (data and logs, kept from start to start; remove it for a fresh demo).
# Never: a process it did not start. Elsewhere: what the programs do; every setting here is a plain LOTSE_… variable.
set -euo pipefail
cd "$(dirname "$0")/.."
export NO_COLOR=1 # logs are files

PORT=${DEMO_PORT:-8080}              # page; archivist, wear pages: +1, +10, +11; with LINK the doors of the links: +20, +21
UDP=${DEMO_UDP:-40000}               # media; one port per core from here up
SPEAKER=${DEMO_SPEAKER:-none}        # wav: what each technician hears goes to .demo/helmet-N/speaker.wav (6 MB a minute)
BIN=${LOTSE_BIN:-$PWD/target/debug}
LAN=${LAN:-}
LINK=${LINK:-}
HOME_DIR=$PWD/.demo${LAN:+-lan}
LOGS=$HOME_DIR/logs
READY_SECONDS=60                     # a cold start on a busy machine

ARCHIVE=$((PORT + 1))
WEAR=($((PORT + 10)) $((PORT + 11)))
RELAY=()
[ -z "$LINK" ] || RELAY=($((PORT + 20)) $((PORT + 21)))
CLIPS=("$PWD/tests/footage/workshop.mp4" "$PWD/.tools/footage/bikes-voice.mp4")
LANGUAGES=(en de)
TITLES=("Shaft seal leaks" "Kette springt immer wieder ab")
# People and ids as `lotse-server admin seed-demo` makes them.
WEARERS=("Mara Krüger" "Jonas Lind")
ASSETS=(p-204 dock-12)
SITES=(linz-halle-3 station-7)
CUSTOMERS=(hydroserv donaurad)

fail() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

# A listening port of this machine, from the kernel's own table: taken tcp|udp PORT
taken() {
  local state='' hex
  hex=$(printf ':%04X' "$2")
  [ "$1" = udp ] || state=0A
  awk -v port="$hex" -v state="$state" 'substr($2, length($2) - 4) == port && (state == "" || $4 == state) { found = 1 } END { exit !found }' \
    "/proc/net/$1" "/proc/net/${1}6" 2>/dev/null
}

check_link() {
  case $LINK in
    '' | direct | lte | hall | lift | cellar) ;;
    *) fail "LINK=$LINK is no link. Choose one of: direct, lte, hall, lift, cellar" ;;
  esac
  [ -z "$LINK" ] || [ -z "$LAN" ] || fail "a simulated link stays on this machine: leave out LAN or LINK"
}

check_files() {
  local program clip
  for program in lotse-server lotse-archivist lotse-glass; do
    [ -x "$BIN/$program" ] || fail "$BIN/$program is not built. Run: make demo"
  done
  for clip in "${CLIPS[@]}"; do
    [ -s "$clip" ] || fail "the clip $clip is missing. Run: make setup"
  done
}

check_ports() {
  local port
  for port in "$PORT" "$ARCHIVE" "${WEAR[@]}" "${RELAY[@]}"; do
    ! taken tcp "$port" || fail "port $port is taken by another program (see it with: ss -ltnp 'sport = :$port'). End that one, or choose others: DEMO_PORT=$((PORT + 100)) make demo"
  done
  ! taken udp "$UDP" || fail "UDP port $UDP is taken by another program (see it with: ss -lunp 'sport = :$UDP'). End that one, or choose another: DEMO_UDP=$((UDP + 100)) make demo"
}

NAMES=()
PIDS=()
timer=

# start NAME PROGRAM ARGUMENT...: waits for its ready line
start() {
  local name=$1 out="$LOGS/$1.out" log="$LOGS/$1.log" pid tick
  shift
  : >"$out"
  printf -- '--- started %s\n' "$(date -u +%FT%TZ)" >>"$log"
  "$@" >"$out" 2>>"$log" &
  pid=$!
  NAMES+=("$name")
  PIDS+=("$pid")
  for ((tick = 0; tick < READY_SECONDS * 10; tick++)); do
    ! grep -q '"ready"' "$out" || return 0
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -0 "$pid" 2>/dev/null && printf 'demo: %s is not ready after %s s.\n' "$name" "$READY_SECONDS" >&2 || printf 'demo: %s ended while starting.\n' "$name" >&2
  last_words "$name"
  exit 1
}

last_words() {
  printf 'demo: the end of its log (%s):\n' "$LOGS/$1.log" >&2
  tail -n 8 "$LOGS/$1.log" | sed "s/^/  $1 | /" >&2
}

# Ends what was started here, last first, so that the glasses can say goodbye; SIGKILL for what is still there after five seconds.
stop() {
  trap - EXIT
  trap '' INT TERM
  local i tick
  [ -z "$timer" ] || kill "$timer" 2>/dev/null || true
  for ((i = ${#PIDS[@]} - 1; i >= 0; i--)); do
    kill "${PIDS[i]}" 2>/dev/null || continue
    for ((tick = 0; tick < 50; tick++)); do
      kill -0 "${PIDS[i]}" 2>/dev/null || continue 2
      sleep 0.1
    done
    printf 'demo: %s did not end by itself\n' "${NAMES[i]}" >&2
    kill -KILL "${PIDS[i]}" 2>/dev/null || true
  done
}

# field KEY LINE: one string value of a flat JSON line
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$2"; }

# The address other machines on the network reach this one under: that of the way out, else the first that is not loopback.
lan_address() {
  local found
  found=$(ip -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  [ -n "$found" ] || found=$(hostname -I 2>/dev/null | tr ' ' '\n' | grep -m1 -E '^[0-9.]+$' || true)
  printf '%s' "$found"
}

# code NAME: the pairing code of a device; empty once it is paired
code() {
  local line
  line=$(grep '"kind":"pairing"' <<<"$SEED" | grep -F "\"name\":\"$1\"" || true)
  field code "$line"
}

check_link
check_ports
[ "${1:-}" != ports ] || exit 0
check_files
mkdir -p "$LOGS"
trap stop EXIT
trap 'exit 0' INT TERM

HOST=127.0.0.1
URL=http://127.0.0.1:$PORT
BEYOND=()
if [ -n "$LAN" ]; then
  HOST=$LAN
  [ "$LAN" != 1 ] || HOST=$(lan_address)
  [ -n "$HOST" ] || fail "this machine has no address that others could reach. Connect it to a network, or name one: LAN=192.168.1.5 make demo"
  URL=https://$HOST:$PORT
  BEYOND=(LOTSE_TLS_FROM=own-ca LOTSE_MEDIA_PUBLIC_IP="$HOST")
fi

server=(
  env
  "${BEYOND[@]}"
  LOTSE_HTTP_LISTEN="$HOST:$PORT"
  LOTSE_DATA_DIR="$HOME_DIR/server"
  LOTSE_DATA_KEYS="$HOME_DIR/server-keys"
  LOTSE_MEDIA_UDP_PORT="$UDP"
  LOTSE_ARCHIVE_URL="http://127.0.0.1:$ARCHIVE"
  LOTSE_PAGES_DIR="$PWD/web-expert/dist"
  "$BIN/lotse-server"
)
# Made once: phones that trust it keep trusting it. A new address needs no new authority while it is a private one.
[ -z "$LAN" ] || [ -s "$HOME_DIR/server-keys/tls-ca.key" ] || "${server[@]}" admin make-ca >>"$LOGS/server.log" 2>&1 || { last_words server; fail "the certificate authority could not be made"; }
SEED=$("${server[@]}" admin seed-demo 2>>"$LOGS/server.log") || { last_words server; fail "the demo accounts could not be made. For a fresh start remove $HOME_DIR"; }
# The demo's password is known to everybody and counts on loopback only. On a network each start from fresh has its own.
if [ -n "$LAN" ]; then
  [ -s "$HOME_DIR/password" ] || (umask 077 && LC_ALL=C tr -dc 'a-km-z2-9' </dev/urandom | head -c 12 >"$HOME_DIR/password" || true)
  export LOTSE_NEW_PASSWORD
  LOTSE_NEW_PASSWORD=$(cat "$HOME_DIR/password")
  for account in "expert:Anton Weber:expert" "expert2:Lea Schmid:expert" "manager:Ines Lehner:manager" "admin:Nora Fuchs:administrator" "technician:Sofia Brandt:technician"; do
    IFS=: read -r user person role <<<"$account"
    "${server[@]}" admin add-user "$user" --name "$person" --role "$role" >>"$LOGS/server.log" 2>&1 || { last_words server; fail "the account $user could not be given a password"; }
  done
fi
start server "${server[@]}" serve

start archivist env \
  LOTSE_SERVER_URL="$URL" \
  LOTSE_SERVER_PAIRING_CODE="$(code archivist)" \
  LOTSE_HTTP_LISTEN="127.0.0.1:$ARCHIVE" \
  LOTSE_DATA_DIR="$HOME_DIR/archivist" \
  LOTSE_DATA_KEYS="$HOME_DIR/archivist-keys" \
  "$BIN/lotse-archivist" serve

for i in 0 1; do
  name=helmet-$((i + 1))
  mkdir -p "$HOME_DIR/$name"
  speaker=none
  [ "$SPEAKER" != wav ] || speaker=wav:$HOME_DIR/$name/speaker.wav
  way=$URL
  simulated=()
  if [ -n "$LINK" ]; then
    way=http://127.0.0.1:${RELAY[i]}
    printf '%s' "$LINK" >"$HOME_DIR/$name/link"
    start "$name-link" "$BIN/examples/relay" "$URL" "127.0.0.1:${RELAY[i]}" "$HOME_DIR/$name/link" "$((i + 1))"
    simulated=(LOTSE_SERVER_SIMULATED_LINK="$HOME_DIR/$name/link")
  fi
  start "$name" env \
    "${simulated[@]}" \
    LOTSE_SERVER_URL="$way" \
    LOTSE_SERVER_PAIRING_CODE="$(code "$name")" \
    LOTSE_DATA_DIR="$HOME_DIR/$name/data" \
    LOTSE_CAMERA_SOURCE="file:${CLIPS[i]}" \
    LOTSE_SOUND_MICROPHONE=file \
    LOTSE_SOUND_SPEAKER="$speaker" \
    LOTSE_HUD_DISPLAYS="web:127.0.0.1:${WEAR[i]}" \
    LOTSE_HUD_LANGUAGE="${LANGUAGES[i]}" \
    LOTSE_INPUT_SOURCES="socket:$HOME_DIR/$name/input.sock" \
    LOTSE_DEVICE_NAME="$name" \
    LOTSE_DEVICE_WEARER="${WEARERS[i]}" \
    LOTSE_CALL_ON_START=true \
    LOTSE_CALL_TITLE="${TITLES[i]}" \
    LOTSE_CALL_ASSET="${ASSETS[i]}" \
    LOTSE_CALL_SITE="${SITES[i]}" \
    LOTSE_CALL_CUSTOMER="${CUSTOMERS[i]}" \
    "$BIN/lotse-glass" run
done

# The page gives a camera only to pages of this machine or by https.
if [ -n "$LAN" ]; then
  WITHOUT_GLASSES="Scan the code above with a phone on the same network. The page it opens says how the phone comes to
       trust this server, and leads on to $URL/field: sign in there as technician, and call.
       Nothing opens? This machine's firewall must let in TCP $PORT and UDP $UDP to $((UDP + $(nproc) - 1))."
else
  WITHOUT_GLASSES="Point this machine's webcam at something: open $URL/field, sign in as technician,
       and call. For a phone's camera start the demo with: make demo LAN=1"
fi
accounts=$(grep '"kind":"account"' <<<"$SEED" || true)
cat <<SUMMARY

  Lotse is running. Two technicians are calling.

  Page                            $URL
  Phone or webcam (technician)    $URL/field
  Glasses helmet-1 (workshop)     http://127.0.0.1:${WEAR[0]}
  Glasses helmet-2 (bikes)        http://127.0.0.1:${WEAR[1]}

  Accounts: user, name, password
SUMMARY
while IFS= read -r line; do
  [ -z "$line" ] || printf '    %-12s%-18s%s\n' "$(field user "$line")" "$(field name "$line")" "${LOTSE_NEW_PASSWORD:-$(field password "$line")}"
done <<<"$accounts"
[ -z "$LAN" ] || "${server[@]}" admin how-to-reach
cat <<SUMMARY

${LINK:+  Link of the glasses: $LINK. Choose another on the page of the glasses, or write its name into ${HOME_DIR#"$PWD/"}/helmet-1/link.

}  No glasses? ${WITHOUT_GLASSES}

  Try: sign in as expert, take the call with "Take and record", then answer YES RECORD on the page
       of helmet-1. Put the pen on the picture, draw, press Enter; press STEP DONE at the glasses.
       End the call, then sign in as manager and replay it.

  Whose log a bundle is: lotse-verify BUNDLE --org-key $(field fingerprint "$(cat "$LOGS/server.out")")

  Logs and data in ${HOME_DIR#"$PWD/"}. ${DEMO_SECONDS:+Ends by itself after $DEMO_SECONDS s. }Ctrl-C ends everything.

SUMMARY

[ -z "${DEMO_SECONDS:-}" ] || { sleep "$DEMO_SECONDS" & timer=$!; }
WATCHED=("${PIDS[@]}")
while :; do
  code=0
  wait -n -p ended "${WATCHED[@]}" $timer || code=$?
  [ "${ended:-}" != "$timer" ] || [ -z "$timer" ] || { echo "demo: $DEMO_SECONDS s are over"; exit 0; }
  for i in "${!PIDS[@]}"; do
    [ "${PIDS[i]}" = "$ended" ] || continue
    printf 'demo: %s ended by itself (code %s).\n' "${NAMES[i]}" "$code" >&2
    last_words "${NAMES[i]}"
    [ "${NAMES[i]}" != server ] || fail "without the server nothing goes on. Start again with: make demo"
    unset "WATCHED[i]"
  done
  [ ${#WATCHED[@]} -gt 0 ] || fail "every program has ended"
done
