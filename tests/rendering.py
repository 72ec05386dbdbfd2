"""Every kernel of a corpus as source, in every language: one side of tests.replay.

    python tests/rendering.py < corpus.json > sources.json

Run with the engine of some revision on the path; needs nothing of the tests, so that the file of one revision can
render with the engine of another.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from engine.errors import EngineError
from engine.opts import schedule_from_json
from engine.pipeline import compile_source
from engine.render.c import CRenderer
from engine.render.language import RendererFactory
from engine.render.llvm import LlvmRenderer
from engine.serialize import kernel_from_json
from engine.target import FEATURES

RENDERERS: dict[str, RendererFactory] = {"c": CRenderer, "llvm": LlvmRenderer}
ISAS = {"c": ("avx512", "sse2"), "llvm": ("avx2",)}


def sources(entries: list[dict[str, Any]]) -> dict[str, str]:
    """ "name [language isa]" → source, or the error in a line."""
    found = {}
    for entry in entries:
        for language in RENDERERS:
            for isa in ISAS[language]:
                found[f"{entry['name']} [{language} {isa}]"] = _source(entry, language, isa)
    return found


def _source(entry: dict[str, Any], language: str, isa: str) -> str:
    features = FEATURES[isa]
    try:
        kernel = kernel_from_json(entry["kernel"])
        schedule = schedule_from_json(entry["schedule"])
        return compile_source(kernel, schedule, RENDERERS[language](features), features).source
    except (EngineError, KeyError) as error:  # an older engine does not know every op and dtype
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    json.dump(sources(json.load(sys.stdin)), sys.stdout)
