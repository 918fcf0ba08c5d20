#!/usr/bin/env bash
# From a fresh machine to a distilled detector: makes the environment, composes data, trains a teacher,
# a student alone and the student distilled, and reports under work_dirs/quickstart/.
# Usage: bash tools/quickstart.sh [--seeds 0 1 2]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh core
exec "${VENV:-.venv}/bin/python" tools/quickstart/run_quickstart.py "$@"
