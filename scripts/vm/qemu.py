"""One guest under QEMU, by software emulation only, until it ends or its time is over."""
import os
import select
import signal
import subprocess
import time

from initramfs import find_tool

# panic=-1 with -no-reboot: QEMU ends when the guest's kernel does. The kernel's tests of its own
# ciphers take seconds and have been seen to hang under emulation.
KERNEL_WORDS = ("console=ttyS0 quiet panic=-1 oops=panic mitigations=off nokaslr tsc=reliable "
                "no_timer_check cryptomgr.notests=1")


def command(kernel, initrd, console, words=""):
    return [
        os.environ.get("SMT_VM_QEMU") or find_tool("qemu-system-x86_64"),
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
        "-kernel", str(kernel / "vmlinuz"), "-initrd", str(initrd),
        "-append", f"{KERNEL_WORDS} {words}".strip(),
        "-serial", console,
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci",
    ]


def shell(kernel, initrd):
    """The guest's console on this terminal."""
    return subprocess.call(command(kernel, initrd, "mon:stdio", "lab.shell"))


def follow(kernel, initrd, work, listener, words="", prefix=(), extra=()):
    """Runs a guest and hands each line of its port `results` to listener.line(), until that says
    False. Returns why it ended: "told" (by the listener), "ended" (QEMU did, by itself) or "hung"
    (nothing was said for listener.patience() seconds). `words` go to the guest's kernel, `extra` to
    QEMU, which `prefix` runs."""
    # The chardev counts as closed once its input ends, so that is a pipe nobody writes to.
    with open(work / "qemu.log", "wb") as log:
        guest = subprocess.Popen(
            [*prefix, "setpriv", "--pdeathsig", "KILL", "--"] +
            command(kernel, initrd, f"file:{work / 'console.log'}", words) + list(extra) +
            ["-chardev", "stdio,id=results,signal=off",
             "-device", "virtserialport,chardev=results,name=results"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    try:
        return _read(guest.stdout.fileno(), listener)
    finally:
        guest.kill()
        guest.wait()
        guest.stdout.close()


def _read(fd, listener):
    said = time.monotonic()
    rest = b""
    while True:
        left = said + listener.patience() - time.monotonic()
        if left <= 0:
            return "hung"
        if not select.select([fd], [], [], min(left, 5))[0]:
            continue
        data = os.read(fd, 65536)
        if not data:
            return "ended"
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            said = time.monotonic()
            if not listener.line(line.decode("utf-8", "replace").rstrip("\r")):
                return "told"


def end_by_signal():
    """SIGTERM and SIGHUP end us as Ctrl-C does: with our guest."""
    def stop(number, frame):
        raise SystemExit(128 + number)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
