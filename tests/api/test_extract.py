# SPDX-License-Identifier: Apache-2.0
"""Documents through `hobctl extract`, which starts the same process as the server: whole documents against what they have to
become (tests/data/documents, see make_documents.py), malformed ones, chunks with a real vocabulary."""
import json
import random
import subprocess
import zipfile

import pytest
from conftest import ROOT

DOCUMENTS = ROOT / "tests/data/documents"
HAS_POPPLER = subprocess.run(["sh", "-c", "test -x /usr/bin/pdftotext"]).returncode == 0
needs_poppler = pytest.mark.skipif(not HAS_POPPLER, reason="poppler-utils is not installed")
COUNTERS = ["control", "zero_width", "bidi", "tags", "variation", "marks", "hidden", "replaced"]


def extract(hobctl, path, *args):
    return json.loads(hobctl("extract", path, "--json", *args).stdout)


def refused(hobctl, path, *args):
    """The kind of the error, and its line."""
    done = hobctl("extract", path, "--json", *args, check=False)
    assert done.returncode == 1 and not done.stdout and done.stderr.count(b"\n") == 1, done
    kind, line = done.stderr.decode().removeprefix("hobctl extract: ").rstrip().split(": ", 1)
    return kind, line


@pytest.mark.parametrize("name, media_type, encoding, title, stripped", [
    ("notes.txt", "text/plain", "utf-8", "", {}),
    ("notes_bom.txt", "text/plain", "utf-8", "", {}),
    ("notes_utf16le.txt", "text/plain", "utf-16le", "", {}),
    ("notes_utf16be.txt", "text/plain", "utf-16be", "", {}),
    ("notes_windows1252.txt", "text/plain", "windows-1252", "", {}),
    # what is written there as text passes as text; what no reader would have seen is gone
    ("injection.txt", "text/plain", "utf-8", "",
     {"control": 2, "zero_width": 3, "bidi": 4, "tags": 15, "variation": 20}),
    ("handbook.md", "text/markdown", "utf-8", "Hearth handbook", {"hidden": 1}),
    ("page.html", "text/html", "utf-8", "Hearth & home", {"hidden": 2}),
    ("report.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "", "Hearth report",
     {"hidden": 1}),
    pytest.param("letter.pdf", "application/pdf", "", "", {}, marks=needs_poppler),
])
def test_documents(hobctl, name, media_type, encoding, title, stripped):
    got = extract(hobctl, DOCUMENTS / name)
    expected = DOCUMENTS / (("notes" if name.startswith("notes") else name) + ".expected")
    assert got["text"] == expected.read_text("utf-8")
    assert (got["media_type"], got["encoding"], got["title"]) == (media_type, encoding, title)
    assert got["stripped"] == dict.fromkeys(COUNTERS, 0) | stripped
    assert got["chunks"] == []


@needs_poppler
def test_pdf_that_cannot_be_read(hobctl, tmp_path):
    assert refused(hobctl, DOCUMENTS / "encrypted.pdf")[0] == "encrypted"
    kind, line = refused(hobctl, DOCUMENTS / "picture.pdf")
    assert kind == "empty" and "pictures" in line
    data = (DOCUMENTS / "letter.pdf").read_bytes()
    path = tmp_path / "a.pdf"
    path.write_bytes(data[:40])
    assert refused(hobctl, path) == ("malformed", "pdftotext cannot open the PDF file: it is damaged")
    path.write_bytes(b"%PDF-1.7\n" + random.Random(1).randbytes(20000))
    assert refused(hobctl, path)[0] == "malformed"


@needs_poppler
def test_damaged_pdf(hobctl, tmp_path):
    """Any damage gives a text or one of the errors that blame the file."""
    data = bytearray((DOCUMENTS / "letter.pdf").read_bytes())
    rng, path = random.Random(2), tmp_path / "a.pdf"
    for _ in range(8):
        damaged = bytearray(data)
        for _ in range(20):
            damaged[rng.randrange(9, len(data))] = rng.randrange(256)
        path.write_bytes(damaged)
        done = hobctl("extract", path, check=False)
        assert done.returncode == 0 or done.stderr.split(b": ")[1] in (b"malformed", b"empty", b"encrypted"), done


def test_files_that_are_no_documents(hobctl, tmp_path, model):
    path = tmp_path / "file"
    path.write_bytes(random.Random(3).randbytes(50000))
    assert refused(hobctl, path)[0] == "binary"
    path.write_bytes(b"")
    assert refused(hobctl, path)[0] == "empty"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("xl/workbook.xml", "<x/>")
    assert refused(hobctl, path) == (
        "unsupported", "the file is an Excel file; hob reads plain text, Markdown, HTML, PDF and DOCX")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:  # a bomb
        z.writestr("_rels/.rels", '<R><Relationship Type="/officeDocument" Target="word/document.xml"/></R>')
        with z.open("word/document.xml", "w") as part:
            part.write(b"<d>")
            for _ in range(64):
                part.write(b" " * (1 << 20))
    assert refused(hobctl, path)[0] == "too_large"
    assert refused(hobctl, model) == (
        "unsupported", "the file is a model; hob reads plain text, Markdown, HTML, PDF and DOCX")


def test_names_and_types(hobctl, tmp_path):
    path = tmp_path / "page"
    path.write_text("<p>one <b>two</b>")
    assert extract(hobctl, path)["text"] == "<p>one <b>two</b>"
    assert extract(hobctl, path, "--type", "text/html; charset=utf-8")["text"] == "one two"
    path.rename(tmp_path / "page.html")
    assert extract(hobctl, tmp_path / "page.html", "--type", "application/octet-stream")["text"] == "one two"


def test_chunks(hobctl, model):
    got = extract(hobctl, ROOT / "README.md", "--model", model, "--chunk-tokens", 120, "--overlap-tokens", 20)
    text, chunks = got["text"].encode(), got["chunks"]
    assert len(chunks) > 20 and chunks[0]["headings"] == "hob" and any(c["headings"] == "hob > How it works" for c in chunks)
    covered = 0
    for chunk in chunks:
        assert 0 < chunk["tokens"] <= 120
        assert not text[covered:chunk["start"]].strip()
        covered = chunk["end"]
    assert covered == len(text)
    piece = text[chunks[5]["start"]:chunks[5]["end"]]
    ids = json.loads(hobctl("tokenize", "--model", model, input=piece).stdout)["ids"]
    assert len(ids) == chunks[5]["tokens"]


def test_printed(hobctl, model):
    shown = hobctl("extract", DOCUMENTS / "handbook.md").stdout.decode()
    assert "type          text/markdown, utf-8\ntitle         Hearth handbook\n" in shown
    assert "stripped      1 hidden\n" in shown and "\n\nLighting\n\n" in shown
    shown = hobctl("extract", DOCUMENTS / "handbook.md", "--model", model).stdout.decode()
    assert "\n---- chunk 0, bytes 0 to " in shown and " tokens, Hearth handbook > Lighting\nLighting\n" in shown


def test_wrong_arguments(hobctl, tmp_path, model):
    assert hobctl("extract", check=False).returncode == 2
    assert hobctl("extract", "a", "b", check=False).returncode == 2
    assert b"No such file" in hobctl("extract", tmp_path / "none", check=False).stderr
    assert refused(hobctl, tmp_path) == ("internal", "the document is not a regular file")
    path = tmp_path / "a.txt"
    path.write_text("words")
    done = hobctl("extract", path, "--overlap-tokens", 101, check=False)
    assert b"overlap tokens: got 101, allowed 0 to 100" in done.stderr
    assert refused(hobctl, path, "--model", path)[0] == "internal"
    assert extract(hobctl, path, "--model", model)["chunks"] == [{"start": 0, "end": 5, "tokens": 1, "headings": ""}]
