#!/usr/bin/env bash
# VNN-COMP: prepare_instance.sh v1 CATEGORY ONNX VNNLIB
# Exits with 1 where the model or the query is not read: the instance is passed over.
set -euo pipefail
[ "${1:-}" = v1 ] || { echo "error: wanted v1 as the version of the scripts" >&2; exit 1; }
exec "$(dirname "$0")/../../.venv/bin/tightverify" info "$3" > /dev/null
