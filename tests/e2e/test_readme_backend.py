"""The README's real backend: nginx serving files and taking uploads, by the lines that it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.nginx import Nginx
from tests.wire.product import ROOT, Product, clean_environment

README = (ROOT / "README.md").read_text()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "nginx/files").mkdir(parents=True)
    return tmp_path / "nginx/files"


@pytest.fixture
def served(files: Path, product: Callable[..., Product]) -> Iterator[Product]:
    (server,) = re.findall(r"^```nginx\n(.*?)^```", README, re.M | re.S)
    nginx, port = Nginx.serving(files.parent, server.replace("/srv/files", str(files)))
    try:
        yield product(upstream_port=port)
    finally:
        nginx.stop()


def shell(script: str, gateway: Product, directory: Path) -> str:
    """Run README lines against ``gateway``, with its store and its port for the usual ones."""
    programs = Path(sys.executable).parent
    environment = clean_environment(
        PATH=f"{programs}:{os.environ['PATH']}", GATEWAY_STORE=f"sqlite:///{gateway.store}"
    )
    run = subprocess.run(
        ["bash", "-euc", script.replace("127.0.0.1:8080", f"127.0.0.1:{gateway.port}")],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_uploads_and_downloads_by_the_readme_are_byte_for_byte(
    served: Product, files: Path, tmp_path: Path
) -> None:
    (block,) = re.findall(r"^```\n(KEY=.*?)^```", README, re.M | re.S)
    report = os.urandom(5 << 20)
    (tmp_path / "report.pdf").write_bytes(report)
    create, sleep, upload, download = block.splitlines()
    key = shell(f"{create}; echo $KEY; {sleep}; {upload} --fail >&2", served, tmp_path).strip()
    assert (files / "report.pdf").read_bytes() == report
    (tmp_path / "report.pdf").unlink()
    shell(f"KEY={key}; {download} --fail", served, tmp_path)
    assert (tmp_path / "report.pdf").read_bytes() == report


CURL = "curl --silent --output answer --write-out '%{http_code}' http://127.0.0.1:8080/file.txt"


@pytest.mark.parametrize(
    ("who", "flags", "status"),
    [
        ("viewer", "", 200),
        ("viewer", "--range 2-5", 206),
        ("viewer", "--head", 200),
        ("viewer", "--request DELETE", 403),
        ("viewer", "--request PUT --data x", 403),
        ("nobody", "", 401),
        ("nobody", "--request DELETE", 401),
        ("revoked", "", 401),
    ],
)
def test_a_file_is_read_by_who_may_and_changed_by_nobody_else(
    who: str, flags: str, status: int, served: Product, files: Path, tmp_path: Path
) -> None:
    (files / "file.txt").write_text("0123456789")
    credential = "" if who == "nobody" else f"--header 'X-API-KEY: {getattr(served.keys, who)}'"
    assert shell(f"{CURL} {credential} {flags}", served, tmp_path) == str(status)
    assert (files / "file.txt").read_text() == "0123456789"
    if status in (401, 403):
        assert (files.parent / "access.log").read_text() == ""


def test_an_upload_of_unknown_length_arrives_whole(served: Product, files: Path, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "stream").write_bytes(content)
    key = f"--header 'X-API-KEY: {served.keys.editor}' --header 'Transfer-Encoding: chunked'"
    line = f"{CURL.replace('file.txt', 'a/b/stream')} {key} --upload-file - < stream"
    assert shell(line, served, tmp_path) == "201"
    assert (files / "a/b/stream").read_bytes() == content


def test_an_editor_deletes(served: Product, files: Path, tmp_path: Path) -> None:
    (files / "file.txt").write_text("0123456789")
    key = f"--header 'Authorization: BEARER {served.keys.editor}'"
    assert shell(f"{CURL} {key} --request DELETE", served, tmp_path) == "204"
    assert not (files / "file.txt").exists()
