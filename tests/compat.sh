#!/bin/bash
# compat.sh: unit tests, inventory tests, one scenario and a batch both ways with the second lock (Python 3.11, ansible 12).
set -euo pipefail
cd "$(dirname "$0")/.."
rc=0
lab/setup.sh --python311 || rc=$?
[ $rc -eq 3 ] && exit 0
[ $rc -eq 0 ] || exit $rc
export PATH=$PWD/.cache/venv-py311/bin:$PATH
pytest -n 2 --junitxml=.cache/results/py311-unit.xml &
# The older podman connection mounts the container, which only a process in podman's own namespace sees.
lab/in-cgroup2 pytest --junitxml=.cache/results/py311-molecule.xml tests/molecule -k 'test_scenario and timesync' || rc=1
lab/in-cgroup2 pytest --junitxml=.cache/results/py311-batch.xml tests/batch/test_differential.py -k 'bare or first or other_way' || rc=1
wait $! || rc=1
exit $rc
