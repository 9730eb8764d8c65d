#!/usr/bin/env bash
# VNN-COMP: install_tool.sh v1
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "error: wanted v1 as the version of the scripts" >&2; exit 1; }
cd "$(dirname "$0")/../.."
python3 -m venv .venv
.venv/bin/python -m pip install --quiet -c constraints.txt -e .
