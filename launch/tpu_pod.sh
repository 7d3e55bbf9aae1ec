#!/usr/bin/env bash
# Trains, or evaluates, on a Cloud TPU slice of any size, from your own machine:
#   launch/tpu_pod.sh create NAME TYPE                     # e.g. v5litepod-16; a spot slice, or with SPOT=no an owned one
#   launch/tpu_pod.sh check NAME                           # installs this project on all hosts, counts the chips
#   launch/tpu_pod.sh run NAME CONFIG --workdir=gs://BUCKET/RUN [FLAGS...]
#   launch/tpu_pod.sh run NAME eval --workdir=gs://BUCKET/RUN [FLAGS...]
#   launch/tpu_pod.sh stop NAME                            # the run saves and ends
#   launch/tpu_pod.sh delete NAME
# With --dry_run before the rest it only prints the commands that would change something.
# HF_TOKEN, for gated weights, reaches the hosts as a file that their user alone can read.
# `run` asks for a new slice when the spot slice is taken away, and goes on from the last checkpoint. Project and zone
# are gcloud's own: gcloud config set project P; gcloud config set compute/zone Z.
set -euo pipefail
fail() { echo "error: $*" >&2; exit 2; }

dry=""
if [ "${1:-}" = --dry_run ]; then
  dry=yes
  shift
fi
usage="usage: launch/tpu_pod.sh [--dry_run] create|check|run|stop|delete NAME [ARGUMENTS...]"
[ $# -ge 2 ] || fail "$usage"
action=$1 name=$2
shift 2
command -v gcloud >/dev/null || fail "gcloud is not installed"
[ -n "$(gcloud config get compute/zone 2>/dev/null)" ] || fail "no zone; gcloud config set compute/zone ZONE"

tpus() { # a command that changes something
  if [ -n "$dry" ]; then
    printf '%q ' gcloud compute tpus "$@" && echo
  else
    gcloud compute tpus "$@"
  fi
}
slice() { tpus queued-resources "$@"; }
describe() { gcloud compute tpus queued-resources describe "$name" --format="value($1)"; }
on_all_hosts() { tpus tpu-vm ssh "$name" --worker=all --command="$1"; }

of_type() { # sets runtime and chips from a type; v4 and v5p count two cores a chip
  local number=${1##*-}
  case $1 in
    v4-*) runtime=tpu-ubuntu2204-base chips=$((number / 2)) ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite chips=$number ;;
    v5p-*) runtime=v2-alpha-tpuv5 chips=$((number / 2)) ;;
    v6e-*) runtime=v2-alpha-tpuv6e chips=$number ;;
    *) fail "$1: no such type; choose from v4-N, v5litepod-N, v5p-N, v6e-N" ;;
  esac
}

create() { # TYPE
  of_type "$1"
  local spot=(--spot)
  [ "${SPOT:-yes}" = yes ] || spot=()
  slice create "$name" --node-id="$name" --accelerator-type="$1" --runtime-version="$runtime" ${spot[@]+"${spot[@]}"}
}

wait_for_slice() { # asks for a new one in place of one that was taken away
  local state type
  while state=$(describe state.state) && [ "$state" != ACTIVE ]; do
    echo "$name: $state"
    if [ "$state" = SUSPENDED ]; then
      type=$(describe "tpu.nodeSpec[0].node.acceleratorType")
      slice delete "$name" --force --quiet
      create "$type"
    fi
    [ "$state" != FAILED ] || fail "$name: refused; gcloud compute tpus queued-resources describe $name says why"
    [ -z "$dry" ] || return 0
    sleep "${POLL:-30}"
  done
  [ "$state" = ACTIVE ] || fail "$name: no such slice; launch/tpu_pod.sh create $name TYPE"
}

send_token() { # HF_TOKEN, where there is one, as a file: command lines are public
  [ -n "${HF_TOKEN:-}" ] || return 0
  local folder code=0
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # this folder
  trap "rm -rf '$folder'" EXIT
  [ -n "$dry" ] || (umask 077 && printf '%s' "$HF_TOKEN" >"$folder/hugging_face_token")
  tpus tpu-vm scp "$folder/hugging_face_token" "$name:" --worker=all || code=$?
  rm -rf "$folder"
  return "$code"
}

install() { # the files that git knows or would take, as they are now; uv brings the Python that we need
  local sources="${TMPDIR:-/tmp}/survey_jax.tar.gz"
  [ -n "$dry" ] || git ls-files -z --cached --others --exclude-standard | tar -cz --null -T - -f "$sources" || return
  tpus tpu-vm scp "$sources" "$name:" --worker=all &&
    send_token &&
    on_all_hosts 'set -e; mkdir -p survey_jax .cache/huggingface; tar -xzf survey_jax.tar.gz -C survey_jax
      [ ! -f hugging_face_token ] || { chmod 600 hugging_face_token; mv hugging_face_token .cache/huggingface/token; }
      cd survey_jax
      python3 -m pip install --quiet --user uv
      [ -d .venv ] || python3 -m uv venv --quiet --python 3.12
      python3 -m uv pip install --quiet --constraint constraints/python3.12.txt --editable ".[tpu,gcs,s3]"'
}

stop() { # what an interrupted `run` left behind would keep the chips
  on_all_hosts 'pkill -TERM -f "[-]m survey_jax[.]"; while pgrep -f "[-]m survey_jax[.]" >/dev/null; do sleep 1; done'
}

run() { # CONFIG|eval [FLAGS...]; gives the exit code of the first host to fail
  local command=(.venv/bin/python -m survey_jax.eval)
  wait_for_slice
  of_type "$(describe "tpu.nodeSpec[0].node.acceleratorType")"
  [ "$1" = eval ] ||
    command=(.venv/bin/python -m survey_jax.train --config="$1" --config.mesh.devices="$chips")
  # In the background and into a file: a connection that breaks must not end the run.
  local training
  training="nohup $(printf '%q ' "${command[@]}" "${@:2}") >>run.log 2>&1 </dev/null"
  stop && install && on_all_hosts "cd survey_jax && : >run.log && { $training & tail --pid=\$! -n +1 -f run.log; wait \$!; }"
}

case $action in
  create)
    [ $# = 1 ] || fail "usage: launch/tpu_pod.sh create NAME TYPE"
    create "$1"
    [ -n "$dry" ] || wait_for_slice
    ;;
  check)
    wait_for_slice
    install
    on_all_hosts 'cd survey_jax && .venv/bin/python -c "import jax; jax.distributed.initialize()
print(f\"host {jax.process_index()} of {jax.process_count()}: {jax.device_count()} chips in all\")"'
    ;;
  run)
    [ $# -ge 1 ] || fail "usage: launch/tpu_pod.sh run NAME CONFIG|eval --workdir=gs://BUCKET/RUN [FLAGS...]"
    [ "$1" = eval ] || [ -f "$1" ] || fail "$1: no such config"
    [[ " $* " == *" --workdir=gs://"* ]] || fail "give --workdir=gs://BUCKET/RUN; the hosts share no disk"
    until run "$@"; do
      code=$?
      # 75: it has saved, perhaps because the slice is going; 255: the slice was gone before. Else it has failed.
      [[ $code == 75 || $code == 255 ]] || exit "$code"
      sleep "${POLL:-30}"
      [ "$(describe state.state)" != ACTIVE ] || exit "$code"
    done
    ;;
  stop) stop ;;
  delete) slice delete "$name" --force --quiet ;;
  *) fail "$action: $usage" ;;
esac
