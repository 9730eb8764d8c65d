#!/usr/bin/env bash
# VNN-COMP: run_instance.sh v1 CATEGORY ONNX VNNLIB RESULTS TIMEOUT
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "error: wanted v1 as the version of the scripts" >&2; exit 1; }
exec "$(dirname "$0")/../../.venv/bin/tightverify" vnnlib "$3" "$4" --out "$5" --timeout "$6" --force --quiet
