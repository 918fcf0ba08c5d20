#!/usr/bin/env bash
# Make the environment and run all checks: lint, types, oldest Python, shell syntax, tests
# (which build the wheel and run it outside of the checkout).
# Usage: bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh
bin=${VENV:-.venv}/bin
"$bin/ruff" check .
"$bin/mypy"
"$bin/vermin" --quiet --no-tips --target=3.8- --violations mmsrd tools setup.py  # the oldest Python we support
for script in tools/*.sh; do bash -n "$script"; done
"$bin/shellcheck" tools/*.sh
# Two processes of one thread each: much of the time is Python, imports and processes of their own.
OMP_NUM_THREADS=1 exec "$bin/python" -m pytest -n 2 --durations=15 "$@"
