"""Where an engine is: the address a person gives, checked, and what is shown of it."""

from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import httpx

from backend.errors import BadSetting

EXAMPLE = "http://localhost:23333/v1"


@dataclass(frozen=True, slots=True)
class Address:
    """An engine's address: `url` ends with the version (`/v1`), `label` is the machine and port."""

    url: str
    label: str

    @property
    def root(self) -> str:
        """The address above the version, where an engine tells of itself."""
        return self.url.rsplit("/", 1)[0]


def read_address(typed: str) -> Address:
    """The address that a person typed; without a path, `/v1` is meant.

    Raises `BadSetting` for what is no http(s) address, and for one with a name and password or a
    query in it: those would be shown.
    """
    try:
        parts = urlsplit(typed.strip())
        host, port = parts.hostname, parts.port
        httpx.URL(typed.strip())  # it is stricter, and would say so at every look only
    except (ValueError, httpx.InvalidURL):
        raise _bad("is no address") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _bad("is no address")
    if parts.username is not None or parts.password is not None:
        raise _bad("holds a name or a password", "Put the key into a file: --api-key-file.")
    if parts.query or parts.fragment:
        raise _bad("has a query")
    path = parts.path.rstrip("/") or "/v1"
    name = f"[{host}]" if ":" in host else host
    place = f"{name}:{port}" if port else name
    return Address(urlunsplit((parts.scheme, place, path, "", "")), place)


def _bad(fault: str, advice: str = "") -> BadSetting:
    # What was typed is not repeated: it may hold a secret.
    return BadSetting(
        f"What is given as an engine {fault}.", advice or f"Give an address as {EXAMPLE}."
    )
