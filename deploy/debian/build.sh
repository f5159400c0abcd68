#!/bin/sh
# Makes the Debian package, with manual and completions as the program prints them: build.sh [DIRECTORY]. Prints its path.
#
#   PROGRAM=FILE   packs this program (built for this machine) instead of building one in release mode
#   REVISION=N     of the package; a higher one is an upgrade of the same version
#
# Needs dpkg-deb and dpkg-shlibdeps (package dpkg-dev), and cargo unless there is a PROGRAM.
set -eu
out="$(cd "${1:-.}" && pwd)"
cd "$(dirname "$0")/../.."
program="${PROGRAM:-}"
if [ -z "$program" ]; then
    cargo build --release --locked -p supernode-server --bin supernode >&2
    program="${CARGO_TARGET_DIR:-target}/release/supernode"
fi
version="$("$program" --version | cut -d ' ' -f 2)-${REVISION:-1}"
architecture="$(dpkg --print-architecture)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
tree="$work/tree"
doc="$tree/usr/share/doc/supernode"

file() { install -D -m 644 "$1" "$2"; }
install -D -m 755 "$program" "$tree/usr/bin/supernode"
strip "$tree/usr/bin/supernode"
file deploy/systemd/supernode.service "$tree/usr/lib/systemd/system/supernode.service"
file deploy/sysctl.d/60-supernode.conf "$tree/usr/lib/sysctl.d/60-supernode.conf"
file deploy/prometheus/supernode.rules.yaml "$doc/prometheus/supernode.rules.yaml"
for from in deploy/supernode.toml deploy/systemd/drop-ins/*.conf; do file "$from" "$doc/examples/${from##*/}"; done
for from in deploy/grafana/*.json; do file "$from" "$doc/grafana/${from##*/}"; done
for from in docs/*.md CHANGELOG.md; do file "$from" "$doc/${from##*/}"; done
{
    echo "Supernode is licensed under the MIT license or the Apache License 2.0, at your choice."
    echo "The second is in /usr/share/common-licenses/Apache-2.0 of Debian. The first:"
    echo
    cat LICENSE-MIT
} > "$work/copyright"
file "$work/copyright" "$doc/copyright"
"$program" man | gzip -9n > "$work/supernode.1.gz"
file "$work/supernode.1.gz" "$tree/usr/share/man/man1/supernode.1.gz"
completion() {
    "$program" completions "$1" > "$work/completion"
    file "$work/completion" "$tree/usr/share/$2"
}
completion bash bash-completion/completions/supernode
completion zsh zsh/vendor-completions/_supernode
completion fish fish/vendor_completions.d/supernode.fish

# dpkg-shlibdeps wants a source package's place around it.
mkdir -p "$work/debian" "$tree/DEBIAN"
printf 'Source: supernode\n\nPackage: supernode\nArchitecture: any\n' > "$work/debian/control"
depends="$(cd "$work" && dpkg-shlibdeps -O --ignore-missing-info "$tree/usr/bin/supernode" 2> "$work/complaints")" || {
    cat "$work/complaints" >&2
    exit 1
}
# The authorities are for whoever asks others over TLS: tls.mode = "acme", and a hook elsewhere.
cat > "$tree/DEBIAN/control" << END
Package: supernode
Version: $version
Architecture: $architecture
Maintainer: The Supernode authors <supernode@example.invalid>
Installed-Size: $(du -sk "$tree" | cut -f 1)
Depends: ${depends#shlibs:Depends=}
Recommends: ca-certificates
Section: net
Priority: optional
Description: blind relay for end-to-end encrypted calls
 Supernode knows who is online, lets people ring each other, and forwards their
 media over QUIC. It holds no key to any of it.
END
for script in postinst prerm postrm; do install -m 755 "deploy/debian/$script" "$tree/DEBIAN/$script"; done
package="$out/supernode_${version}_$architecture.deb"
dpkg-deb --root-owner-group -Zgzip --build "$tree" "$package" >&2
echo "$package"
