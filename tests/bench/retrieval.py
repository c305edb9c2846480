#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What answers from documents cost: TLS and keys as `hobctl setup` makes them, one store with --chunks chunks.

    $(packaging/setup/venv) tests/bench/retrieval.py --model FILE --embedding FILE [--build build] [--chunks 10000] [--folder DIR]

quiet   pairs of equal questions, one as it is and one with hob_retrieval, of which the whole search is made and nothing found
        relevant enough (score_threshold 1): the time to the first token that it adds. Prompts are in the prefix cache
ingest  the same while files are ingested without a pause
itl     the gaps between the tokens of --streams running answers, quiet and during ingest

One JSON line a part. "added_ms" is of pairs; "embedding_ms" is what the question's embedding takes when it is asked for; "stage_ms" are the server's means of the parts of it: the question's
embedding, the searches by words and by vectors, fusion. "by_words" and "late" count answers whose embedding, or search, was not there
in time. With --folder the store is kept there and filled only once. Run it with the Python that packaging/setup/venv prints.
"""
import argparse, asyncio, contextlib, json, random, re, ssl, subprocess, sys, tempfile, threading, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "api"))
from conftest import Server, free_port, openai_client, started  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
# Words as often as English has them: most chunks have the small ones, few chunks the others.
WORDS = re.findall(r"[A-Za-z]+", "".join((ROOT / name).read_text() for name in ("README.md", "LICENSE", "tests/data/forward_text.txt")))
CHUNKS_A_FILE, CHUNK_TOKENS, QUESTIONS, INGEST_FILES = 500, 64, 40, 300
STAGES = ("embed", "words", "vectors", "fuse")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build", help="the folder of hobd and hobctl")
    p.add_argument("--model", required=True, help="GGUF file that generates text")
    p.add_argument("--embedding", required=True, help="GGUF file that embeds")
    p.add_argument("--chunks", type=int, default=10000)
    p.add_argument("--parts", default="quiet,ingest,itl")
    p.add_argument("--pairs", type=int, default=400, help="of quiet, and of ingest")
    p.add_argument("--streams", type=int, default=4)
    p.add_argument("--seconds", type=float, default=15, help="of each half of itl")
    p.add_argument("--folder", help="where the store is kept")
    return p.parse_args()


def say(**fields):
    print(json.dumps(fields), flush=True)


def pct(xs, q):
    xs = sorted(xs)
    return round(xs[min(len(xs) - 1, int(q * len(xs)))], 2) if xs else None


def prose(rng, words):
    return " ".join(rng.choice(WORDS) + ("." if i % 11 == 10 else "") for i in range(words))


def text_of(seed, chunks):
    """About so many chunks: a paragraph each."""
    rng = random.Random(seed)
    return "\n\n".join(prose(rng, 44) + "." for _ in range(chunks))


class Box(Server):
    def __init__(self, a, folder):
        port, conf = free_port(), folder / "hob.conf"
        if not conf.exists():
            subprocess.run([f"{a.build}/hobctl", "setup", "--dir", folder, "--model", a.model, "--embedding", a.embedding],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        conf.write_text(re.sub(r"(?m)^port = .*;", f"port = {port};", conf.read_text()))
        super().__init__([f"{a.build}/hobd", "--config", conf], port, folder / "log", (folder / "api_key").read_text().strip(),
                         folder / "ca.pem")


def put(client, store, name, text):
    options = {"type": "static", "static": {"max_chunk_size_tokens": CHUNK_TOKENS, "chunk_overlap_tokens": 0}}
    return client.vector_stores.files.upload_and_poll(vector_store_id=store, file=(name, text.encode()), chunking_strategy=options,
                                                      poll_interval_ms=100)


def fill(box, chunks):
    with openai_client(box) as client:
        store = next((s for s in client.vector_stores.list() if s.name == "bench"), None) or client.vector_stores.create(name="bench")
        files = store.file_counts.completed
        for i in range(files, (chunks + CHUNKS_A_FILE - 1) // CHUNKS_A_FILE):
            put(client, store.id, f"{i}.txt", text_of(i, CHUNKS_A_FILE))
        return sum(f.hob_chunks for f in client.vector_stores.files.list(store.id))


def embedded(box):
    """Texts that the engine has embedded, without questions."""
    return box.metric("hob_engine_embed_texts_total") - (box.metric("hob_retrievals_total") or 0)


@contextlib.contextmanager
def ingesting(a, box, on):
    """`hobctl ingest` of more files than can be done, into another store, until the end."""
    if not on:
        yield
        return
    with tempfile.TemporaryDirectory() as folder, openai_client(box) as client:
        store = client.vector_stores.create(name=f"load {time.time()}")
        for i in range(INGEST_FILES):
            (Path(folder) / f"{i}.txt").write_text(text_of(f"{time.time()}/{i}", 100))
        process = subprocess.Popen([f"{a.build}/hobctl", "ingest", "--url", f"https://127.0.0.1:{box.port}", "--key", box.key,
                                    "--cacert", box.ca, "--store", store.name, folder], stdout=subprocess.DEVNULL)
        try:
            before = embedded(box)
            while embedded(box) == before:  # it is still sending
                time.sleep(0.5)
            yield
            if process.poll() is not None:
                raise SystemExit("retrieval.py: there were too few files to ingest")
        finally:
            process.terminate()
            process.wait()
            for f in list(client.vector_stores.files.list(store.id)):
                client.files.delete(f.id)
            client.vector_stores.delete(store.id)


class Client:
    """One kept connection; streamed chats on it."""

    def __init__(self, box):
        self.box, self.context = box, ssl.create_default_context(cafile=str(box.ca))

    async def open(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.box.port, ssl=self.context)

    async def post(self, path, **fields):
        """Sends it and reads the head of the answer, whose headers it returns."""
        body = json.dumps({"model": "default", **fields}).encode()
        self.writer.write(b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                          b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
                          % (path.encode(), self.box.key.encode(), len(body)) + body)
        status, headers = int((await self.reader.readline()).split()[1]), {}
        while line := (await self.reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if status != 200:
            raise SystemExit(f"retrieval.py: status {status}\n{self.box.log_tail(5)}")
        return headers

    async def chat(self, text, tokens, times=None, until=None, **fields):
        """(ms to the first token, the last event's hob_retrieval); appends the time of each token to times."""
        begin = time.perf_counter()
        await self.post("/v1/chat/completions", stream=True, max_tokens=tokens, temperature=0, ignore_eos=True,
                        messages=[{"role": "user", "content": text}], **fields)
        first, said = None, None
        while size := int(await self.reader.readline(), 16):
            data = await self.reader.readexactly(size)
            await self.reader.readexactly(2)
            if b'"content":"' in data and b'"content":""' not in data:
                now = time.perf_counter()
                first = first or (now - begin) * 1e3
                if times is not None:
                    times.append(now)
                if until and now > until:
                    self.writer.close()
                    return first, said
            if b'"hob_retrieval"' in data:
                said = json.loads(data[data.index(b"{"):])["hob_retrieval"]
        await self.reader.readline()
        return first, said


    async def embedding(self, text):
        """Milliseconds of one."""
        begin = time.perf_counter()
        head = await self.post("/v1/embeddings", input=text)
        await self.reader.readexactly(int(head["content-length"]))
        return (time.perf_counter() - begin) * 1e3


def stages(box):
    text = box.get("/metrics")[1]
    read = lambda name: {s: float(re.search(rf'(?m)^{name}{{stage="{s}"}} (\S+)$', text)[1]) for s in STAGES}
    return read("hob_retrieval_stage_seconds_sum"), read("hob_retrieval_stage_seconds_count")


async def pairs(a, box, part, chunks):
    rng = random.Random(1)
    questions = [f"Which {prose(rng, 7)}?" for _ in range(QUESTIONS)]
    client = Client(box)
    await client.open()
    with_search = {"hob_retrieval": {"stores": ["bench"], "score_threshold": 1}}
    for q in questions:
        await client.chat(q, 1)
        await client.chat(q, 1, **with_search)
    before, counts_before = stages(box)
    plain, added, embedding, by_words, late = [], [], [], 0, 0
    with ingesting(a, box, part == "ingest"):
        began, embedded_before = time.perf_counter(), embedded(box)
        for i in range(a.pairs):
            q, got = questions[i % QUESTIONS], {}
            for kind in ("plain", "search") if i % 2 else ("search", "plain"):
                got[kind], said = await client.chat(q, 1, **(with_search if kind == "search" else {}))
                by_words += bool(said and said["by_words"])
                late += bool(said and said["status"] == "timed_out")
            plain.append(got["plain"])
            added.append(got["search"] - got["plain"])
            embedding.append(await client.embedding(q))
        seconds = time.perf_counter() - began
        chunks_done = embedded(box) - embedded_before
        after, counts = stages(box)
    mean = {s: 1e3 * (after[s] - before[s]) / max(1, counts[s] - counts_before[s]) for s in STAGES}
    say(part=part, chunks=chunks, pairs=a.pairs, added_ms={k: pct(added, q) for k, q in (("p50", .5), ("p90", .9), ("p99", .99))},
        plain_ttft_ms={"p50": pct(plain, .5), "p99": pct(plain, .99)},
        embedding_ms={"p50": pct(embedding, .5), "p99": pct(embedding, .99)}, stage_ms={s: round(mean[s], 2) for s in STAGES}, by_words=by_words, late=late,
        ingested_chunks_per_s=round(chunks_done / seconds, 1))


async def gaps(a, box, on):
    with ingesting(a, box, on):
        until, before = time.perf_counter() + a.seconds, embedded(box)
        times = [[] for _ in range(a.streams)]
        clients = [Client(box) for _ in times]
        for c in clients:
            await c.open()
        await asyncio.gather(*[c.chat(f"Tell me about {prose(random.Random(i), 12)}", 7000, t, until)
                               for i, (c, t) in enumerate(zip(clients, times))])
        chunks = embedded(box) - before
    all_gaps = [(y - x) * 1e3 for t in times for x, y in zip(t[8:], t[9:])]
    return {"p50": pct(all_gaps, .5), "p99": pct(all_gaps, .99), "max": pct(all_gaps, 1)}, chunks / a.seconds


def main():
    a = arguments()
    with contextlib.ExitStack() as stack:
        folder = Path(a.folder or stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(exist_ok=True)
        box = stack.enter_context(started(Box(a, folder)))
        chunks = fill(box, a.chunks)
        for part in a.parts.split(","):
            if part == "itl":
                quiet, _ = asyncio.run(gaps(a, box, False))
                busy, rate = asyncio.run(gaps(a, box, True))
                say(part="itl", streams=a.streams, quiet_ms=quiet, ingest_ms=busy, ingested_chunks_per_s=round(rate, 1),
                    p99_ratio=round(busy["p99"] / quiet["p99"], 2))
            elif part:
                asyncio.run(pairs(a, box, part, chunks))


main()
