#!/usr/bin/env bash
# Installs the .deb into a fresh Debian in which systemd runs as process 1, starts the service and looks at it:
#     docker/deb/test.sh FILE.deb
#
# Needs root and an engine that runs (docker/test.sh says how one is made). Prints `N passed, N failed`.
set -euo pipefail

deb=$(realpath "${1:?usage: test.sh FILE.deb}")
name=everdesk-deb-test-$$
image=everdesk-systemd-test
passed=0

say() { printf 'deb-test: %s\n' "$*" >&2; }
inside() { docker exec "$name" "$@"; }
fail() {
  say "FAILED: $*"
  inside journalctl --no-pager -n 20 -u everdesk >&2 || true
  printf '%s passed, 1 failed\n' "$passed"
  exit 1
}
ok() { passed=$((passed + 1)); say "ok: $*"; }
clean_up() {
  docker rm --force "$name" >/dev/null 2>&1 || true
  docker rmi --force "$image" >/dev/null 2>&1 || true
  rm -rf "$work"
}
work=$(mktemp -d)
trap clean_up EXIT

until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "not in time: $what"
    sleep 0.3
  done
}

docker image inspect debian:bookworm-slim >/dev/null 2>&1 || { say "no image debian:bookworm-slim"; exit 1; }
printf '%s\n' 'FROM debian:bookworm-slim' \
  'RUN apt-get update && apt-get install -y --no-install-recommends systemd systemd-sysv libstdc++6' \
  | DOCKER_BUILDKIT=0 docker build --quiet -t "$image" - >/dev/null
# What systemd needs to set up a service; not `--privileged`, which some machines refuse.
docker run -d --name "$name" --cap-add SYS_ADMIN --cap-add SYS_PTRACE --security-opt seccomp=unconfined --security-opt apparmor=unconfined --tmpfs /run --tmpfs /run/lock -v /sys/fs/cgroup:/sys/fs/cgroup:rw "$image" /sbin/init >/dev/null
until_true 60 "systemd is up" inside systemctl list-units
docker cp "$deb" "$name:/tmp/everdesk.deb"
inside dpkg -i /tmp/everdesk.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail "dpkg -i"; }
[ "$(inside systemctl is-enabled everdesk || true)" = disabled ] || fail "the installation enabled the service"
ok "dpkg -i: installed, with its user, not started"

inside systemctl start everdesk || fail "systemctl start"
until_true 60 "the service is ready" inside everdesk health
pid=$(inside systemctl show --property MainPID --value everdesk)
# Where the machine itself allows less, as much as it allows.
files=$(inside sed -n 's/^Max open files *[0-9]* *\([0-9]*\).*/\1/p' "/proc/$pid/limits")
most=$(inside sed -n 's/^Max open files *[0-9]* *\([0-9]*\).*/\1/p' /proc/1/limits)
[ "$files" = 1048576 ] || [ "$files" = "$most" ] || fail "LimitNOFILE: $files of $most"
[ "$(inside stat -c %U "/proc/$pid")" = everdesk ] || fail "it runs as another user"
inside grep -q 'Seccomp:.2' "/proc/$pid/status" || fail "no system call filter"
inside grep -q 'CapEff:.0000000000000000' "/proc/$pid/status" || fail "it has capabilities"
ok "systemctl start: ready under the unit's hardening, with $files open files, no capabilities, a system call filter"

inside sh -c 'echo hello | everdesk chat --as visitor' >"$work/chat" 2>&1 || { cat "$work/chat" >&2; fail "chat"; }
inside everdesk status --data-dir /var/lib/everdesk >"$work/status" || fail "status"
inside sh -c "kill -KILL $pid"
until_true 30 "systemd brought it back" inside everdesk health
[ "$(inside systemctl show --property MainPID --value everdesk)" != "$pid" ] || fail "kill -KILL did not end it"
ok "a message is acked; after kill -9 systemd brings it back"

inside systemctl stop everdesk
[ "$(inside systemctl show --property ExecMainStatus --value everdesk)" = 0 ] || fail "it ended with another status than 0"
inside dpkg --remove everdesk >/dev/null 2>&1
inside test -e /var/lib/everdesk/identity || fail "remove took the data"
inside dpkg --purge everdesk >/dev/null 2>&1
if inside test -e /var/lib/everdesk; then fail "purge left the data"; fi
ok "stop ends it with status 0; remove keeps the data, purge does not"
printf '%s passed, 0 failed\n' "$passed"
