#!/usr/bin/env python3
"""Adds up what gcov says of the layers: lines run by any object built from a source file.

usage: coverage.py BUILD_DIR [--files]
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile

LAYERS = ["wire", "crypto", "hs", "core"]


def reports(build):
    """What gcov says of every object, as parsed JSON."""
    for directory, _, names in os.walk(build):
        for name in names:
            if not name.endswith(".gcda"):
                continue
            path = os.path.join(directory, name)
            with tempfile.TemporaryDirectory() as out:
                subprocess.run(["gcov", "--json-format", os.path.abspath(path)], cwd=out,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
                for report in os.listdir(out):
                    with gzip.open(os.path.join(out, report)) as f:
                        yield json.load(f)


def lines_by_file(build, root):
    """{layer: {file: {line: was it run}}}"""
    found = {layer: {} for layer in LAYERS}
    for report in reports(build):
        for one in report["files"]:
            base = one["file"]
            if not os.path.isabs(base):
                base = os.path.join(report.get("current_working_directory", build), base)
            base = os.path.relpath(os.path.realpath(base), root)
            parts = base.split(os.sep)
            if len(parts) != 3 or parts[0] != "src" or parts[1] not in LAYERS:
                continue
            lines = found[parts[1]].setdefault(base, {})
            for line in one["lines"]:
                number = line["line_number"]
                lines[number] = lines.get(number, False) or line["count"] > 0
    return found


def main():
    build = os.path.realpath(sys.argv[1])
    root = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
    found = lines_by_file(build, root)
    for layer in LAYERS:
        lines = [run for file in found[layer].values() for run in file.values()]
        if lines:
            print(f"{layer:8} {sum(lines):6} of {len(lines):6} lines, "
                  f"{100 * sum(lines) / len(lines):5.1f} %")
    if "--files" not in sys.argv:
        return
    rows = []
    for layer in LAYERS:
        for name, lines in found[layer].items():
            missed = sorted(n for n, run in lines.items() if not run)
            rows.append((100 * (len(lines) - len(missed)) / len(lines), name, missed))
    for percent, name, missed in sorted(rows):
        print(f"{percent:6.1f} %  {name}  missed: {' '.join(map(str, missed[:40]))}")


if __name__ == "__main__":
    main()
