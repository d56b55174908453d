#!/usr/bin/env bash
# Builds `everdesk` for aarch64 and runs it under qemu-user: run it through `make cross`.
#
# zig compiles and links the C++ (RocksDB, jemalloc) against glibc 2.28, so that the binary runs on Debian 10, Kylin V10 and all
# that is newer; zig's C++ library is linked in. Rust's standard library for aarch64 comes from rustup where rustup can get it,
# else from Debian's packages, with the compiler that it was built by. Nothing is installed into the system; everything lies
# below the cache directory. EVERDESK_CROSS_TEST=no only builds.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
glibc=2.28
zig_version=0.17.1
zigbuild_version=0.23.4
cache=${EVERDESK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/everdesk}/cross
mkdir -p "$cache"
export CARGO_TARGET_DIR=$cache/target

say() { printf 'cross: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

install_zig() {
  [ -x "$cache/venv/bin/cargo-zigbuild" ] && [ -d "$cache/venv" ] || python3 -m venv "$cache/venv" >&2
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check "ziglang==$zig_version" "astral-dev-toolchain-cargo-zigbuild==$zigbuild_version" >&2
  export PATH=$cache/venv/bin:$PATH
}

# Debian's package lists for both architectures, kept beside the system's own.
apt_lists() {
  local apt=$cache/apt
  [ ! -e "$apt/ready" ] || return 0
  rm -rf "$apt"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources"
  cp /etc/apt/sources.list.d/debian.sources "$apt/sources/" 2>/dev/null || cp /etc/apt/sources.list "$apt/sources/debian.list"
  cat >"$apt/apt.conf" <<CONF
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
CONF
  APT_CONFIG=$apt/apt.conf apt-get update -qq
  touch "$apt/ready"
}

# Unpacks packages of Debian below a directory: unpack DIRECTORY PACKAGE...
unpack() {
  local root=$1 debs
  shift
  debs=$(mktemp -d "$cache/debs.XXXXXX")
  (cd "$debs" && APT_CONFIG=$cache/apt/apt.conf apt-get download -qq "$@" && for deb in *.deb; do dpkg -x "$deb" "$root"; done)
  rm -rf "$debs"
}

# Debian's compiler for this machine and its standard library for both, unpacked beside the system.
debian_rust() {
  local root=$cache/rust std driver llvm
  if [ ! -x "$cache/rustc" ]; then
    say "takes Debian's rustc and its standard library for aarch64"
    apt_lists
    rm -rf "$root"
    depends() { APT_CONFIG=$cache/apt/apt.conf apt-cache depends "$1" | sed -n "s/.*Depends: \\($2\\).*/\\1/p"; }
    std=$(depends rustc-web 'libstd-rust-web-dev')
    driver=$(depends "$std" 'libstd-rust-web-[0-9.]*')
    llvm=$(depends "$driver" 'libllvm[0-9]*')
    unpack "$root" rustc-web:amd64 "$std:amd64" "$std:arm64" "$driver:amd64" "$llvm:amd64"
    llvm=$(dirname "$(find "$root" -name 'libLLVM.so*' | head -n 1)")
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s:%s exec %s "$@"\n' "$root/usr/lib/x86_64-linux-gnu" "$llvm" "$root/usr/bin/rustc" >"$cache/rustc.new"
    chmod +x "$cache/rustc.new"
    mv "$cache/rustc.new" "$cache/rustc"
  fi
  "$cache/rustc" --version >&2 || fail "Debian's rustc does not run here: it wants libz3, libxml2 and libedit, as libclang-dev does"
  export RUSTC=$cache/rustc
}

build() {
  local sysroot
  sysroot=$(rustc --print sysroot)
  if [ ! -d "$sysroot/lib/rustlib/$target" ] && ! rustup target add "$target" >/dev/null 2>&1; then debian_rust; fi
  # Pages of 64 KiB, as Kunpeng's kernels may have: jemalloc built for 4 KiB aborts there.
  export JEMALLOC_SYS_WITH_LG_PAGE=16
  # By the linker: strip of this machine does not know aarch64, and zig's objcopy cannot.
  export CARGO_PROFILE_RELEASE_STRIP=debuginfo
  cargo zigbuild --release --locked --workspace --bin everdesk --target "$target.$glibc"
  mkdir -p "$cache/out"
  cp "$CARGO_TARGET_DIR/$target/release/everdesk" "$cache/out/everdesk"
  say "built $cache/out/everdesk: $(du -h "$cache/out/everdesk" | cut -f1)"
}

# Debian's arm64 C library, unpacked: qemu-user looks for the loader there.
qemu_root() {
  [ ! -e "$cache/arm64/lib/ld-linux-aarch64.so.1" ] || return 0
  apt_lists
  unpack "$cache/arm64" libc6:arm64 libgcc-s1:arm64
}

run_under_qemu() {
  local qemu port deadline=$((SECONDS + 180))
  qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || { say "no qemu-user: not run"; return 0; }
  qemu_root
  "$qemu" -L "$cache/arm64" "$cache/out/everdesk" --version
  data=$(mktemp -d "$cache/node.XXXXXX")
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  # Emulation is slow: a leader gets more time.
  "$qemu" -L "$cache/arm64" "$cache/out/everdesk" start --data-dir "$data" --listen "127.0.0.1:$port" --peer-listen 127.0.0.1:0 \
    --admin-listen 127.0.0.1:0 --heartbeat-ms 500 --election-min-ms 2000 --election-max-ms 4000 >"$data.log" 2>&1 &
  node=$!
  # Runs after this function's own variables are gone: these two are not local.
  trap 'kill -KILL "$node" 2>/dev/null || true; rm -rf "$data" "$data.log"' EXIT
  until "$qemu" -L "$cache/arm64" "$cache/out/everdesk" health --listen "127.0.0.1:$port" 2>/dev/null; do
    kill -0 "$node" 2>/dev/null && [ $SECONDS -lt $deadline ] || { tail -n 5 "$data.log" >&2; fail "the node is not ready under qemu"; }
    sleep 1
  done
  printf 'hello from qemu\n' | "$qemu" -L "$cache/arm64" "$cache/out/everdesk" chat --as visitor --node "127.0.0.1:$port"
  kill -TERM "$node"
  wait "$node" || fail "the node under qemu ended with status $?"
  say "a node ran under qemu-user: ready, one message acked, ended with status 0"
}

install_zig
build
[ "${EVERDESK_CROSS_TEST:-yes}" = no ] || run_under_qemu
