"""Fetching a picture from the internet, where a person allowed that (`--allow-picture-urls`).

A name is resolved once, every address it has must be public, and the connection goes to the very
address that was checked; each redirect is checked anew. Time and size are capped. Knows nothing
of pictures: what comes back are bytes.
"""

import socket
import ssl
import time
from collections.abc import Callable

import httpx

from backend.errors import BadFile
from door.addresses import is_public

MOST_BYTES = 32 << 20
MOST_S = 20.0  # for all of it, redirects counted
MOST_REDIRECTS = 4
ADVICE = "Send it as a data: URL."

Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host; none if it is not known."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Fetcher:
    """Fetches from addresses that `allow` lets through. Thread-safe."""

    def __init__(
        self,
        allow: Callable[[str], bool] = is_public,
        resolve: Resolve = resolve,
        most_bytes: int = MOST_BYTES,
        most_s: float = MOST_S,
    ) -> None:
        self._allow = allow
        self._resolve = resolve
        self._most_bytes = most_bytes
        self._most_s = most_s
        self._trust = ssl.create_default_context()

    def fetch(self, url: str, name: str) -> bytes:
        """The content at `url`. Raises `BadFile` with `name` when it may or can not be had."""
        until = time.monotonic() + self._most_s
        try:
            target = httpx.URL(url)
            for _ in range(MOST_REDIRECTS + 1):
                content, target = self._ask(target, name, until)
                if content is not None:
                    return content
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = type(error).__name__
            raise BadFile(name, f"its address cannot be fetched ({reason}).", ADVICE) from None
        raise BadFile(name, "its address leads to another too often.", ADVICE)

    def _ask(self, url: httpx.URL, name: str, until: float) -> tuple[bytes | None, httpx.URL]:
        """The content, or none and where it has gone."""
        checked = url.copy_with(host=self._check(url, name))
        # A client of its own for each, so that no cookie goes from one person's picture to another.
        with (
            httpx.Client(
                verify=self._trust, trust_env=False, timeout=until - time.monotonic()
            ) as web,
            web.stream(
                "GET",
                checked,
                headers={"host": url.netloc.decode("ascii"), "accept-encoding": "identity"},
                extensions={"sni_hostname": url.host},
            ) as answer,
        ):
            if answer.has_redirect_location:
                return None, url.join(answer.headers["location"])
            if answer.status_code != httpx.codes.OK:
                cause = f"its address answers with status {answer.status_code}."
                raise BadFile(name, cause, ADVICE)
            return self._read(answer, name, until), url

    def _check(self, url: httpx.URL, name: str) -> str:
        """An address of the URL's host, of which all are allowed."""
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise BadFile(name, "its address is not a plain http(s) address.", ADVICE)
        found = self._resolve(url.host, url.port or (443 if url.scheme == "https" else 80))
        if not found:
            raise BadFile(name, "the host of its address is not known.", ADVICE)
        if not all(map(self._allow, found)):
            raise BadFile(name, "its address is not one of the public internet.", ADVICE)
        return found[0]

    def _read(self, answer: httpx.Response, name: str, until: float) -> bytes:
        content = bytearray()
        for chunk in answer.iter_raw():
            content += chunk
            if len(content) > self._most_bytes:
                most = f"{self._most_bytes >> 20} MB"
                raise BadFile(name, f"what is at its address is over {most}.", ADVICE)
            if time.monotonic() > until:
                raise BadFile(name, f"its address took over {self._most_s:g} s.", ADVICE)
        return bytes(content)
