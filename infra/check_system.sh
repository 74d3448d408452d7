#!/bin/sh
# Say clearly what is missing before anything is installed. Usage: check_system.sh PYTHON
set -eu
python=${1:-python3}
command -v "$python" >/dev/null 2>&1 || {
    echo "sensorium: $python is not there. Install Python 3.11 or newer (Debian, Ubuntu: apt-get install python3 python3-venv)." >&2
    exit 2
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "sensorium: $("$python" --version) is too old; 3.11 or newer is needed. Name another with: make PYTHON=python3.12 ..." >&2
    exit 2
}
"$python" -c 'import ensurepip, venv' 2>/dev/null || {
    echo "sensorium: $python cannot make virtual environments. Debian, Ubuntu: apt-get install python3-venv." >&2
    exit 2
}
