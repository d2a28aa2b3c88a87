"""``--to service``: a folder that serves a run anywhere: the model, exact versions, Dockerfile and compose file."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge import __version__
from tinyforge.errors import InputError
from tinyforge.export.safetensors import open_folder, write_folder
from tinyforge.export.source import Source
from tinyforge.export.target import Target
from tinyforge.export.wheel import write_wheel
from tinyforge.run import read_json, write_json, write_text

if TYPE_CHECKING:
    from tinyforge.export.runners import Runner
    from tinyforge.models.predict import Predictor

WHERE = ("--find-links wheels", "--extra-index-url https://download.pytorch.org/whl/cpu")
RUN_FILES = ("run.json", "base.json", "answering.json", "train.json", "report.json")

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The interpreter that the exact versions were chosen for."""

DOCKERFILE = f"""\
FROM python:{PYTHON}-slim
RUN useradd --create-home --uid 10001 forge
WORKDIR /service
COPY requirements.txt ./
COPY wheels ./wheels
RUN pip install --no-cache-dir -r requirements.txt
COPY --chown=forge run ./run
USER forge
ENV HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \\
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
CMD ["tinyforge", "serve", "run", "--host", "0.0.0.0", "--port", "8000"]
"""

COMPOSE = """\
services:
  model:
    build: .
    ports:
      - "127.0.0.1:8000:8000"
    environment:
      TINYFORGE_API_KEY: ${TINYFORGE_API_KEY:?set it to a long random text}
    read_only: true
    tmpfs: [/tmp, /home/forge]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    restart: unless-stopped
"""

README = """\
# {title}

A model made with TinyForge {version}, ready to serve. Nothing in it calls out to the network once it is built.

    export TINYFORGE_API_KEY=$(openssl rand -hex 24)
    docker compose up --build

Then, on this machine:

    curl http://127.0.0.1:8000/v1/chat/completions \\
      -H "Authorization: Bearer $TINYFORGE_API_KEY" -H "Content-Type: application/json" \\
      -d '{{"model": "run", "messages": [{{"role": "user", "content": "..."}}]}}'

Without Docker, the same steps:

    python{python} -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/tinyforge serve run

`requirements.txt` names the exact versions that this model was measured with, and `wheels/` holds TinyForge itself;
the rest comes from the index that pip is set up with, torch from its own index of builds for CPUs.
`certificate.json` says how it was compared with the run it came from; `run/` is the run itself: its model, its index
and its report.
"""


def check(source: Source, kind: str) -> None:
    if source.run is None:
        raise InputError(f"{source.name}: is no run, and a service serves a run.", "Build or train one first.")


def write(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    """The run without what only training needs, its adapter merged, beside the files that start it."""
    assert source.run is not None
    run = folder / "run"
    (run / "model").mkdir(parents=True)
    notes = write_folder(source, run / "model", kind)
    for name in RUN_FILES:
        if source.run.path(name).is_file():
            shutil.copyfile(source.run.path(name), run / name)
    config = read_json(source.run.path("config.json"))
    write_json(run / "config.json", config | {"train": config["train"] | {"precision": "fp32"}})
    if source.run.path("index").is_dir():
        shutil.copytree(source.run.path("index"), run / "index")
    for name, text in (("Dockerfile", DOCKERFILE), ("compose.yaml", COMPOSE), (".dockerignore", ".venv\n")):
        write_text(folder / name, text)
    write_text(folder / "README.md", README.format(title=source.title, version=__version__, python=PYTHON))
    (folder / "wheels").mkdir()
    write_wheel(folder / "wheels")
    locked = lock()
    write_text(folder / "requirements.txt", "\n".join([*WHERE, *locked]) + "\n")
    return notes | {"packages": len(locked)}


def lock() -> list[str]:
    """``name==version`` of TinyForge and of everything it needs to serve, as installed here, by name."""
    return [f"{name}=={version}" for name, version in sorted(_needed("tinyforgeai", (), set()))]


def _needed(name: str, extras: tuple[str, ...], seen: set[str]) -> Iterator[tuple[str, str]]:
    """The distribution and what it requires on this machine, each once; local version labels (+cpu) are left out."""
    from packaging.requirements import Requirement

    key = re.sub(r"[-_.]+", "-", name).lower()
    try:
        found = distribution(key)
    except PackageNotFoundError:  # required only elsewhere, or by an extra that is not installed
        return
    if key in seen:
        return
    seen.add(key)
    yield key, found.version.partition("+")[0]
    for text in found.requires or ():
        needed = Requirement(text)
        wanted = needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in (*extras, ""))
        if wanted:
            yield from _needed(needed.name, tuple(needed.extras), seen)


def open_service(source: Source, folder: Path, kind: str) -> Runner | Predictor:
    return open_folder(source, folder / "run" / "model", kind)


SERVICE = Target(("bf16", "fp16", "fp32"), check, write, open_service)
"""bf16 as the weights are kept; on a CPU they are computed with in float32."""
