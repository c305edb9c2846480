#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Which score parts questions about documents from others: what retrieval.min_score_percent's default, and the weight of a
conversation's earlier turns, were chosen by.

    $(packaging/setup/venv) tests/bench/relevance.py --model FILE --embedding FILE [--build build]

Puts README.md and the manual pages that relevance.json names into a store (those that this machine has, as `man` prints them), and
asks its questions: "about", which the documents answer; "off", about something else; "near", about other technical things; and
"turns", a question, one that follows on it, and one to another subject. Prints for each kind the best scores, and for some
thresholds the part that is answered from documents: with vectors, by words alone, and of turns with what came before.
"""
import argparse, json, re, subprocess, sys, tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "api"))
from conftest import Server, free_port, openai_client, started  # noqa: E402

ROOT = HERE.parents[1]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build", help="the folder of hobd and hobctl")
    p.add_argument("--model", required=True, help="GGUF file that generates text; it is not asked anything")
    p.add_argument("--embedding", help="GGUF file that embeds; without it by words alone")
    return p.parse_args()


def manual(page):
    done = subprocess.run(["man", "-P", "cat", *page.split()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return re.sub(".\b", "", done.stdout)


def documents(pages):
    yield "README.md", (ROOT / "README.md").read_text()
    for page in pages:
        if text := manual(page):
            yield page.replace(" ", ".") + ".txt", text


def quantiles(scores):
    s = sorted(scores)
    return [round(s[min(len(s) - 1, int(q * len(s)))], 3) for q in (0, .1, .5, .9, 1)]


def report(kind, best):
    for name, scores in best.items():
        print(json.dumps({"by": kind, "questions": name, "count": len(scores), "min_p10_p50_p90_max": quantiles(scores)}))
    for at in (.2, .25, .3, .35, .4, .45, .5):
        print(json.dumps({"by": kind, "threshold": at} | {n: round(sum(s >= at for s in v) / len(v), 3) for n, v in best.items()}))


def main():
    a = arguments()
    asked = json.loads((HERE.parent / "data/relevance.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        port, folder = free_port(), Path(folder)
        subprocess.run([f"{a.build}/hobctl", "setup", "--dir", folder, "--model", a.model, "--port", str(port)]
                       + (["--embedding", a.embedding] if a.embedding else []), check=True, stdout=subprocess.DEVNULL)
        box = Server([f"{a.build}/hobd", "--config", folder / "hob.conf"], port, folder / "log",
                     (folder / "api_key").read_text().strip(), folder / "ca.pem")
        with started(box), openai_client(box) as client:
            store = client.vector_stores.create(name="relevance").id
            for name, text in documents(asked["pages"]):
                client.vector_stores.files.upload_and_poll(vector_store_id=store, file=(name, text.encode()))
            print(json.dumps({"files": client.vector_stores.retrieve(store).file_counts.completed,
                              "chunks": sum(f.hob_chunks for f in client.vector_stores.files.list(store))}))

            def best(question):
                return max((r.score for r in client.vector_stores.search(store, query=question, max_num_results=50)), default=0.0)

            def best_of_turns(*turns):
                """Of the last turn, with what came before it."""
                answer = client.chat.completions.create(
                    model="default", max_tokens=1, messages=[{"role": "user", "content": t} for t in turns],
                    extra_body={"hob_retrieval": {"stores": [store], "score_threshold": 0, "max_chunks": 5, "max_tokens": 2000}})
                return max((c.hob_score for c in answer.choices[0].message.annotations), default=0.0)

            report("vectors" if a.embedding else "words", {n: [best(q) for q in asked[n]] for n in ("about", "off", "near")})
            report("turns", {"alone": [best_of_turns(t[1]) for t in asked["turns"]],
                             "follows": [best_of_turns(t[0], t[1]) for t in asked["turns"]],
                             "leaves": [best_of_turns(t[0], t[2]) for t in asked["turns"]]})


main()
