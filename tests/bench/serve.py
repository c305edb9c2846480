#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hob's server against llama.cpp's on the same model files: the scenarios of load.py, in turn in one run.

    serve.py --hobd build/hobd [--peer ~/.cache/hob-peer/bin] [--rounds 3] [--scenarios fan8,stall] --model FILE [--model FILE...]

Every scenario gets a fresh server and both servers get the same prompts. A round runs hob and then the peer, the next one
the peer first. A ratio is hob over peer round by round, of which the median is printed, so that a drift of the machine's
speed cancels. The stall runs a second time against a peer with -b 64 -ub 64, its best for latency ("peer-b64").

One JSON line a run, as load.py prints it, with server, round, resident memory at the end (rss_mb), the machine's load average
before it (load_before: llama.cpp's threads spin, so with others at work its figures are worth nothing), and `problem` where
there is one: a server that ended, a scenario that failed. Then one line of medians a scenario. With --itl-target-ms the
stall is run once more for each of these targets of hob's, and the frontier printed: how long the running streams wait
against how long the long prompt takes (long_ratio: against the same prompt alone).
"""
import argparse, json, os, signal, socket, statistics as st, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
READY_LIMIT_S, SCENARIO_LIMIT_S = 120, 900
SCENARIOS = {"fan8": ["fan", "-n", "8"], "fan16": ["fan", "-n", "16"], "fan32": ["fan", "-n", "32"], "stall": ["stall"],
             "long": ["long"], "prefix": ["prefix", "-n", "6"], "flood64": ["flood", "-n", "64"]}
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is for no proxy


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hobd", default="build/hobd")
    p.add_argument("--peer", default=os.path.expanduser("~/.cache/hob-peer/bin"), help="llama-server or its folder; '': none")
    p.add_argument("--model", action="append", required=True, help="GGUF file; may be given several times")
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--scenarios", default=",".join(SCENARIOS), help="out of " + ", ".join(SCENARIOS) + "; '' for none")
    p.add_argument("--itl-target-ms", default="", help="targets of the frontier, e.g. 20,40,80,160")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", default="cpu", help="hob's; default cpu, as the peer")
    p.add_argument("--hob-flags", default="", help="further flags of hobd, separated by spaces")
    p.add_argument("--salt", default="0", help="another salt, other prompts; the same for both servers")
    for name in ("tokens", "long-words", "stream-tokens"):
        p.add_argument("--" + name, type=int, help="load.py's, for a shorter run")
    a = p.parse_args()
    unknown = [s for s in a.scenarios.split(",") if s and s not in SCENARIOS]
    if unknown:
        p.error(f"unknown scenario {unknown[0]}: allowed {', '.join(SCENARIOS)}")
    return a


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def hob_command(a, model, port, *extra):
    return [a.hobd, "--dev", "--model", model, "--port", str(port), "--threads", str(a.threads), "--device", a.device,
            "--max-sequences", "32", "--context", "4096", "--kv-tokens", "16384", *a.hob_flags.split(), *extra]


def peer_command(a, model, port, *extra):
    program = os.path.join(a.peer, "llama-server") if os.path.isdir(a.peer) else a.peer
    return [program, "-m", model, "-np", "8", "-c", "16384", "-t", str(a.threads), "--host", "127.0.0.1", "--port", str(port),
            *extra]


def family(pid):
    """A process and those below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += family(int(child))
    return found


def resident_mb(pid):
    try:
        pages = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in family(pid))
        return round(pages * os.sysconf("SC_PAGESIZE") / 1e6)
    except OSError:
        return None


def wait_ready(server, url):
    end = time.monotonic() + READY_LIMIT_S
    while time.monotonic() < end:
        if server.poll() is not None:
            return f"ended with {server.returncode} before it was ready"
        try:
            with direct.open(url, timeout=5) as answer:
                if answer.status == 200:
                    return None
        except OSError:
            time.sleep(0.1)
    return f"not ready after {READY_LIMIT_S} s"


def run(a, kind, command, port, scenario):
    """One scenario on a fresh server: what load.py printed, and what went wrong."""
    result, problem, load_before = {}, None, os.getloadavg()[0]
    load = [sys.executable, HERE / "load.py", "--url", f"http://127.0.0.1:{port}", "--salt", a.salt, *SCENARIOS[scenario]]
    for name in ("tokens", "long_words", "stream_tokens"):
        if getattr(a, name) is not None:
            load += ["--" + name.replace("_", "-"), str(getattr(a, name))]
    with tempfile.TemporaryFile() as log:
        try:
            server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        except OSError as e:
            return {"problem": str(e)}
        try:
            problem = wait_ready(server, f"http://127.0.0.1:{port}" + ("/readyz" if kind == "hob" else "/health"))
            if not problem:
                done = subprocess.run(load, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=SCENARIO_LIMIT_S)
                lines = [l for l in done.stdout.splitlines() if l.startswith("{")]
                result = json.loads(lines[-1]) if lines else {}
                if done.returncode:
                    problem = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"load.py: {done.returncode}"
                if server.poll() is not None:
                    problem = f"the server ended with {server.returncode}"
                result["rss_mb"] = resident_mb(server.pid)
        except subprocess.TimeoutExpired:
            problem = f"ran past {SCENARIO_LIMIT_S} s"
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        if problem:
            log.seek(0)
            result |= {"problem": problem, "log": log.read().decode(errors="replace")[-500:]}
    return result | {"load_before": round(load_before, 2)}


def flat(value, name=""):
    """The numbers of a nested object by dotted name."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{name}.{key}" if name else key).items()}
    return {name: value} if isinstance(value, (int, float)) else {}


def medians(runs):
    keys = [k for k in runs[0] if all(k in r for r in runs)] if runs else []
    return {k: float(f"{st.median(r[k] for r in runs):.4g}") for k in keys}


def measure(a, model, scenario, round_number, kinds):
    """Runs the kinds in turn, prints each, returns the numbers of those that had no problem."""
    numbers = {}
    for kind, make, extra in kinds if round_number % 2 == 0 else kinds[::-1]:
        port = free_port()
        result = run(a, kind.split("-")[0], make(a, model, port, *extra), port, scenario)
        line = dict(model=os.path.basename(model), server=kind, round=round_number) | result | {"scenario": scenario}
        print(json.dumps(line), flush=True)
        if "problem" not in result and not result.get("errors") and set(result["status"]) == {"200"}:
            numbers[kind] = {k: v for k, v in flat(result).items() if not k.startswith(("status", "errors", "long_status", "load"))}
    return numbers


def compare(a, model, scenario):
    kinds = [("hob", hob_command, [])]
    if a.peer:
        kinds.append(("peer", peer_command, []))
        if scenario == "stall":
            kinds.append(("peer-b64", peer_command, ["-b", "64", "-ub", "64"]))
    rounds = [measure(a, model, scenario, i, kinds) for i in range(a.rounds)]
    line = {"model": os.path.basename(model), "medians": scenario, "rounds": a.rounds}
    for kind, *_ in kinds:
        line[kind] = medians([r[kind] for r in rounds if kind in r])
        both = [(r["hob"], r[kind]) for r in rounds if kind != "hob" and "hob" in r and kind in r]
        if both:
            line[f"hob/{kind}"] = medians([{k: h[k] / p[k] for k in h if p.get(k)} for h, p in both])
    print(json.dumps(line), flush=True)


def frontier(a, model):
    if "--itl-target-ms" not in subprocess.run([a.hobd, "--help"], stdout=subprocess.PIPE, text=True).stdout:
        print(json.dumps({"frontier": None, "problem": f"{a.hobd} has no --itl-target-ms"}), flush=True)
        return
    targets = [t for t in a.itl_target_ms.split(",") if t]
    runs = {t: [] for t in targets}
    for i in range(a.rounds):
        alone = measure(a, model, "long", i, [("hob", hob_command, [])]).get("hob")
        for t in targets if i % 2 == 0 else targets[::-1]:
            one = measure(a, model, "stall", i, [(f"hob-{t}ms", hob_command, ["--itl-target-ms", t])]).get(f"hob-{t}ms")
            if one and alone:
                runs[t].append({k: one[k] for k in ("p99_gap_ms", "worst_gap_ms", "quiet_p99_gap_ms", "long_ttft_ms") if k in one}
                               | {"long_ratio": one["long_ttft_ms"] / alone["ttft_ms.p50"]})
    for t in targets:
        print(json.dumps({"model": os.path.basename(model), "frontier": int(t), "rounds": len(runs[t])} | medians(runs[t])), flush=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its server ends with it
    a = arguments()
    for file in a.model:
        for chosen in a.scenarios.split(","):
            if chosen:
                compare(a, file, chosen)
        if a.itl_target_ms:
            frontier(a, file)


if __name__ == "__main__":
    main()
