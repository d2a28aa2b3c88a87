"""A service: what is in its folder, and that it starts from that folder alone and answers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from export_models import make_run
from little import make_lively_base
from tinyforge.export.artifact import export
from tinyforge.export.service import lock
from tinyforge.export.source import open_source
from tinyforge.export.wheel import write_wheel


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("base"), hidden=64)


def test_a_service_is_a_run_with_what_starts_it(lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively)
    made = export(str(run.folder), "service", "fp32")
    assert made.certificate["passed"], made.certificate["checks"]
    text = (made.folder / "Dockerfile").read_text()
    assert "USER forge" in text and "HEALTHCHECK" in text and "-slim" in text
    assert yaml.safe_load((made.folder / "compose.yaml").read_text())["services"]["model"]["ports"] == [
        "127.0.0.1:8000:8000"
    ]
    assert open_source(str(made.folder / "run")).adapter is None


def test_the_lock_names_exact_versions() -> None:
    import transformers

    rows = lock()
    assert any(row.startswith("tinyforgeai==") for row in rows) and f"transformers=={transformers.__version__}" in rows
    assert all("==" in row and "+" not in row for row in rows) and len(rows) == len(set(rows)) > 30


def test_the_wheel_is_what_is_installed_and_the_same_each_time(tmp_path: Path) -> None:
    import tinyforge

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = (write_wheel(tmp_path / name) for name in ("one", "two"))
    assert one.name == f"tinyforgeai-{tinyforge.__version__}-py3-none-any.whl"
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        names = set(archive.namelist())
        assert archive.read("tinyforge/run.py") == (Path(tinyforge.__file__).parent / "run.py").read_bytes()
    assert not [name for name in names if "__pycache__" in name]
    assert any(name.endswith(".dist-info/RECORD") for name in names)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ask(address: str, body: dict[str, Any] | None = None) -> Any:
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


@pytest.mark.slow
def test_a_service_starts_in_a_clean_environment_and_answers(lively: Path, tmp_path: Path) -> None:
    """The steps of its README, in a copy of the folder elsewhere; pip takes what this machine's index gives it."""
    run = make_run(tmp_path / "run", lively)
    made = export(str(run.folder), "service", "fp32")
    place = Path(shutil.copytree(made.folder, tmp_path / "elsewhere"))
    shutil.rmtree(run.folder)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    subprocess.run([sys.executable, "-m", "venv", ".venv"], cwd=place, env=clean, check=True)
    # An index that cannot be reached is not asked for each of the packages over again.
    install = [".venv/bin/pip", "install", "--quiet", "--retries", "0", "--timeout", "20", "-r", "requirements.txt"]
    done = subprocess.run(install, cwd=place, env=clean, capture_output=True, text=True)
    if done.returncode and "tinyforgeai" not in done.stderr.splitlines()[-1]:
        pytest.skip(f"no index with these packages: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    port = free_port()
    command = [".venv/bin/tinyforge", "serve", "run", "--port", str(port)]
    with subprocess.Popen(command, cwd=place, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            _until_ready(server, port)
            body = {"model": "run", "messages": [{"role": "user", "content": "What is a loan?"}], "max_tokens": 8}
            reply = ask(f"http://127.0.0.1:{port}/v1/chat/completions", body)
        finally:
            server.terminate()
            server.communicate()
    assert reply["choices"][0]["message"]["content"].strip()
    assert reply["usage"]["completion_tokens"] == 8


def _until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(240):
        if server.poll() is not None:
            raise AssertionError(server.communicate()[0].decode(errors="replace"))
        try:
            ask(f"http://127.0.0.1:{port}/ready")
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("it was never ready")
