"""deploy/nginx.conf.template in a real nginx: TLS, a sub-path, answers as they come, limits."""

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import MOST_UPLOAD, Behind
from tests.deploy.proxy import TEMPLATE, Proxy, running_proxy
from ui.guard import MOST_UPLOAD as MOST_OF_THE_PAGE

QUESTION = {"model": "fake model", "messages": [{"role": "user", "content": "Hello"}]}
PATIENCE_S = 30.0


def client(proxy: Proxy, **choices: object) -> httpx.Client:
    return httpx.Client(
        base_url=proxy.url, verify=proxy.trust, timeout=PATIENCE_S, trust_env=False, **choices
    )


def test_the_page_is_served_under_the_sub_path_and_knows_it(behind: Behind) -> None:
    with client(behind.proxy) as asked:
        page = asked.get("")
        assert page.status_code == 200
        assert f'"root":"{behind.proxy.url.rstrip("/")}"' in page.text.replace('": "', '":"')
        assert asked.get("ready").json()["state"] == "ready"
        assert page.headers["strict-transport-security"]


def test_plain_and_unfinished_addresses_lead_to_the_page(behind: Behind) -> None:
    proxy = behind.proxy
    plain = httpx.get(f"http://localhost:{proxy.plain_port}/chat/?a=1", trust_env=False)
    assert (plain.status_code, plain.headers["location"]) == (301, "https://localhost/chat/?a=1")
    with client(proxy) as asked:
        short = asked.get(proxy.url.rstrip("/"))
        assert short.status_code == 301 and short.headers["location"].endswith("/chat/")


def test_figures_stay_inside_and_closed_doors_closed(behind: Behind) -> None:
    with client(behind.proxy) as asked:
        assert asked.get("metrics").status_code == 404
        assert asked.get("monitoring").status_code == 404
        assert asked.get("gradio_api/proxy=http://localhost/").status_code == 404
    direct = httpx.get(f"http://127.0.0.1:{behind.port}/metrics", trust_env=False)
    assert direct.status_code == 200


def test_a_client_that_leaves_ends_its_request_through_the_proxy(behind: Behind) -> None:
    engine = behind.engine
    engine.enqueue(["first ", 120.0, "last"])
    left = threading.Event()
    with client(behind.proxy) as asked:
        body = QUESTION | {"stream": True}
        with asked.stream("POST", "v1/chat/completions", json=body) as answer:
            next(line for line in answer.iter_lines() if "first" in line)
            engine.streams[-1].call_on_close(left.set)
    assert left.wait(PATIENCE_S)


def upload(proxy: Proxy, size: int) -> httpx.Response:
    with client(proxy) as asked:
        return asked.post("gradio_api/upload", files={"files": ("a.bin", bytes(size))})


def test_an_upload_of_almost_the_limit_arrives_and_a_larger_one_is_told(behind: Behind) -> None:
    assert upload(behind.proxy, MOST_UPLOAD - 1000).status_code == 200
    refused = upload(behind.proxy, MOST_UPLOAD)
    assert refused.status_code == 413
    assert refused.text.startswith("The upload is larger than this server takes (300000 bytes). ")


def test_the_limit_in_compose_is_that_of_the_page() -> None:
    compose = (TEMPLATE.parents[1] / "compose.yaml").read_text(encoding="utf-8")
    assert f'MOST_UPLOAD: "{MOST_OF_THE_PAGE}"' in compose


class Echo(BaseHTTPRequestHandler):
    """Tells its path and headers, and under /slow goes on only when nobody waits any more."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(f"path: {self.path}\n{self.headers}".encode())
        if self.path == "/slow":
            self.rfile.read(1)  # until the proxy hangs up

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def echo() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_the_page_is_told_who_asked_and_how_and_nothing_a_client_made_up(
    echo: int, tmp_path: Path
) -> None:
    claimed = {"x-forwarded-for": "6.6.6.6", "x-forwarded-host": "evil", "x-forwarded-proto": "x"}
    with running_proxy(tmp_path, echo) as proxy, client(proxy, headers=claimed) as asked:
        told = asked.get("gradio_api/info?x=1").text.lower()
    assert "path: /gradio_api/info?x=1\n" in told
    assert "x-forwarded-for: 127.0.0.1" in told and "x-forwarded-proto: https" in told
    host = f"localhost:{proxy.tls_port}"
    assert f"\nhost: {host}" in told and f"x-forwarded-host: {host}" in told
    assert "6.6.6.6" not in told and "evil" not in told


@pytest.mark.parametrize(("buffering", "seen"), [("off", True), ("on", False)])
def test_what_the_page_writes_is_seen_while_it_goes_on(
    echo: int, tmp_path: Path, buffering: str, seen: bool
) -> None:
    right = "proxy_buffering off;"
    template = TEMPLATE.read_text(encoding="utf-8")
    assert right in template
    template = template.replace(right, f"proxy_buffering {buffering};")
    with running_proxy(tmp_path, echo, template) as proxy, client(proxy) as asked:
        patience = httpx.Timeout(PATIENCE_S, read=PATIENCE_S if seen else 1.0)
        try:
            with asked.stream("GET", "slow", timeout=patience) as answer:
                came = any("path: /slow" in piece for piece in answer.iter_text())
        except httpx.ReadTimeout:
            came = False
    assert came is seen


def test_people_sign_in_where_the_server_wants_it(echo: int, tmp_path: Path) -> None:
    words = ["openssl", "passwd", "-6", "a long password"]
    hashed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (tmp_path / "users").write_text(f"anna:{hashed}")
    with running_proxy(tmp_path, echo, sign_in="InternVL3") as proxy, client(proxy) as asked:
        assert asked.get("").status_code == 401
        assert asked.get("v1/models").status_code == 401
        assert asked.get("", auth=("anna", "a wrong password")).status_code == 401
        assert asked.get("", auth=("anna", "a long password")).status_code == 200
