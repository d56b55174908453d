#!/usr/bin/env bash
# Exit status 0 when the node of this container is ready. Needs nothing but bash: the image has no HTTP client.
set -euo pipefail
exec 3<>/dev/tcp/127.0.0.1/8080
printf 'GET /health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 2 status <&3
[[ $status == HTTP/1.?\ 200* ]]
