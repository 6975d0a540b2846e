#!/bin/sh
# Builds the release and packs it with its licence, manual pages and completions: target/release-archives/cove-VERSION-HOST.tar.gz
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh

need_cargo || exit 1
need_compiler || exit 1
version=$(awk -F '"' '/^version = / { print $2; exit }' Cargo.toml)
host=$(rustc -vV | awk '/^host: / { print $2 }')
name=cove-$version-$host

cargo build --release --locked -p cove
archives=$(target_directory)/release-archives
rm -rf "${archives:?}/$name"
mkdir -p "$archives/$name"
cp "$(target_directory)/release/cove" LICENSE README.md CHANGELOG.md "$archives/$name/"
built=$(target_directory)/release/cove
"$built" man -q "$archives/$name/man/man1" >/dev/null
mkdir "$archives/$name/completions"
"$built" completions bash >"$archives/$name/completions/cove.bash"
"$built" completions zsh >"$archives/$name/completions/_cove"
"$built" completions fish >"$archives/$name/completions/cove.fish"
# The same input gives the same archive.
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar -C "$archives" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -cf - "$name" |
    gzip -n >"$archives/$name.tar.gz"
rm -rf "${archives:?}/$name"
(cd "$archives" && sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256")
