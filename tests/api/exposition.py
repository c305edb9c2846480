# SPDX-License-Identifier: Apache-2.0
"""A strict reader of Prometheus' text format 0.0.4, and the names that its expressions ask for."""
import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\}})? (\S+)')
SUFFIXES = ("_bucket", "_sum", "_count")
# Words of the expression language that look like names.
WORDS = {"by", "on", "and", "or", "unless", "without", "ignoring", "group_left", "rate", "increase", "sum", "histogram_quantile", "time",
         "vector"}


class Family:
    def __init__(self, name, kind, help):
        self.name, self.kind, self.help, self.samples = name, kind, help, {}

    def get(self, suffix="", **labels):
        """The sum of its samples with these labels."""
        found = [v for (s, have), v in self.samples.items() if s == suffix and labels.items() <= dict(have).items()]
        return sum(found) if found else None


def parse(text):
    """Families by name. What the format, promtool's rules of naming or histograms' sums do not allow is an AssertionError."""
    families, current, lines = {}, None, text.split("\n")
    assert lines.pop() == "", "the text ends with a newline"
    at = iter(lines)
    for line in at:
        if line.startswith("# HELP "):
            name, help = line[7:].split(" ", 1)
            kind_line = next(at)
            assert kind_line.startswith(f"# TYPE {name} "), kind_line
            kind = kind_line.rsplit(" ", 1)[1]
            assert kind in ("counter", "gauge", "histogram") and help and name not in families, name
            assert (kind == "counter") == name.endswith("_total"), name
            assert not re.search(r"_(us|ms|ns|milliseconds|kb|mb|kib|mib)(_total)?$", name), name
            current = families[name] = Family(name, kind, help)
            continue
        assert not line.startswith("#") and current, line
        m = SAMPLE.fullmatch(line)
        assert m, line
        suffix = m[1][len(current.name):] if m[1].startswith(current.name) else None
        assert suffix in (SUFFIXES if current.kind == "histogram" else ("",)), f"{line} stands under {current.name}"
        labels = re.findall(r'([a-z_]+)="((?:[^"\\\n]|\\.)*)"', m[2] or "")
        assert len(dict(labels)) == len(labels), line
        key = suffix, tuple(sorted(labels))
        assert key not in current.samples, line
        current.samples[key] = float(m[3])
        assert math.isfinite(current.samples[key]), line
    for f in families.values():
        if f.kind == "histogram":
            check_histogram(f)
    return families


def check_histogram(f):
    series = {}
    for (suffix, labels), value in f.samples.items():
        rest = tuple(p for p in labels if p[0] != "le")
        series.setdefault(rest, {"buckets": []})
        if suffix == "_bucket":
            series[rest]["buckets"].append((float(dict(labels)["le"]), value))
        else:
            series[rest][suffix] = value
    for labels, s in series.items():
        bounds, counts = zip(*s["buckets"])
        assert list(bounds) == sorted(set(bounds)) and bounds[-1] == math.inf, (f.name, labels)
        assert list(counts) == sorted(counts) and counts[-1] == s["_count"] and s["_sum"] >= 0, (f.name, labels)


def names_in(expression):
    """Metrics of an expression with the labels that it selects or groups by: {name: {label, ...}}."""
    text = re.sub(r'"[^"]*"', '""', expression)
    text = re.sub(r"\[[^\]]*\]", "", text)
    groups = {label.strip() for g in re.findall(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)", text) for label in g.split(",")}
    text = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", text)
    found = {}
    for name, selector in re.findall(rf"({NAME})\s*(\{{[^}}]*\}})?", text):
        if name not in WORDS and not re.fullmatch(r"e\d*", name):
            found.setdefault(name, set()).update(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector or ""))
    for labels in found.values():
        labels.update(groups)
    return found
