#!/usr/bin/env bash
# Run the core of the test suite in other environments: test_matrix.sh [NAME...], names of tools/environments/NAME.txt.
# Each environment is made in its own folder below MATRIX (default: work_dirs/matrix) and deleted afterwards, unless
# KEEP=1. Results are recorded in docs/results/compatibility.jsonl and shown in docs/en/notes/compatibility.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
matrix=${MATRIX:-$root/work_dirs/matrix}
mkdir -p "$matrix"

value_of() { sed -n "s/^# $2: //p" "tools/environments/$1.txt"; }

find_python() {  # 3.10 -> PYTHON_3_10, python3.10 on the path, or pyenv's newest
  local variable=PYTHON_${1//./_}
  if [ -n "${!variable:-}" ]; then echo "${!variable}"; return; fi
  local pyenv
  pyenv=$(find "${PYENV_ROOT:-$HOME/.pyenv}/versions" -maxdepth 3 -path "*/$1.*/bin/python$1" 2>/dev/null | sort -V | tail -1)
  if [ -n "$pyenv" ]; then echo "$pyenv"; return; fi
  command -v "python$1" || { echo "test_matrix: no Python $1; set $variable" >&2; return 1; }
}

run_one() {
  local name=$1 python env
  env=$matrix/$name
  python=$(find_python "$(value_of "$name" python)")
  if [ ! -f "$env/complete" ]; then
    echo "test_matrix: making $name with $("$python" --version)"
    rm -rf "$env"
    "$python" -m venv "$env"
    "$env/bin/python" -m pip install --quiet 'pip<26' wheel
    "$env/bin/python" -m pip install --quiet -r "tools/environments/$name.txt" -r tools/environments/tests.txt
    local compiled
    compiled=$(value_of "$name" compile)
    if [ -n "$compiled" ]; then
      MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-2} "$env/bin/python" -m pip install --quiet --no-build-isolation \
        --no-deps --no-binary "${compiled%%=*}" "$compiled"
    fi
    touch "$env/complete"
  fi
  "$env/bin/python" -m pip freeze --exclude mmsrd > "$env/before.txt"
  rm -rf build "$env/dist"  # a wheel takes along what an earlier build has left
  "$env/bin/python" -m pip wheel --quiet --no-deps --no-build-isolation -w "$env/dist" .
  "$env/bin/python" -m pip install --quiet --force-reinstall "$env"/dist/mmsrd-*.whl
  "$env/bin/python" -m pip freeze --exclude mmsrd > "$env/after.txt"
  "$env/bin/python" tools/helpers/matrix.py core "$name" "$env"
}

if [ $# -eq 0 ]; then
  for file in tools/environments/*.txt; do
    name=$(basename "$file" .txt)
    if [ "$name" != tests ]; then set -- "$@" "$name"; fi
  done
fi
failed=()
for name in "$@"; do
  if [ ! -f "tools/environments/$name.txt" ]; then echo "test_matrix: no tools/environments/$name.txt" >&2; exit 2; fi
  # Not in a condition, where bash would ignore errors inside.
  set +e; ( set -e; run_one "$name" ); status=$?; set -e
  if [ "$status" -ne 0 ]; then failed+=("$name"); fi
  if [ "${KEEP:-0}" != 1 ]; then rm -rf "${matrix:?}/$name"; fi
done
python3 tools/helpers/matrix.py table
if [ ${#failed[@]} -gt 0 ]; then echo "test_matrix: failed: ${failed[*]}" >&2; exit 1; fi
