"""What a Hugging Face Space demands of the block at the top of README.md.

Rules: huggingface.co/docs/hub/spaces-config-reference.
"""

from typing import Any

import yaml

COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
HARDWARE = {
    *("cpu-basic", "cpu-upgrade", "t4-small", "t4-medium", "l4x1", "l4x4"),
    *("a10g-small", "a10g-large", "a10g-largex2", "a10g-largex4", "a100-large", "zero-a10g"),
}
STRINGS = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version"),
    *("app_file", "suggested_hardware", "short_description", "license"),
}
LISTS = {"models", "tags"}
MOST_OF_A_DESCRIPTION = 60  # characters


def read_front(readme: str) -> dict[str, Any]:
    """The block between the first two lines of dashes, which must be the first thing."""
    start, block, _ = readme.split("---\n", 2)
    if start:
        raise ValueError("the front matter is not at the top")
    front = yaml.safe_load(block)
    if not isinstance(front, dict):
        raise ValueError("the front matter is no mapping")
    return front


def faults_of_space(front: dict[str, Any]) -> list[str]:
    """What a Space would refuse or silently ignore."""
    faults = [f"{key} is unknown" for key in front if key not in STRINGS | LISTS]
    faults += [f"{key} is missing" for key in sorted((STRINGS | LISTS) - front.keys())]
    faults += [f"{key} is no text" for key in STRINGS if not isinstance(front.get(key, ""), str)]
    for key in LISTS & front.keys():
        if not isinstance(front[key], list) or not all(isinstance(one, str) for one in front[key]):
            faults.append(f"{key} is no list of texts")
    for key in ("colorFrom", "colorTo"):
        if front.get(key) not in COLOURS:
            faults.append(f"{key} is no colour of Spaces")
    if front.get("sdk") != "gradio":
        faults.append("sdk is not gradio")
    if front.get("suggested_hardware") not in HARDWARE:
        faults.append("suggested_hardware is none that there is")
    if len(str(front.get("short_description", ""))) > MOST_OF_A_DESCRIPTION:
        faults.append("short_description is too long")
    return faults
