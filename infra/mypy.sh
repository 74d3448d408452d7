#!/bin/sh
# mypy knows packages by their folders; ours are mapped (catalog/ is sensorium.catalog). A folder of five links shows it
# the mapped layout. Usage: mypy.sh MYPY
set -eu
mypy=$1
root=.mypy_root/sensorium
mkdir -p "$root"
for package in platform actors catalog jobs serve; do
    ln -sfn "../../$package" "$root/$package"
done
MYPYPATH=.mypy_root exec "$mypy" -p sensorium
