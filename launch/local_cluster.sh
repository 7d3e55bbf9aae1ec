#!/usr/bin/env bash
# Trains, or evaluates, with N processes on this machine, as on a cluster of N machines:
#   launch/local_cluster.sh [--dry_run] N CONFIG [FLAGS...]
#   launch/local_cluster.sh [--dry_run] N eval --workdir=DIR [FLAGS...]
# With --dry_run it only prints the command of each process.
# Each process gets its share of the NVIDIA GPUs, or where there are none DEVICES virtual CPU devices (default 1).
# Lines are prefixed with the process's number. SIGTERM and Ctrl-C reach all processes, which save and end with 75.
# The exit code is that of one that failed first; the others end with it, or are killed PATIENCE seconds (60) later.
set -euo pipefail
fail() { echo "error: $*" >&2; exit 2; }

run=(exec)
if [ "${1:-}" = --dry_run ]; then
  run=(printf '%q ')
  shift
fi
[ $# -ge 2 ] || fail "usage: launch/local_cluster.sh [--dry_run] N CONFIG|eval [FLAGS...]"
n=$1 what=$2
shift 2
[[ $n =~ ^[1-9][0-9]*$ ]] || fail "$n: the number of processes must be 1 or more"
installed='import importlib.util as u, sys; sys.exit(None in map(u.find_spec, ("survey_jax", "jax")))'
python -c "$installed" || fail "$(command -v python || echo python) has no survey_jax; activate its environment"

gpus=0
[ "${JAX_PLATFORMS:-}" = cpu ] || ! command -v nvidia-smi >/dev/null || gpus=$(nvidia-smi --list-gpus | wc -l)
[ $((gpus % n)) = 0 ] || fail "$n processes cannot share $gpus GPUs evenly"
share=$((gpus ? gpus / n : ${DEVICES:-1}))

if [ "$what" = eval ]; then
  command=(python -m survey_jax.eval)
else
  [ -f "$what" ] || fail "$what: no such config"
  command=(python -m survey_jax.train --config="$what" --config.mesh.devices=$((n * share)))
fi
port=$(python -c "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")

process() { # NUMBER [FLAGS...]
  local number=$1 devices
  shift
  if [ "$gpus" = 0 ]; then
    devices=(JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$share")
  else
    devices=(CUDA_VISIBLE_DEVICES="$(seq -s, $((number * share)) $(((number + 1) * share - 1)))")
  fi
  "${run[@]}" env "${devices[@]}" "${command[@]}" --coordinator="127.0.0.1:$port" --processes="$n" --process="$number" "$@"
}

if [ "${run[0]}" = printf ]; then
  for ((i = 0; i < n; i++)); do process "$i" "$@" && echo; done
  exit
fi

pipes=$(mktemp -d)
trap 'rm -rf "$pipes"' EXIT
pids=() readers=()
for ((i = 0; i < n; i++)); do
  mkfifo "$pipes/$i"
  (
    trap '' TERM INT HUP # a signal to all of them must not end those that print what the others still say
    while IFS= read -r line; do printf '[%s] %s\n' "$i" "$line"; done <"$pipes/$i"
  ) &
  readers+=($!)
  process "$i" "$@" >"$pipes/$i" 2>&1 &
  pids+=($!)
done

trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
code=0 deadline="" running=("${pids[@]}")
while ((${#running[@]})); do # without `wait -n`, which the bash of macOS lacks
  sleep 0.2 || true
  still=()
  for pid in "${running[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then still+=("$pid"); else wait "$pid" || code=$((code ? code : $?)); fi
  done
  running=(${still[@]+"${still[@]}"})
  ((code == 0)) || deadline=${deadline:-$((SECONDS + ${PATIENCE:-60}))}
  if [ -n "$deadline" ] && ((SECONDS >= deadline)); then kill -KILL "${pids[@]}" 2>/dev/null || true; fi
done
wait "${readers[@]}" || true
exit "$code"
