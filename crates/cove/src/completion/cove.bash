_cove() {
    # What stands between two blanks is one word here; bash takes it apart at @, : and = too, and
    # replaces what is behind the last of them.
    local rest=${COMP_LINE:0:COMP_POINT} next part i last=0 words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        next=${rest#"${rest%%[![:blank:]]*}"}
        if ((i == COMP_CWORD)); then part=$next; else part=${COMP_WORDS[i]}; fi
        if ((i == 0)) || [[ $next != "$rest" ]]; then
            words+=("$part")
        else
            words[last]+=$part
        fi
        last=$((${#words[@]} - 1))
        rest=${next#"$part"}
    done
    # What was completed before has its special characters behind backslashes.
    if [[ ${words[last]} == *\\* ]]; then
        IFS= read -d '' "words[last]" <<<"${words[last]}"
        words[last]=${words[last]%$'\n'}
    fi
    local word=${words[last]} kept= mark before
    for mark in @ : =; do
        if [[ $COMP_WORDBREAKS == *"$mark"* && $word == *"$mark"* ]]; then
            before=${word%"$mark"*}$mark
            if ((${#before} > ${#kept})); then kept=$before; fi
        fi
    done
    # A candidate is one word whatever stands in it: names of files are of others, too, and what bash
    # gets here it writes into the line as it stands.
    mapfile -t -d $'\013' COMPREPLY < <(
        _CLAP_IFS=$'\013' \
        _CLAP_COMPLETE_INDEX="$last" \
        _CLAP_COMPLETE_COMP_TYPE="$COMP_TYPE" \
        _CLAP_COMPLETE_SPACE=false \
        COMPLETE=bash \
        cove -- "${words[@]}" 2>/dev/null
    )
    if [[ ${COMPREPLY-} == *[=/:@] ]]; then
        compopt -o nospace 2>/dev/null
    fi
    for i in "${!COMPREPLY[@]}"; do
        printf -v "COMPREPLY[$i]" %q "${COMPREPLY[i]#"$kept"}"
    done
}
complete -o bashdefault -o nosort -F _cove cove 2>/dev/null || complete -o bashdefault -F _cove cove
