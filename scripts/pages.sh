# shellcheck shell=sh
# Sourced: where manual pages and completions lie, for up.sh and uninstall.sh.

# page_directories: sets man, bash_completions, zsh_completions and fish_completions to where the
# shells and `man` of this user look. zsh looks into no directory of a user: there it is empty.
page_directories() {
    if is_root; then
        share=/usr/local/share
        zsh_completions=$share/zsh/site-functions
    else
        share=${XDG_DATA_HOME:-$HOME/.local/share}
        zsh_completions=
    fi
    man=$share/man/man1
    bash_completions=$share/bash-completion/completions
    fish_completions=$share/fish/vendor_completions.d
}

# pages: the files that install_pages has made and that are there.
pages() {
    page_directories
    for page in "$man"/cove.1 "$man"/cove-*.1 "$bash_completions/cove" \
        ${zsh_completions:+"$zsh_completions/_cove"} "$fish_completions/cove.fish"; do
        if [ -f "$page" ]; then
            printf '%s\n' "$page"
        fi
    done
}

# install_pages PROGRAM: writes the manual pages and completions of that program.
install_pages() {
    page_directories
    pages | while IFS= read -r page; do rm -f -- "$page"; done
    "$1" man -q "$man" >/dev/null || return 1
    mkdir -p "$bash_completions" "$fish_completions" || return 1
    "$1" completions bash >"$bash_completions/cove" || return 1
    "$1" completions fish >"$fish_completions/cove.fish" || return 1
    if [ -n "$zsh_completions" ]; then
        mkdir -p "$zsh_completions" || return 1
        "$1" completions zsh >"$zsh_completions/_cove" || return 1
    fi
    echo "wrote manual pages (\`man cove\`) and completions for bash${zsh_completions:+, zsh} and fish below $share"
}
