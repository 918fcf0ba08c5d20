#!/usr/bin/env bash
# Train with several processes on one machine: dist_train.sh CONFIG GPUS [arguments of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT, and run it on each, with the same
# arguments. Each training needs its own PORT.
# With MAX_RESTARTS=N training goes on by itself, up to N times, when processes or machines fail: from the newest
# checkpoint, when NNODES machines (or, with NNODES=2:4, at least 2) are there again; NODE_RANK is not needed then.
# Start it anew on a machine that has come back. MASTER_ADDR must stay.
# Without GPUs the processes share the CPU and talk through gloo.
set -euo pipefail
if [ $# -lt 2 ]; then echo "usage: dist_train.sh CONFIG GPUS [arguments of train.py]" >&2; exit 2; fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$1
gpus=$2
shift 2
master=${MASTER_ADDR:-127.0.0.1}
port=${PORT:-29500}
if [ -n "${MAX_RESTARTS:-}" ]; then
  # By its arguments, the same on each machine, so that no other training on this port is taken for a part of it.
  name=mmsrd-$port-$(printf '%s\n' "$config" "$@" | cksum | cut -d ' ' -f 1)
  if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then port=0; fi  # one that is free
  meet=(--rdzv_backend=c10d --rdzv_endpoint="$master:$port" --rdzv_id="$name" --max_restarts="$MAX_RESTARTS"
        --rdzv_conf="join_timeout=${JOIN_TIMEOUT:-3600}")
  # Otherwise a launcher that stayed does not tell one that came back where its processes meet (PyTorch 2.4 to 2.14).
  export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
  set -- --auto-resume "$@"
else
  meet=(--node_rank="${NODE_RANK:-0}" --master_addr="$master" --master_port="$port")
fi
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run --nnodes="${NNODES:-1}" "${meet[@]}" --nproc_per_node="$gpus" \
  "$here/train.py" "$config" --launcher pytorch "$@"
