# SPDX-License-Identifier: Apache-2.0
"""Manual pages and completion say what --help and config/hob.conf say: all of it, and nothing else."""
import re
import subprocess

import pytest
from conftest import HOBCTL, HOBD, ROOT


def ask(*command):
    return subprocess.run([HOBCTL, *command, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    subprocess.run([ROOT / "packaging/man/generate", HOBD, HOBCTL, folder], check=True)
    return folder


@pytest.fixture(scope="module")
def helps():
    """What each command and each command below one says to --help."""
    found = {}
    for name in re.findall(r"^  ([a-z]+)  +\S", ask(), re.M):
        found[name] = ask(name)
        if "\n\nusage: hobctl " + name + " COMMAND" in found[name]:
            for below in re.findall(r"^  ([a-z]+) +\S", found[name], re.M):
                found[f"{name} {below}"] = ask(name, below)
    return found


def options_of(text):
    return re.findall(r"^  (--[\w-]+)", text, re.M)


def plain(page):
    """A page's text without troff's marks."""
    return re.sub(r"\\f[BIR]|\\&", "", page).replace("\\-", "-").replace("\\(ga", "`").replace("\\(ha", "^").replace("\\(ti", "~").replace("\\e", "\\")


def test_hobctl_page(manual, helps):
    sections = dict(re.findall(r"^\.SS hobctl ([^\n]*)\n(.*?)(?=^\.S[SH] )", plain((manual / "hobctl.1").read_text()), re.M | re.S))
    assert len(sections) == len(helps) > 20
    for name, text in helps.items():
        title = re.search(r"^usage: hobctl (.*)$", text, re.M)[1]
        section = sections[title]
        assert text.split("\n\n")[0] in section
        written = re.findall(r"^\.TP\n(--[\w-]+)", section, re.M)
        assert written == [o for o in options_of(text) if o != "--help"], name
        for line in re.findall(r"^  --[\w-]+(?: \S+)?  +(.*)$", text, re.M):
            assert line in section or line == "print this", name


def test_hobd_page(manual):
    said = subprocess.run([HOBD, "--help"], capture_output=True, text=True, check=True).stdout
    page = plain((manual / "hobd.8").read_text())
    assert set(re.findall(r"--[\w-]+", said)) == set(re.findall(r"--[\w-]+", page))


def test_configuration_page(manual):
    conf = (ROOT / "config/hob.conf").read_text()
    page = plain((manual / "hob.conf.5").read_text())
    settings = re.findall(r"^#?\s*(?:, )?(?:\{ )?(\w+) = [^({\s]", conf, re.M)
    assert len(settings) > 60
    for name in settings:
        assert re.search(rf"^\.TP\n(?:, )?(?:\{{ )?{name} = ", page, re.M), name
    # Nothing that is said of them is lost: the words are the same, in the same order.
    words = re.findall(r"\w+", re.sub(r"^\.\w+", "", page[page.index(".SH DESCRIPTION") + 15:page.index(".SH SEE ALSO")], flags=re.M))
    remaining = iter(words)
    assert all(word in remaining for word in re.findall(r"\w+", re.sub(r"^(\w+ = \(|\w+ = \{)$", "", conf, flags=re.M)))


def complete(manual, *words):
    script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hobctl hobctl "${@: -1}" "${@: -2:1}"; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script, manual / "hobctl.bash", "hobctl", *words], capture_output=True, text=True, cwd=ROOT)
    assert not done.stderr
    return done.stdout.split()


def test_completion(manual, helps):
    names = [n for n in helps if " " not in n]
    assert complete(manual, "") == [*names, "--help", "--version"]
    for name, text in helps.items():
        assert complete(manual, *name.split(), "--") == options_of(text), name
    assert complete(manual, "keys", "re") == ["revoke"]
    assert complete(manual, "keys", "add", "--role", "") == ["user", "admin"]
    assert complete(manual, "generate", "--model", "config/h") == ["config/hob.conf"]
    assert complete(manual, "generate", "--prompt", "R") == []
    assert complete(manual, "models", "l") == ["list", "load"]
    assert complete(manual, "frobnicate", "") == []


def test_version_is_the_changelogs():
    version = re.match(r"hob \(([^)]+)\)", (ROOT / "packaging/deb/changelog").read_text())[1]
    assert subprocess.run([HOBCTL, "--version"], capture_output=True, text=True).stdout == f"hobctl {version}\n"
    assert subprocess.run([HOBD, "--version"], capture_output=True, text=True).stdout == f"hobd {version}\n"
