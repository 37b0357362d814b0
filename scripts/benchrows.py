"""The table of scripts/bench: what is compared with what, the bars, and its forms (text, JSON,
markdown, SVG). Knows nothing of programs; a figure is looked up by its cell's key.

A *cell* is one program run: a tuple (who, measure, size, depth, sessions). Its figures are a dict:
p50 (µs), rate (1/s), cpu (µs of both sides an RPC), instructions.
"""
import html
import statistics

KB, MB = 1 << 10, 1 << 20
DEVICES = ("udp", "af")
RATES = ((64, 100), (KB, 100), (8 * KB, 100))
CPU_SIZES = ((64, 100), (KB, 100), (8 * KB, 100), (64 * KB, 100), (MB, 4))
LATENCIES = (64, 8 * KB, 64 * KB, MB)


class Row:
    """One comparison. `best`: several devices are measured, the best one is judged."""

    def __init__(self, measure, size, depth, sessions, device, peer, ours, theirs, figure,
                 bar=None, moonshot=None, best=False):
        self.measure, self.size, self.depth, self.sessions = measure, size, depth, sessions
        self.device, self.peer, self.ours, self.theirs = device, peer, ours, theirs
        self.figure, self.bar, self.moonshot, self.best = figure, bar, moonshot, best
        self.mine = self.other = self.median = self.low = self.high = None
        self.skipped = ""

    @property
    def lower_is_better(self):
        return self.figure != "rate"

    def fill(self, rounds, why):
        """`why`: of a cell that no round has, in a sentence."""
        ratios, mine, other = [], [], []
        for cells in rounds:
            a, b = (cells.get(key, {}).get(self.figure) for key in (self.ours, self.theirs))
            if a is not None:
                mine.append(a)
            if b is not None:
                other.append(b)
            if a and b:
                ratios.append(b / a if self.lower_is_better else a / b)
        self.mine = statistics.median(mine) if mine else None
        self.other = statistics.median(other) if other else None
        if ratios:
            self.median, self.low, self.high = statistics.median(ratios), min(ratios), max(ratios)
        else:
            missing = [key for key, found in ((self.ours, mine), (self.theirs, other)) if not found]
            self.skipped = "; ".join(dict.fromkeys(why(key) for key in missing)) or "no common round"

    @property
    def verdict(self):
        if self.median is None:
            return "skipped"
        if self.bar is None:
            return "moonshot" if self.moonshot is not None and self.median >= self.moonshot else ""
        if self.moonshot is not None and self.median >= self.moonshot:
            return "pass, moonshot"
        return "pass" if self.median >= self.bar else "below"

    def as_json(self):
        out = {"measure": self.measure, "size": self.size, "depth": self.depth,
               "sessions": self.sessions, "device": self.device, "peer": self.peer,
               "ours": self.mine, "theirs": self.other, "ratio_median": self.median,
               "ratio_min": self.low, "ratio_max": self.high, "figure": self.figure,
               "bar": self.bar, "moonshot": self.moonshot, "verdict": self.verdict}
        if self.skipped:
            out["skipped"] = self.skipped
        return out


def rows():
    """All rows, in the order of the table."""
    out = []

    def add(*args, **more):
        out.append(Row(*args, **more))

    lat_bars = {8 * KB: (1.4, 1.6), 64 * KB: (1.5, 1.8), MB: (1.5, 2.2)}
    for device, bar, moonshot in (("udp", 1.8, 2.0), ("af", 2.6, 3.3)):
        add("rtt", 64, 1, 1, device, "tls", (device, "rtt", 64, 1, 1), ("tls", "rtt", 64, 1, 1),
            "p50", bar, moonshot)
    add("rtt", 64, 1, 1, "af", "tcp", ("af", "rtt", 64, 1, 1), ("tcp", "rtt", 64, 1, 1), "p50", 1.0)
    for size in LATENCIES[1:]:
        for device in DEVICES:
            add("rtt", size, 1, 1, device, "tls", (device, "rtt", size, 1, 1),
                ("tls", "rtt", size, 1, 1), "p50", *lat_bars[size], best=True)
    # One stream is TLS's artificial best: to be as fast as that is a moonshot and no bar.
    for peer, bar, moonshot in (("tls-conns", 13, None), ("udp-gcm-limit", 0.55, None),
                                ("tls", None, 1.0)):
        for device in DEVICES:
            theirs = (peer, "rate", 64, 100, 100 if peer == "tls-conns" else 1)
            add("rate", 64, 100, 1, device, peer, (device, "rate", 64, 100, 1), theirs, "rate",
                bar, moonshot, best=True)
    for size, bar, moonshot in ((KB, 1.6, 2.0), (8 * KB, 1.7, 2.1)):
        for device in DEVICES:
            add("rate", size, 100, 1, device, "tls", (device, "rate", size, 100, 1),
                ("tls", "rate", size, 100, 1), "rate", bar, moonshot, best=True)
    for device in DEVICES:
        add("one-way", MB, 4, 1, device, "tls", (device, "one-way", MB, 4, 1),
            ("tls", "one-way", MB, 4, 1), "rate", 2.3, 2.8, best=True)
    for measure, size, depth in [("rate", *r) for r in RATES] + [("one-way", MB, 4)]:
        for device in DEVICES:
            add(measure, size, depth, 100, device, "one session",
                (device, measure, size, depth, 100), (device, measure, size, depth, 1), "rate",
                0.8, 0.95, best=True)
    for device in DEVICES:
        add("rtt-events", 64, 1, 1, device, "tls-blocking", (device, "rtt-events", 64, 1, 1),
            ("tls", "rtt-events", 64, 1, 1), "p50", 1.3, 1.7, best=True)
    add("rtt", 64, 1, 1, "shm", "shm-gcm-limit", ("shm", "rtt", 64, 1, 1),
        ("shm-gcm-limit", "rtt", 64, 1, 1), "p50", 0.5, 1 / 1.3)
    add("one-way", MB, 4, 1, "shm", "shm-gcm-limit", ("shm", "one-way", MB, 4, 1),
        ("shm-gcm-limit", "one-way", MB, 4, 1), "rate", 6 / 11, 1 / 1.3)
    for name, bar, moonshot in (("encrypted", 900, 500), ("plaintext", 650, 350)):
        for side in ("client", "server"):
            add(f"instructions, {name}, {side}", 64, 64, 1, "loop", f"bar of {bar}",
                ("loop", name, side), ("bar", bar), "instructions", 1.0, bar / moonshot)
    for way in ("cpu", "cpu-events"):
        for size, depth in CPU_SIZES:
            for device in DEVICES:
                ours = "rpc" if way == "cpu" and size == MB else "rate" if way == "cpu" else way
                theirs = "rate" if way == "cpu" else way
                add(way, size, depth, 1, device, "tls-conns", (device, ours, size, depth, 1),
                    ("tls-conns", theirs, size, depth, depth), "cpu", 1.0, 2.0, best=True)
    # The limits: no bar; below 0.75 the closing note explains.
    for size in LATENCIES:
        add("rtt", size, 1, 1, "udp", "udp-gcm-limit", ("udp", "rtt", size, 1, 1),
            ("udp-gcm-limit", "rtt", size, 1, 1), "p50")
    for size in LATENCIES[:-1]:
        add("rtt", size, 1, 1, "af", "af-gcm-limit", ("af", "rtt", size, 1, 1),
            ("af-gcm-limit", "rtt", size, 1, 1), "p50")
    for device in DEVICES:
        for size, depth in RATES:
            if (device, size) != ("udp", 64):
                limit = device + "-gcm-limit"
                add("rate", size, depth, 1, device, limit, (device, "rate", size, depth, 1),
                    (limit, "rate", size, depth, 1), "rate")
    add("one-way", MB, 4, 1, "udp", "udp-gcm-limit", ("udp", "one-way", MB, 4, 1),
        ("udp-gcm-limit", "one-way", MB, 4, 1), "rate")
    for measure, size, depth, figure in (("rtt", 64, 1, "p50"), ("rate", 64, 100, "rate")):
        add(measure, size, depth, 1, "udp", "udp-limit", ("udp", measure, size, depth, 1),
            ("udp-limit", measure, size, depth, 1), figure)
    for peer in ("ucx-tcp", "libfabric-tcp"):
        add("rtt", 64, 1, 1, "udp", peer, ("udp", "rtt", 64, 1, 1), (peer, "rtt", 64, 1, 1), "p50")
    return out


def judge(all_rows):
    """Of rows that several devices may meet, the best device keeps the bar."""
    groups = {}
    for row in all_rows:
        if row.best:
            key = (row.measure, row.size, row.depth, row.sessions, row.peer)
            groups.setdefault(key, []).append(row)
    for group in groups.values():
        group.sort(key=lambda r: -(r.median or 0))
        for row in group[1:]:
            if group[0].median is not None:
                row.bar = row.moonshot = None


def size_text(size):
    return f"{size // MB} MB" if size >= MB else f"{size // KB} KB" if size >= KB else f"{size} B"


def name_text(row):
    text = {"rtt": "RTT p50", "rtt-events": "RTT p50, sleeping", "rate": "RPC/s",
            "one-way": "one-way", "cpu": "CPU an RPC, both sides",
            "cpu-events": "CPU an RPC, both sides, sleeping"}.get(row["measure"], row["measure"])
    text = f"{size_text(row['size'])} {text}"
    if row["depth"] > 1:
        text += f", {row['depth']} in flight"
    if row["sessions"] > 1:
        text += f", {row['sessions']} sessions"
    return text


def figure_text(row, key):
    value = row[key]
    if value is None:
        return "–"
    if row["figure"] == "instructions":
        return f"{value:,.0f}"
    if row["figure"] == "p50":
        return f"{value:.2f} µs"
    if row["figure"] == "cpu":
        per_gb = value * 1e9 / (2 * row["size"]) / 1e6
        return f"{value:.2f} µs" + (f" ({per_gb:.2f} s/GB)" if row["size"] >= 8 * KB else "")
    if row["measure"] == "one-way":
        return f"{value * row['size'] / 1e9:.2f} GB/s"
    return f"{value / 1e6:.2f} M/s" if value >= 1e6 else f"{value / 1e3:.1f} k/s"


def bar_text(value):
    return "" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def cells_of(row):
    """The texts of one line; `row` as in the JSON."""
    ratio = row.get("skipped") or "–"
    if row["ratio_median"] is not None:
        ratio = f"{row['ratio_median']:.2f} ({row['ratio_min']:.2f}–{row['ratio_max']:.2f})"
    return [name_text(row), row["device"], figure_text(row, "ours"), row["peer"],
            figure_text(row, "theirs"), ratio, bar_text(row["bar"]), bar_text(row["moonshot"]),
            row["verdict"]]


HEAD = ["measure", "device", "ours", "peer", "theirs", "ratio (min–max)", "bar", "moonshot", ""]


def text_table(done):
    lines = [HEAD] + [cells_of(r) for r in done]
    widths = [max(len(line[i]) for line in lines if i != 5 or len(line[i]) < 30)
              for i in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip()
                     for line in lines)


def markdown_table(done, about):
    lines = [about, "", "| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += ["| " + " | ".join(cells_of(r)) + " |" for r in done]
    return "\n".join(lines) + "\n"


def replace_between(text, name, table):
    """`table` between the marks <!-- NAME:begin --> and <!-- NAME:end --> of a document."""
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no line {begin.strip()} … {end}")
    return head + begin + table + end + tail


def svg(done, about):
    """Ratios of the judged rows: median with its range, the bar and the moonshot as ticks."""
    judged = [r for r in done if r["bar"] is not None and r["ratio_median"] is not None]
    left, width, step, top = 420, 860, 20, 46
    scale = (width - left - 30) / 3.0       # ratio to bar: 0 … 3
    height = top + step * len(judged) + 30

    def x(value, row):
        return left + scale * min(value / row["bar"], 3.0)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="10" y="18" font-size="14">scripts/bench: ratio to the peer, in bars '
           f'(1 = the bar, ◆ = the moonshot)</text>',
           f'<text x="10" y="34" fill="#666">{html.escape(about)}</text>']
    for tick in (0, 0.5, 1, 1.5, 2, 2.5, 3):
        at = left + scale * tick
        out.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{height - 24}" '
                   f'stroke="{"#c0392b" if tick == 1 else "#ddd"}"/>')
        out.append(f'<text x="{at:.1f}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for i, row in enumerate(judged):
        y = top + step * i + step / 2 + 4
        colour = "#1e8449" if row["verdict"].startswith("pass") else "#c0392b"
        label = f"{name_text(row)}: {row['device']} / {row['peer']}"
        out.append(f'<text x="10" y="{y + 4:.1f}">{html.escape(label)}</text>')
        out.append(f'<line x1="{x(row["ratio_min"], row):.1f}" y1="{y:.1f}" '
                   f'x2="{x(row["ratio_max"], row):.1f}" y2="{y:.1f}" stroke="{colour}" '
                   'stroke-width="3" stroke-opacity="0.4"/>')
        out.append(f'<circle cx="{x(row["ratio_median"], row):.1f}" cy="{y:.1f}" r="4" '
                   f'fill="{colour}"/>')
        if row["moonshot"] is not None:
            out.append(f'<text x="{x(row["moonshot"], row):.1f}" y="{y + 4:.1f}" fill="#2471a3" '
                       'text-anchor="middle">◆</text>')
    return "\n".join(out + ["</svg>"]) + "\n"
