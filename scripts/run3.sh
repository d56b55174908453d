#!/usr/bin/env bash
# A cluster of three nodes on this machine, to be tried and killed.
#
#   run3.sh all      starts nodes 1, 2 and 3, prints their process ids, and stops them by id on Ctrl-C
#   run3.sh node N   starts node N in the foreground, as after a kill -9
#
# Node N listens on 127.0.0.1:808N for clients, 708N for peers and 908N for administration; its data lies in ./data/N,
# its log in ./data/N.log. The first node of a fresh cluster founds it; the others join with a token each. A node that
# was a member before comes back without a token.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${EVERDESK_BIN:?run this through make run3 or make node}
nodes=(1 2 3)
ready_wait_s=${EVERDESK_READY_WAIT_S:-60}
stop_wait_s=15
declare -A pid_of=()
stopping=

say() { printf 'run3: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

data_dir() { echo "./data/$1"; }
client() { echo "127.0.0.1:808$1"; }
peer() { echo "127.0.0.1:708$1"; }
admin() { echo "127.0.0.1:908$1"; }

# Written by this script into the data directory once the node has answered as ready: with it goes what it says.
member_mark() { echo "$(data_dir "$1")/.member"; }
is_member() { [ -e "$(member_mark "$1")" ]; }

# One HTTP request over bash's own sockets: a fresh Debian has neither curl nor wget.
is_ready() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/808$1"
    printf 'GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
    read -r -t 2 status <&3
    [[ $status == HTTP/1.?\ 200* ]]
  ) 2>/dev/null
}

wait_ready() {
  local n=$1 deadline=$((SECONDS + ready_wait_s))
  until is_ready "$n"; do
    if [ -n "${pid_of[$n]:-}" ] && ! kill -0 "${pid_of[$n]}" 2>/dev/null; then
      tail -n 5 "$(data_dir "$n").log" >&2 || true
      fail "node $n ended before it was ready; its log is $(data_dir "$n").log"
    fi
    [ $SECONDS -lt $deadline ] || fail "node $n is not ready after $ready_wait_s s; its log is $(data_dir "$n").log"
    sleep 0.1
  done
  : >"$(member_mark "$n")"
}

# The node whose cluster N shall join: any member that answers.
founder_for() {
  local n=$1 other
  for other in "${nodes[@]}"; do
    if [ "$other" != "$n" ] && is_member "$other" && is_ready "$other"; then
      echo "$other"
      return 0
    fi
  done
  return 1
}

# Sets `start_args` for node N.
start_args_of() {
  local n=$1 other token
  start_args=(start --data-dir "$(data_dir "$n")" --listen "$(client "$n")" --peer-listen "$(peer "$n")"
    --admin-listen "$(admin "$n")")
  is_member "$n" && return 0
  if other=$(founder_for "$n"); then
    token=$("$bin" token create --data-dir "$(data_dir "$other")" --admin "http://$(admin "$other")" | tail -n 1)
    [ -n "$token" ] || fail "node $other gave no join token"
    start_args+=(--join "$(peer "$other")" --token "$token")
    return 0
  fi
  # Nobody answers. Founding a second cluster beside the data of the first would lose it from sight.
  for other in "${nodes[@]}"; do
    is_member "$other" && fail "$(data_dir "$n") is empty, and node $other, which knows the cluster, is not up: start it first (make node N=$other)"
  done
  return 0
}

start_in_background() {
  local n=$1
  (echo >"/dev/tcp/127.0.0.1/808$n") 2>/dev/null && fail "something listens on $(client "$n") already"
  start_args_of "$n"
  # What a node prints (the first start's admin password) is for the user; what it logs goes to the file. The printer
  # outlives Ctrl-C, so that a node which is stopping still finds its standard output.
  (umask 077 && : >>"$(data_dir "$n").log")
  "$bin" "${start_args[@]}" 2>>"$(data_dir "$n").log" \
    > >(trap '' INT; while IFS= read -r line; do printf '[node %s] %s\n' "$n" "$line"; done) &
  pid_of[$n]=$!
}

stop_all() {
  [ -z "$stopping" ] || return 0
  stopping=yes
  trap '' INT TERM
  local n deadline=$((SECONDS + stop_wait_s))
  for n in "${!pid_of[@]}"; do kill -TERM "${pid_of[$n]}" 2>/dev/null || true; done
  for n in "${!pid_of[@]}"; do
    while kill -0 "${pid_of[$n]}" 2>/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
    if kill -0 "${pid_of[$n]}" 2>/dev/null; then
      say "node $n did not stop within $stop_wait_s s and is killed"
      kill -KILL "${pid_of[$n]}" 2>/dev/null || true
    fi
  done
  wait 2>/dev/null || true
}

explain() {
  local n
  echo
  for n in "${nodes[@]}"; do
    say "node $n: process ${pid_of[$n]}, http://$(client "$n")/demo, log $(data_dir "$n").log"
  done
  say "kill one in mid-conversation:  kill -9 ${pid_of[1]}"
  say "bring it back (other terminal): make node N=1"
  say "see leaders and lag:           $bin status --data-dir $(data_dir 1) --admin http://$(admin 1)"
  say "Ctrl-C stops all"
  echo
}

# Says once when a node has ended; returns when none of ours is left.
watch_nodes() {
  local n code left
  while :; do
    left=
    for n in "${!pid_of[@]}"; do
      if kill -0 "${pid_of[$n]}" 2>/dev/null; then
        left=yes
        continue
      fi
      code=0
      wait "${pid_of[$n]}" 2>/dev/null || code=$?
      unset "pid_of[$n]"
      say "node $n ended with status $code; bring it back with: make node N=$n"
    done
    [ -n "$left" ] || return 0
    sleep 0.5
  done
}

start_all() {
  trap 'stop_all; exit 130' INT TERM
  trap stop_all EXIT
  local n
  mkdir -p ./data/1 ./data/2 ./data/3
  # Members first and together: none of them is ready before a quorum is up.
  for n in "${nodes[@]}"; do if is_member "$n"; then start_in_background "$n"; fi; done
  for n in "${!pid_of[@]}"; do wait_ready "$n"; done
  for n in "${nodes[@]}"; do
    is_member "$n" && continue
    start_in_background "$n"
    wait_ready "$n"
  done
  explain
  watch_nodes 2>/dev/null # bash reports killed children there, and we do so ourselves
}

start_one() {
  local n=$1
  [[ $n =~ ^[123]$ ]] || fail "there are nodes 1, 2 and 3: make node N=2"
  mkdir -p "$(data_dir "$n")"
  start_args_of "$n"
  if ! is_member "$n"; then
    # The mark belongs to a node that was ready; in the foreground somebody else has to see that.
    (wait_ready "$n") &
  fi
  exec "$bin" "${start_args[@]}"
}

case ${1:-} in
  all) start_all ;;
  node) start_one "${2:-}" ;;
  *) fail "usage: run3.sh all | node N" ;;
esac
