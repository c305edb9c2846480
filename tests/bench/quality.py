#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How good search and answers from documents are.

    $(packaging/setup/venv) tests/bench/quality.py --model FILE --embedding FILE [--build build] [--set FOLDER] [--parts …]

rank     recall@5 and nDCG@10 by words alone (BM25), by vectors alone, and by both, as /v1/vector_stores/{id}/search gives them.
         The server for words alone has no model that embeds
exact    of how many queries the ten nearest passages are exactly those of brute force in float64. The queries are the
         questions and the beginnings of passages; the vectors are what /v1/embeddings returns
answers  how many of the questions are answered rightly (the answer has the words looked for in it), with and without documents

The passages are those of README.md and of the manual pages that tests/data/factual.json asks about, as `man` prints them: some
1,800 of at most 150 words, a file each. With --set they are those of a folder in BEIR's format (corpus.jsonl, queries.jsonl,
qrels/test.tsv), which has no answers. One JSON line a part.
"""
import argparse, contextlib, json, math, os, re, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent / "api"))
from conftest import Server, free_port, openai_client, started  # noqa: E402

WORDS_MOST, WORDS_JOINED = 150, 100  # of a passage; up to which paragraphs are put together
BEGINNING_WORDS, BEGINNINGS = 12, 2000
NEAREST = 10


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build", help="the folder of hobd and hobctl")
    p.add_argument("--model", required=True, help="GGUF file that generates text")
    p.add_argument("--embedding", required=True, help="GGUF file that embeds")
    p.add_argument("--set", help="a folder in BEIR's format")
    p.add_argument("--parts", default="rank,exact,answers")
    return p.parse_args()


# ---- what is asked about ----

def document(page):
    if page.endswith(".md"):
        return (ROOT / page).read_text()
    done = subprocess.run(["man", "--nh", "--nj", "-P", "cat", page], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env={**os.environ, "MANWIDTH": "100"})
    return re.sub(".\b", "", done.stdout)


def words(text):
    return len(text.split())


def passages(text):
    """Paragraphs, small ones put together, large ones taken apart between lines."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.strip("\n").split("\n")
        while words("\n".join(lines)) > WORDS_MOST and len(lines) > 1:
            n = next((i for i in range(len(lines)) if words("\n".join(lines[:i + 1])) > WORDS_JOINED), 1) or 1
            parts.append("\n".join(lines[:n]))
            lines = lines[n:]
        rest = "\n".join(lines)
        if parts and words(parts[-1]) + words(rest) <= WORDS_JOINED:
            parts[-1] += "\n\n" + rest
        elif rest.strip():
            parts.append(rest)
    return parts


def flat(text):
    return re.sub(r"\s+", " ", text).lower()


def documentation():
    """(passages by name, questions by name, grades [question][passage], answers [question])."""
    asked = json.loads((HERE.parent / "data/factual.json").read_text())["questions"]
    corpus, queries, grades, answers = {}, {}, {}, {}
    for page in dict.fromkeys(q["page"] for q in asked):
        corpus |= {f"{page}.{i}": text for i, text in enumerate(passages(document(page)))}
    for i, q in enumerate(asked):
        right = {name: 1 for name, text in corpus.items()
                 if name.rsplit(".", 1)[0] == q["page"] and any(flat(w) in flat(text) for w in q["where"])}
        if not right:
            print(f"left out, as {q['page']} does not say so here: {q['question']}", file=sys.stderr)
            continue
        queries[str(i)], grades[str(i)], answers[str(i)] = q["question"], right, q["answers"]
    return corpus, queries, grades, answers


def beir(folder):
    read = lambda name: [json.loads(line) for line in (Path(folder) / name).read_text().splitlines()]
    corpus = {d["_id"]: "\n\n".join(filter(None, (d.get("title"), d["text"]))) for d in read("corpus.jsonl")}
    texts, grades = {q["_id"]: q["text"] for q in read("queries.jsonl")}, {}
    for line in (Path(folder) / "qrels/test.tsv").read_text().splitlines()[1:]:
        query, name, grade = line.split("\t")
        if int(grade) > 0:
            grades.setdefault(query, {})[name] = int(grade)
    return {n: t for n, t in corpus.items() if t.strip()}, {q: texts[q] for q in grades}, grades, {}


# ---- servers ----

@contextlib.contextmanager
def filled(a, folder, corpus, embedding):
    """A client of a server that has the corpus in a store, and the store's id."""
    port, folder = free_port(), Path(folder)
    subprocess.run([f"{a.build}/hobctl", "setup", "--dir", folder / "var", "--model", a.model, "--port", str(port)]
                   + (["--embedding", embedding] if embedding else []), check=True, stdout=subprocess.DEVNULL)
    box = Server([f"{a.build}/hobd", "--config", folder / "var/hob.conf"], port, folder / "log",
                 (folder / "var/api_key").read_text().strip(), folder / "var/ca.pem")
    texts = folder / "texts"
    texts.mkdir()
    for name, text in corpus.items():
        (texts / f"{name}.txt").write_text(text)
    with started(box), openai_client(box) as client:
        subprocess.run([f"{a.build}/hobctl", "ingest", "--url", f"https://127.0.0.1:{port}", "--key", box.key, "--cacert", box.ca,
                        "--store", "quality", "--json", texts], check=True, stdout=subprocess.DEVNULL)
        store = next(s for s in client.vector_stores.list() if s.name == "quality")
        if store.file_counts.completed != len(corpus):
            raise SystemExit(f"quality.py: of {len(corpus)} passages: {store.file_counts}")
        yield client, store.id


def say(**fields):
    print(json.dumps(fields), flush=True)


# ---- rank ----

def found(client, store, query, ranker):
    page = client.vector_stores.search(store, query=query, max_num_results=50, ranking_options={"ranker": ranker})
    return list(dict.fromkeys(Path(r.filename).name.removesuffix(".txt") for r in page))


def recall(names, right, at=5):
    return sum(n in right for n in names[:at]) / len(right)


def ndcg(names, right, at=10):
    """Järvelin and Kekäläinen 2002, with the grades as gains, as trec_eval has it."""
    gain = lambda grades: sum(g / math.log2(i + 2) for i, g in enumerate(grades[:at]))
    return gain([right.get(n, 0) for n in names]) / gain(sorted(right.values(), reverse=True))


def rank(a, by, client, store, ranker, queries, grades):
    names = {q: found(client, store, text, ranker) for q, text in queries.items()}
    mean = lambda measure: round(sum(measure(names[q], grades[q]) for q in queries) / len(queries), 4)
    say(part="rank", by=by, queries=len(queries), recall_at_5=mean(recall), ndcg_at_10=mean(ndcg))


# ---- exact ----

def embedded(client, texts):
    import numpy
    rows = []
    for i in range(0, len(texts), 64):
        answer = client.embeddings.create(model="default", input=texts[i:i + 64], extra_body={"hob_truncate": True})
        rows += [d.embedding for d in answer.data]
    return numpy.array(rows, numpy.float32)


def exact(a, client, corpus, queries):
    import numpy
    texts = list(corpus.values())
    asked = list(queries.values()) + [" ".join(t.split()[:BEGINNING_WORDS]) for t in texts[:BEGINNINGS]]
    rows, questions = embedded(client, texts), embedded(client, asked)
    with tempfile.TemporaryDirectory() as folder:
        rows.tofile(f"{folder}/rows")
        questions.tofile(f"{folder}/questions")
        program = f"{a.build}/bench/vectors"
        subprocess.run(["make", "-s", f"BUILD={a.build}", program], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        out = subprocess.run([ROOT / program, f"{folder}/rows", str(rows.shape[1]), f"{folder}/questions", str(NEAREST), "1"],
                             check=True, stdout=subprocess.PIPE, text=True).stdout
    ids = numpy.array(json.loads(out)["ids"]).reshape(-1, NEAREST)
    scores = questions.astype(numpy.float64) @ rows.astype(numpy.float64).T
    true = numpy.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    same = [set(i) == set(t) for i, t in zip(ids.tolist(), true.tolist())]
    # Passages that are the same text have the same vector: which of them comes first is nobody's mistake.
    equal = [sorted(s[i]) == sorted(s[t]) for s, i, t in zip(scores, ids, true)]
    say(part="exact", rows=len(rows), queries=len(asked), same_ten_percent=round(100 * sum(same) / len(same), 2),
        same_scores_percent=round(100 * sum(equal) / len(equal), 2))


# ---- answers ----

def is_right(text, answers):
    return any(re.search(rf"(?<!\w){re.escape(w)}(?!\w)", text, re.IGNORECASE) for w in answers)


def answers(client, store, queries, wanted):
    def ask(q, **fields):
        made = client.chat.completions.create(model="default", temperature=0, max_tokens=80,
                                              messages=[{"role": "user", "content": queries[q]}], extra_body=fields)
        return made.choices[0].message, is_right(made.choices[0].message.content, wanted[q])

    with ThreadPoolExecutor(4) as pool:
        without = list(pool.map(ask, wanted))
        with_documents = list(pool.map(lambda q: ask(q, hob_retrieval={"stores": [store]}), wanted))
    say(part="answers", questions=len(wanted), right_without=sum(r for _, r in without), right_with=sum(r for _, r in with_documents),
        grounded=sum(bool(m.annotations) for m, _ in with_documents))


def main():
    a = arguments()
    a.build = Path(a.build).resolve()
    corpus, queries, grades, wanted = beir(a.set) if a.set else documentation()
    say(passages=len(corpus), queries=len(queries))
    parts = a.parts.split(",")
    if "rank" in parts:
        with tempfile.TemporaryDirectory() as folder, filled(a, folder, corpus, None) as (client, store):
            rank(a, "words", client, store, "auto", queries, grades)
    with tempfile.TemporaryDirectory() as folder, filled(a, folder, corpus, a.embedding) as (client, store):
        if "rank" in parts:
            rank(a, "vectors", client, store, "none", queries, grades)
            rank(a, "both", client, store, "auto", queries, grades)
        if "exact" in parts:
            exact(a, client, corpus, queries)
        if "answers" in parts and wanted:
            answers(client, store, queries, wanted)


main()
