#!/bin/sh
# Installs what is missing, builds, links `cove`, starts it and returns.
# Honours CARGO_TARGET_DIR, PREFIX, COVE_HOME, COVE_LISTEN and whatever else `cove up` reads.
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh
. scripts/pages.sh

need_cargo || exit 1
need_program mkfs.btrfs btrfs-progs
need_program cc gcc libc6-dev
install_missing || exit 1

# Under sudo the caller builds, so that what is built is his.
if is_root && [ "${SUDO_UID:-0}" -ne 0 ]; then
    caller_home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
    sudo -u "#$SUDO_UID" env "HOME=$caller_home" "PATH=$PATH" \
        ${CARGO_TARGET_DIR:+"CARGO_TARGET_DIR=$CARGO_TARGET_DIR"} cargo build --release --locked -p cove
else
    cargo build --release --locked -p cove
fi
built=$(cd "$(target_directory)/release" && pwd)/cove

page_directories
mkdir -p "$links"
if [ -e "$links/cove" ] && ! [ -L "$links/cove" ]; then
    fail "$links/cove exists and is not a link of ours" 'move it away, then run this again' ||
        exit 4
fi
ln -sfn "$built" "$links/cove"
echo "linked $links/cove"
install_pages "$built" || echo 'note: the manual pages and completions were not written'
case :$PATH: in
*:"$links":*) ;;
*) echo "note: $links is not in PATH; add it, or call $links/cove" ;;
esac

first_commands() {
    cat <<EOF

first commands:
  cove new shop --from ./some-project
  cove snapshot shop -m "before the refactor"
  cove timeline shop
  cove fork shop --as shop-two
  cove show shop
EOF
}

# One that runs already is as good; what was built since it began serves from its next start on.
owner_home=$HOME
if is_root && [ "${SUDO_UID:-0}" -ne 0 ]; then
    owner_home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
fi
home=${COVE_HOME:-$owner_home/.local/share/cove}
if COVE_URL='' "$built" ls --quiet >/dev/null 2>&1; then
    echo "a Cove runs in $home already, on $(cat "$home/address")"
    if [ "$built" -nt "$home/cove.sock" ]; then
        echo "it was started before this program was built: \`make down\`, then \`make up\`, starts the new one"
    fi
    first_commands
    exit 0
fi

# Into a file and not a pipe: what stays behind would hold a pipe open.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
status=0
"$built" up --detach >"$said" 2>&1 || status=$?
cat "$said"
[ "$status" -eq 0 ] || exit "$status"
