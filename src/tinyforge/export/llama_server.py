"""llama.cpp in a process of its own: ``python -m tinyforge.export.llama_server '{"model": FILE, ...}'``.

It prints the address of its server, which binds 127.0.0.1 and asks for the key it was given, and ends when its
standard input closes: with the process that started it, however that ends. Nothing of TinyForge is imported here, so
what is measured is llama.cpp alone.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def parameters(options: dict[str, Any]) -> Any:
    """Greedy work on the CPU with an exact (F32) cache, so that only the file makes a difference."""
    import xllamacpp as llama

    found = llama.CommonParams()
    found.model.path = options["model"]
    found.n_ctx, found.n_parallel, found.n_gpu_layers = options["context"], 1, 0
    found.cpuparams.n_threads = found.cpuparams_batch.n_threads = options["threads"]
    found.cpuparams.poll = found.cpuparams_batch.poll = 0
    found.cache_type_k = found.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    found.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    found.warmup = found.fit_params = False
    found.use_jinja, found.check_tensors = True, True
    found.hostnames, found.port, found.api_keys = ["127.0.0.1"], 0, [options["key"]]
    if options.get("lora"):
        adapter = llama.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = options["lora"], 1.0
        found.lora_adapters = [adapter]
    return found


def main() -> None:
    import xllamacpp as llama

    server = llama.Server(parameters(json.loads(sys.argv[1])))
    print(json.dumps({"address": server.listening_address}), flush=True)
    sys.stdin.read()
    del server


if __name__ == "__main__":
    main()
