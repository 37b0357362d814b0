#!/bin/sh
# The measuring tools between two processes, mutual certificates, every byte verified.
#
# usage: tools.sh DEVICE TOOL MODE [LOSS]
#   DEVICE   udp, or ud: then rxe0 serves rxe1
#   TOOL     smt_lat, smt_bw
#   MODE     polling, events
#   LOSS     percent of the packets lost in either direction
. /lab/lab.sh
. /lab/tests/check.sh

device=$1 tool=$2 mode=$3 loss=${4:-0}
sizes="--min 64 --max 1048576" n_sizes=15
events= depth= n=5
[ "$mode" != events ] || events=-e
[ "$tool" = smt_lat ] || depth="-t 4"
[ "$loss" = 0 ] || { n=3; lab_loss "$loss"; }

traffic_begin
serve "$device" $(paced "$mode") "$tool" $events --once
client "$device" $(paced "$mode") "$tool" $events -a $sizes -n $n $depth --verify \
    --json=result.json || fail "the client's exit code is $?"
server_ended
[ "$(grep -c '"size":' result.json)" = $n_sizes ] || fail "not all sizes were measured"
! grep '"errors": [1-9]' result.json || fail "calls failed"
traffic_through "$device" $((800 * n))
