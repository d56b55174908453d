#!/usr/bin/env bash
# Asks one fresh node everything that its two OpenAPI documents allow, of operators and of a site, and what they do not: no answer may be
# a 5xx, undocumented, or of another form than documented. Needs the binary in EVERDESK_BIN; further arguments go to schemathesis.
# ONLY=admin or ONLY=site asks one of them.
set -euo pipefail
cd "$(dirname "$0")/.."

version=4.32.5
cache=${EVERDESK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/everdesk}
venv=$cache/tools/venv-api
say() { printf 'api-test: %s\n' "$*" >&2; }

if ! "$venv/bin/schemathesis" --version 2>/dev/null | grep -q "$version"; then
  say "installs schemathesis $version under the cache directory"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$version"
fi

dir=$(mktemp -d)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"${EVERDESK_BIN:?}" start --data-dir "$dir/data" --listen "127.0.0.1:$port" --peer-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
  --shards 2 >"$dir/log" 2>&1 &
node=$!
end() {
  kill "$node" 2>/dev/null || true
  wait "$node" 2>/dev/null || true
  rm -rf "$dir"
}
trap end EXIT

field() { python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$dir/data/admin.json" "$1"; }
answer() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
for _ in $(seq 300); do
  if [ -s "$dir/data/admin.json" ] && "$EVERDESK_BIN" admin cluster show --json --data-dir "$dir/data" 2>/dev/null | grep -q '"ready":true'; then
    break
  fi
  kill -0 "$node" 2>/dev/null || { cat "$dir/log" >&2; say 'the node ended'; exit 1; }
  sleep 0.1
done

# $1: the document; $2: a token; then arguments of its own. Notes are left in the directory in which this runs.
ask() {
  local document=$1 token=$2 status=0
  shift 2
  # Whoever asks whether this failed has `set -e` off in here: each status is taken by hand.
  (cd "$dir" && "$venv/bin/schemathesis" run "$document" \
    --header "Authorization: Bearer $token" \
    --checks all --exclude-checks positive_data_acceptance \
    --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-20}" --seed 1 --no-color --continue-on-failure \
    --generation-database none --request-timeout 20 "$@") || status=$?
  kill -0 "$node" 2>/dev/null || { tail -20 "$dir/log" >&2; say 'the node did not survive'; exit 1; }
  return "$status"
}

failed=0
if [ "${ONLY:-admin}" = admin ]; then
  say 'asks the API of operators'
  # A stream has no end, and a profile takes its time: tests with real processes have those.
  # Backups are left out too: they go into whatever directory is named.
  ask "$(field url)/openapi.json" "$(field token)" \
    --exclude-path-regex '/settings/watch$|/profiles/' --exclude-operation-id backups_create "$@" || failed=1
fi

if [ "${ONLY:-site}" = site ]; then
  say 'asks the API of a site, as its owner'
  # A site of its own: the operators' API has been at the others.
  word='correct horse battery staple'
  "$EVERDESK_BIN" site add api-test --data-dir "$dir/data" >/dev/null
  printf %s "$word" | "$EVERDESK_BIN" agent add --site api-test --name olga --password-stdin --data-dir "$dir/data" >/dev/null
  login() {
    curl -sf "http://127.0.0.1:$port/v1/agents/login" -H 'content-type: application/json' \
      -d "{\"site\":\"api-test\",\"name\":\"olga\",\"password\":\"$word\"}"
  }
  "$EVERDESK_BIN" admin agents set-role "$(login | answer agent)" --role owner --data-dir "$dir/data" >/dev/null
  # Events are a stream if the request says so, and an agent who gets another role here is whoever asks.
  ask "http://127.0.0.1:$port/v1/openapi.json" "$(login | answer token)" --exclude-operation-id agents_set_role \
    --exclude-operation-id events_list "$@" || failed=1
fi
exit "$failed"
