"""What the model would read, without a model: prompt, tiles, frames and tokens of a question.

Needs a checkpoint's configuration and tokenizer only. Knows no engine.
"""

from backend.checkpoint.find import find_checkpoint, name_of, repository_of
from backend.conversation import Answer, Conversation, Kind, Turn
from backend.errors import BadFile
from backend.media.recognise import attach
from backend.prompt.budget import room_for_answer
from backend.prompt.compose import open_composer
from terminal.arguments import Ask
from terminal.preview import Preview, preview_object, preview_text
from terminal.report import write_json

CALLED = {Kind.IMAGE: "an image", Kind.VIDEO: "a video"}
UNKNOWN = Answer("")


def dry_run(command: Ask) -> int:
    """Print what would be read. Returns the exit status 0.

    Raises what `check` raises; what does not fit is printed before it is refused.
    """
    preview = look_ahead(command)
    print(write_json(preview_object(preview)) if command.as_json else preview_text(preview))
    require_room(command, preview)
    return 0


def check(command: Ask) -> None:
    """Raise `BadInput` or `BadCheckpoint` for what no model could answer, before one is loaded."""
    preview = look_ahead(command)
    if repository_of(command.settings.model) is None:
        # Of a folder's weights the sizes are known at once; the hub's are fetched by the engine.
        find_checkpoint(command.settings.model, command.settings.revision)
    require_room(command, preview)


def look_ahead(command: Ask) -> Preview:
    """The prompt of the whole conversation, as far as it is known before its answers are."""
    check_kinds(command.turns)
    settings = command.settings
    folder = find_checkpoint(settings.model, settings.revision, only_facts=True)
    composer = open_composer(folder, settings, name_of(settings.model))
    conversation = plan_conversation(command)
    prompt = composer.compose(conversation)
    files = conversation.attachments
    return Preview(prompt, tuple((file, composer.media.look(file)) for file in files))


def require_room(command: Ask, preview: Preview) -> None:
    """Raise `TooLong`, with the numbers and the remedy, if no answer has room."""
    room_for_answer(preview.prompt.budget, command.sampling.max_new_tokens)


def check_kinds(turns: tuple[Turn, ...]) -> None:
    """Raise `BadFile` for a file that cannot be used, or is not of the kind it was named as."""
    for file in (file for turn in turns for file in turn.attachments):
        kind = attach(file.path, file.name).kind
        if kind is not file.kind:
            raise BadFile(
                file.name, f"this is {CALLED[kind]}, not {CALLED[file.kind]}.", f"Use --{kind}."
            )


def plan_conversation(command: Ask) -> Conversation:
    """All questions, with empty answers to all but the last."""
    conversation = Conversation(system=command.system)
    for turn in command.turns:
        if conversation.waits:
            conversation = conversation.answered(UNKNOWN)
        conversation = conversation.asked(turn)
    return conversation
