"""A real nginx with the configuration of deploy/, on ports of this machine."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.waiting import free_port

TEMPLATE = Path(__file__).parents[2] / "deploy" / "nginx.conf.template"
# What the image of nginx has around the configuration, with every path in one folder.
AROUND = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/default.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running nginx; `trust` believes its certificate."""

    folder: Path
    tls_port: int
    plain_port: int
    root_path: str
    trust: ssl.SSLContext

    @property
    def url(self) -> str:
        """Where it serves the page, with a slash at the end."""
        return f"https://localhost:{self.tls_port}{self.root_path}/"


def find_nginx() -> str:
    """The program; Debian keeps it out of the path of ordinary users."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found, "nginx is missing: tests/install_nginx.sh puts it there"
    return found


def make_certificate(folder: Path) -> None:
    """cert.pem and key.pem for localhost, signed by themselves, as docs/deploy.md does it."""
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    words += (
        f" -addext subjectAltName=DNS:localhost -keyout {folder}/key.pem -out {folder}/cert.pem"
    )
    subprocess.run(words.split(), check=True, capture_output=True)


def fill_in(template: str, values: dict[str, str]) -> str:
    """As the image's start does: names in braces become values, nginx's own variables stay."""
    return re.sub(r"\$\{([A-Z_]+)\}", lambda match: values[match[1]], template)


@contextmanager
def running_proxy(
    folder: Path,
    page_port: int,
    template: str | None = None,
    root_path: str = "/chat",
    most_upload: int = 1_000_000_000,
    sign_in: str = "off",
) -> Iterator[Proxy]:
    """nginx in front of a page on `page_port`, until the block ends."""
    make_certificate(folder)
    tls_port, plain_port = free_port(), free_port()
    values = {
        "SERVER_NAME": "localhost",
        "TLS_PORT": str(tls_port),
        "PLAIN_PORT": str(plain_port),
        "TLS": str(folder),
        "PAGE": f"127.0.0.1:{page_port}",
        "ROOT_PATH": root_path,
        "MOST_UPLOAD": str(most_upload),
        "SIGN_IN": sign_in,
    }
    (folder / "default.conf").write_text(fill_in(template or TEMPLATE.read_text("utf-8"), values))
    # A folder of pytest is open to its owner alone, and nginx would work as someone else.
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user))
    words = [find_nginx(), "-p", str(folder), "-c", str(folder / "nginx.conf")]
    subprocess.run([*words, "-t"], check=True, capture_output=True)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(tls_port, process)
            trust = ssl.create_default_context(cafile=str(folder / "cert.pem"))
            yield Proxy(folder, tls_port, plain_port, root_path, trust)
        finally:
            process.terminate()


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Until somebody listens on a port, or the process has ended."""
    for _ in range(400):
        assert process.poll() is None, "nginx ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.025)
    raise AssertionError("nginx does not listen")
