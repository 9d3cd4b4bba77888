"""The page's frame: Gradio's Blocks, which believe less of what a browser says about files.

Gradio 6.31 fetches a file whose path is an address, for any input of any event, and what its own
check lets through includes 100.64.0.0/10. Nobody needs that here: files are uploaded.
"""

import logging
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ui import words

logger = logging.getLogger(__name__)
ADDRESSES = ("http://", "https://")  # what Gradio would fetch


class Frame(gr.Blocks):
    """Blocks whose inputs hold no addresses to fetch."""

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *others: Any) -> Any:
        """As Gradio's. Raises `gr.Error` for a file that is an address, and for what the page never
        sends, which Gradio would answer without a word."""
        if any(path.lower().startswith(ADDRESSES) for path in paths_in(inputs)):
            raise gr.Error(words.NO_ADDRESSES, print_exception=False)
        try:
            return await super().preprocess_data(block_fn, inputs, *others)
        except gr.Error:
            raise  # a value that the page shows as refused
        except Exception as error:  # the page's border: whatever a forged call holds
            logger.info("an odd call of %s: %r", block_fn.api_name, error)
            raise gr.Error(words.ODD_CALL, print_exception=False) from None


def paths_in(inputs: list[Any]) -> Iterator[str]:
    """The path of everything that could be a file, however deep it lies."""
    left: list[Any] = [inputs]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield str(value.get("path"))
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
