"""Who may come in: the keys of programs, compared without telling how much of one was right."""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.requests import Request

from door.refusals import Refused

SCHEME = "bearer "


class Keys:
    """The keys that open the door; without any it is open."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = tuple(key.encode() for key in keys)

    def admit(self, request: Request) -> str:
        """Who asks, as a session: the key or the address. Raises `Refused` with status 401."""
        if not self._keys:
            return f"door:{request.client.host if request.client else ''}"
        given = request.headers.get("authorization", "")
        key = given[len(SCHEME) :].strip().encode() if given.lower().startswith(SCHEME) else b""
        # Every key is compared, so that the time tells nothing of which was near.
        if not any([hmac.compare_digest(key, known) for known in self._keys]):
            words = "Incorrect API key provided." if key else "You didn't provide an API key."
            raise Refused(
                401, words, None, "invalid_api_key", headers={"www-authenticate": "Bearer"}
            )
        return f"door:{hashlib.sha256(key).hexdigest()[:16]}"
