# shellcheck shell=sh
# Sourced: runs named steps and tells the time of each.

steps_done=

# step NAME COMMAND...: runs the command; a failure ends the run and names the step.
step() {
    step_name=$1
    shift
    printf '\n== %s\n' "$step_name"
    step_begin=$(date +%s)
    step_status=0
    "$@" || step_status=$?
    step_seconds=$(($(date +%s) - step_begin))
    if [ "$step_status" -ne 0 ]; then
        summary
        printf '%6d s  %s  FAILED\n' "$step_seconds" "$step_name"
        exit 1
    fi
    steps_done="$steps_done$(printf '%6d s  %s' "$step_seconds" "$step_name")
"
}

# summary: the steps so far, one a line.
summary() {
    printf '\n%s' "$steps_done"
}

# fail TEXT HINT: what is wrong and what to do, as `cove` says it.
fail() {
    printf 'error: %s\n\nhint: %s\n' "$1" "$2" >&2
    return 1
}
