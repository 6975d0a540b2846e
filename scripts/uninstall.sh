#!/bin/sh
# Says what would be deleted and lost. CONFIRM=yes deletes it, unless a project or volume is saved
# nowhere else; DISCARD=yes is the word for that. While the pool is mounted elsewhere nothing is deleted.
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh
. scripts/pages.sh

# How long, in seconds, Cove has in all to save what is not saved.
save_wait=60
# How long, in seconds, until Cove has looked at every volume once more for what programs wrote.
look_wait=31

owner_home=$HOME
if is_root && [ "${SUDO_UID:-0}" -ne 0 ]; then
    owner_home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
fi
home=${COVE_HOME:-$owner_home/.local/share/cove}
# The Cove of this home, wherever the environment points to.
COVE_HOME=$home
COVE_URL=
export COVE_HOME COVE_URL

page_directories
link=$links/cove
installed=$(pages)

# A home of Cove has its token; anything else is not ours to delete.
if [ -d "$home" ] && ! [ -f "$home/token" ]; then
    fail "$home has no token file, so it is not a home of Cove" 'delete it yourself if you know what it is' ||
        exit 4
fi

if ! [ -L "$link" ] && ! [ -d "$home" ] && [ -z "$installed" ]; then
    echo 'there is nothing to delete: Cove is not installed here'
    exit 0
fi
echo 'this deletes:'
if [ -L "$link" ]; then
    echo "  $link (a link)"
fi
if [ -n "$installed" ]; then
    printf '%s\n' "$installed" | sed 's,/[^/]*$,,' | sort | uniq -c |
        while read -r number directory; do echo "  $number of the files in $directory"; done
fi
if [ -d "$home" ]; then
    # The directory's own file system only: a mounted pool is in its loop file.
    echo "  $home ($(du -xsh "$home" | cut -f1)): the pool, and what was saved in there"
fi

# usage: the words that delete it, and what each does.
usage() {
    cat <<EOF

nothing was deleted; to delete it:
  make uninstall CONFIRM=yes              unless a project or volume is saved nowhere else
  make uninstall CONFIRM=yes DISCARD=yes  with what is saved nowhere else
EOF
}

# is_running: whether a Cove answers in this home.
is_running() {
    "$cove" ls --quiet >/dev/null 2>&1
}

# find_mounts: where else than at the home's own place its pool is mounted, or a part of it, a line each.
# A bind mount outlives the pool's own, so that its device is looked up by the image, too.
find_mounts() {
    [ -e "$home/pool.img" ] || return 0
    place=$(cd "$home" && pwd -P)
    devices=$(grep -lxF -- "$place/pool.img" /sys/block/loop*/loop/backing_file 2>/dev/null |
        sed 's|^/sys/block/\([^/]*\)/.*|/dev/\1|' | paste -sd ' ' -)
    # Field 3 is the file system, 5 the place with blanks as \040; what it is mounted from is the second
    # one after the hyphen.
    PLACE=$(printf '%s\n' "$place/pool" | sed 's/\\/\\134/g; s/ /\\040/g') DEVICES=" $devices " awk '
        { for (at = 7; at < NF && $at != "-"; at++); number[NR] = $3; target[NR] = $5; from[NR] = $(at + 2) }
        $5 == ENVIRON["PLACE"] { own[$3] = 1 }
        END {
            for (line = 1; line <= NR; line++)
                if (target[line] != ENVIRON["PLACE"] &&
                    (number[line] in own || index(ENVIRON["DEVICES"], " " from[line] " ")))
                    print target[line]
        }' /proc/self/mountinfo | sed 's/\\/\\0/g' | while IFS= read -r target; do printf '%b\n' "$target"; done
}

# refuse_mounts: fails while the pool is mounted elsewhere: its image would go on taking the disk, without
# a name.
refuse_mounts() {
    mounts=$(find_mounts)
    [ -n "$mounts" ] || return 0
    fail "nothing was deleted, because volumes of $home are mounted at $(printf '%s' "$mounts" | paste -sd , - | sed 's/,/, /g')" \
        'end what uses them: the pod, or whoever called NodePublishVolume calls NodeUnpublishVolume;
      a mount that nobody owns any more goes by `umount PLACE`. Then run this again'
}

# lose TEXT: notes what would be lost, a line each.
losses=
lose() {
    losses="$losses$1
"
}

# is_in_home DIRECTORY: whether it lies in what is deleted.
is_in_home() {
    place=$(cd "$1" 2>/dev/null && pwd -P) || place=$1
    case $place/ in
    "$(cd "$home" && pwd -P)"/*) return 0 ;;
    *) return 1 ;;
    esac
}

# in_time VERB...: runs a verb of Cove until the deadline of all.
in_time() {
    left=$((deadline - $(date +%s)))
    [ "$left" -gt 0 ] && timeout "$left" "$cove" "$@" >/dev/null
}

# save NAME: saves what that project holds now. The comparison looks for changes, which are known of as
# of up to 30 s ago else.
save() {
    in_time diff --quiet "$1..$1" && in_time wait --quiet "$1"
}

# look: sets lists to the projects, also those in the trash, and volumes to those that are no project's,
# one a line.
look() {
    told=$("$cove" ls --json && "$cove" trash --json) || return 1
    lists=$(printf '%s\n' "$told" | sed 's/{"name":/\
&/g' | grep '"slug":' || true)
    told=$("$cove" volume ls --json) || return 1
    # A label is text always, so that none is taken for a member that is a number or null.
    volumes=$(printf '%s\n' "$told" | sed 's/{"id":"[^"]*","name":/\
&/g' | grep '"project":null,.*"unsaved_bytes":[0-9n]' || true)
}

# count LINES: how many they are.
count() {
    printf '%s\n' "$1" | grep -c . || true
}

# names_without PATTERN: the names of the projects of which the lists do not say that.
names_without() {
    printf '%s\n' "$lists" | grep -Ev "$1" | sed -n 's/.*"slug": *"\([^"]*\)".*/\1/p' | paste -sd , - |
        sed 's/,/, /g'
}

# volumes_without PATTERN: the ids of the volumes of no project of which that is not said.
volumes_without() {
    printf '%s\n' "$volumes" | grep -Ev "$1" | sed -n 's/^{"id":"\([^"]*\)".*/\1/p' | paste -sd , - |
        sed 's/,/, /g'
}

# find_pool: where the pool is that Cove has mounted or was given.
find_pool() {
    if [ -e "$home/pool.img" ]; then
        mountpoint -q "$home/pool" && echo "$home/pool"
        return
    fi
    pool=$(printf '%s\n' "$lists" | sed -n 's|.*"path": *"\([^"]*\)/volumes/[^"/]*/files" *, *"forked_from".*|\1|p' |
        sed -n 1p)
    if [ -z "$pool" ]; then
        pool=$(printf '%s\n' "$volumes" | sed -n 's|.*"path":"\([^"]*\)/volumes/[^"/]*/files","quota_bytes".*|\1|p' |
            sed -n 1p)
    fi
    printf '%s\n' "${pool:-${COVE_POOL:-}}"
}

# find_unlisted: notes the files that no list names, as after the loss of a database.
find_unlisted() {
    pool=$(find_pool) || pool=
    if [ -z "$pool" ] || ! found=$(ls -A "$pool/volumes"); then
        lose 'files of projects and volumes that are not listed, if there are any: the pool cannot be looked at'
        return
    fi
    unlisted=$(printf '%s\n' "$found" | while IFS= read -r volume; do
        case $lists$volumes in
        *"\"volume\":\"$volume\""* | *"{\"id\":\"$volume\",\"name\":"*) ;;
        *) [ -z "$volume" ] || echo "$volume" ;;
        esac
    done | wc -l)
    [ "$unlisted" -eq 0 ] ||
        lose "files of projects or volumes that are not listed: $unlisted in $pool/volumes; \`cove recover --take\` may bring them back"
}

# find_saved_here: notes the projects and volumes whose saved states are deleted with the home, by the
# store that was in use before this and by what lies in the home's own.
find_saved_here() {
    all=$(count "$lists")
    others=$(count "$volumes")
    directory=${store#file://}
    if [ "$directory" != "$store" ] && ! [ -d "$directory" ]; then
        lose "what was saved in $directory, if it was: it is not there"
    elif [ "$directory" != "$store" ] && [ "$((all + others))" -ne 0 ] && is_in_home "$directory"; then
        [ "$all" -eq 0 ] || lose "projects: $all, with those in the trash: they are saved in there only"
        [ "$others" -eq 0 ] || lose "volumes that are no project's: $others: they are saved in there only"
        return
    fi
    [ -d "$home/objects" ] || return 0
    if ! heads=$(find "$home/objects" -name head); then
        lose "what is saved in $home/objects, which cannot be looked at"
    elif [ -n "$heads" ]; then
        lose "projects or volumes in $home/objects: $(count "$heads"): they are saved in there only"
    fi
}

# find_losses: notes what is saved nowhere else; fails when Cove does not tell.
find_losses() {
    names=$("$cove" ls --quiet) || return 1
    begin=$(date +%s)
    deadline=$((begin + save_wait))
    for name in $names; do
        echo "waiting until $name is saved"
        save "$name" || lose "changes of $name: they were not saved within $save_wait s, or cannot be"
    done
    saved='"durability": *"saved".*"unsaved_bytes": *0[,}]'
    look || return 1
    # No verb looks at a volume of no project: Cove does by itself.
    left=$((begin + look_wait - $(date +%s)))
    if [ -n "$volumes" ] && [ "$left" -gt 0 ]; then
        echo "waiting $left s until Cove has looked at what is no project's: volumes: $(count "$volumes")"
        sleep "$left"
        look || return 1
    fi
    # Those in the trash are saved, too, but cannot be waited for by name; nor can those volumes.
    while [ -z "$losses" ] && [ -n "$(names_without "$saved")$(volumes_without "$saved")" ] &&
        [ "$(date +%s)" -lt "$deadline" ]; do
        sleep 1
        look || return 1
    done
    unsaved=$(names_without "$saved")
    [ -z "$unsaved" ] || lose "changes that are not saved yet: of $unsaved"
    unsaved=$(volumes_without "$saved")
    [ -z "$unsaved" ] || lose "changes of volumes that are no project's, which are not saved yet: of $unsaved"
    ill=$(names_without '"health": *\{"state": *"ok"')
    [ -z "$ill" ] || lose "what may be lost of projects that are not well: $ill; \`cove show NAME\` tells"
    ill=$(volumes_without '"health":\{"state":"ok"')
    [ -z "$ill" ] || lose "what may be lost of volumes that are not well: $ill; \`cove volume status ID\` tells"
    partial=$(names_without '"not_captured_count": *0[,}]')
    [ -z "$partial" ] || lose "paths that are not captured: of $partial; \`cove show NAME\` names them"
    find_saved_here
    find_unlisted
}

# A Cove that was started for this ends with it, however it ends.
started=
said=
clean_up() {
    [ -z "$said" ] || rm -f "$said"
    said=
    if [ -n "$started" ]; then
        started=
        "$cove" down --quiet
    fi
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# start: starts Cove on the store and the pool of this home, whatever the environment names. Of one that
# is refused since a Cove runs already none is ended.
start() {
    started=yes
    said=$(mktemp)
    status=0
    COVE_OBJECTS=$store COVE_LISTEN=127.0.0.1:0 "$cove" up --detach >"$said" 2>&1 || status=$?
    case $status in
    0) return 0 ;;
    4) started= ;;
    esac
    cat "$said" >&2
    return 1
}

if [ "${CONFIRM:-}" = yes ] && [ -d "$home" ]; then
    refuse_mounts || exit 4
fi
cove=$(command -v cove || echo "$(target_directory)/release/cove")
if [ -d "$home" ] && [ "${DISCARD:-}" != yes ]; then
    # Before anything starts, which writes down there what it was given.
    store=file://$home/objects
    if [ -e "$home/store" ]; then
        store=$(cat "$home/store")
    fi
    if [ -e "$home/pool.img" ]; then
        COVE_POOL=
        export COVE_POOL
    fi
    if [ "${CONFIRM:-}" != yes ] && ! is_running; then
        printf '\n%s\n' 'what would be lost is not known, since Cove does not run: CONFIRM=yes starts it to see'
        usage
        exit 0
    fi
    if ! is_running; then
        if ! [ -x "$cove" ]; then
            fail 'nobody can tell what is saved: Cove is not built' \
                "\`make up\` builds and starts it; or set DISCARD=yes to lose what is in $home" || exit 4
        fi
        if ! [ -e "$home/pool.img" ] && [ -z "${COVE_POOL:-}" ]; then
            fail 'nobody can tell what is saved: Cove does not run, and its pool is elsewhere' \
                "start it as before, with \`cove up --detach --pool DIR\`; or set DISCARD=yes to lose what is in $home" || exit 4
        fi
        printf '\n%s\n' 'starting Cove to see what is saved nowhere else'
        start || fail 'nobody can tell what is saved: Cove does not start' \
            "start it as before, with \`cove up --detach\`; or set DISCARD=yes to lose what is in $home" || exit 4
    fi
    status=0
    find_losses || status=$?
    clean_up
    if [ "$status" -ne 0 ]; then
        fail 'nobody can tell what is saved: Cove does not answer' \
            "see \`cove doctor\`; or set DISCARD=yes to lose what is in $home" || exit 4
    fi
    if [ -n "$losses" ] && [ "${CONFIRM:-}" != yes ]; then
        printf '\nthis would be lost:\n'
        printf '%s' "$losses" | sed 's/^/  /'
    elif [ -n "$losses" ]; then
        one_line=$(printf '%s' "$losses" | sed '$!s/$/;/' | paste -sd ' ' -)
        fail "nothing was deleted, because this would be lost: $one_line" \
            'after `make up`, `cove cp NAME:/ DIR` copies out, `cove wait NAME` waits until it is saved; the files
      of a volume that is no project'"'"'s are where `cove volume status ID` says, and `cove new NAME --volume ID`
      makes it one'"'"'s; or lose it by `make uninstall CONFIRM=yes DISCARD=yes`' || exit 4
    fi
fi

if [ "${CONFIRM:-}" != yes ]; then
    mounts=$(find_mounts)
    [ -z "$mounts" ] || printf '\nnothing is deleted while volumes are mounted at:\n%s\n' "$(printf '%s\n' "$mounts" | sed 's/^/  /')"
    usage
    exit 0
fi

if [ -d "$home" ]; then
    sh scripts/down.sh
    home=$(cd "$home" && pwd -P)
    # Whoever mounts one meanwhile keeps it.
    refuse_mounts || exit 4
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
    echo 'deleted the manual pages and completions'
fi
