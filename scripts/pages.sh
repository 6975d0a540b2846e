# shellcheck shell=sh
# Sourced: where `cove`, its manual pages and completions lie, for up.sh and uninstall.sh. PREFIX puts
# all of them below one directory.

# page_directories: sets links, man, bash_completions, zsh_completions and fish_completions to where the
# shells and `man` of this user look. zsh looks into no directory of a user: there it is empty.
page_directories() {
    if [ -n "${PREFIX:-}" ] || is_root; then
        links=${PREFIX:-/usr/local}/bin
        share=${PREFIX:-/usr/local}/share
        zsh_completions=$share/zsh/site-functions
    else
        links=$HOME/.local/bin
        share=${XDG_DATA_HOME:-$HOME/.local/share}
        zsh_completions=
    fi
    man=$share/man/man1
    bash_completions=$share/bash-completion/completions
    fish_completions=$share/fish/vendor_completions.d
    # Of /usr/local a fish reads only what XDG_DATA_DIRS names, which Debian sets on desktops only;
    # the administrator's directory each one reads.
    if [ -z "${PREFIX:-}" ] && is_root && [ -d /etc/fish ]; then
        fish_completions=/etc/fish/completions
    fi
    page_list=$man/.cove-pages
}

# pages: the files that install_pages has made and that are there, with the list of them.
pages() {
    page_directories
    [ -f "$page_list" ] || return 0
    while IFS= read -r page; do
        if [ -f "$page" ]; then
            printf '%s\n' "$page"
        fi
    done <"$page_list"
    printf '%s\n' "$page_list"
}

# install_pages PROGRAM: writes the manual pages and completions of that program.
install_pages() {
    page_directories
    pages | while IFS= read -r page; do rm -f -- "$page"; done
    mkdir -p "$man" || return 1
    names=$("$1" man -q "$man") || return 1
    {
        printf '%s\n' "$names" | while IFS= read -r page; do printf '%s/%s\n' "$man" "$page"; done
        printf '%s\n' "$bash_completions/cove" "$fish_completions/cove.fish"
        [ -z "$zsh_completions" ] || printf '%s\n' "$zsh_completions/_cove"
    } >"$page_list" || return 1
    mkdir -p "$bash_completions" "$fish_completions" || return 1
    "$1" completions bash >"$bash_completions/cove" || return 1
    "$1" completions fish >"$fish_completions/cove.fish" || return 1
    if [ -n "$zsh_completions" ]; then
        mkdir -p "$zsh_completions" || return 1
        "$1" completions zsh >"$zsh_completions/_cove" || return 1
    fi
    echo "wrote manual pages (\`man cove\`) and completions for bash${zsh_completions:+, zsh} and fish"
}
