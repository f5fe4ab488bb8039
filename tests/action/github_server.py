"""A small GitHub on the loopback interface: comments, pull requests, whose token it is, and the troubles of a network.

What it answers follows the REST and GraphQL documentation; only what the action asks for is there.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

LONGEST_BODY = 65_536
READ_ONLY = "Resource not accessible by integration"
BOT = "github-actions[bot]"

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked: ``query`` holds the last value of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Json
    headers: Mapping[str, str]


@dataclass(kw_only=True)
class Trouble:
    """Something wrong with the next ``times`` requests that fit, forever for -1.

    ``late`` seconds pass before the answer; with ``done`` the request is carried out all the same, and only its answer
    is lost. ``raw`` is the answer's body as it is, of which ``lost`` bytes do not arrive.
    """

    method: str
    path: re.Pattern[str]
    status: int
    message: str = "Server Error"
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = -1
    late: float = 0
    done: bool = False
    raw: bytes | None = None
    lost: int = 0


class GitHubServer(ThreadingHTTPServer):
    """Comments by repository and number, pull requests by repository, and every request that came.

    ``login`` is whose token it is: of an app, which ``GET /user`` does not answer, or of a ``person``. GraphQL tells
    both unless ``viewer`` is false.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.comments: dict[tuple[str, int], list[Json]] = {}
        self.pulls: dict[str, list[Json]] = {}
        self.requests: list[Request] = []
        self.troubles: list[Trouble] = []
        self.login = BOT
        self.person = False
        self.viewer = True
        self._next = 1000
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """What GITHUB_API_URL is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def asked(self, method: str, path: str = "") -> list[Request]:
        """Return the requests of a method whose path holds a text."""
        return [each for each in self.requests if each.method == method and path in each.path]

    def bodies(self, repository: str, number: int) -> list[str]:
        """Return the texts of a pull request's comments."""
        return [each["body"] for each in self.comments.get((repository, number), [])]

    def fail(self, method: str, path: str, status: int, **more: Any) -> None:
        """Answer requests of a method, whose path a regular expression finds, with a status."""
        self.troubles.append(Trouble(method=method, path=re.compile(path), status=status, **more))

    def read_only(self) -> None:
        """Refuse to write, as for the token of a pull request from a fork."""
        self.fail("POST", "/comments$", 403, message=READ_ONLY)
        self.fail("PATCH", "/comments/", 403, message=READ_ONLY)

    def comment(self, repository: str, number: int, body: str, login: str = BOT) -> Json:
        """Add a comment of somebody."""
        with self._lock:
            self._next += 1
            kind = "Bot" if login.endswith("[bot]") else "User"
            made: Json = {"id": self._next, "body": body, "user": {"login": login, "type": kind}}
            self.comments.setdefault((repository, number), []).append(made)
            return made

    def pull(self, repository: str, number: int, sha: str, *, head: str, branch: str, state: str = "open") -> Json:
        """Add a pull request whose ``head`` is a repository, a fork or the same."""
        owner = head.partition("/")[0]
        made: Json = {
            "number": number,
            "state": state,
            "head": {"sha": sha, "ref": branch, "repo": {"full_name": head}, "user": {"login": owner}},
            "base": {"ref": "main", "repo": {"full_name": repository}},
        }
        self.pulls.setdefault(repository, []).append(made)
        return made

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away: those are the ones whose patience is tested."""

    def trouble(self, request: Request) -> Trouble | None:
        """Return the trouble that this request meets."""
        with self._lock:
            for each in self.troubles:
                if each.times and each.method == request.method and each.path.search(request.path):
                    each.times -= 1
                    return each
        return None


@contextmanager
def running(port: int = 0) -> Iterator[GitHubServer]:
    """Serve until the block ends."""
    server = GitHubServer(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: GitHubServer
    protocol_version = "HTTP/1.1"
    # An answer that is sent in parts waits for the client's word on the first one.
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def _serve(self) -> None:
        split = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        asked = Request(
            method=self.command,
            path=split.path,
            query={name: values[-1] for name, values in parse_qs(split.query).items()},
            body=json.loads(self.rfile.read(length)) if length else {},
            headers={name.lower(): value for name, value in self.headers.items()},
        )
        self.server.requests.append(asked)
        trouble = self.server.trouble(asked)
        if trouble is None:
            status, answer, headers = self._answer(asked)
            self._send(status, b"" if status == 204 else json.dumps(answer).encode(), headers)
            return
        if trouble.done:
            self._answer(asked)
        time.sleep(trouble.late)
        body = json.dumps({"message": trouble.message}).encode() if trouble.raw is None else trouble.raw
        self._send(trouble.status, body, trouble.headers, lost=trouble.lost)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _serve

    def _answer(self, asked: Request) -> tuple[int, Any, Mapping[str, str]]:
        server = self.server
        if not re.fullmatch(r"(?i)bearer \S+", asked.headers.get("authorization", "")):
            return 401, {"message": "Bad credentials"}, {}
        if (asked.method, asked.path) == ("GET", "/user"):
            if server.person:
                return 200, {"login": server.login, "type": "User"}, {}
            return 403, {"message": READ_ONLY}, {}
        if (asked.method, asked.path) == ("POST", "/graphql"):
            if server.viewer:
                return 200, {"data": {"viewer": {"login": server.login}}}, {}
            return 200, {"errors": [{"message": READ_ONLY}]}, {}
        if match := re.fullmatch(r"/repos/([^/]+/[^/]+)/issues/(\d+)/comments", asked.path):
            place = match[1], int(match[2])
            if asked.method == "GET":
                return self._page(asked, server.comments.get(place, []))
            if asked.method == "POST":
                wrong = _wrong(asked.body)
                return wrong or (201, server.comment(*place, asked.body["body"], server.login), {})
        if (match := re.fullmatch(r"/repos/([^/]+/[^/]+)/issues/comments/(\d+)", asked.path)) and asked.method in (
            "PATCH",
            "DELETE",
        ):
            return self._edit(match[1], int(match[2]), asked.body if asked.method == "PATCH" else None)
        if (match := re.fullmatch(r"/repos/([^/]+/[^/]+)/pulls", asked.path)) and asked.method == "GET":
            return self._page(asked, list(_matching(server.pulls.get(match[1], []), asked.query)))
        if (
            match := re.fullmatch(r"/repos/([^/]+/[^/]+)/commits/([0-9a-f]+)/pulls", asked.path)
        ) and asked.method == "GET":
            # A commit that only a fork has belongs to no pull request here: that is how GitHub answers.
            own = [each for each in server.pulls.get(match[1], []) if each["head"]["repo"]["full_name"] == match[1]]
            return self._page(asked, [each for each in own if each["head"]["sha"] == match[2]])
        return 404, {"message": "Not Found"}, {}

    def _edit(self, repository: str, number: int, body: Json | None) -> tuple[int, Any, Mapping[str, str]]:
        for (owner, _), comments in self.server.comments.items():
            for each in list(comments):
                if owner == repository and each["id"] == number:
                    if body is None:
                        comments.remove(each)
                        return 204, None, {}
                    wrong = _wrong(body)
                    if wrong is None:
                        each["body"] = body["body"]
                    return wrong or (200, each, {})
        return 404, {"message": "Not Found"}, {}

    def _page(self, asked: Request, rows: list[Json]) -> tuple[int, Any, Mapping[str, str]]:
        size = min(int(asked.query.get("per_page", "30")), 100)
        page = int(asked.query.get("page", "1"))
        more = {name: value for name, value in asked.query.items() if name not in ("per_page", "page")}
        query = "".join(f"&{name}={value}" for name, value in more.items())
        last = max(1, -(-len(rows) // size))
        links = [
            f'<{self.server.url}{asked.path}?per_page={size}&page={number}{query}>; rel="{name}"'
            for name, number in (("prev", page - 1), ("next", page + 1), ("last", last))
            if 1 <= number <= last and page < last
        ]
        return 200, rows[(page - 1) * size : page * size], {"Link": ", ".join(links)} if links else {}

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, lost: int = 0) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) - lost])
        self.close_connection = bool(lost)


def _wrong(body: Json) -> tuple[int, Any, Mapping[str, str]] | None:
    text = body.get("body")
    if not isinstance(text, str) or not text:
        return 422, {"message": "Validation Failed"}, {}
    if len(text) > LONGEST_BODY:
        return 422, {"message": f"Validation Failed: body is too long (maximum is {LONGEST_BODY} characters)"}, {}
    return None


def _matching(pulls: list[Json], query: Mapping[str, str]) -> Iterator[Json]:
    state, head = query.get("state", "open"), query.get("head", "")
    for each in pulls:
        name = f"{each['head']['user']['login']}:{each['head']['ref']}"
        if state in ("all", each["state"]) and head in ("", name):
            yield each
