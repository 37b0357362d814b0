"""scripts/sum-tests on made-up logs: no failure may be lost, and nothing may pass by not running."""
import json
import pathlib
import subprocess
import sys
import tempfile

PROGRAM = sys.argv[1]
CMOCKA = ("[==========] Running 5 test(s).\n[  PASSED  ] 3 test(s).\n"
          "[  SKIPPED ] 1 test(s), listed below:\n{}")
TAP = "1..4\n# ready\nok 1 - a\nok 2 - b-c # SKIP no device\n# b-c took 1 s\n"
CASES = [
    # logs by build, options, exit code, last line
    ({"a": [("x", "OK", ""), ("y", "OK", CMOCKA.format(""))]}, [], 0,
     "4 passed, 0 failed, 1 skipped"),
    ({"a": [("x", "FAIL", CMOCKA.format("[  FAILED  ] 1 test(s), listed below:\n"))]}, [], 1,
     "3 passed, 1 failed, 1 skipped"),
    ({"a": [("x", "OK", "")], "b": [("x", "TIMEOUT", "")]}, [], 1, "1 passed, 1 failed, 0 skipped"),
    ({"a": [("x", "FAIL", CMOCKA.format(""))]}, [], 1, "3 passed, 1 failed, 1 skipped"),
    ({"a": [("x", "OK", TAP + "ok 3 - d\nok 4 - e\n")]}, [], 0, "3 passed, 0 failed, 1 skipped"),
    ({"a": [("x", "ERROR", TAP + "not ok 3 - d\nnot ok 4 - e\n")]}, [], 1,
     "1 passed, 2 failed, 1 skipped"),
    ({"a": [("x", "TIMEOUT", TAP)]}, [], 1, "1 passed, 1 failed, 1 skipped"),
    ({"a": [("x", "OK", ""), ("y", "SKIP", "1..0 # SKIP no network\n")]}, [], 0,
     "1 passed, 0 failed, 1 skipped"),
    ({"a": [("x", "SKIP", "no device")]}, [], 1, "0 passed, 0 failed, 1 skipped"),
    ({"a": [("x", "OK", "")], "b": []}, [], 1, "1 passed, 1 failed, 0 skipped"),
    ({"a": [("x", "OK", "")]}, ["--broken", "b: the build failed"], 1,
     "1 passed, 1 failed, 0 skipped"),
    ({}, [], 1, "0 passed, 0 failed, 0 skipped"),
]


def run(logs, options, scratch):
    args = list(options)
    for label, entries in logs.items():
        folder = pathlib.Path(scratch) / label / "meson-logs"
        folder.mkdir(parents=True)
        text = "".join(json.dumps({"name": n, "result": r, "stdout": o, "duration": 1}) + "\n"
                       for n, r, o in entries)
        (folder / "testlog.json").write_text(text)
        args.append(f"{label}={folder.parent}")
    return subprocess.run([PROGRAM] + args, capture_output=True, text=True)


bad = 0
for logs, options, code, last in CASES:
    with tempfile.TemporaryDirectory(prefix="sum-tests.") as scratch:
        done = run(logs, options, scratch)
    got = done.stdout.rstrip().splitlines()[-1:]
    if done.returncode != code or got != [last]:
        print(f"{logs} {options}: exit {done.returncode}, {got}; wanted {code}, {last}")
        print(done.stderr)
        bad += 1
print(f"{len(CASES) - bad} of {len(CASES)} logs added up right")
sys.exit(1 if bad else 0)
