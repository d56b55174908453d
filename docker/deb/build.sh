#!/usr/bin/env bash
# Makes the .deb of the binary that `make build` left: run it through `make deb`. Prints where it is.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=3.8.0
tools=${EVERDESK_CACHE:?run this through make deb}/tools
if ! command -v cargo-deb >/dev/null; then
  echo "deb: compiles cargo-deb $version (some minutes)" >&2
  env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$tools" --version "$version" cargo-deb
fi
mkdir -p "$CARGO_TARGET_DIR/debian"
# Dates inside are those of the commit, so that the same commit gives the same package.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s) \
  cargo deb --no-build --strip --locked -p node --output "$CARGO_TARGET_DIR/debian/"
