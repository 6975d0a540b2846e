#!/bin/sh
# Installs what is missing, builds, and plays the demo; what it makes is gone afterwards.
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh

is_root || { fail 'the demo mounts a btrfs pool, which needs root' 'run: sudo make demo' || exit 1; }
need_cargo || exit 1
need_compiler || exit 1
need_demo || exit 1
need_weed || exit 1
cargo build --release --locked -p cove
echo 'building what plays the demo'
exec cargo run --locked -p cove-xtask -- demo --program "$(target_directory)/release/cove"
