"""What the model would read, without a model: prompt, tiles, frames and tokens of a question.

Needs a checkpoint's configuration and tokenizer only. Knows no engine.
"""

from backend.checkpoint.find import find_checkpoint, name_of
from backend.conversation import Answer, Conversation
from backend.prompt.budget import room_for_answer
from backend.prompt.compose import open_composer
from terminal.arguments import Ask
from terminal.ask import check_kinds
from terminal.preview import Preview, preview_object, preview_text
from terminal.report import write_json

UNKNOWN = Answer("")


def dry_run(command: Ask) -> int:
    """Print what would be read. Returns the exit status 0.

    Raises `BadInput` and `BadCheckpoint` as the real run would; `TooLong` after the printing, so
    that the numbers are there.
    """
    check_kinds(command.turns)
    settings = command.settings
    folder = find_checkpoint(settings.model, only_facts=True)
    composer = open_composer(folder, settings, name_of(settings.model))
    conversation = planned(command)
    prompt = composer.compose(conversation)
    files = conversation.attachments
    preview = Preview(prompt, tuple((file, composer.media.look(file)) for file in files))
    print(write_json(preview_object(preview)) if command.as_json else preview_text(preview))
    room_for_answer(prompt.budget, command.sampling.max_new_tokens)
    return 0


def planned(command: Ask) -> Conversation:
    """The whole conversation, as far as it can be known before the answers are."""
    conversation = Conversation(system=command.system)
    for turn in command.turns:
        if conversation.waits:
            conversation = conversation.answered(UNKNOWN)
        conversation = conversation.asked(turn)
    return conversation
