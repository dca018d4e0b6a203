"""The tables of the READMEs say what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_tables_are_up_to_date():
    done = subprocess.run([sys.executable, str(TOP / "tests" / "readme_tables.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
