#!/bin/sh
# Stops Cove, with the `cove` that is linked or the one that was built here; one that does not run is
# no failure.
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh

cove=$(target_directory)/release/cove
if [ -x "$cove" ]; then
    exec "$cove" down
fi
if command -v cove >/dev/null; then
    exec cove down
fi
echo "there is nothing to stop: cove is not built; \`make up\` builds and starts it"
