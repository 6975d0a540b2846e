#!/bin/sh
# What `make bench` runs: installs what is missing, builds the release, measures it beside others.
# BENCH holds flags of cove-bench: BENCH='--rows fork,create' make bench
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh

is_root || { fail 'the benchmark mounts a pool, which needs root' 'run: sudo make bench' || exit 1; }
need_cargo && need_compiler && need_live || exit 1
need_program btrfs btrfs-progs
need_program restic restic
need_program zstd zstd
need_program sqlite3 sqlite3
install_missing || exit 1
need_weed || exit 1

cargo build --release --locked -p cove -p cove-bench
# shellcheck disable=SC2086 # a list of words
exec "$(target_directory)/release/cove-bench" ${BENCH:-}
