#compdef cove
function _clap_dynamic_completer_cove() {
    local completions=("${(@f)$( \
        _CLAP_IFS=$'\n' \
        _CLAP_COMPLETE_INDEX="$((CURRENT - 1))" \
        COMPLETE=zsh \
        cove -- "${words[@]}" 2>/dev/null \
    )}")
    # What more is to come behind gets no blank.
    local -a open=() whole=()
    local completion value
    for completion in $completions; do
        value=${completion//\\:/}
        if [[ ${value%%:*} == *[/@] || $completion == *\\: ]]; then
            open+=("$completion")
        else
            whole+=("$completion")
        fi
    done
    [[ -n $open ]] && _describe -V 'values' open -S ''
    [[ -n $whole ]] && _describe -V 'values' whole
}

# Loaded from a directory of fpath this is the body of the function _cove, which answers a tab.
if [[ $funcstack[1] == _cove ]]; then
    _clap_dynamic_completer_cove "$@"
else
    compdef _clap_dynamic_completer_cove cove
fi
