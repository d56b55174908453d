#!/usr/bin/env bash
# Checks the unit with systemd's own tools, without starting it: docker/deb/test.sh does that in a container.
set -euo pipefail
cd "$(dirname "$0")"

exposure_max=2.0
if ! command -v systemd-analyze >/dev/null; then
  echo 'systemd: skipped, this machine has no systemd-analyze'
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The check wants the program to be there; any will do.
sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' everdesk.service >"$work/everdesk.service"
systemd-analyze verify --man=no "$work/everdesk.service"
exposure=$(systemd-analyze security --offline=true "$work/everdesk.service" | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
[ -n "$exposure" ] || { echo 'systemd: no exposure level' >&2; exit 1; }
awk -v is="$exposure" -v max="$exposure_max" 'BEGIN { exit is > max }' || { echo "systemd: exposure $exposure, more than $exposure_max" >&2; exit 1; }
grep -q '^LimitNOFILE=1048576$' everdesk.service
echo "systemd: the unit is in order, exposure level $exposure of 10"
