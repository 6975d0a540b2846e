#!/bin/sh
# Says what would be deleted. With CONFIRM=yes deletes it, unless work would be
# lost with it; DISCARD=yes is the word for that.
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh
. scripts/pages.sh

owner_home=$HOME
if is_root && [ "${SUDO_UID:-0}" -ne 0 ]; then
    owner_home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
fi
home=${COVE_HOME:-$owner_home/.local/share/cove}

if is_root; then
    link=/usr/local/bin/cove
else
    link=$HOME/.local/bin/cove
fi

echo 'this deletes:'
if [ -L "$link" ]; then
    echo "  $link (a link)"
fi
page_directories
installed=$(pages)
if [ -n "$installed" ]; then
    echo "  $(printf '%s\n' "$installed" | wc -l) manual pages and completions below $share"
fi
if [ -d "$home" ]; then
    # The directory's own file system only: a mounted pool is in its loop file.
    echo "  $home ($(du -xsh "$home" | cut -f1)): the pool, and what was saved on this disk"
fi
if ! [ -L "$link" ] && ! [ -d "$home" ] && [ -z "$installed" ]; then
    echo '  nothing: Cove is not installed here'
    exit 0
fi

# count PATTERN: how many members of the lists match.
count() {
    printf '%s\n' "$lists" | grep -oE "$1" | wc -l
}

if [ -d "$home" ] && [ "${DISCARD:-}" != yes ]; then
    cove=$(command -v cove || echo "$(target_directory)/release/cove")
    if ! lists=$("$cove" ls --json && "$cove" trash --json); then
        fail 'nobody can tell what is saved: Cove does not answer' \
            "start it with \`cove up --detach\`, or set DISCARD=yes to lose what is in $home" ||
            exit 4
    fi
    unsaved=$(count '"durability": *"on_this_node"|"unsaved_bytes": *([1-9]|null)')
    here=$(count '"saved_to": *"this_disk"')
    if [ "$unsaved" -ne 0 ]; then
        fail 'something is not saved yet' "see \`cove ls\`; wait with \`cove wait NAME\`, or set DISCARD=yes to lose it" ||
            exit 4
    fi
    if [ "$here" -ne 0 ]; then
        fail "$here projects are saved on this disk only" \
            "copy out what you need with \`cove cp\`, or set DISCARD=yes to lose it" ||
            exit 4
    fi
fi

if [ "${CONFIRM:-}" != yes ]; then
    printf '\nnothing is deleted yet; to delete it: make uninstall CONFIRM=yes%s\n' \
        "$([ "${DISCARD:-}" != yes ] || echo ' DISCARD=yes')"
    exit 0
fi

if [ -d "$home" ]; then
    sh scripts/down.sh || echo 'cove was not running'
    home=$(cd "$home" && pwd -P)
    # A home of Cove has its token; anything else is not ours to delete.
    if ! [ -f "$home/token" ]; then
        fail "$home has no token file, so it is not a home of Cove" 'delete it yourself if you know what it is' ||
            exit 4
    fi
    if awk -v home="$home/" 'index($2 "/", home) == 1 { found = 1 } END { exit !found }' /proc/mounts; then
        fail "something is still mounted below $home" "stop Cove with \`cove down\`, then run this again" ||
            exit 4
    fi
    rm -rf --one-file-system -- "$home"
    echo "deleted $home"
fi
if [ -L "$link" ]; then
    rm -- "$link"
    echo "deleted $link"
fi
if [ -n "$installed" ]; then
    printf '%s\n' "$installed" | while IFS= read -r page; do rm -- "$page"; done
    echo "deleted the manual pages and completions below $share"
fi
