#!/bin/sh
# What the container image holds, in a virtual environment: pinned by constraints.txt, and checked.
# Usage: install.sh VENV [EXTRAS], from the root of the source. TORCH_INDEX names an index of torch builds, such as
# that of CPU builds; without it torch comes from the usual index (there: built for CUDA).
set -eu
venv=$1
extras=${2:-all}
python3 -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
pip install --quiet --no-cache-dir -c constraints.txt setuptools wheel
if [ -n "${TORCH_INDEX:-}" ]; then
    pip install --quiet --no-cache-dir -c constraints.txt --index-url "$TORCH_INDEX" torch
fi
pip install --quiet --no-cache-dir -c constraints.txt --no-build-isolation ".[$extras]"
pip check
"$venv/bin/sensorium" --version
