#!/bin/sh
# What `make check`, `test`, `live`, `proof` and `docs` run.
set -eu
cd "$(dirname "$0")/.."
. scripts/steps.sh
. scripts/tools.sh

# Tests send signals to what they start, which inherits what is ignored here: by `nohup`, or by a shell's background.
if [ -z "${COVE_SIGNALS_HEARD:-}" ] && env --default-signal=HUP,INT,QUIT,TERM true 2>/dev/null; then
    COVE_SIGNALS_HEARD=yes exec env --default-signal=HUP,INT,QUIT,TERM sh scripts/test.sh "$@"
fi

tools() {
    need_cargo && need_compiler && need_live && need_weed && need_sqlite && need_postgres && need_shells && need_grpc || return 1
    cargo --version
    echo "S3 server: ${COVE_TEST_WEED:-none}"
}

format() {
    cargo fmt --all --check
}

lint() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
}

# Every test; `live::` ones say when they are skipped. Most of them wait for a disk or for a moment
# to come, so that more of them than there are processors run at once.
everything() {
    RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(getconf _NPROCESSORS_ONLN) * 2))}" cargo test --workspace --locked
}

# Without the tests that need the world.
unit() {
    cargo test --workspace --locked --lib --bins -- --skip live:: && cargo test --locked -p cove-tidy
}

only_live() {
    cargo test --workspace --locked -- live:: --nocapture
}

documentation() {
    RUSTDOCFLAGS="${RUSTDOCFLAGS:-} -D warnings" cargo doc --workspace --no-deps --locked --document-private-items
}

case ${1:-} in
check)
    step 'tools' need_cargo
    step 'format' format
    step 'lints' lint
    step 'unit tests' unit
    ;;
all)
    step 'tools' tools
    step 'format' format
    step 'lints' lint
    step 'tests' everything
    step 'documentation' documentation
    ;;
live)
    is_root || { fail 'these tests need root' 'run: sudo make live' || exit 1; }
    step 'tools' tools
    step 'live tests' only_live
    ;;
proof)
    step 'tools' tools
    step 'tools of the demo' need_demo
    step 'proof' cargo run -q --locked -p cove-xtask -- proof
    ;;
docs)
    step 'tools' need_cargo
    step 'documentation' documentation
    ;;
*)
    echo 'usage: scripts/test.sh check|all|live|proof|docs' >&2
    exit 2
    ;;
esac
summary
