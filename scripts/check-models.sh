#!/usr/bin/env bash
# Checks the models in test/model with Spin: all interleavings, for some numbers of threads. Prints a
# line for each, and ends with 1 when one is violated.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
models=$PWD/test/model
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

# check MODEL DEFINE...
check() {
  local model=$1 report
  shift
  report=$(cd "$folder" && rm -f pan* && spin -a "$@" "$models/$model" 2>&1 &&
    cc -O2 -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -o pan pan.c 2>&1 && ./pan -m1000000 -w24 2>&1)
  if grep -q 'errors: 0' <<<"$report" && ! grep -q 'max search depth too small' <<<"$report"; then
    echo "$model $*: $(grep -oE '[0-9.e+]+ states, stored' <<<"$report")"
  else
    echo "$model $*: violated"
    tail -20 <<<"$report"
    failed=1
  fi
}

check idle.pml -DTHREADS=2 -DMESSAGES=2 -DLIMIT=1
check idle.pml -DTHREADS=2 -DMESSAGES=2 -DLIMIT=2
check idle.pml -DTHREADS=2 -DMESSAGES=1 -DLIMIT=2 -DLATE
exit $failed
