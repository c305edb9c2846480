# SPDX-License-Identifier: Apache-2.0
"""TLS as clients see it: versions, verification by our CA and by name, and nothing in plain text."""
import shutil
import socket
import ssl
import stat
import subprocess

import pytest


def curl(*args):
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    return subprocess.run(["curl", "-sS", "--noproxy", "*", "--max-time", "20", "-w", "%{http_code}", *map(str, args)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("version", [["--tlsv1.3"], ["--tlsv1.2", "--tls-max", "1.2"]])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_versions_verified_by_our_ca(tls, version, host):
    done = curl(*version, "--cacert", tls.ca, "-H", f"Authorization: Bearer {tls.key}", f"https://{host}:{tls.port}/v1/models")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("200") and '"object"' in done.stdout


def test_versions_by_name(tls):
    for version, name in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
        context = tls.context
        context.minimum_version = context.maximum_version = version
        with socket.create_connection(("127.0.0.1", tls.port), 20) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as s:
                assert s.version() == name


def test_old_versions_are_refused(tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", tls.port), 20) as raw:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(raw).close()


@pytest.mark.parametrize("cipher, good", [("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
                                          ("ECDHE-ECDSA-AES128-SHA256", False), ("ECDHE-ECDSA-AES256-SHA", False),
                                          ("ECDHE-ECDSA-AES128-CCM", False), ("AES128-GCM-SHA256", False)])
def test_suites_without_forward_secrecy_or_authentication_are_refused(tls, cipher, good):
    context = tls.context
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    with socket.create_connection(("127.0.0.1", tls.port), 20) as raw:
        if good:
            with context.wrap_socket(raw, server_hostname="localhost") as s:
                assert s.cipher()[0] == cipher
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(raw, server_hostname="localhost").close()


def test_another_ca_is_refused(tls, hobctl, model, tmp_path):
    other = tmp_path / "other"
    hobctl("setup", "--dir", other, "--model", model, "--port", 9)
    done = curl("--cacert", other / "ca.pem", f"https://localhost:{tls.port}/livez")
    assert done.returncode == 60, (done.returncode, done.stderr)
    done = hobctl("models", "--url", tls.url, "--key", tls.key, "--cacert", other / "ca.pem", check=False)
    assert done.returncode == 1 and b"certificate" in done.stderr


def test_another_name_is_refused(tls):
    done = curl("--cacert", tls.ca, "--resolve", f"other.example:{tls.port}:127.0.0.1", f"https://other.example:{tls.port}/livez")
    assert done.returncode == 60, (done.returncode, done.stderr)


def test_plain_http_gets_nothing(tls):
    with socket.create_connection(("127.0.0.1", tls.port), 20) as raw:
        raw.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        try:
            while piece := raw.recv(4096):
                answer += piece
        except ConnectionResetError:
            pass
    assert b" 200 " not in answer


def test_half_a_handshake_holds_up_nobody(tls):
    with socket.create_connection(("127.0.0.1", tls.port), 20) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert tls.get("/livez")[0] == 200


def test_secrets_are_private(var):
    folder, _ = var
    for name in ("ca.key", "key.pem", "api_key"):
        mode = stat.S_IMODE((folder / name).stat().st_mode)
        assert mode & 0o077 == 0, f"{name}: {mode:o}"


def test_setup_keeps_what_is_there(var, hobctl, model):
    folder, port = var
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    hobctl("setup", "--dir", folder, "--model", model, "--port", port)
    after = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    for name in ("ca.pem", "ca.key", "cert.pem", "key.pem", "api_key"):
        assert after[name] == before[name], name
