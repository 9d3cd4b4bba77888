"""The page, and the only place that knows Gradio: it draws the chat and turns clicks into requests.

`build_page` makes it; `ui.serving` says how to serve it safely. It asks an engine and knows
neither which one nor on what machine.
"""

from ui.page import build_page
from ui.serving import launch_options

__all__ = ["build_page", "launch_options"]
