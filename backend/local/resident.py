"""Weights in this process's memory, without a device to compute on: for forks that have one."""

from pathlib import Path

from transformers import InternVLForConditionalGeneration

from backend.checkpoint.find import find_checkpoint
from backend.local.adapter import apply_adapter, read_adapter
from backend.local.choices import decide
from backend.local.devices import find_machine
from backend.local.load import load_network
from backend.local.stages import Report, Stages
from backend.planner.configs import read_shape
from backend.prompt.compose import Composer
from backend.settings import Settings


def load_on_processor(
    settings: Settings, composer: Composer, report: Report
) -> InternVLForConditionalGeneration:
    """The network of `settings`, which say the strategy cpu. Raises as `load_checkpoint` does."""
    facts = composer.facts
    shape = read_shape(facts.folder, facts.name)
    placement = decide(settings, shape, find_machine()).placement
    adapter = read_adapter(Path(settings.adapter).expanduser(), shape) if settings.adapter else None
    stages = Stages(report)
    folder = find_checkpoint(settings.model, settings.revision, follow=stages.follow)
    network = load_network(folder, facts.layout, composer.tokens, placement, stages.place)
    if adapter is not None:
        apply_adapter(network, adapter)
    return network
