#!/usr/bin/env bash
# Everything worth knowing of a GPU, in the order of its worth: gpu_suite.sh [FOLDER], an hour at most.
# Each step has a time limit, writes a log and its results to FOLDER (work_dirs/gpu_suite), and does not stop the others;
# the summary at the end, and the exit status, say what failed. STEPS='kernels benchmark' runs some of them.
# Training needs data/gpu_suite: `python tools/compose_digits.py data/gpu_suite --size 256` makes it where scikit-learn is.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
out=${1:-work_dirs/gpu_suite}
python=${PYTHON:-python}
device=${DEVICE:-cuda}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$out"
: > "$out/summary.txt"
failed=0

step() { # step NAME MINUTES COMMAND...
  local name=$1 minutes=$2 status=0
  shift 2
  case " ${STEPS:-all} " in *" all "* | *" ${name%%-*} "*) ;; *) return ;; esac
  local begun=$SECONDS
  timeout --kill-after=20 "${minutes}m" "$@" > "$out/$name.log" 2>&1 || status=$?
  [ "$status" -eq 0 ] || failed=$((failed + 1))
  echo "$name: status $status, $((SECONDS - begun)) s" | tee -a "$out/summary.txt"
  tail -n 3 "$out/$name.log"
}

train=("$python" tools/train.py configs/quickstart/srd_neck_fcos-w32_fcos-w8_digits.py --amp --cfg-options
  distill.teacher.checkpoint=None distill.teacher.allow_random=True train_cfg.max_iters=50 train_cfg.val_interval=50
  train_dataloader.dataset.data_root=data/gpu_suite/ val_dataloader.dataset.data_root=data/gpu_suite/
  val_evaluator.ann_file=data/gpu_suite/annotations/val.json)

step check 2 "$python" -m mmsrd.env --check
step kernels 4 "$python" tools/benchmarks/kernels_on_device.py ${SHAPE:+--shape $SHAPE} --device "$device"
[ -f data/gpu_suite/annotations/val.json ] || timeout 2m "$python" tools/compose_digits.py data/gpu_suite --train 200 --val 50 > "$out/data.log" 2>&1
step train-fp16 3 "${train[@]}" optim_wrapper.dtype=float16 --work-dir "$out/train-fp16"
step train-bf16 3 "${train[@]}" optim_wrapper.dtype=bfloat16 --work-dir "$out/train-bf16"
step nccl 3 env PYTHON="$python" bash tools/dist_train.sh "${train[2]}" 1 "${train[@]:3}" --work-dir "$out/nccl"
for pair in faster-rcnn retinanet fcos resnet; do
  step "benchmark-$pair" 8 "$python" tools/benchmark.py --pair "$pair" --amp fp16 --minutes 6 --out "$out" \
    --device "$device"
done
step profile 4 "$python" tools/benchmarks/profile_step.py --pair retinanet --amp fp16 --out "$out" --device "$device"
step scaling 9 "$python" tools/benchmark.py --pair fcos --amp fp16 --scaling --repeats 3 --out "$out" --device "$device"
echo "$failed steps failed; results are in $out"
[ "$failed" -eq 0 ]
