#!/usr/bin/env bash
# Train with several processes on one machine: dist_train.sh CONFIG GPUS [arguments of train.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT, and run it on each.
# Without GPUs the processes share the CPU and talk through gloo.
set -euo pipefail
if [ $# -lt 2 ]; then echo "usage: dist_train.sh CONFIG GPUS [arguments of train.py]" >&2; exit 2; fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$1
gpus=$2
shift 2
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$gpus" \
  "$here/train.py" "$config" --launcher pytorch "$@"
