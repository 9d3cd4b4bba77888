"""Which addresses are public, and that fetching goes to those and nowhere else."""

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from backend.errors import BadFile
from backend.settings import Settings
from door.addresses import is_public
from door.fetching import Fetcher
from tests.door.conftest import picture, said, serving, shown
from tests.fakes import FakeEngine

PUBLIC = ("93.184.216.34", "1.1.1.1", "172.15.0.1", "100.63.255.255", "2606:4700:4700::1111")
OTHERS = (
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.8",
    "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:93.184.216.34", "::ffff:0:7f00:1",
    "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::",
    "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1",
    "ff02::1", "localhost", "", "1", "127.1",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", OTHERS)
def test_all_others_are_not(address: str) -> None:
    assert not is_public(address)


@dataclass
class Web:
    """A web server of this machine that answers as told, and what it was asked."""

    port: int
    answers: dict[str, Callable[[Any], None]]
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str = "/a.png", host: str = "pictures.test") -> str:
        return f"http://{host}:{self.port}{path}"


def give(content: bytes, status: int = 200, **headers: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def trickle(handler: Any) -> None:
    """A body that never ends."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(600):
        try:
            handler.wfile.write(b"x" * 1000)
            handler.wfile.flush()
        except OSError:
            return
        time.sleep(0.02)


@pytest.fixture
def web() -> Iterator[Web]:
    answers: dict[str, Callable[[Any], None]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.headers["host"], self.path))
            found.headers.append(dict(self.headers))
            answers.get(self.path, give(b"none", 404))(self)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Web(server.server_port, answers)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def fetcher(**hosts: list[str]) -> Fetcher:
    """One that knows `pictures.test` and `hosts`, and takes 127.0.0.1 alone for public."""
    known = {"pictures.test": ["127.0.0.1"]} | {
        name.replace("_", "."): addresses for name, addresses in hosts.items()
    }
    return Fetcher(
        allow=lambda address: address == "127.0.0.1",
        resolve=lambda host, port: known.get(host, [host]),
        most_bytes=100_000,
        most_s=1.5,
    )


def test_a_picture_is_fetched_from_the_address_that_was_checked(web: Web) -> None:
    web.answers["/a.png?b=1"] = give(b"content")
    assert fetcher().fetch(web.url("/a.png?b=1"), "it") == b"content"
    assert web.asked == [(f"pictures.test:{web.port}", "/a.png?b=1")]
    assert not {"Cookie", "Authorization", "Referer"} & set(web.headers[0])


def test_a_redirect_is_followed_to_where_it_leads(web: Web) -> None:
    web.answers["/a.png"] = give(b"", 302, location="/b.png", set_cookie="a=b")
    web.answers["/b.png"] = give(b"", 307, location=web.url("/c.png", "other.test"))
    web.answers["/c.png"] = give(b"content")
    assert fetcher(other_test=["127.0.0.1"]).fetch(web.url(), "it") == b"content"
    assert web.asked[-1] == (f"other.test:{web.port}", "/c.png")
    assert not any("Cookie" in headers for headers in web.headers)


def refused(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(BadFile) as caught:
        fetcher.fetch(url, "messages[0].content[0]")
    assert caught.value.name == "messages[0].content[0]"
    return str(caught.value)


@pytest.mark.parametrize(
    "place",
    ["10.0.0.1", "169.254.169.254", "100.100.100.200", "[::1]", "inside.test", "mixed.test"],
)
def test_a_redirect_elsewhere_is_not_followed(place: str, web: Web) -> None:
    web.answers["/a.png"] = give(b"", 302, location=f"http://{place}/secret")
    names = {"inside_test": ["192.168.0.1"], "mixed_test": ["127.0.0.1", "10.0.0.1"]}
    assert "public internet" in refused(fetcher(**names), web.url())
    assert len(web.asked) == 1


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://pictures.test/a", "gopher://a"])
def test_a_redirect_to_another_scheme_is_not_followed(location: str, web: Web) -> None:
    web.answers["/a.png"] = give(b"", 302, location=location)
    assert "plain http(s)" in refused(fetcher(), web.url())


def test_a_ring_of_redirects_ends(web: Web) -> None:
    web.answers["/a.png"] = give(b"", 302, location="/a.png")
    assert "too often" in refused(fetcher(), web.url())
    assert len(web.asked) == 5


def test_a_name_is_resolved_once_so_that_it_cannot_change_in_between(web: Web) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    web.answers["/a.png"] = give(b"content")
    once = Fetcher(allow=lambda address: address == "127.0.0.1", resolve=lambda *_: next(answers))
    assert once.fetch(web.url(), "it") == b"content"


def test_what_is_too_large_or_too_slow_is_given_up(web: Web) -> None:
    web.answers["/a.png"] = give(b"x" * 100_001)
    assert "over 0 MB" in refused(fetcher(), web.url())
    web.answers["/a.png"] = trickle
    assert "took over" in refused(fetcher(), web.url())


@pytest.mark.parametrize("status", [404, 500, 204, 206])
def test_another_status_than_ok_is_refused(status: int, web: Web) -> None:
    web.answers["/a.png"] = give(b"", status)
    assert f"status {status}" in refused(fetcher(), web.url())


@pytest.mark.parametrize(
    "url",
    [
        "http://", "http:///a", "http://user:word@pictures.test/a", "http://pictures.test:0x/",
        "http://\u217cocalhost/", "http://a\x00b/", "http://[::1", "https://pictures.test:1/",
        "http://" + "a" * 300 + "/",
    ],
)  # fmt: skip
def test_odd_addresses_are_refused_in_words(url: str) -> None:
    assert refused(fetcher(), url)


@pytest.mark.parametrize(
    "url", ["http://localhost/", "http://127.1/", "http://2130706433/", "http://0x7f000001/",
            "http://0/", "http://[::ffff:127.0.0.1]/", "http://no-such-host.invalid/"],
)  # fmt: skip
def test_this_machine_is_not_the_internet_however_it_is_spelt(url: str) -> None:
    assert "public internet" in refused(Fetcher(), url) or "not known" in refused(Fetcher(), url)


def test_a_picture_by_its_address_reaches_the_engine(web: Web) -> None:
    web.answers["/a.png"] = give(picture())

    def change(desk: Any) -> None:
        desk.fetcher._allow = lambda address: address == "127.0.0.1"
        desk.fetcher._resolve = lambda host, port: ["127.0.0.1"]

    settings = Settings(allow_picture_urls=True)
    with serving(FakeEngine(), settings=settings, change=change) as served:
        assert served.ask(messages=said([shown(web.url())])).status_code == 200
        assert len(served.engine.requests[-1].conversation.attachments) == 1
        answer = served.ask(messages=said([shown(web.url("/none"))]))
        assert answer.status_code == 400 and "status 404" in answer.text
        video = {"type": "video_url", "video_url": {"url": web.url()}}
        assert served.ask(messages=said([video])).status_code == 400
