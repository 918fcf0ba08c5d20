#!/usr/bin/env bash
# Evaluate under Slurm: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]
# Set GPUS (in all), GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS (more arguments of srun) as needed.
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]" >&2; exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
partition=$1
job_name=$2
config=$3
checkpoint=$4
shift 4
gpus_per_node=${GPUS_PER_NODE:-8}
read -ra srun_args <<< "${SRUN_ARGS:-}"
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
exec srun -p "$partition" --job-name="$job_name" --gres="gpu:$gpus_per_node" \
  --ntasks="${GPUS:-8}" --ntasks-per-node="$gpus_per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 ${srun_args[@]+"${srun_args[@]}"} \
  "${PYTHON:-python}" -u "$here/test.py" "$config" "$checkpoint" --launcher=slurm "$@"
