#!/usr/bin/env bash
# Runs beside the founder, in its network and with its data volume, so that administration never leaves 127.0.0.1. Hands a
# join token to every node that waits for one: tokens.sh NAME...
set -euo pipefail
umask 077

for name in "$@"; do
  until token=$(everdesk token create --data-dir /data --admin http://127.0.0.1:9080 2>/dev/null | tail -n 1) && [ -n "$token" ]; do
    sleep 1
  done
  printf '%s\n' "$token" >"/join/$name.token.new"
  mv "/join/$name.token.new" "/join/$name.token" # a reader sees a whole token or none
done
