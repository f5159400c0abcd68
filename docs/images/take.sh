#!/bin/sh
# Takes the pictures of the built-in page: take.sh [DIRECTORY]. Needs chromium and the programs in release mode.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
out="$(cd "${1:-$here}" && pwd)"
programs="${PROGRAMS:-$here/../../target/release}"
work="$(mktemp -d)"
trap 'kill $relay $load 2> /dev/null; wait; rm -rf "$work"' EXIT
relay='' load=''

"$programs/supernode" serve --listen 127.0.0.1:0 --admin 127.0.0.1:0 --open --shards 2 --state-dir "$work/relay" \
    > "$work/ready.json" 2> "$work/relay.log" &
relay=$!
while ! [ -s "$work/ready.json" ]; do sleep 0.1; done
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$work/ready.json"; }
field invite > "$work/invite"

# Calls with video, for long enough that the page's lines show something.
"$programs/supernode-load" run calls --invite-file "$work/invite" --quiet --set pairs=20 --set video.kbit_per_s=400 \
    --set ramp_s=5 --set hold_s=170 > "$work/load.txt" &
load=$!
sleep 120

picture() {
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --user-data-dir="$work/$1" --blink-settings="preferredColorScheme=$2" \
        --window-size="$3" --force-device-scale-factor="$4" --virtual-time-budget=8000 \
        --screenshot="$out/dashboard-$1.png" "http://$(field admin)/" 2> /dev/null
}
picture light 1 1280,1510 1
picture dark 0 1280,1510 1
picture phone 1 480,3560 1
