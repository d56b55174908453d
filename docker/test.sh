#!/usr/bin/env bash
# Tests the image, the Compose files, the alert rules and the dashboard with a real engine, from nothing but the checkout:
#     docker/test.sh              the image's last two stages, with the binary of `make build`
#     docker/test.sh --compile    all stages: compiles in the container, from vendored sources (half an hour on two cores)
#
# Needs root, and Debian's packages docker.io, docker-compose and debootstrap, which it installs when they are missing. Pulls
# no image: Debian's base image is made by debootstrap under the name that the Dockerfile uses. Starts an engine of its own
# below the cache directory when none runs, and ends it. Prints what it checked and `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x "${EVERDESK_BIN:-}" ]; then exec make docker-test ARGS="$*"; fi # which builds it and comes back
compile=
[ "${1:-}" != --compile ] || compile=yes
cache=${EVERDESK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/everdesk}
mkdir -p "$cache"
work=$(mktemp -d "$cache/docker-test.XXXXXX")
debian_image=debian:bookworm-slim
image=everdesk:test
image_bytes_max=$((80 * 1000 * 1000))
engine_pid=
made_images=()
jobs_of_test=()
passed=0

export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 COMPOSE_INTERACTIVE_NO_CLI=1
export EVERDESK_IMAGE=$image PROMETHEUS_IMAGE=prometheus:everdesk-test COMPOSE_PROJECT_NAME=everdesktest

say() { printf 'docker-test: %s\n' "$*" >&2; }
fail() {
  say "FAILED: $*"
  for n in 1 2 3; do docker logs --tail 8 "${COMPOSE_PROJECT_NAME}_everdesk-${n}_1" 2>&1 | sed "s/^/  node $n: /" >&2 || true; done
  printf '%s passed, 1 failed\n' "$passed"
  exit 1
}
ok() { passed=$((passed + 1)); say "ok: $*"; }

compose() { docker-compose -f docker/docker-compose.yml -f docker/docker-compose.monitoring.yml "$@" 2>>"$work/compose.log"; }
container() { compose ps -q "everdesk-$1"; }
in_node() { docker exec -i "$(container "$1")" everdesk "${@:2}"; }

clean_up() {
  local job image
  for job in "${jobs_of_test[@]}"; do kill "$job" 2>/dev/null || true; done
  if docker info >/dev/null 2>&1; then
    compose down --volumes --timeout 15 || true
    for image in "${made_images[@]}"; do docker rmi --force "$image" >/dev/null 2>&1 || true; done
  fi
  if [ -n "$engine_pid" ]; then
    kill "$engine_pid" 2>/dev/null || true
    tail --pid="$engine_pid" -f /dev/null 2>/dev/null || true
  fi
  rm -rf "$work" 2>/dev/null || { sleep 2; rm -rf "$work"; }
}
trap clean_up EXIT

# until_true SECONDS WHAT COMMAND...: the deadline is a failure.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "not in time: $what"
    sleep 0.3
  done
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# --- what it stands on -----------------------------------------------------------------------------------------------

install_tools() {
  local missing=()
  command -v dockerd >/dev/null || missing+=(docker.io)
  command -v docker-compose >/dev/null || missing+=(docker-compose)
  command -v debootstrap >/dev/null || missing+=(debootstrap)
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" -eq 0 ] || fail "run this as root, or install ${missing[*]}"
  say "installs ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" iptables ca-certificates >/dev/null
}

start_engine() {
  if docker info >/dev/null 2>&1; then return 0; fi
  say "starts an engine of its own"
  export DOCKER_HOST=unix://$work/docker.sock
  dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/dockerd.pid" --host "$DOCKER_HOST" \
    >"$work/dockerd.log" 2>&1 &
  engine_pid=$!
  local deadline=$((SECONDS + 60))
  until docker info >/dev/null 2>&1; do
    kill -0 "$engine_pid" 2>/dev/null && [ $SECONDS -lt $deadline ] || { tail -n 5 "$work/dockerd.log" >&2; fail "the engine does not start"; }
    sleep 0.3
  done
}

make_base_image() {
  docker image inspect "$debian_image" >/dev/null 2>&1 && return 0
  say "makes $debian_image with debootstrap"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" >"$work/debootstrap.log" 2>&1 \
    || { tail -n 5 "$work/debootstrap.log" >&2; fail "debootstrap"; }
  # Where this machine gets Debian's packages, updates among them, the container gets them too.
  cp /etc/apt/sources.list.d/debian.sources "$work/debian/etc/apt/sources.list.d/" 2>/dev/null && : >"$work/debian/etc/apt/sources.list"
  tar -C "$work/debian" -c . | docker import - "$debian_image" >/dev/null
  made_images+=("$debian_image")
  rm -rf "$work/debian"
}

# --- the image -------------------------------------------------------------------------------------------------------

# The last two stages, with the host's binary in place of the stage that compiles.
build_with_host_binary() {
  mkdir -p "$work/binary"
  strip --strip-debug -o "$work/binary/everdesk" "$EVERDESK_BIN"
  printf 'FROM scratch\nCOPY everdesk /everdesk\n' | docker build --quiet -t everdesk-binary -f - "$work/binary" >/dev/null
  made_images+=(everdesk-binary)
  { grep '^ARG ' docker/Dockerfile; awk '/^FROM .* AS assemble$/ { on = 1 } on' docker/Dockerfile; } \
    | sed 's/--from=build /--from=everdesk-binary /' >"$work/Dockerfile"
  docker build --file "$work/Dockerfile" --tag "$image" . >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; fail "docker build"; }
}

# All stages. The toolchain of this machine stands in for the image that cannot be pulled.
build_all_stages() {
  local rust_image root=$work/rust
  rust_image=$(sed -n 's/^ARG RUST_IMAGE=//p' docker/Dockerfile)
  if ! docker image inspect "$rust_image" >/dev/null 2>&1; then
    say "makes $rust_image of debootstrap, this machine's toolchain and vendored sources"
    command -v cargo-chef >/dev/null || cargo install --quiet --locked --version 0.1.78 --root "$work/chef" cargo-chef
    debootstrap --variant=minbase --include=ca-certificates,g++,clang,libclang-dev,make bookworm "$root" >"$work/debootstrap.log" 2>&1 || fail "debootstrap"
    mkdir -p "$root/usr/local/rustup/toolchains" "$root/usr/local/cargo/bin" "$root/usr/local/vendor"
    cp -aL "$(rustc --print sysroot)" "$root/usr/local/rustup/toolchains/host"
    ln -s ../../rustup/toolchains/host/bin/{cargo,rustc} "$root/usr/local/cargo/bin/"
    cp "$(PATH=$work/chef/bin:$PATH command -v cargo-chef)" "$root/usr/local/cargo/bin/"
    cargo vendor --locked --quiet "$root/usr/local/vendor" >/dev/null
    printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "/usr/local/vendor"\n' >"$root/usr/local/cargo/config.toml"
    tar -C "$root" -c . | docker import --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/usr/local/cargo' - "$rust_image" >/dev/null
    made_images+=("$rust_image")
    rm -rf "$root"
  fi
  say "compiles in the container"
  docker build --file docker/Dockerfile --tag "$image" . >"$work/build.log" 2>&1 || { tail -n 20 "$work/build.log" >&2; fail "docker build"; }
}

check_image() {
  local bytes
  bytes=$(docker image inspect --format '{{.Size}}' "$image")
  [ "$bytes" -lt "$image_bytes_max" ] || fail "the image has $bytes bytes, more than $image_bytes_max"
  ok "the image has $((bytes / 1000 / 1000)) MB"
  [ "$(docker image inspect --format '{{.Config.User}}' "$image")" = 10001:10001 ] || fail "the image runs as another user"
  docker run --rm --read-only "$image" --version | grep -q '^everdesk ' || fail "the binary does not run"
  ok "the binary runs as a user without rights, with a read-only root"
}

# --- three nodes -----------------------------------------------------------------------------------------------------

is_healthy() { [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$1")")" = healthy ]; }
wait_healthy() { for n in "$@"; do until_true 120 "node $n is healthy" is_healthy "$n"; done; }
# Every shard has a leader and three voters near it, as node $1 sees it; leads them or not.
is_whole() {
  in_node "$1" status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
nodes = [n for n in status["nodes"] if n["state"] == "active" and n["up"]]
ok = len(nodes) >= int(sys.argv[1])
for shard in status["shards"]:
    voters = [r for r in shard["replicas"] if r["voter"]]
    ok = ok and shard["leader"] is not None and (len(voters) == 3 or not shard["replicas"])
sys.exit(0 if ok else 1)' "$2"
}

start_three() {
  EVERDESK_PORT_1=$(free_port) EVERDESK_PORT_2=$(free_port) EVERDESK_PORT_3=$(free_port) PROMETHEUS_PORT=$(free_port)
  export EVERDESK_PORT_1 EVERDESK_PORT_2 EVERDESK_PORT_3 PROMETHEUS_PORT
  compose up --no-build -d everdesk-1 everdesk-2 everdesk-3 || { tail -n 20 "$work/compose.log" >&2; fail "docker-compose up"; }
  wait_healthy 1 2 3
  until_true 60 "three voters everywhere" is_whole 1 3
  ok "docker-compose up: three healthy nodes, three voters of every shard"
  local id
  id=$(container 1)
  docker exec "$id" sh -c 'id -u' | grep -qx 10001 || fail "a node runs as root"
  if docker exec "$id" sh -c 'echo x >/usr/x' 2>/dev/null; then fail "the root of a node can be written"; fi
  docker inspect --format '{{.HostConfig.CapDrop}}' "$id" | grep -qi all || fail "a node has capabilities"
  ok "nodes run as 10001, without capabilities, with a read-only root"
}

lines=60
# A visitor at node 1 and an agent at node 2; both know the other nodes. Node 1 is killed in mid-conversation.
chat_across() {
  local host=127.0.0.1 n
  local one=$host:$EVERDESK_PORT_1 two=$host:$EVERDESK_PORT_2 three=$host:$EVERDESK_PORT_3
  printf %s 'a long password' | in_node 3 agent add --site demo --name ann --password-stdin >/dev/null
  mkfifo "$work/visitor.in" "$work/agent.in"
  "$EVERDESK_BIN" chat --as agent --name ann --password-stdin --node "$two" --node "$three" --node "$one" <"$work/agent.in" >"$work/agent.out" 2>"$work/agent.err" &
  jobs_of_test+=($!)
  exec 8>"$work/agent.in"
  echo 'a long password' >&8
  "$EVERDESK_BIN" chat --as visitor --node "$one" --node "$two" --node "$three" <"$work/visitor.in" >"$work/visitor.out" 2>"$work/visitor.err" &
  local visitor=$!
  jobs_of_test+=("$visitor")
  exec 7>"$work/visitor.in"
  for ((n = 1; n <= lines; n++)); do
    echo "line $n" >&7
    [ "$n" -ne $((lines / 3)) ] || docker kill --signal KILL "$(container 1)" >/dev/null
    sleep 0.1
  done
  exec 7>&-
  wait "$visitor" || fail "the visitor's chat ended with an error: $(tail -n 3 "$work/visitor.err")"
  all_heard() { [ "$(grep -c 'visitor: line' "$work/agent.out")" -ge "$lines" ]; }
  until_true 30 "the agent has all $lines lines" all_heard
  grep -o 'visitor: line [0-9]*' "$work/agent.out" | grep -o '[0-9]*$' >"$work/heard"
  seq 1 "$lines" | cmp -s - "$work/heard" || fail "the agent did not get $lines lines once and in order: $(tr '\n' ' ' <"$work/heard")"
  grep -q disconnected "$work/visitor.err" || fail "the visitor was not connected to the node that was killed"
  exec 8>&-
  ok "a visitor and an agent at different nodes; the visitor's was killed; all $lines lines came once and in order"
}

bring_back() {
  docker start "$(container 1)" >/dev/null
  wait_healthy 1
  until_true 60 "the cluster is whole again" is_whole 1 3
  ok "the killed container came back as the node that it was"
}

stop_one() {
  local id started=$SECONDS code
  id=$(container 3)
  docker stop --time 30 "$id" >/dev/null
  code=$(docker inspect --format '{{.State.ExitCode}}' "$id")
  [ "$code" -eq 0 ] && [ $((SECONDS - started)) -le 15 ] || fail "SIGTERM: status $code after $((SECONDS - started)) s"
  docker start "$id" >/dev/null
  wait_healthy 3
  until_true 60 "the cluster is whole after a stop" is_whole 1 3
  ok "docker stop: status 0 after $((SECONDS - started)) s with the start"
}

# The founder's volume is lost: it must join as a new node, not found a second cluster.
lose_the_founder() {
  compose rm --stop --force everdesk-1 >/dev/null
  docker volume rm "${COMPOSE_PROJECT_NAME}_data-1" >/dev/null
  compose up --no-build -d everdesk-1 || fail "docker-compose up after a lost volume"
  wait_healthy 1
  # Three are up, and the one that is gone is known by name.
  until_true 60 "the founder came back as a fourth node" in_node 1 admin remove n1
  docker logs "$(container 1)" 2>&1 | grep -q 'joins the cluster of' || fail "the founder did not join"
  ok "the founder lost its volume, joined its own cluster, and its old self was removed"
}

# --- monitoring ------------------------------------------------------------------------------------------------------

make_prometheus_image() {
  # Debian's Prometheus under the name that Compose is given; Grafana is nowhere to be had, its dashboard is checked by its queries.
  printf '%s\n' "FROM $debian_image" \
    'RUN apt-get update && apt-get install -y --no-install-recommends prometheus && install -d -o nobody /prometheus' \
    'USER nobody' 'ENTRYPOINT ["/usr/bin/prometheus"]' \
    | docker build --tag "$PROMETHEUS_IMAGE" - >"$work/prometheus.log" 2>&1 || { tail -n 5 "$work/prometheus.log" >&2; fail "Prometheus' image"; }
  made_images+=("$PROMETHEUS_IMAGE")
}

promtool() { docker run --rm --entrypoint promtool -v "$PWD/docker/monitoring:/m:ro" -w /m "$PROMETHEUS_IMAGE" "$@" >"$work/promtool.log" 2>&1; }

check_monitoring() {
  make_prometheus_image
  promtool check config --syntax-only prometheus.yml || fail "prometheus.yml: $(cat "$work/promtool.log")"
  promtool check rules alerts.yml || fail "alerts.yml: $(cat "$work/promtool.log")"
  promtool test rules alerts_test.yml || fail "alerts_test.yml: $(cat "$work/promtool.log")"
  ok "promtool takes the configuration and the alert rules, and the rules fire when they should"
  compose up --no-build -d prometheus || fail "docker-compose up prometheus"
  python3 docker/monitoring/check.py "http://127.0.0.1:$PROMETHEUS_PORT" 3 || fail "the dashboard's queries"
  ok "Prometheus scrapes three nodes, every query of the dashboard has an answer, no rule is broken"
}

install_tools
start_engine
make_base_image
if [ -n "$compile" ]; then build_all_stages; else build_with_host_binary; fi
check_image
start_three
chat_across
bring_back
stop_one
check_monitoring
lose_the_founder
say "took $SECONDS s; $([ -n "$compile" ] && echo 'all stages were built in the container' || echo "the image's last two stages, with the host's binary")"
printf '%s passed, 0 failed\n' "$passed"
