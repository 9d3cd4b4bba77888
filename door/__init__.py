"""The door for programs: OpenAI's API over any engine, on the page's own port.

`open_door` makes it. It turns requests into conversations of `backend.conversation`, asks an
engine through its one verb, and knows neither which engine that is nor the page beside it.
"""

from door.counted import CountedEngine
from door.opening import Door, open_door

__all__ = ["CountedEngine", "Door", "open_door"]
