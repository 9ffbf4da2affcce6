"""Whoever uses the management API: somebody with a browser, a shop's server, and the shop's callback."""

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from tests.integration.system import Answer

COOKIE: Final = "sc_session"
LINK: Final = re.compile(r"https?://\S+/v1/auth/callback\S+")


@dataclass
class Manager:
    """Somebody at the management API, with a cookie once they are logged in."""

    url: str
    mails: Path
    """Where the mails of development lie."""
    session: str | None = None
    seen: list[str] = field(default_factory=list)
    """Every answer, as text."""

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        bearer: str | None = None,
        seconds: float = 20,
    ) -> Answer:
        """One request; ``bearer`` is a shop's sync token."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        elif self.session is not None:
            headers["Cookie"] = f"{COOKIE}={self.session}"
        data = None if body is None else json.dumps(body).encode()
        call = urllib.request.Request(self.url + path, data, headers, method=method)  # noqa: S310 - our own API
        try:
            with urllib.request.urlopen(call, timeout=seconds) as answer:  # noqa: S310 - the same
                return self._answer(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return self._answer(error.code, error.read(), dict(error.headers))

    def get(self, path: str) -> dict[str, Any]:
        """The body of what must be answered 200."""
        return self._good(self.call("GET", path))

    def post(self, path: str, body: Any = None, *, bearer: str | None = None) -> dict[str, Any]:
        """The same of a POST."""
        return self._good(self.call("POST", path, {} if body is None else body, bearer=bearer))

    def log_in(self, email: str) -> str:
        """Log in by the link of a mail; answers the link."""
        self.post("/v1/auth/login", {"email": email})
        link = LINK.findall(self.mails.read_text())[-1]
        answer = self.call("GET", link.removeprefix(self.url))
        assert answer.status == 200, answer.status
        cookie = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
        self.session = cookie.value
        return str(link)

    def _good(self, answer: Answer) -> dict[str, Any]:
        assert answer.status in range(200, 300), (answer.status, answer.body.get("error"))
        assert answer.body["success"] is True
        return answer.body

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
        self.seen.append(f"{body.decode()} {headers}")
        return Answer(status, json.loads(body), headers)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a shop's callback was called with."""

    headers: Mapping[str, str]
    body: dict[str, Any]


class ShopServer(ThreadingHTTPServer):
    """A shop's own server, which answers whoever calls it back."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Callback)
        self.asked: list[Asked] = []

    @property
    def callback_url(self) -> str:
        """Where it is called."""
        return f"http://127.0.0.1:{self.server_port}/resync"


class _Callback(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, ShopServer)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(Asked(dict(self.headers), body))
        self.send_response(204)
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def shop_server() -> Iterator[ShopServer]:
    """A running one."""
    with ShopServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
