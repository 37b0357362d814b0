#!/bin/sh
# smt_cp of a tree between two processes with mutual certificates, hashes compared.
#
# usage: cp.sh DEVICE [LOSS]
. /lab/lab.sh
. /lab/tests/check.sh

device=$1 loss=${2:-0}

make_tree()
{
    local i
    mkdir -p src/empty src/a/b/c
    for i in 0 1 100 1407 4096 65536 65537; do
        head -c $i /dev/urandom >src/a/file-$i
    done
    for i in $(seq 60); do
        echo "small $i" >src/a/b/small-$i
    done
    head -c 3000001 /dev/urandom >src/a/b/c/large
    ln -s ../large src/a/b/c/link
    chmod 600 src/a/file-100
    chmod 755 src/a/file-4096
}

# Names, kinds, modes, where links point, and every file's hash.
describe()
{
    (cd "$1" && find . | sort | xargs stat -c '%n %F %a' && find . -type l -exec readlink {} + &&
        find . -type f | sort | xargs sha256sum)
}

make_tree
mkdir dst
[ "$loss" = 0 ] || lab_loss "$loss"
traffic_begin
serve "$device" smt_cp serve --once dst
smt_cp send -q -d "$(at "$device" 1)" --bind $IP1 $(credentials client) --deadline 60 \
    src $IP0:$PORT: || fail "the sender's exit code is $?"
server_ended
describe src >sent
describe dst/src >arrived
wc -l sent
diff sent arrived || fail "what arrived differs from what was sent"
traffic_through "$device" 1000
