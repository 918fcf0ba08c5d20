#!/usr/bin/env bash
# Train under Slurm: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]
# Submits a batch job that resumes by itself. 120 seconds before its time limit, or when Slurm preempts it, it saves a
# checkpoint and is queued again; SRUN_ARGS=--signal=USR1@900 gives it longer, where a validation takes longer. Its
# output goes to WORK_DIR/slurm-JOB.log.
# Set GPUS (in all), GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS (more arguments of sbatch, such as --time) as needed;
# GRES (default gpu:GPUS_PER_NODE) may be empty.
# REQUEUE=0, or a call inside an allocation, runs it at once with srun and without resuming.
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]" >&2; exit 2
fi
here=${MMSRD_SLURM_JOB:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)}  # Slurm runs a copy of this file
partition=$1
job_name=$2
config=$3
work_dir=$4
gpus_per_node=${GPUS_PER_NODE:-8}
gres=${GRES-gpu:$gpus_per_node}
read -ra more <<< "${SRUN_ARGS:-}"
resources=(-p "$partition" --job-name="$job_name" ${gres:+"--gres=$gres"} --ntasks="${GPUS:-8}"
           --ntasks-per-node="$gpus_per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" ${more[@]+"${more[@]}"})
[[ " ${SRUN_ARGS:-}" == *" --signal"* ]] || resources+=(--signal=USR1@120)
train=("${PYTHON:-python}" -u "$here/train.py" "$config" --work-dir="$work_dir" --launcher=slurm "${@:5}")
export PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${MMSRD_SLURM_JOB:-}" ]; then
  unset MMSRD_SLURM_JOB
  status=0
  started=$(mktemp)
  srun --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 "${train[@]}" --auto-resume || status=$?
  # Preempted; srun may have killed a process that was ending, and returns the highest status.
  if [ "$status" -eq 75 ] || { [ "$status" -gt 128 ] && [ "$work_dir/last_checkpoint" -nt "$started" ] &&
      grep -q 'preempted.pth$' "$work_dir/last_checkpoint"; }; then
    echo "Queued again by slurm_train.sh"
    scontrol requeue "$SLURM_JOB_ID"
  fi
  exit "$status"
elif [ "${REQUEUE:-1}" = 0 ] || [ -n "${SLURM_JOB_ID:-}" ]; then
  exec srun "${resources[@]}" --kill-on-bad-exit=1 "${train[@]}"
fi
mkdir -p "$work_dir"
export MMSRD_SLURM_JOB=$here
exec sbatch "${resources[@]}" --requeue --open-mode=append --output="$work_dir/slurm-%j.log" \
  "${BASH_SOURCE[0]}" "$@"
