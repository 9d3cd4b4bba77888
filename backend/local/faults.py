"""What went wrong, in words for a person; the traceback goes to the log under a short id.

Texts are fixed: messages of libraries may hold paths, addresses or what somebody asked. It knows
errors by class and wording only, so that torch need not be imported to tell them apart.
"""

import logging
import secrets
import traceback

from backend.errors import EngineError, EngineFailed, OutOfMemory
from backend.local.preparation import Prepared

logger = logging.getLogger(__name__)
LOADERS = ("torch", "transformers", "accelerate")  # which an installation may do without
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # CUDA and MPS; the CPU's allocator


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device refused memory. CUDA, MPS and CPU say it in different classes."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY)


def record(what: str) -> str:
    """Write the exception being handled into the log; returns the id it has there.

    As text: a log record with the exception itself would keep every tensor of its frames alive.
    """
    number = secrets.token_hex(3)
    logger.error("error %s: %s\n%s", number, what, traceback.format_exc())
    return number


def explain_answering(error: Exception, prepared: Prepared, written: int) -> EngineError:
    """For an exception being handled while the model worked; `written` tokens had come."""
    if isinstance(error, EngineError):
        return error.with_traceback(None)
    number = record("a request failed")
    budget = prepared.prompt.budget
    if is_out_of_memory(error):
        tiles = f"{budget.tiles} tiles and " if budget.tiles else ""
        return OutOfMemory(
            f"The device has not enough memory for {tiles}{budget.total:,} tokens "
            f"(error {number}).",
            "Use fewer tiles or frames, fewer files, or begin a new conversation.",
        )
    when = f"after {written} tokens" if written else "before the first token"
    return EngineFailed(
        f"The model failed {when} ({type(error).__name__}, error {number}).",
        f"Ask again; if that does not help, the log tells more under {number}.",
    )


def explain_preparing(error: Exception) -> EngineError:
    """For an exception being handled while files were opened and the prompt was written."""
    if isinstance(error, EngineError):
        return error.with_traceback(None)
    number = record("a request could not be prepared")
    return EngineFailed(
        f"The question could not be prepared ({type(error).__name__}, error {number}).",
        f"Try other files; the log tells more under {number}.",
    )


def explain_loading(error: Exception, model: str) -> EngineError:
    """For an exception being handled while the model was loaded."""
    if isinstance(error, EngineError):
        return error.with_traceback(None)
    if isinstance(error, ModuleNotFoundError) and error.name in LOADERS:
        return EngineFailed(
            f"{error.name} is not installed here, so no model can be loaded.",
            "Install requirements.txt, or name an engine elsewhere with --engine.",
        )
    number = record(f"{model} could not be loaded")
    if is_out_of_memory(error):
        return OutOfMemory(
            f"The weights of {model} do not fit into memory (error {number}).",
            "Choose a smaller size.",
        )
    return EngineFailed(
        f"{model} could not be loaded ({type(error).__name__}, error {number}).",
        f"The log tells more under {number}.",
    )
