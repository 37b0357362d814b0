"""scripts/vm on made-up guests: a guest that panics, hangs or leaves checks out fails, at once and
with the console's last lines; one that does its work passes."""
import os
import pathlib
import sys
import tempfile
import time

sys.path.insert(0, sys.argv[1])
import qemu  # noqa: E402
import results  # noqa: E402

# Seconds that a guest may be silent at boot and in a check: of those that hang, and of others, which
# are never too slow.
HANGS, WORKS = (4, 3), (600, 600)
GUEST = """#!/bin/sh
# Stands in for QEMU: the console's file is named by -serial, the port is stdout.
while [ $# -gt 0 ]; do
    [ "$1" != -serial ] || console=${2#file:}
    shift
done
echo "console: booting" >"$console"
"""
READY = 'echo "@vm ready 6.1"\n'
A = 'echo "@vm begin a"; echo of a; echo; echo "@vm end a %d"\n'
B = 'echo "@vm begin b"; echo of b; echo; echo "@vm end b %d"\n'
DONE = 'echo "@vm done"; exec sleep 3600\n'
PANIC = 'echo "Kernel panic - not syncing" >>"$console"\n'
CASES = [
    # the guest, passes, what must be told, in this order
    (READY + A % 0 + B % 0 + DONE, True, ["1 - a\n", "ok 2 - b\n"]),
    (READY + A % 0 + B % 77 + DONE, True, ["ok 1 - a\n", "ok 2 - b # SKIP of b\n"]),
    (READY + A % 5 + B % 0 + DONE, False, ["not ok 1 - a\n", "exit code 5", "of a", "ok 2 - b\n"]),
    (READY + A % 137 + B % 0 + DONE, False, ["not ok 1 - a\n", "its 1 s were over", "ok 2"]),
    (READY + A % 0 + 'echo "@vm begin b"; echo halfway\n' + PANIC, False,
     ["ok 1 - a\n", "not ok 2 - b\n", "under this check", "halfway", "console", "Kernel panic"]),
    (READY + A % 0 + 'echo "@vm begin b"; exec sleep 3600\n', False,
     ["ok 1 - a\n", "not ok 2 - b\n", "under this check", "said nothing for 4 s"]),
    ("exec sleep 3600\n", False, ["not ok 1 - a\n", "before this check", "not ok 2", "nothing for 4",
                                "console: booting"]),
    (PANIC, False, ["not ok 1 - a\n", "not ok 2 - b\n", "ended", "Kernel panic"]),
    ('echo "@vm failed: no veth"; exec sleep 3600\n', False, ["not ok 1 - a\n", "no veth"]),
    (READY + A % 0 + DONE, False, ["ok 1 - a\n", "not ok 2 - b\n", "left out"]),
    ("echo wrong option >&2; exit 1\n", False, ["not ok 1", "ended", "wrong option"]),
]


def run(guest, hangs):
    told = []
    results.BOOT_S, results.SILENCE_S = HANGS if hangs else WORKS
    with tempfile.TemporaryDirectory(prefix="vm-guest.") as scratch:
        work = pathlib.Path(scratch)
        program = work / "qemu"
        program.write_text(GUEST + guest)
        program.chmod(0o755)
        os.environ["SMT_VM_QEMU"] = str(program)
        (work / "list").write_text("# comment\n\na 1 true\nb 1 true\n")
        listener = results.Results(results.read_list(work / "list"), work, told.append)
        good = listener.finish(qemu.follow(work, work / "initrd", work, listener))
    return good, "\n".join(told) + "\n"


bad = 0
for guest, good, words in CASES:
    began = time.monotonic()
    got, text = run(guest, any("nothing for" in word for word in words))
    place = 0
    for word in words:
        place = text.find(word, place)
        if place < 0:
            break
    if got != good or place < 0 or time.monotonic() - began > 1800:
        print(f"--- guest:\n{guest}--- passed {got}; wanted {good} and {words}; told:\n{text}")
        bad += 1
print(f"{len(CASES) - bad} of {len(CASES)} guests judged right")
sys.exit(1 if bad else 0)
