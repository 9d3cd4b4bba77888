"""One answer among several: it is given its tokens one by one, and tells how it ended.

Whoever drives the network for several requests keeps one of these for each. It knows no network.
"""

from backend.checkpoint.facts import Facts
from backend.conversation import End
from backend.local.decoding import ByteTable
from backend.local.faults import explain_answering
from backend.local.preparation import Prepared
from backend.local.stopping import Stopped
from backend.local.streamer import AnswerStreamer, StopFound
from backend.local.worker import Ended
from backend.stream import AnswerStream


class Writing:
    """An answer in the making. Raises `Stopped` if its stream is closed already."""

    def __init__(
        self, prepared: Prepared, stream: AnswerStream, facts: Facts, table: ByteTable
    ) -> None:
        self.prepared = prepared
        self.stream = stream
        self._streamer = AnswerStreamer(stream, table, facts.eos_token_ids)
        if stream.closed:
            raise Stopped

    def take(self, token: int, last: bool) -> Ended | None:
        """Hand on a token; tells the end if this is it."""
        try:
            self._streamer.take(token)
            if not last:
                return None
            self._streamer.end()
        except StopFound:
            pass
        except Stopped:
            return self.end(End.STOPPED)
        except Exception as error:  # what one answer's text comes to is no matter of the others
            return self.fail(error)
        return self.end(self._streamer.end_reason)

    def end(self, end: End) -> Ended:
        """Over, because of `end`."""
        return Ended(self.stream, end)

    def fail(self, error: Exception) -> Ended:
        """Over, because of an error, which is put into words."""
        written = len(self.stream.token_ids)
        return Ended(self.stream, explain_answering(error, self.prepared, written))
