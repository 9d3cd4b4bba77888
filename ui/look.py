"""The page's looks as far as Gradio must be told: fonts of the system, colours by name.

The colours themselves stand in `assets/style.css`, once for light and once for dark.
"""

from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parent.parent / "assets"
STYLE = ASSETS / "style.css"
SCRIPT = ASSETS / "page.js"
LOGO = ASSETS / "logo.svg"

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

COLOURS = {
    "body_background_fill": "var(--paper)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--quiet)",
    "background_fill_primary": "var(--paper)",
    "background_fill_secondary": "var(--shade)",
    "block_background_fill": "transparent",
    "block_border_color": "transparent",
    "block_info_text_color": "var(--quiet)",
    "block_label_text_color": "var(--ink)",
    "block_title_text_color": "var(--ink)",
    "block_label_background_fill": "transparent",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "color_accent_soft": "var(--shade)",
    "link_text_color": "var(--accent)",
    "link_text_color_hover": "var(--accent)",
    "link_text_color_visited": "var(--accent)",
    "link_text_color_active": "var(--accent)",
    "code_background_fill": "var(--shade)",
    "input_background_fill": "var(--field)",
    "input_border_color": "var(--edge)",
    "input_border_color_focus": "var(--accent)",
    "input_placeholder_color": "var(--quiet)",
    "slider_color": "var(--accent)",
    "checkbox_background_color_selected": "var(--accent)",
    "checkbox_border_color_selected": "var(--accent)",
    "checkbox_label_background_fill": "transparent",
    "checkbox_label_background_fill_hover": "transparent",
    "checkbox_label_background_fill_selected": "transparent",
    "checkbox_label_text_color_selected": "var(--ink)",
    "checkbox_label_border_color": "transparent",
    "checkbox_label_border_color_selected": "transparent",
    "button_primary_background_fill": "var(--accent)",
    "button_primary_background_fill_hover": "var(--accent)",
    "button_primary_text_color": "var(--on-accent)",
    "button_primary_text_color_hover": "var(--on-accent)",
    "button_primary_border_color": "transparent",
    "button_secondary_background_fill": "transparent",
    "button_secondary_background_fill_hover": "var(--shade)",
    "button_secondary_text_color": "var(--ink)",
    "button_secondary_text_color_hover": "var(--ink)",
    "button_secondary_border_color": "var(--edge)",
}
SHAPES = {
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_label_text_size": "14px",
    "block_title_text_size": "14px",
    "block_title_text_weight": "600",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "button_large_radius": "10px",
    "button_transition": "background-color 120ms",
    "layout_gap": "14px",
    "form_gap_width": "0px",
}


def make_theme() -> gr.themes.Base:
    """Gradio's plainest theme, with our colours in light and dark."""
    theme = gr.themes.Base(font=list(SANS), font_mono=list(MONO), text_size="md")
    known = vars(theme)
    dark = {f"{name}_dark": value for name, value in COLOURS.items() if f"{name}_dark" in known}
    return theme.set(**COLOURS, **dark, **SHAPES)


def read_head() -> str:
    """The page's own script, as it goes into the document's head."""
    return f"<script>{SCRIPT.read_text(encoding='utf-8')}</script>"
