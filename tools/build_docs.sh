#!/usr/bin/env bash
# Build the documentation, and fail on any warning of Sphinx.
# Usage: bash tools/build_docs.sh [FOLDER]   (default: docs/en/_build; open its index.html)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$(realpath -m "${1:-$root/docs/en/_build}")
venv=${VENV:-$root/.venv}
export PYTHONPATH=$venv/docs${PYTHONPATH:+:$PYTHONPATH}
"$venv/bin/python" -m sphinx --fail-on-warning --keep-going -q -b html -d "$out/.doctrees" "$root/docs/en" "$out"
echo "build_docs: $out/index.html"
