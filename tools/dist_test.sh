#!/usr/bin/env bash
# Evaluate with several processes on one machine: dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]
# Several machines: set NNODES, NODE_RANK, MASTER_ADDR and PORT, and run it on each.
set -euo pipefail
if [ $# -lt 3 ]; then echo "usage: dist_test.sh CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2; exit 2; fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$1
checkpoint=$2
gpus=$3
shift 3
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" --nproc_per_node="$gpus" \
  "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
