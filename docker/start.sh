#!/bin/sh
# Starts this container's node. With arguments it is `everdesk ARGUMENTS`. Without EVERDESK_NODES it is a cluster of one.
#
#   EVERDESK_NODES             host names of all nodes, with blanks between; the first one founds the cluster
#   EVERDESK_ADVERTISE_HOST    this node's own among them
#   EVERDESK_ADMIN_TOKEN_FILE  the admin token, the same for all nodes; made here when it is not there and can be made
#   EVERDESK_FOUND             `never`: found no cluster, join or wait (default: first)
#   EVERDESK_FOUND_AFTER_S     how long the first one looks for a cluster before it founds one (default: 10)
#
# A node whose data directory belongs to a cluster starts without further ado. A new one asks the others for a join token,
# with the admin token, and joins whom it got it from. So does the first one when it lost its disk: it must not found a second
# cluster beside the first, hence it looks for some time, and `never` is the setting for a cluster that exists.
set -eu

if [ $# -gt 0 ]; then exec everdesk "$@"; fi

data=${EVERDESK_DATA_DIR:-/data}
say() { echo "start: $*" >&2; }

if [ -z "${EVERDESK_NODES:-}" ]; then exec everdesk start; fi

me=${EVERDESK_ADVERTISE_HOST:?is not set}
token_file=${EVERDESK_ADMIN_TOKEN_FILE:?is not set}
peer_port=${EVERDESK_PEER_PORT:-7080}
admin_port=${EVERDESK_ADMIN_PORT:-9080}
export EVERDESK_PEER_LISTEN="${EVERDESK_PEER_LISTEN:-0.0.0.0:$peer_port}"
export EVERDESK_ADMIN_LISTEN="${EVERDESK_ADMIN_LISTEN:-0.0.0.0:$admin_port}"

if [ -e "$data/identity" ]; then exec everdesk start; fi

if [ ! -s "$token_file" ]; then
  umask 077
  tr -dc 'A-Za-z0-9' </dev/urandom | head -c 43 >"$token_file.$me"
  ln "$token_file.$me" "$token_file" 2>/dev/null || true # the first one wins, and the others take what it drew
  rm -f "$token_file.$me"
fi
[ -s "$token_file" ] || { say "no admin token in $token_file"; exit 1; }

# The command line takes its credential from such a directory.
ask_dir=$data/.ask
mkdir -p "$ask_dir"
(umask 077 && printf '{"url":"","token":"%s"}' "$(cat "$token_file")" >"$ask_dir/admin.json")

# Sets `token` and `mate` when another node gives a token.
ask_others() {
  for mate in $EVERDESK_NODES; do
    [ "$mate" != "$me" ] || continue
    if token=$(everdesk token create --data-dir "$ask_dir" --admin "http://$mate:$admin_port" 2>"$ask_dir/said"); then
      rm -rf "$ask_dir"
      return 0
    fi
  done
  return 1
}

first=${EVERDESK_NODES%% *}
waited_s=0
until ask_others; do
  if [ "$me" = "$first" ] && [ "${EVERDESK_FOUND:-first}" != never ] && [ "$waited_s" -ge "${EVERDESK_FOUND_AFTER_S:-10}" ]; then
    say "nobody of $EVERDESK_NODES has a cluster: founds one"
    rm -rf "$ask_dir"
    exec everdesk start
  fi
  [ $((waited_s % 30)) -ne 0 ] || say "waits for a node that lets this one join; the last one said: $(cat "$ask_dir/said")"
  sleep 1
  waited_s=$((waited_s + 1))
done
say "joins the cluster of $mate"
# By the environment: an argument can be read by every process of the machine.
export EVERDESK_JOIN="$mate:$peer_port" EVERDESK_TOKEN="$token"
exec everdesk start
