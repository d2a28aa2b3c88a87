"""llama.cpp in a process of its own: ``python -m tinyforge.models.llama_server``, its options as a line of JSON first.

It prints the address of its server, which binds 127.0.0.1 and asks for the key it was given, and ends when its
standard input closes: with the process that started it, however that ends. Nothing of TinyForge is imported here, so
what is measured is llama.cpp alone.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any


def parameters(options: dict[str, Any]) -> Any:
    """Work on the CPU. With ``exact`` the cache is in F32 as well, so that only the file makes a difference."""
    import xllamacpp as llama

    found = llama.CommonParams()
    found.model.path = options["model"]
    found.n_ctx, found.n_parallel = options["context"] * options["slots"], options["slots"]
    found.n_gpu_layers = 0
    found.cpuparams.n_threads = found.cpuparams_batch.n_threads = options["threads"]
    if options["exact"]:
        found.cpuparams.poll = found.cpuparams_batch.poll = 0
        found.cache_type_k = found.cache_type_v = llama.ggml_type.GGML_TYPE_F32
        found.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    found.cache_ram_mib = 0  # prompts of the past stay in their slots alone, so that memory does not grow
    found.warmup, found.fit_params, found.n_threads_http = not options["exact"], False, 2 * options["slots"] + 2
    found.use_jinja, found.check_tensors = True, True
    found.hostnames, found.port, found.api_keys = ["127.0.0.1"], 0, [options["key"]]
    found.lora_adapters = [_adapter(llama, file) for file in options["loras"]]
    return found


def _adapter(llama: Any, file: str) -> Any:
    made = llama.CommonAdapterLoraInfo()
    made.path, made.scale = file, 1.0
    return made


def main() -> None:
    for name in (signal.SIGINT, signal.SIGTERM):  # sent to a whole group: who started this lets its answers finish
        signal.signal(name, signal.SIG_IGN)
    options = json.loads(sys.stdin.readline())
    import xllamacpp as llama

    server = llama.Server(parameters(options))
    print(json.dumps({"address": server.listening_address}), flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
