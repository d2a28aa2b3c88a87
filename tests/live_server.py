"""A real server in a thread, on a free port, over small models: a base, a build with documents, and a classifier."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from little import make_lively_base
from retrieve_sample import handbook
from tinyforge import adapters
from tinyforge.config import Config, RetrieveConfig, ServeConfig, TrainConfig
from tinyforge.models.resolve import load_model
from tinyforge.retrieve.index import Index
from tinyforge.run import write_json
from tinyforge.serve.catalogue import Catalogue
from tinyforge.serve.server import Server


def make_adapter(base: Path, folder: Path, seed: int, strength: float = 1.0) -> Path:
    """A LoRA adapter that changes every answer."""
    config = TrainConfig(method="lora", lora_rank=4)  # type: ignore[call-arg]
    wrapped = adapters.attach(load_model(base, "fp32"), config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.copy_(strength * torch.randn(parameter.shape, generator=generator))
    adapters.save(wrapped, folder)
    return folder


def _config(base: Path) -> Config:
    return Config(base=str(base), train=TrainConfig(precision="fp32"))  # type: ignore[call-arg]


def make_build(base: Path, folder: Path, variant: str = "tuned+retrieval") -> Path:
    """What `tinyforge build` leaves behind, as far as a server reads it."""
    from tinyforge.models.resolve import resolve

    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"format": 1, "command": "build"})
    write_json(folder / "config.json", _config(base).model_dump())
    write_json(folder / "base.json", {"hash": resolve(str(base)).hash, "quantize": ""})
    write_json(folder / "answering.json", {"variant": variant, "threshold": 0.3, "passages": 3})
    shutil.copytree(base, folder / "model")
    Index.build(folder / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]
    return folder


def make_classifier(base: Path, folder: Path) -> Path:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"format": 1, "command": "train"})
    write_json(folder / "config.json", _config(base).model_dump())
    write_json(folder / "train.json", {"objective": "classify", "labels": ["no", "yes"]})
    shutil.copytree(base, folder / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    config = LlamaConfig.from_pretrained(base)
    config.id2label, config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(folder / "model")
    return folder


class Live:
    """The server's address, and what it is made of."""

    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port = server, port
        self.url = f"http://127.0.0.1:{port}"

    @property
    def catalogue(self) -> Catalogue:
        return self.server.catalogue

    def running(self) -> int:
        return sum(e.stats().running + e.stats().waiting for _, e in self.catalogue.engines)

    def until_idle(self, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while self.running():
            assert time.monotonic() < end, f"{self.running()} answers are still under way"
            time.sleep(0.01)


@contextmanager
def live(places: list[str], key: str = "", **options: Any) -> Iterator[Live]:
    torch.set_num_threads(1)
    serve = ServeConfig(port=0, **options)
    config = Config(serve=serve, train=TrainConfig(precision="fp32", threads=1))  # type: ignore[call-arg]
    catalogue = Catalogue(config)
    for place in places:
        catalogue.open(place)
    server = Server(catalogue, serve, key)
    listening = server.listen()
    thread = threading.Thread(target=server.run_until_stopped, args=(listening,))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Live(server, listening.getsockname()[1])
    finally:
        server.handle_exit(15, None)
        thread.join(60)
        assert not thread.is_alive()


def make_all(folder: Path) -> dict[str, str]:
    """Name and place of one of each."""
    base = make_lively_base(folder / "base")
    return {
        "little": str(base),
        "handbook": str(make_build(base, folder / "handbook")),
        "yesno": str(make_classifier(base, folder / "yesno")),
    }


def named(places: dict[str, str]) -> list[str]:
    return [f"{name}={place}" for name, place in places.items()]
