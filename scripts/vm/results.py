"""What the guest said of each check, told on as TAP (https://testanything.org) while it comes."""
import pathlib
import time

SHOWN = 60     # lines of a failed check's log, and of the console of a guest that died
BOOT_S = 600     # until the guest is ready: 3 s when the host has nothing else to do
SILENCE_S = 300  # beyond a check's own time, until the guest counts as hung


class Check:
    def __init__(self, name, seconds, command):
        self.name, self.seconds, self.command = name, seconds, command
        self.code, self.log, self.took = None, [], 0

    def reason(self):
        said = [line for line in self.log if line.strip()]
        return said[-1].strip().removeprefix("skip: ").replace("#", "") if said else "no reason"


def read_list(path):
    """Lines of NAME SECONDS COMMAND; blank ones and those that begin with # are left out."""
    checks = []
    for line in pathlib.Path(path).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            name, seconds, command = line.split(None, 2)
            checks.append(Check(name, int(seconds), command))
    return checks


class Results:
    """Listens to one guest that runs `checks`; writes NAME.log for each to `out`."""

    def __init__(self, checks, out, say=lambda text: print(text, flush=True)):
        self.checks, self.out, self.say = checks, out, say
        self.by_name = {c.name: c for c in checks}
        self.current = None
        self.n_told = self.n_failed = self.n_skipped = 0
        self.trouble = None
        self.began = self.born = time.monotonic()
        self.is_ready = False

    def patience(self):
        if not self.is_ready:
            return BOOT_S
        return SILENCE_S + (self.current.seconds if self.current else 0)

    def line(self, text):
        words = text.split()
        if not text.startswith("@vm ") or len(words) < 2:
            if self.current is not None:
                self.current.log.append(text)
            return True
        if words[1] == "ready":
            self.is_ready = True
            self.say(f"# guest ready after {time.monotonic() - self.born:.1f} s, "
                     f"Linux {' '.join(words[2:])}")
        elif words[1] == "begin" and len(words) == 3:
            self.current = self.by_name.get(words[2])
            self.began = time.monotonic()
        elif words[1] == "end" and len(words) == 4 and self.current is not None:
            self.current.code = int(words[3])
            self._tell(self.current)
            self.current = None
        elif words[1] == "done":
            return False
        elif words[1] == "failed:":
            self.trouble = " ".join(words[2:])
            return False
        return True

    def _tell(self, check):
        check.took = time.monotonic() - self.began
        while check.log and not check.log[-1].strip():
            check.log.pop()
        (self.out / f"{check.name}.log").write_text("\n".join(check.log) + "\n")
        self.n_told += 1
        if check.code == 0:
            self.say(f"ok {self.n_told} - {check.name}")
        elif check.code == 77:
            self.n_skipped += 1
            self.say(f"ok {self.n_told} - {check.name} # SKIP {check.reason()}")
        else:
            self.n_failed += 1
            self.say(f"not ok {self.n_told} - {check.name}")
            why = {137: f"killed, as a rule because its {check.seconds} s were over"}
            self.say(f"# {check.name}: exit code {check.code}, " +
                     why.get(check.code, f"after {check.took:.1f} s"))
            self._show(check.log)
        self.say(f"# {check.name} took {check.took:.1f} s")

    def _show(self, lines):
        if len(lines) > SHOWN:
            self.say(f"# [the last {SHOWN} of {len(lines)} lines]")
        for text in lines[-SHOWN:]:
            self.say(f"#   {text}")

    def finish(self, how):
        """`how` as qemu.follow says. A check that has not told its end has failed."""
        untold = [c for c in self.checks if c.code is None]
        if self.trouble is None and how == "hung":
            self.trouble = f"the guest has said nothing for {self.patience()} s"
        elif self.trouble is None and how == "ended":
            self.trouble = "the guest ended before its checks did"
        elif self.trouble is None and untold:
            self.trouble = "the guest has left out checks"
        for check in untold:
            self.n_told += 1
            self.n_failed += 1
            cause = "under this check" if check is self.current else "before this check"
            self.say(f"not ok {self.n_told} - {check.name}")
            self.say(f"# {check.name}: {cause}: {self.trouble}")
            if check is self.current:
                self._show(check.log)
                (self.out / f"{check.name}.log").write_text("\n".join(check.log) + "\n")
        if self.trouble is not None:
            self.say(f"# {self.trouble}. The console's last lines:")
            for name in ("qemu.log", "console.log"):
                path = self.out / name
                if path.exists():
                    self._show(path.read_text(errors="replace").splitlines())
        return self.n_failed == 0 and self.trouble is None
