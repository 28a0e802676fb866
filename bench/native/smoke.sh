#!/bin/sh
# Runs every program of bench/native for about a second and looks whether what it prints is JSON
# with numbers that can be true. What is tested are the programs; nothing here asserts a speed.
#
#   bench/native/smoke.sh DIRECTORY     where they were built, say build-cmake/bench/native
#
# SECONDS_EACH=N makes it N seconds; DRIVERS='epoll' leaves io_uring out.
set -eu

directory=${1:?the directory the programs were built in}
seconds=${SECONDS_EACH:-1}
drivers=${DRIVERS:-io_uring epoll}
scratch=$(mktemp -d)
server=
cleanup() {
  if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
  rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

fail() {
  echo "smoke: $*" >&2
  exit 1
}

# check NAME FILE EXPRESSION: the last line of FILE is an object `r` for which EXPRESSION holds.
check() {
  node -e '
    const [file, expression] = process.argv.slice(1);
    const text = require("fs").readFileSync(file, "utf8").trim();
    const r = JSON.parse(text.split("\n").pop());
    if (!new Function("r", `return ${expression}`)(r)) {
      console.error(`${expression} does not hold for ${JSON.stringify(r)}`);
      process.exit(1);
    }' "$2" "$3" || fail "$1: $(cat "$2")"
  echo "ok  $1"
}

# run NAME EXPRESSION PROGRAM...
run() {
  what=$1 expression=$2 program=$3
  shift 3
  timeout 30 "$directory/$program" "$@" >"$scratch/out" || fail "$what ended with $?"
  check "$what" "$scratch/out" "$expression"
}

# serve PROGRAM...: starts a server and sets $port.
serve() {
  program=$1
  shift
  : >"$scratch/server"  # not to be mistaken for the last server's
  "$directory/$program" --port 0 --seconds 30 "$@" >"$scratch/server" &
  server=$!
  tries=0
  until grep -q '"port"' "$scratch/server"; do
    tries=$((tries + 1))
    [ $tries -lt 200 ] || fail "$program does not get ready"
    sleep 0.05
  done
  port=$(sed -n 's/.*"port":\([0-9]*\).*/\1/p' "$scratch/server")
}

# finish NAME EXPRESSION
finish() {
  kill -TERM "$server"
  wait "$server" || fail "$1 ended with $?"
  server=
  check "$1" "$scratch/server" "$2"
}

answers='r.errors === 0 && r.messages > 100 && r.p50_us > 0 && r.p50_us <= r.p99_us &&
  r.p99_us <= r.p99_9_us && r.p99_9_us <= r.max_us'

echo_server() {
  name=$*
  serve "$@"
  run "load on $name" "$answers && r.messages_per_second > 1000" \
    load --port "$port" --seconds "$seconds" --warmup 0.1
  run "load of 100 kB on $name" "$answers" \
    load --port "$port" --connections 10 --size 100000 --seconds "$seconds" --warmup 0
  run "load at a rate on $name" "$answers && Math.abs(r.messages_per_second / 2000 - 1) < 0.1" \
    load --port "$port" --rate 2000 --seconds "$seconds" --warmup 0.1
  run "accepts of $name" 'r.errors === 0 && r.accepts_per_second > 100' \
    load --port "$port" --accepts --connections 8 --seconds "$seconds" --warmup 0.1
  run "hold on $name" 'r.ready === true && r.connections === 100' \
    hold --port "$port" --connections 100 --echo </dev/null
  finish "$name" 'r.errors === 0 && r.connections > 100 && r.messages > 1000 &&
    r.cpu_us === r.user_us + r.system_us && r.cpu_us_per_message > 0.1'
}

for driver in $drivers; do
  case $driver in
    io_uring) echo_server echo_uring ;;
    epoll) echo_server echo_epoll ;;
  esac
  echo_server echo_core --driver "$driver"
  for mode in pipelined ping-pong; do
    run "posts $mode, $driver" 'r.errors === 0 && (r.messages ?? r.round_trips) > 1000' \
      posts --mode "$mode" --driver "$driver" --seconds "$seconds"
  done
done
run 'waits' 'r.errors === 0 && r.ns_per_packet > 1' waits --more 2 --seconds "$seconds"
if [ -x "$directory/echo_libuv" ]; then echo_server echo_libuv; fi

dd if=/dev/zero of="$scratch/data" bs=65536 count=256 2>/dev/null
# read_with ENGINE [--driver D]
read_with() {
  some='r.errors === 0 && r.operations > 1000 && r.cpu_us_per_operation > 0'
  run "random reads, $*" "$some" reads --file "$scratch/data" --seconds "$seconds" --engine "$@"
  run "sequential reads, $*" "r.errors === 0 && r.gigabytes_per_second > 0.1" \
    reads --file /dev/zero --pattern sequential --seconds "$seconds" --engine "$@"
}
for driver in $drivers; do
  if [ "$driver" = io_uring ]; then read_with raw; fi
  read_with core --driver "$driver"
done
