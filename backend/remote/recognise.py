"""Which engine is it, what does it serve: read from its list of models. Pure.

`owned_by` tells them apart (transcripts of llama.cpp, transformers, vLLM and SGLang; LMDeploy's
ModelCard in lmdeploy/serve/openai/protocol.py @0051af7). The name of the server in the HTTP
header does not: three of them are "uvicorn".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backend.remote.dialects import Software
from backend.remote.events import Garbled

OWNERS = {
    "lmdeploy": Software.LMDEPLOY,
    "vllm": Software.VLLM,
    "sglang": Software.SGLANG,
    "llamacpp": Software.LLAMA,
}


@dataclass(frozen=True, slots=True)
class Served:
    """What an engine serves. `model` is its name in requests; `context` is in tokens."""

    software: Software
    model: str
    context: int | None = None  # None where the engine does not tell
    sees: bool = True  # whether it takes pictures

    @property
    def name(self) -> str:
        """The model's name as a person knows it: of a path or a repository the last part."""
        return _last(self.model)


def read_models(body: Mapping[str, Any], wanted: str = "") -> Served:
    """What the answer to GET /v1/models tells: of the model called `wanted`, else of the first.

    Raises `Garbled` when it lists none.
    """
    entries = list(_entries(body))
    if not entries:
        raise Garbled("no models")
    chosen = next((entry for entry in entries if _is(entry, wanted)), entries[0])
    return Served(_software(chosen), str(chosen["id"]), _context(chosen), _sees(chosen))


def _entries(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    listed = body.get("data")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and entry["id"]:
            yield entry


def _is(entry: Mapping[str, Any], wanted: str) -> bool:
    return bool(wanted) and _last(str(entry["id"])) == wanted


def _last(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1]


def _software(entry: Mapping[str, Any]) -> Software:
    owner = entry.get("owned_by")
    if owner == "local" and "status" in entry:
        return Software.TRANSFORMERS
    return OWNERS.get(owner, Software.OTHER) if isinstance(owner, str) else Software.OTHER


def _context(entry: Mapping[str, Any]) -> int | None:
    meta = entry.get("meta")
    told = entry.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    return told if isinstance(told, int) and told > 0 else None


def _sees(entry: Mapping[str, Any]) -> bool:
    """llama.cpp tells what goes in; an engine that does not tell is believed to see."""
    architecture = entry.get("architecture")
    kinds = architecture.get("input_modalities") if isinstance(architecture, dict) else None
    return not isinstance(kinds, list) or "image" in kinds
