#!/bin/sh
# Makes the Debian package from the program in release mode, with manual and completions as the program prints them.
# Needs cargo-deb (cargo install cargo-deb); what else is said goes to it.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked -p supernode-server --bin supernode
release="${CARGO_TARGET_DIR:-target}/release"
mkdir -p "$release/package"
"$release/supernode" man > "$release/package/supernode.1"
for shell in bash zsh fish; do
    "$release/supernode" completions "$shell" > "$release/package/supernode.$shell"
done
cargo deb --no-build -p supernode-server "$@"
