# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# take_your_time LABEL COMMAND...: run a command that is silent for minutes, and say that it goes on. What it prints is
# shown only when it fails. On a terminal a clock ticks; elsewhere a line every 15 seconds tells that nothing hangs.
take_your_time() {
    local label=$1 log status=0 began=$SECONDS pid tick=15 shown=0
    shift
    [ -t 1 ] && tick=1
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    trap 'kill "$pid" 2>/dev/null' INT TERM HUP
    [ -t 1 ] || echo "$label"
    while kill -0 "$pid" 2>/dev/null; do
        if [ $((SECONDS - began)) -ge $((shown + tick)) ]; then
            shown=$((SECONDS - began))
            if [ -t 1 ]; then printf '\r%s (%d s)' "$label" "$shown"; else echo "  ... $shown s"; fi
        fi
        sleep 0.2
    done
    wait "$pid" || status=$?
    trap - INT TERM HUP
    [ -t 1 ] && printf '\r%s (%d s)\n' "$label" $((SECONDS - began))
    if [ "$status" -ne 0 ]; then
        echo "failed: $label" >&2
        tail -n 40 "$log" >&2
    fi
    rm -f "$log"
    return "$status"
}
