# shellcheck shell=bash disable=SC2034
# What scripts/demo, scripts/test and scripts/chroot-check share. Sourced by bash after `set -eu`.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Packages of Debian 12 that a bare system lacks.
BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config python3 openssl
    libssl-dev libibverbs-dev libevent-dev"
# The kernel's description of mlx5, to compare the device model's with.
HEADER_PACKAGES=linux-headers-amd64
TEST_PACKAGES="libcmocka-dev clang libclang-rt-14-dev llvm-14 mandoc iproute2"
case $(uname -m) in
x86_64)
    BUILD_PACKAGES="$BUILD_PACKAGES libipsec-mb-dev"
    # What scripts/vm/run needs here and puts into its guest.
    VM_PACKAGES="qemu-system-x86 busybox-static kmod iproute2 ibverbs-utils ibverbs-providers
        perftest"
    ;;
*) VM_PACKAGES= HEADER_PACKAGES= ;;
esac

STARTED=$SECONDS

# step TEXT...: one line on what happens now and when.
step()
{
    printf '\n[%3d s] %s\n' $((SECONDS - STARTED)) "$*"
}

die()
{
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# need PACKAGE...: installs by apt-get what is missing. Silent when nothing is.
need()
{
    local p missing=
    if ! command -v dpkg-query >/dev/null; then
        echo "Not a Debian system: this needs what these packages hold: $*"
        return 0
    fi
    for p; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] ||
            missing="$missing $p"
    done
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || die "packages are missing; run as root or install:$missing"
    step "Installing$missing"
    local log
    log=$(mktemp)
    # Package lists may be older than the archive: look for new ones before installing.
    if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y \
            --no-install-recommends -o DPkg::Lock::Timeout=120 install $missing; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        die "apt-get failed; install by hand:$missing"
    fi
    rm -f "$log"
}

# rdma_hint TOOLS: of smt_info's text on standard input, what to type to measure over the RDMA port
# that it calls usable first. Nothing when there is none: smt_info has said why.
rdma_hint()
{
    awk -v tools="$1" '
        /^  [^ ]/ { mine = 0 }
        $1 ~ /^ud:/ && $2 == "usable" && device == "" { device = $1; mine = 1 }
        mine && $1 == "GIDs" && match($0, /[0-9a-fA-F:.]+ \(RoCE v2, used\)/) {
            address = substr($0, RSTART, RLENGTH)
            sub(/ .*/, "", address)
        }
        END {
            if (device == "")
                exit
            host = address != "" ? address : "ADDRESS"
            printf "There is RDMA: %s%s. All that follows goes by UDP; the same by RDMA, the server first,\n",
                device, address != "" ? " at " address : ", ADDRESS being that of its interface"
            print "the client here or on any machine of that network:"
            printf "    scripts/make-certs -n %s certs\n", host
            printf "    %s/smt_bw -d %s --cert certs/server.pem --key certs/server.key --ca certs/ca.pem\n",
                tools, device
            printf "    %s/smt_bw -d %s --cert certs/client.pem --key certs/client.key --ca certs/ca.pem %s\n",
                tools, device, host
        }'
}

# configure DIR MESON-OPTION...: sets a build directory up, or brings it to these options.
configure()
{
    local dir=$1
    shift
    if [ -e "$dir/build.ninja" ] &&
        meson setup --reconfigure "$dir" "$ROOT" "$@" >"$dir.log" 2>&1 </dev/null; then
        return 0
    fi
    rm -rf "$dir"
    meson setup "$dir" "$ROOT" "$@" >"$dir.log" 2>&1 </dev/null || {
        grep -E 'ERROR' "$dir.log" || tail -n 30 "$dir.log"
        return 1
    }
}

# compile DIR [TARGET...]: builds it, quiet unless that fails.
compile()
{
    local dir=$1
    shift
    ninja -C "$dir" "$@" >"$dir.log" 2>&1 </dev/null || {
        grep -E -A 12 'FAILED:|error:' "$dir.log" | head -n 60
        return 1
    }
}

# Processes in the background. Each is remembered and ended by its number, whatever happens.
PIDS=

# keep NAME-OF-LOG COMMAND...: starts it, its number in $PID.
keep()
{
    local log=$1
    shift
    : >"$log"
    "$@" >>"$log" 2>&1 </dev/null &
    PID=$!
    PIDS="$PIDS $PID"
}

# finish PID: asks it to end and waits for that; after 5 s it is killed.
finish()
{
    local _
    kill "$1" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    PIDS=${PIDS/%" $1"/}
    PIDS=${PIDS/" $1 "/ }
}

finish_all()
{
    local p
    for p in $PIDS; do
        finish "$p"
    done
}
