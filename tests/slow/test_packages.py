# SPDX-License-Identifier: Apache-2.0
"""The packages: lintian and rpmlint find nothing, the SBOM says what is in them, two builds are the same bytes, and an installation
lives from install to purge (package_life.sh). The aarch64 program computes what this machine's does."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "api"))
from conftest import START_LIMIT_S, free_port  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("HOB_BUILD", ROOT / "build"))
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hob"
OTHER_USER = 47110  # that nobody has

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(bool(os.environ.get("HOB_SANITIZED")), reason="nobody packages a sanitizer's build")]


def run(*command, cwd=ROOT, check=True, env=None):
    done = subprocess.run([str(c) for c in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          text=True, env={**os.environ, **(env or {})})
    assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-6000:]}"
    return done


def make(tree, build, *targets, prefix=(), env=None):
    """In the background of nothing: the variables of the make that runs the tests do not apply."""
    clean = {"MAKEFLAGS": "", "MFLAGS": "", "MAKELEVEL": "", **(env or {})}
    return run(*prefix, "make", f"-j{os.cpu_count()}", f"BUILD={build}", *targets, cwd=tree, env=clean)


def copy_tree(to):
    here = {"build", "var", ".git", "compile_commands.json"}
    shutil.copytree(ROOT, to, ignore=lambda folder, names: here & set(names) if folder == str(ROOT) else {"__pycache__"} & set(names))


def sums(build):
    files = [*(build / "deb").glob("*.deb"), *(build / "rpm").glob("*.rpm")]
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def packages():
    make(ROOT, BUILD, "deb", "rpm")
    assert len(sums(BUILD)) == 7
    return BUILD


@pytest.fixture(scope="module")
def newer(packages, tmp_path_factory):
    """The build folder of a version that is to come, with another configuration."""
    tree = tmp_path_factory.mktemp("newer") / "tree"
    copy_tree(tree)
    # The objects of what knows neither version nor configuration can stay.
    for folder in ("hal", "models"):
        shutil.copytree(packages / folder, tree / "build" / folder)
    shutil.copy2(packages / "flags", tree / "build")
    shutil.copy2(packages / "config.mk", tree / "build")
    changelog = tree / "packaging/deb/changelog"
    entry = changelog.read_text()
    version = re.match(r"hob \(([^)]+)\)", entry)[1]
    changelog.write_text(entry.replace(version, version + "1", 1) + "\n" + entry)
    header = tree / "daemon/conf/version.h"
    header.write_text(header.read_text().replace(f'"{version}"', f'"{version}1"'))
    conf = tree / "config/hob.conf"
    conf.write_text(conf.read_text() + "\n# Another word in the next version.\n")
    make(tree, tree / "build", "deb", "rpm")
    return tree / "build"


def test_lintian(packages):
    said = run("lintian", "--no-cfg", "--show-overrides", *(packages / "deb").glob("*.changes"), check=False)
    assert not re.findall(r"^[EW]: .*$", said.stdout, re.M), said.stdout
    # What is accepted on purpose is this and no more.
    accepted = re.findall(r"^O: (.*)$", said.stdout, re.M)
    assert accepted and all(line.startswith("hob: embedded-library mbedtls ") for line in accepted), said.stdout


def test_rpmlint(packages):
    said = run("rpmlint", "-c", "packaging/rpm/rpmlint.toml", "packaging/rpm/hob.spec", *(packages / "rpm").glob("*.rpm"), check=False).stdout
    assert re.search(r"^ 3 packages and 1 specfiles checked; 0 errors", said, re.M), said


def hashes(component):
    return {h["content"] for h in component.get("hashes", ()) if h["alg"] == "SHA-256"}


def digest(data):
    return {hashlib.sha256(data).hexdigest()}


def member(package, path):
    whole = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE, check=True).stdout
    return subprocess.run(["tar", "-xO", path], input=whole, stdout=subprocess.PIPE, check=True).stdout


def test_sbom(packages, tmp_path):
    deb, = (packages / "deb").glob("hob_*.deb")
    text = member(deb, "./usr/share/doc/hob/sbom.cdx.json")
    (tmp_path / "sbom.json").write_bytes(text)
    python = run(ROOT / "packaging/setup/venv", "packages").stdout.split()[-1]
    validate = "import sys; from cyclonedx.schema import SchemaVersion; from cyclonedx.validation.json import JsonStrictValidator; " \
               "sys.exit(str(JsonStrictValidator(SchemaVersion.V1_5).validate_str(open(sys.argv[1]).read()) or '') or 0)"
    run(python, "-c", validate, tmp_path / "sbom.json")
    broken = text.replace(b'"library"', b'"librarian"', 1)
    (tmp_path / "broken.json").write_bytes(broken)
    assert run(python, "-c", validate, tmp_path / "broken.json", check=False).returncode != 0

    bom = json.loads(text)
    parts = {c["name"]: c for c in bom["components"]}
    assert bom["metadata"]["component"]["version"] == run("dpkg-deb", "-f", deb, "Version").stdout.strip()
    # The private libraries: what was fetched, and the patches of this tree, none missing.
    for name in ("mbedtls", "libwebsockets"):
        files = {f["name"]: f for f in parts[name]["components"]}
        patches = {p.name for p in (ROOT / "packaging/deps/patches").glob(f"{name}-*.patch")}
        archives = set(files) - patches
        assert patches <= set(files) and len(archives) == 2 and len({a for a in archives if ".orig." in a}) == 1
        for file, component in files.items():
            where = ROOT / "packaging/deps/patches" if file in patches else CACHE / "sources"
            assert hashes(component) == digest((where / file).read_bytes()), file
        assert {p["diff"]["url"] for p in parts[name]["pedigree"]["patches"]} == {f"packaging/deps/patches/{p}" for p in patches}
        assert parts[name]["licenses"]
    # The system's libraries: those that the packaged programs name.
    needed = {}
    for path in ("./usr/sbin/hobd", "./usr/bin/hobctl"):
        program = tmp_path / Path(path).name
        program.write_bytes(member(deb, path))
        program.chmod(0o755)
        names = re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "-d", program).stdout)
        where = dict(re.findall(r"^\s*(\S+) => (\S+)", run("ldd", program).stdout, re.M))
        needed.update({n: where.get(n) for n in names if not n.startswith("ld-linux")})
    system = {n: c for n, c in parts.items() if ".so" in n and not n.startswith("ld-linux")}
    assert set(system) == set(needed)
    for name, component in system.items():
        assert hashes(component) == digest(Path(needed[name]).read_bytes()), name
        package = re.fullmatch(r"pkg:deb/debian/([^@]+)@.*", component["purl"])[1]
        assert component["version"] in run("dpkg-query", "-W", "-f", "${Version}\n", package.replace("%2B", "+")).stdout.split()
    # The models: the files in the packages, from where packaging/setup/model takes them.
    models = {n: c for n, c in parts.items() if c["type"] == "machine-learning-model"}
    assert len(models) == 2
    for package in ("hob-model-smollm2", "hob-model-minilm"):
        deb, = (packages / "deb").glob(f"{package}_*.deb")
        path, = re.findall(r"\./\S+\.gguf", run("dpkg-deb", "-c", deb).stdout)
        component = models[Path(path).name]
        assert hashes(component) == digest(member(deb, path)) and component["licenses"] == [{"license": {"id": "Apache-2.0"}}]
        origin = re.fullmatch(r"pkg:pypi/(.+)@(.+)", component["externalReferences"][0]["url"])
        assert f"{origin[1]}=={origin[2]}" in (ROOT / "packaging/setup/model").read_text()


def test_same_bytes_elsewhere(packages):
    """From nothing but sources and what was fetched: in another folder, at another time, by another user, with other settings and,
    where this is root, without a network."""
    with tempfile.TemporaryDirectory(prefix="hob-elsewhere-") as home:  # which that user reaches, unlike pytest's folders
        tree, cache = Path(home) / "deeper/sources-of-hob", Path(home) / "cache/hob"
        copy_tree(tree)
        shutil.copytree(CACHE / "sources", cache / "sources")
        (cache / "models").mkdir()
        for model in (CACHE / "models").glob("*"):
            if model.name.startswith(("SmolLM2-135M", "all-MiniLM")):
                (shutil.copytree if model.is_dir() else shutil.copy2)(model, cache / "models" / model.name)
        prefix = []
        if os.geteuid() == 0:
            run("chown", "-R", f"{OTHER_USER}:{OTHER_USER}", home)
            prefix = ["unshare", "--net", "setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups"]
        make(tree, "elsewhere", "deb", "rpm", prefix=["sh", "-c", 'umask 0027; exec "$@"', "sh", *prefix],
             env={"HOME": home, "XDG_CACHE_HOME": f"{home}/cache", "TZ": "Pacific/Kiritimati", "LANG": "C", "USER": "another"})
        assert sums(tree / "elsewhere") == sums(packages)


def test_unpacked(packages, tmp_path):
    """What a machine that can make no clean root can show: the packages' files, unpacked into a folder, start and answer."""
    for deb in (packages / "deb").glob("*.deb"):
        run("dpkg-deb", "-x", deb, tmp_path)
    port = free_port()
    conf = tmp_path / "etc/hob/hob.conf"
    text = re.sub(r'"(/var/lib/hob|/run/hob|/usr/share/hob)', rf'"{tmp_path}\1', conf.read_text())
    conf.write_text(text.replace('"0.0.0.0"', '"127.0.0.1"').replace("port = 8443;", f"port = {port};", 1))
    state = tmp_path / "var/lib/hob"
    state.mkdir(parents=True)
    (tmp_path / "run/hob").mkdir(parents=True)
    with open(tmp_path / "log", "w") as log:
        hobd = subprocess.Popen([tmp_path / "usr/sbin/hobd", "--config", conf], stderr=log)
    try:
        ready = {"HOB_SOCKET": str(tmp_path / "run/hob/hob.sock")}
        end = time.monotonic() + START_LIMIT_S
        while run(tmp_path / "usr/bin/hobctl", "status", check=False, env=ready).returncode != 0:
            assert hobd.poll() is None and time.monotonic() < end, (tmp_path / "log").read_text()
            time.sleep(0.2)
        client = {"HOB_URL": f"https://127.0.0.1:{port}", "HOB_CACERT": str(state / "ca.pem"),
                  "HOB_API_KEY": (state / "api_key").read_text().strip()}
        answer = run(tmp_path / "usr/bin/hobctl", "chat", "--max-tokens", "8", "What is a hearth?", env=client).stdout
        assert re.search("[a-z]{3}", answer)
    finally:
        hobd.terminate()
        assert hobd.wait(60) == 0


def test_life_of_an_installation(packages, newer, tmp_path_factory):
    if os.geteuid() != 0 or run("unshare", "--net", "--mount", "true", check=False).returncode != 0:
        pytest.skip("takes root and namespaces")
    folder = tmp_path_factory.mktemp("life")
    done = run("tests/slow/package_life.sh", packages, newer, folder, check=False)
    log = BUILD / "package_life.log"
    log.write_text(done.stdout)
    shutil.rmtree(folder / "root", ignore_errors=True)
    assert done.returncode == 0, f"{log}:\n{done.stdout[-6000:]}"
    assert "== nothing is left" in done.stdout and done.stdout.rstrip().endswith("== only configuration, state and user are left")


def test_arm64():
    make(ROOT, BUILD, "arm64")
    command = ["generate", "--model", os.environ["HOB_TEST_MODEL"], "--prompt", "The hearth is", "--max-tokens", "24", "--device", "cpu", "--json"]
    emulated = ["qemu-aarch64", "-L", run("packaging/setup/sysroot").stdout.split()[-1]]
    devices = json.loads(run(*emulated, BUILD / "arm64/hobctl", "doctor", "--json", check=False).stdout)["devices"]
    assert [d["isa"] for d in devices if d["name"] == "cpu"] == ["neon"]
    here = json.loads(run(BUILD / "hobctl", *command).stdout)
    there = json.loads(run(*emulated, BUILD / "arm64/hobctl", *command).stdout)
    assert there["ids"] == here["ids"] and len(here["ids"]) == 24
