"""How a closed stream ends work on the model: a private exception, raised between layers."""


class Stopped(Exception):
    """The reader gave up. Never leaves this package."""
