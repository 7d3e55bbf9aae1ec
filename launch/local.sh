#!/usr/bin/env bash
# Trains a config on all devices of this machine, then evaluates its best checkpoint.
#   launch/local.sh [--dry_run] configs/gemma.py [--config.optim.lr=1e-4 ...]
# Running it again resumes training where the last checkpoint left off. With --dry_run it only prints its commands.
set -euo pipefail
run() { "$@"; }
if [ "${1:-}" = --dry_run ]; then
  run() { printf '%q ' "$@" && echo; }
  shift
fi
[ $# -ge 1 ] || { echo "error: usage: launch/local.sh [--dry_run] CONFIG [FLAGS...]" >&2; exit 2; }
config=$1
shift
[ -f "$config" ] || { echo "error: $config: no such config" >&2; exit 2; }
workdir=${WORKDIR:-checkpoints/$(basename "$config" .py)}
run python -m survey_jax.train --config="$config" --workdir="$workdir" "$@"
run python -m survey_jax.eval --workdir="$workdir"
