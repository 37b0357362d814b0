"""The guest's file system: an uncompressed cpio archive, made in memory and without root.

Programs come with the libraries `ldd` names, kernel modules with what they depend on. The guest
has busybox in /bin and the real tools in /usr/bin, which comes first in its PATH.
"""
import os
import pathlib
import shutil
import stat
import subprocess

TOOLS_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"


class Missing(Exception):
    """Something of the host that the guest needs is not installed."""


def find_tool(name):
    found = shutil.which(name, path=TOOLS_PATH)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


class Initramfs:
    def __init__(self):
        self.entries = {}  # path -> mode, bytes

    def _add(self, path, mode, data=b""):
        path = path.strip("/")
        for parent in pathlib.PurePosixPath(path).parents:
            if str(parent) != ".":
                self.entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        self.entries[path] = (mode, data)

    def directory(self, path, mode=0o755):
        self._add(path, stat.S_IFDIR | mode)

    def link(self, path, target):
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def text(self, path, text, mode=0o644):
        self._add(path, stat.S_IFREG | mode, text.encode())

    def file(self, path, source, mode=None):
        source = pathlib.Path(source)
        if mode is None:
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
        self._add(path, stat.S_IFREG | mode, source.read_bytes())

    def tree(self, path, source):
        for each in sorted(pathlib.Path(source).rglob("*")):
            if each.is_file() and "__pycache__" not in each.parts:
                self.file(f"{path}/{each.relative_to(source)}", each)

    def libraries(self, program):
        """All in /lib, where the loader looks last; the loader itself where programs name it."""
        said = subprocess.run(["ldd", str(program)], capture_output=True, text=True)
        for line in said.stdout.splitlines():
            words = line.split()
            if "not found" in line:
                raise RuntimeError(f"{program} needs {words[0]}, which is not there")
            source = next((w for w in words if w.startswith("/")), None)
            if source is None:
                continue
            loader = "=>" not in words
            self.file(source if loader else f"/lib/{words[0]}", source, 0o755)

    def program(self, source, path=None):
        self.file(path or f"/usr/bin/{pathlib.Path(source).name}", source, 0o755)
        self.libraries(source)

    def busybox(self):
        """With the host's dash as the shell: busybox's own prefers its applets to any PATH."""
        box = find_tool("busybox")
        if "libc.so" in subprocess.run(["ldd", box], capture_output=True, text=True).stdout:
            raise Missing("busybox-static is not installed")
        self.file("/bin/busybox", box, 0o755)
        names = subprocess.run([box, "--list"], capture_output=True, text=True, check=True).stdout
        for name in names.split():
            if name not in ("busybox", "sh"):
                self.link(f"/bin/{name}", "busybox")

        self.program(find_tool("dash"), "/bin/sh")

    def verbs_provider(self, name):
        config = pathlib.Path(f"/etc/libibverbs.d/{name}.driver")
        found = sorted(pathlib.Path("/usr/lib").glob(f"*/libibverbs/lib{name}-rdmav*.so"))
        if not config.exists() or not found:
            raise Missing("ibverbs-providers is not installed")
        self.file(str(config), config)
        self.file(str(found[-1]), found[-1], 0o755)
        self.libraries(found[-1])

    def modules(self, kernel, names):
        """`names` and what they need; modprobe in the guest finds them with the tables here."""
        [version] = os.listdir(kernel / "lib/modules")
        base = kernel / "lib/modules" / version
        wanted = set()
        for name in names:
            done = subprocess.run(
                [find_tool("modprobe"), "-d", str(kernel), "-S", version, "--show-depends", name],
                capture_output=True, text=True)
            if done.returncode != 0:
                raise Missing(f"this kernel has no module {name}: {done.stderr.strip()}")
            wanted.update(line.split()[1] for line in done.stdout.splitlines()
                          if line.startswith("insmod "))
        for source in sorted(wanted):
            relative = pathlib.Path(source).relative_to(base)
            self.file(f"/lib/modules/{version}/{relative}", source)
        for table in sorted(base.glob("modules.*")):
            self.file(f"/lib/modules/{version}/{table.name}", table)

    def write(self, path):
        with open(path, "wb") as out:
            for number, name in enumerate(sorted(self.entries), 1):
                mode, data = self.entries[name]
                self._record(out, name, mode, data, number)
            self._record(out, "TRAILER!!!", 0, b"", 0)

    @staticmethod
    def _record(out, name, mode, data, number):
        """One record of the "newc" format: 13 numbers in hex, name and data padded to 4 bytes."""
        name = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = [number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0]
        head = b"070701" + b"".join(b"%08x" % f for f in fields) + name
        out.write(head + b"\0" * (-len(head) % 4))
        out.write(data)
        out.write(b"\0" * (-len(data) % 4))
