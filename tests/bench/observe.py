#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What watching costs, and whether what is told is true. On the loopback interface, SmolLM2 or another small model.

    $(packaging/setup/venv) tests/bench/observe.py --model FILE [--build build] [--against FOLDER] [--rounds 5]

told   load.py's percentiles of times to the first token and between tokens beside those of /hob/v1/stats and beside the bucket
       of /metrics in which they fall, of a fresh server that has had this load alone
cost   microseconds of processor time a token, of the gateway and of the engine, --build and --against in turn: two builds of
       which one records less; medians. Without --against it is left out. build/unit/test_observe --bench tells what a record takes

One JSON line a comparison. load.py's clock starts before it connects and stops when Python has read the event; hob's at the
request's first byte and when the event is written. What lies between, of 8 clients of one Python process, is no error of hob's.
"""
import argparse, json, re, statistics, subprocess, sys, time, urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from serve import family, free_port  # noqa: E402

HERE = Path(__file__).resolve().parent
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is for no proxy
QUANTILES = {"p50": .5, "p95": .95, "p99": .99}


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build", help="the folder of hobd")
    p.add_argument("--against", help="that of another hobd")
    p.add_argument("--model", required=True, help="GGUF file")
    p.add_argument("--parts", default="told,cost")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--tokens", type=int, default=256, help="of each of 8 streams")
    return p.parse_args()


def say(**fields):
    print(json.dumps(fields), flush=True)


class Box:
    def __init__(self, build, model):
        self.port = free_port()
        self.process = subprocess.Popen([f"{build}/hobd", "--dev", "--model", model, "--port", str(self.port), "--threads", "2",
                                         "--max-sequences", "32", "--context", "4096", "--kv-tokens", "16384"], stderr=subprocess.DEVNULL)

    def get(self, path):
        with direct.open(f"http://127.0.0.1:{self.port}{path}", timeout=10) as r:
            return r.read().decode()

    def __enter__(self):
        while True:
            try:
                self.get("/readyz")
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit("observe.py: hobd ended")
                time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def processor_us(self):
        """The gateway's and the engines', so far, of all their threads that live."""
        def of(pid):
            return sum(int(p.read_text().split()[0]) for p in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e3
        gateway, *engines = family(self.process.pid)
        return of(gateway), sum(map(of, engines))

    def load(self, *words, tokens):
        text = subprocess.run([sys.executable, HERE / "load.py", "--url", f"http://127.0.0.1:{self.port}", "--tokens", str(tokens), *words],
                              check=True, stdout=subprocess.PIPE, text=True).stdout
        r = json.loads(text)
        if r["errors"]:
            raise SystemExit(f"observe.py: load.py had errors: {text}")
        return r


def bucket(metrics, name, q):
    """The bounds in milliseconds of the bucket of a histogram, its series added up, in which a quantile falls."""
    counts = {}
    for labels, value in re.findall(rf"(?m)^{name}_bucket{{(.*)}} (\S+)$", metrics):
        le = float(re.search(r'le="([^"]+)"', labels)[1])
        counts[le] = counts.get(le, 0) + float(value)
    below, total = 0.0, counts[float("inf")]
    for le in sorted(counts):
        if counts[le] >= q * total:
            return [round(below * 1e3, 3), round(le * 1e3, 3)]
        below = le
    raise SystemExit(f"observe.py: {name} has no buckets")


def told(a):
    for words, tokens in ((["single"], 64), (["fan", "-n", "9"], 128), (["flood", "-n", "25"], 64)):  # odd: both mean the same value
        with Box(a.build, a.model) as box:
            seen = box.load(*words, tokens=tokens)
            time.sleep(1.1)  # engines tell their figures once a second
            every = json.loads(box.get("/hob/v1/stats"))["all"]
            metrics = box.get("/metrics")
        for mine, name in (("ttft_ms", "time_to_first_token"), ("itl_ms", "inter_token_latency")):
            hob = {q: round(every[f"{name}_s"][0][q] * 1e3, 2) for q in QUANTILES}
            say(part="told", scenario=seen["scenario"], what=name, load_ms={q: seen[mine][q] for q in QUANTILES}, hob_ms=hob,
                bucket_ms={k: bucket(metrics, f"hob_{name}_seconds", q) for k, q in QUANTILES.items()})


def cost(a):
    builds = {"build": a.build, "against": a.against}
    gateways, engines = {name: [] for name in builds}, {name: [] for name in builds}
    for i in range(a.rounds):
        for name in list(builds)[::1 if i % 2 else -1]:
            with Box(builds[name], a.model) as box:
                box.load("fan", "-n", "8", tokens=16)
                before = box.processor_us()
                tokens = box.load("fan", "-n", "8", "--salt", str(i), tokens=a.tokens)["tokens"]
                gateway, engine = [(y - x) / tokens for x, y in zip(before, box.processor_us())]
            gateways[name].append(gateway)
            engines[name].append(engine)
    middle = lambda of: {name: round(statistics.median(v), 1) for name, v in of.items()}
    say(part="cost", rounds=a.rounds, gateway_us_a_token=middle(gateways), engine_us_a_token=middle(engines))


def main():
    a = arguments()
    if "told" in a.parts:
        told(a)
    if "cost" in a.parts and a.against:
        cost(a)


if __name__ == "__main__":
    main()
