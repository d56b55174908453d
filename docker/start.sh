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
  # Should the token be too old (15 minutes) or spent: docker-compose run --rm tokens
fi

# Once ready, this data directory belongs to a member: later starts come back without a token.
if [ ! -e "$member" ]; then
  (until bash "$(dirname "$0")/health.sh" 2>/dev/null; do sleep 0.5; done; : >"$member"; rm -f "/join/${EVERDESK_NAME:-none}.token") &
fi
exec everdesk "${args[@]}"
