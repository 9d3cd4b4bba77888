"""How the page is served: every door that Gradio leaves ajar is named here and shut."""

from typing import Any

from starlette.middleware import Middleware

from backend.settings import Settings
from ui.guard import Guard
from ui.look import LOGO, STYLE, make_theme, read_head

MOST_FILE = "500mb"


def launch_options(settings: Settings, *around: Middleware) -> dict[str, Any]:
    """Arguments for `launch()` of the page (names of Gradio 6.31); `around` goes around it all."""
    return {
        "server_name": settings.host,
        "server_port": settings.port or None,
        "root_path": settings.root_path.rstrip("/") or None,
        "theme": make_theme(),
        "css_paths": [STYLE],
        "head": read_head(),
        "favicon_path": str(LOGO),
        "footer_links": [],
        "max_file_size": MOST_FILE,
        "max_threads": 40,
        "state_session_capacity": 200,
        "app_kwargs": {"middleware": [*around, Middleware(Guard)]},
        "allowed_paths": [],
        "show_error": False,
        "share": False,
        "inbrowser": False,
        "enable_monitoring": False,
        "run_history": False,
        "mcp_server": False,
        "strict_cors": True,
        "ssr_mode": False,
        "pwa": False,
        "quiet": True,
    }
