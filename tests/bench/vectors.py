#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Vector search beside other libraries: the same rows, one thread, one query at a time, top 10.

    tests/bench/vectors.py [--rows 10000,100000,1000000] [--only hob,faiss-flat,…] [--seconds 10]

It needs a Python with numpy and, of what is to be compared, faiss-cpu, hnswlib, usearch and sqlite-vec; one that is missing is
left out, with a line that says so. Each runs in a process of its own:

    hob            tests/bench/vectors.c, built by make; also eight queries together ("hob x 8": ms of all eight)
    faiss-flat     IndexFlatIP, f32                   faiss-sq8     IndexScalarQuantizer, 8 bits, inner product
    hnswlib        M 16, ef_construction 200, ef 128  usearch       HNSW of int8, connectivity 16, expansion_search 128
    usearch-exact  the same int8 rows, scanned        sqlite-vec    vec0 of float[dim], cosine, in memory

The rows are clustered: `--clusters` centres of length 1, and around each a noise of the same length in a random subspace of
32 dimensions. Columns: the median and the 99th percentile of a query in ms, over `--queries` or as many as fit in `--seconds`;
bytes by which the process's memory grew, a row; seconds to build; and recall, the share of the true ten that were found, by
float64. The last lines are what reading memory allows: tests/bench/limits.c, and a read of as many bytes as hob scans."""
import argparse, ctypes, importlib, json, multiprocessing, os, statistics as st, subprocess, sys, tempfile, time
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
import numpy as np  # noqa: E402  (reads them)

ROOT = Path(__file__).resolve().parents[2]
K, BLOCK = 10, 20000


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default="10000,100000,1000000")
    p.add_argument("--dim", type=int, default=384)
    p.add_argument("--queries", type=int, default=1000)
    p.add_argument("--clusters", type=int, default=1000)
    p.add_argument("--threads", type=int, default=1, help="that build hob's index")
    p.add_argument("--seconds", type=float, default=10, help="of queries, for each library and size")
    p.add_argument("--only", default="hob,faiss-flat,faiss-sq8,usearch-exact,sqlite-vec,usearch,hnswlib")
    p.add_argument("--build", default="build", help="where make builds")
    p.add_argument("--folder", help="for the rows (1.5 GB a million); default: a temporary one")
    return p.parse_args()


class Data:
    """Rows and queries as files of floats, made block by block; the true top ten."""

    def __init__(self, a, rows, folder):
        self.dim, self.rows, self.queries = a.dim, rows, a.queries
        self.rows_file, self.queries_file = Path(folder) / f"rows-{rows}", Path(folder) / f"queries-{rows}"
        self.random = np.random.default_rng(rows)
        self.centres = self.unit(self.random.standard_normal((a.clusters, a.dim), np.float32))
        self.spaces = self.random.standard_normal((32, 32, a.dim), np.float32)
        with open(self.rows_file, "wb") as f:
            for at in range(0, rows, BLOCK):
                self.clustered(min(BLOCK, rows - at)).tofile(f)
        self.clustered(a.queries).tofile(self.queries_file)
        self.truth = self.brute_force()

    @staticmethod
    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    def clustered(self, n):
        of = self.random.integers(0, len(self.centres), n)
        noise = np.empty((n, self.dim), np.float32)
        for s in range(len(self.spaces)):
            which = of % len(self.spaces) == s
            noise[which] = self.random.standard_normal((which.sum(), 32), np.float32) @ self.spaces[s]
        return self.unit(self.centres[of] + self.unit(noise))

    def blocks(self):
        with open(self.rows_file, "rb") as f:
            while len(rows := np.fromfile(f, np.float32, BLOCK * self.dim)):
                yield rows.reshape(-1, self.dim)

    def load_queries(self):
        return np.fromfile(self.queries_file, np.float32).reshape(-1, self.dim)

    def brute_force(self):
        queries = self.load_queries().astype(np.float64)
        best, ids, at = np.full((len(queries), K), -np.inf), np.zeros((len(queries), K), np.int64), 0
        for rows in self.blocks():
            scores = queries @ rows.astype(np.float64).T
            some = np.argpartition(-scores, K, axis=1)[:, :K] if len(rows) > K else np.tile(np.arange(len(rows)), (len(queries), 1))
            best = np.hstack([best, np.take_along_axis(scores, some, axis=1)])
            ids = np.hstack([ids, some + at])
            order = np.argsort(-best, axis=1, kind="stable")[:, :K]
            best, ids = np.take_along_axis(best, order, axis=1), np.take_along_axis(ids, order, axis=1)
            at += len(rows)
        return ids


def resident_bytes():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))


# Each builds an index of data and returns what searches it: query [dim] -> ids.

def faiss_index(data, make):
    import faiss
    faiss.omp_set_num_threads(1)
    index = make(faiss)
    if not index.is_trained:
        index.train(next(data.blocks()))
    for rows in data.blocks():
        index.add(rows)
    return lambda q: index.search(q[None], K)[1][0]


def faiss_flat(data):
    return faiss_index(data, lambda faiss: faiss.IndexFlatIP(data.dim))


def faiss_sq8(data):
    return faiss_index(data, lambda faiss: faiss.IndexScalarQuantizer(data.dim, faiss.ScalarQuantizer.QT_8bit,
                                                                      faiss.METRIC_INNER_PRODUCT))


def hnswlib(data):
    import hnswlib as lib
    index = lib.Index(space="ip", dim=data.dim)
    index.init_index(max_elements=data.rows, ef_construction=200, M=16)
    index.set_num_threads(1)
    for rows in data.blocks():
        index.add_items(rows)
    index.set_ef(128)
    return lambda q: index.knn_query(q, k=K)[0][0]


def usearch(data):
    from usearch.index import Index
    index, at = Index(ndim=data.dim, metric="cos", dtype="i8", connectivity=16, expansion_add=128, expansion_search=128), 0
    for rows in data.blocks():
        index.add(np.arange(at, at + len(rows)), rows, threads=1)
        at += len(rows)
    return lambda q: index.search(q, K, threads=1).keys


def usearch_exact(data):
    from usearch.index import search
    rows = np.empty((data.rows, data.dim), np.int8)
    at = 0
    for some in data.blocks():  # by each row's own scale, which the cosine does not see
        rows[at:at + len(some)] = np.round(some * (127 / np.abs(some).max(axis=1, keepdims=True)))
        at += len(some)
    return lambda q: search(rows, np.round(q * (127 / np.abs(q).max())).astype(np.int8)[None], K, "cos", exact=True, threads=1).keys.ravel()


def sqlite_vec(data):
    import sqlite3
    import sqlite_vec as lib
    db = sqlite3.connect(":memory:")
    db.enable_load_extension(True)
    lib.load(db)
    db.execute(f"CREATE VIRTUAL TABLE v USING vec0(row float[{data.dim}] distance_metric=cosine)")
    at = 0
    for rows in data.blocks():
        db.executemany("INSERT INTO v (rowid, row) VALUES (?, ?)", ((at + i, r.tobytes()) for i, r in enumerate(rows)))
        at += len(rows)
    db.commit()
    return lambda q: [r[0] for r in db.execute("SELECT rowid FROM v WHERE row MATCH ? AND k = ? ORDER BY distance", (q.tobytes(), K))]


PEERS = {  # module, what builds
    "faiss-flat": ("faiss", faiss_flat), "faiss-sq8": ("faiss", faiss_sq8), "hnswlib": ("hnswlib", hnswlib),
    "usearch": ("usearch.index", usearch), "usearch-exact": ("usearch.index", usearch_exact), "sqlite-vec": ("sqlite_vec", sqlite_vec)}


def run_peer(a, name, data, pipe):
    """In a process of its own: builds, then measures."""
    module, build = PEERS[name]
    try:
        importlib.import_module(module)
    except ImportError as e:
        pipe.send({"missing": str(e)})
        return
    queries = data.load_queries()
    trim = ctypes.CDLL(None).malloc_trim
    for _ in data.blocks():  # what numpy takes for one is no part of the index, nor is the module
        break
    trim(0)
    before, start = resident_bytes(), time.perf_counter()
    search = build(data)
    build_s = time.perf_counter() - start
    trim(0)
    bytes_a_row = (resident_bytes() - before) / data.rows
    search(queries[0])
    ms, ids, end = [], [], time.perf_counter() + a.seconds
    for q in queries:
        start = time.perf_counter()
        found = search(q)
        ms.append((time.perf_counter() - start) * 1e3)
        ids.append([int(i) for i in found])
        if time.perf_counter() > end:
            break
    pipe.send({"build_s": build_s, "ms": ms, "ids": ids, "bytes_a_row": bytes_a_row})


def peer(a, name, data):
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=run_peer, args=(a, name, data, theirs))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def hob(a, data):
    program = f"{a.build}/bench/vectors"
    subprocess.run(["make", "-s", f"BUILD={a.build}", program], cwd=ROOT, check=True)
    out = subprocess.run([ROOT / program, data.rows_file, str(data.dim), data.queries_file, str(K), str(a.threads)], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    result = json.loads(out)
    result["ids"] = np.array(result["ids"]).reshape(-1, K).tolist()
    return result


def recall(data, ids):
    return sum(len(set(found) & set(true)) for found, true in zip(ids, data.truth.tolist())) / (len(ids) * K)


def line(rows, name, ms, rest=""):
    p99 = sorted(ms)[min(len(ms) - 1, len(ms) * 99 // 100)]
    print(f"{rows:>8} {name:14} {len(ms):>6} {st.median(ms):>9.3f} {p99:>9.3f}{rest}", flush=True)


def limits(a):
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/limits"
        try:
            subprocess.run(["gcc", "-O2", "-mavx2", "-mfma", "-pthread", ROOT / "tests/bench/limits.c", "-o", program], check=True)
            out = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError) as e:
            return [f"no limits.c here: {e}"]
    return [text for text in out.splitlines() if text.startswith("read bandwidth")]


def main():
    a = arguments()
    print(f"{'rows':>8} {'':14} {'n':>6} {'p50 ms':>9} {'p99 ms':>9} {'bytes/row':>10} {'build s':>9} {'recall':>7}")
    reads = []
    for rows in map(int, a.rows.split(",")):
        with tempfile.TemporaryDirectory(dir=a.folder) as folder:
            data = Data(a, rows, folder)
            for name in a.only.split(","):
                r = hob(a, data) if name == "hob" else peer(a, name, data)
                if "missing" in r:
                    print(f"{rows:>8} {name:14} left out: {r['missing']}")
                    continue
                line(rows, name, r["ms"], f" {r['bytes_a_row']:>10.1f} {r['build_s']:>9.2f} {recall(data, r['ids']):>7.4f}")
                if name == "hob":
                    line(rows, "hob x 8", r["together_ms"])
                    share = 100 * r["read_ms"] / st.median(r["ms"])
                    reads.append(f"reading {rows} x {a.dim} bytes: {r['read_ms']:.3f} ms, {rows * a.dim / r['read_ms'] * 1e-6:.1f} GB/s; "
                                 f"a search of hob's goes at {share:.0f} % of that")
    for text in reads + limits(a):
        print(text)


if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    main()
