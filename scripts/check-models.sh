#!/usr/bin/env bash
# Checks the models in test/model with Spin: all interleavings, for some numbers of threads. Prints a
# line for each, and ends with 1 when one is violated.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
models=$PWD/test/model
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0

# run MODEL DEFINE...: sets `report`, of a run to its end.
run() {
  local model=$1
  shift
  report=$(cd "$folder" && rm -f pan* && spin -a "$@" "$models/$model" 2>&1 &&
    cc -O2 -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -o pan pan.c 2>&1 && ./pan -m1000000 -w24 2>&1)
  grep -q 'errors: ' <<<"$report" && ! grep -q 'max search depth too small' <<<"$report"
}

# check MODEL DEFINE...
check() {
  local report
  if run "$@" && grep -q 'errors: 0' <<<"$report"; then
    echo "$*: $(grep -oE '[0-9.e+]+ states, stored' <<<"$report")"
  else
    echo "$*: violated"
    tail -20 <<<"$report"
    failed=1
  fi
}

# finds MODEL DEFINE...: the last is a mistake, which the model has to show.
finds() {
  local report
  if run "$@" && grep -q 'assertion violated' <<<"$report"; then
    echo "$*: found"
  else
    echo "$*: NOT FOUND"
    failed=1
  fi
}

check_idle() {
  check idle.pml -DTHREADS=2 -DMESSAGES=2 -DLIMIT=1
  check idle.pml -DTHREADS=2 -DMESSAGES=2 -DLIMIT=2
  check idle.pml -DTHREADS=2 -DMESSAGES=1 -DLIMIT=2 -DLATE
}

check_keys() {
  check keys.pml -DKEYS=1 -DEACH=4
  check keys.pml -DKEYS=2 -DEACH=1
}

check_lanes() {
  check lanes.pml -DCARRIERS=2 -DCOMPLETIONS=2 -DROUNDS=2
  local mistake
  for mistake in NO_LOCK_AFTER_TURN NO_LOOK_AT_TURN NO_WAKE MAIL_BEHIND_WAKE; do
    finds lanes.pml -DCARRIERS=2 "-D$mistake"
  done
}

check_posts() {
  check posts.pml -DTAKERS=2 -DMESSAGES=5
  local mistake
  for mistake in NO_SECURE LATE_HOLD NO_ROOM EARLY_TAIL; do
    finds posts.pml -DTAKERS=2 "-D$mistake"
  done
}

# All at once, each in a folder of its own: Spin's files have always the same names.
begun=()
for name in idle keys lanes posts; do
  (
    folder=$folder/$name
    mkdir "$folder" && "check_$name" >"$folder/said" || exit 1
    exit $failed
  ) &
  begun+=("$name:$!")
done
for one in "${begun[@]}"; do
  wait "${one##*:}" || failed=1
  cat "$folder/${one%%:*}/said" || failed=1
done
exit $failed
