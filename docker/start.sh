#!/usr/bin/env bash
# Starts this container's node. A first start with EVERDESK_JOIN_PEER waits for a token in /join and joins; every later one,
# and the founder's, needs none.
#
#   EVERDESK_PEER_LISTEN   this container's own address and peer port; the other nodes dial exactly this
#   EVERDESK_JOIN_PEER     peer address of a node of the cluster; unset on the founder
#   EVERDESK_NAME          names the token file /join/NAME.token
set -euo pipefail

args=(start --data-dir /data --listen 0.0.0.0:8080 --peer-listen "${EVERDESK_PEER_LISTEN:?is not set}")
member=/data/.member

if [ -n "${EVERDESK_JOIN_PEER:-}" ] && [ ! -e "$member" ]; then
  token_file=/join/${EVERDESK_NAME:?is not set}.token
  echo "waits for a join token in $token_file" >&2
  until [ -s "$token_file" ]; do sleep 0.5; done
  args+=(--join "$EVERDESK_JOIN_PEER" --token "$(cat "$token_file")")
  rm -f "$token_file" # single use; a start that fails gets a fresh one
fi

# Once ready, this data directory belongs to a member: later starts come back without a token.
if [ ! -e "$member" ]; then
  (until bash "$(dirname "$0")/health.sh" 2>/dev/null; do sleep 0.5; done; : >"$member") &
fi
exec everdesk "${args[@]}"
