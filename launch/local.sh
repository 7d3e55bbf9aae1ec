#!/usr/bin/env bash
# Trains a config on all devices of this machine, then evaluates its best checkpoint.
#   launch/local.sh configs/gemma.py [--config.optim.lr=1e-4 ...]
# Running it again resumes training where the last checkpoint left off.
set -euo pipefail
[ $# -ge 1 ] || { echo "error: usage: launch/local.sh CONFIG [FLAGS...]" >&2; exit 2; }
config=$1
shift
[ -f "$config" ] || { echo "error: $config: no such config" >&2; exit 2; }
workdir=${WORKDIR:-checkpoints/$(basename "$config" .py)}
python -m survey_jax.train --config="$config" --workdir="$workdir" "$@"
python -m survey_jax.eval --workdir="$workdir"
