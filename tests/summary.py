"""Add up JUnit files: a line each, and the closing line ``N passed, N failed``. Exits with 1 when anything failed or nothing ran."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def count(path: Path) -> tuple[int, int, float]:
    """(passed, failed, seconds) of a JUnit file; a skipped test counts as neither, an error as failed."""
    passed = failed = 0
    seconds = 0.0
    for suite in ElementTree.parse(path).getroot().iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        failed += bad
        passed += int(suite.get("tests", 0)) - bad - int(suite.get("skipped", 0))
        seconds += float(suite.get("time", 0))
    return passed, failed, seconds


def main(paths: list[str]) -> int:
    """Print the table and the closing line."""
    rows = [(Path(path).stem, *count(Path(path))) for path in paths]
    for name, passed, failed, seconds in rows:
        print(f"{name:<20} {passed:>5} passed {failed:>4} failed {seconds:>7.0f} s")
    passed, failed = sum(row[1] for row in rows), sum(row[2] for row in rows)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
