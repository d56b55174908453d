#!/usr/bin/env bash
# Runs a command beside moto, an S3-compatible store for tests, with a bucket in it:
#
#     scripts/s3.sh COMMAND...
#
# moto comes from PyPI into an environment of its own below the build cache. EVERDESK_TEST_S3 names the place.
set -euo pipefail

version=5.2.5
cache="${EVERDESK_CACHE:-$HOME/.cache/everdesk}"
home="$cache/moto-$version"
if ! [ -x "$home/bin/moto_server" ]; then
  python3 -m venv "$home"
  "$home/bin/pip" install --quiet "moto[server]==$version"
fi

port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
log="$(mktemp)"
"$home/bin/moto_server" -H 127.0.0.1 -p "$port" >"$log" 2>&1 &
moto=$!
trap 'kill "$moto" 2>/dev/null || true; rm -f "$log"' EXIT

export AWS_ENDPOINT_URL="http://127.0.0.1:$port" AWS_REGION=us-east-1 AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test
for _ in $(seq 100); do
  if python3 - "$AWS_ENDPOINT_URL/desk" 2>/dev/null <<'PYTHON'
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="PUT"), timeout=2)
PYTHON
  then ready=1; break; fi
  sleep 0.2
done
if [ -z "${ready:-}" ]; then
  echo "moto does not answer:" >&2
  cat "$log" >&2
  exit 1
fi
EVERDESK_TEST_S3=s3://desk/backups "$@"
