"""The GitHub API over HTTP: pages, a few patient retries, and three kinds of no."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from time import sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from pytest_flopguard import __version__
from pytest_flopguard.core.errors import FlopguardError, message

if TYPE_CHECKING:
    import urllib3

# A pull request with more comments than this is not searched further.
_MOST_PAGES = 100
_PER_PAGE = 100
_FAULTS = (500, 502, 503, 504)
# What a server may ask to be left alone for; whoever asks for more is told of as not there.
_MOST_PATIENCE = 20.0
_LONGEST_REASON = 200


class ApiError(FlopguardError):
    """The API did not do what was asked; the text is the reason."""


class DeniedError(ApiError):
    """The token may not do this, or may not see that it could."""


class AbsentError(ApiError):
    """Nobody answered in time, or with a fault of the server, or with too many requests: another try may do.

    ``after`` so many seconds, where the server says so.
    """

    after = 0.0


class Api:
    """Requests with a token. ``pause`` is the unit of waiting between tries, ``patience`` that for one answer, in s."""

    def __init__(self, url: str, token: str, *, pause: float = 0.5, patience: float = 10.0, tries: int = 4) -> None:
        self._url = url
        self._token = token
        self._pause = pause
        self._http, self._retries = _client(pause, patience, tries)

    def pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of all pages of a list."""
        address = f"{self._url}{path}?{urlencode({'per_page': str(_PER_PAGE), **query})}"
        for _ in range(_MOST_PAGES):
            rows, links = self._request("GET", address, None)
            yield from (each for each in rows if isinstance(each, dict)) if isinstance(rows, list) else ()
            address = _next(links)
            # The token is for this server alone, wherever an answer points to.
            if not address.startswith(f"{self._url}/"):
                return

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self._request("GET", self._url + path, None)[0]

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a POST, which is tried once: it may have been done though its answer was lost."""
        return self._request("POST", self._url + path, body)[0]

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a PATCH, which may be done twice."""
        return self._request("PATCH", self._url + path, body)[0]

    def graphql(self, query: str) -> Any:
        """Return the ``data`` of a query that changes nothing, None where there is none."""
        root = f"{self._url.removesuffix('/v3')}/graphql"
        answer, _ = self._request("POST", root, {"query": query}, again=True)
        return answer.get("data") if isinstance(answer, dict) else None

    def wait(self, error: AbsentError, times: int) -> None:
        """Wait before another try of what was tried so many times again already: longer each time."""
        sleep(max(self._pause * 2**times, min(error.after, _MOST_PATIENCE)))

    def _request(
        self, method: str, address: str, body: Mapping[str, Any] | None, *, again: bool = False
    ) -> tuple[Any, str]:
        """Return the answer and its Link header; ``again`` where a POST may be tried more than once."""
        from urllib3.exceptions import HTTPError

        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {self._token}",
            "User-Agent": f"pytest-flopguard/{__version__}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        sent = None if body is None else json.dumps(body).encode()
        if sent is not None:
            headers["Content-Type"] = "application/json"
        retries = self._retries.new(allowed_methods=(method,)) if again else self._retries
        try:
            answer = self._http.request(method, address, body=sent, headers=headers, retries=retries, redirect=False)
        except HTTPError as error:
            raise AbsentError(f"{method} {_path(address)}: {_reason(error)}") from error
        text = answer.data.decode("utf-8", "replace")
        if answer.status >= 300:
            raise _refusal(f"{method} {_path(address)}", answer.status, answer.headers, _said(text))
        try:
            return json.loads(text) if text else None, answer.headers.get("Link", "")
        except ValueError as error:
            raise AbsentError(f"{method} {_path(address)}: the answer is no JSON") from error


def _client(pause: float, patience: float, tries: int) -> tuple[urllib3.PoolManager, urllib3.Retry]:
    try:
        import urllib3
    except ImportError as error:
        install = "pip install 'pytest-flopguard[action]'"
        raise ApiError(message("missing-extra", what="a comment", package="urllib3", install=install)) from error

    class Patience(urllib3.Retry):
        # GitHub asks with 403 too to be left alone for a while.
        RETRY_AFTER_STATUS_CODES = frozenset({403, 413, 429, 503})

        def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
            seconds = super().get_retry_after(response)
            return None if seconds is None else min(seconds, _MOST_PATIENCE)

    retries = Patience(
        total=tries - 1,
        allowed_methods=("GET", "PATCH"),
        status_forcelist=_FAULTS,
        backoff_factor=pause,
        raise_on_status=False,
    )
    return urllib3.PoolManager(timeout=urllib3.Timeout(connect=patience, read=patience)), retries


def _refusal(what: str, status: int, headers: Mapping[str, str], said: str) -> ApiError:
    told = f"{what}: {status} {said}".rstrip()
    limited = status == 429 or headers.get("Retry-After") or headers.get("X-RateLimit-Remaining") == "0"
    if limited or status >= 500:
        absent = AbsentError(told)
        # It may be a date too; then nothing here would wait for so long.
        seconds = headers.get("Retry-After", "")
        absent.after = float(seconds) if seconds.isdecimal() else 0.0
        return absent
    if status in (401, 403, 404):
        return DeniedError(told)
    return ApiError(told)


def _said(text: str) -> str:
    """Return what an answer tells people."""
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    told = found.get("message", "") if isinstance(found, dict) else ""
    return str(told)[:_LONGEST_REASON]


def _reason(error: Exception) -> str:
    """Name the last fault of a try that was given up."""
    cause = getattr(error, "reason", None) or error
    told = type(cause).__name__.removesuffix("Error")
    return f"no answer ({told})"


def _next(links: str) -> str:
    """Return the address of the next page from a Link header, empty on the last page."""
    for each in links.split(","):
        address, _, parameters = each.partition(";")
        if 'rel="next"' in parameters:
            return address.strip().removeprefix("<").removesuffix(">")
    return ""


def _path(address: str) -> str:
    return address.partition("?")[0].partition("://")[2].partition("/")[2]
