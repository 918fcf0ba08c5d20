#!/usr/bin/env bash
# Make the environment and run all checks: lint, types, shell syntax, the wheel outside of the checkout, tests.
# Usage: bash tools/run_tests.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh
bin=${VENV:-.venv}/bin
"$bin/ruff" check .
"$bin/mypy"
for script in tools/*.sh; do bash -n "$script"; done
exec "$bin/python" -m pytest "$@"
