#!/bin/sh
# The suite that every device passes, over rxe. usage: conform.sh ROW
. /lab/lab.sh
. /lab/tests/check.sh

traffic_begin
conform_rxe "$1" $IP0 || fail "exit code $?"
traffic_through ud 2000
