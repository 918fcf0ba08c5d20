#!/usr/bin/env bash
# Make the environment: a virtual environment with pinned wheels and this package, editable.
#
# Usage: bash tools/setup_env.sh [core]   (core: without what only tests and documentation need)
#   PYTHON  interpreter to build on (default: the first of python3, python3.12, python3.11, python3.10 that fits)
#   VENV    folder of the environment (default: .venv beside this checkout's setup.py)
#   MMSRD_SYSTEM_TORCH=never  install the pinned PyTorch also where the interpreter has one
#
# Where the interpreter already has PyTorch 2.6 or newer with torchvision, that one is used.
# A second call finds the stamps of the first and takes a second.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${VENV:-$root/.venv}

fits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

python=${PYTHON:-}
if [ -n "$python" ]; then
  fits "$python" || { echo "setup_env: PYTHON=$python is not a Python 3.10, 3.11 or 3.12" >&2; exit 1; }
else
  for candidate in python3 python3.12 python3.11 python3.10; do
    if fits "$candidate"; then python=$candidate; break; fi
  done
  [ -n "$python" ] || { echo "setup_env: no Python 3.10, 3.11 or 3.12 found; set PYTHON" >&2; exit 1; }
fi

stamp=$venv/mmsrd-stamp
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
checksum() { cat "$@" "$root/setup.py" <("$python" -c 'import sys; print(sys.version)') | sha256sum | cut -d' ' -f1; }
is_done() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ] && [ -x "$venv/bin/python" ]; }
wanted=$(checksum "$root"/tools/requirements{,-torch}.txt)-$root

# Packages for a few tests and for the documentation, in folders of their own: few environments have them.
# Those of the studies' tables are in the environment itself, where their commands find them.
install_beside() {
  local beside hash into
  for beside in studies transformers wandb mmseg docs; do
    hash=$(checksum "$root/tools/requirements-$beside.txt")
    if ! is_done "$venv/$beside.stamp" "$hash"; then
      echo "setup_env: installing packages beside ($beside)"
      into=(--target "$venv/$beside")
      if [ "$beside" = studies ]; then into=(); fi
      "${pip[@]}" install -qq --only-binary :all: --no-deps --upgrade ${into[@]+"${into[@]}"} \
        -r "$root/tools/requirements-$beside.txt"
      echo "$hash" > "$venv/$beside.stamp"
    fi
  done
}

if is_done "$stamp" "$wanted"; then
  if [ "${1:-}" != core ]; then install_beside; fi
  echo "setup_env: $venv is up to date"
  exit 0
fi

has_torch() {
  [ "${MMSRD_SYSTEM_TORCH:-auto}" != never ] && "$1" - 2>/dev/null <<'PY'
import sys
import torch, torchvision
sys.exit(tuple(int(x) for x in torch.__version__.split('.')[:2]) < (2, 6))
PY
}

if [ ! -x "$venv/bin/python" ]; then
  echo "setup_env: making $venv with $("$python" --version)"
  options=()
  if has_torch "$python"; then options+=(--system-site-packages); fi
  "$python" -m venv ${options[@]+"${options[@]}"} "$venv" || {
    echo "setup_env: $python cannot make virtual environments (Debian: apt install python3-venv)" >&2; exit 1; }
fi

# Both at a time, and bytecode afterwards by all cores: most of it is unpacking and compiling.
install() { "${pip[@]}" install -qq --only-binary :all: --no-deps --no-compile -r "$root/tools/$1"; }
if grep -q '^include-system-site-packages = true' "$venv/pyvenv.cfg" && has_torch "$venv/bin/python"; then
  echo "setup_env: using the PyTorch that $python has"
  install requirements.txt
else
  echo "setup_env: installing PyTorch (several GB with its CUDA libraries; minutes on a slow line), MMDetection, MMPretrain"
  install requirements-torch.txt &
  install requirements.txt
  wait $!
fi
"$venv/bin/python" -m compileall -qq -j 0 -x '/(tests?|testing)/' "$venv/lib" || true  # files for other versions of Python
"${pip[@]}" install -qq --no-deps --no-build-isolation -e "$root"
"$venv/bin/python" -c 'import mmsrd, mmdet.models, mmpretrain.models' 2>/dev/null || {
  echo "setup_env: the installed packages do not import:" >&2
  "$venv/bin/python" -c 'import mmsrd, mmdet.models, mmpretrain.models' >&2; exit 1; }
echo "$wanted" > "$stamp"
if [ "${1:-}" != core ]; then install_beside; fi
echo "setup_env: ready; activate with: source $venv/bin/activate"
