"""The GitHub API over HTTP: pages, a few patient retries, and three kinds of no."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from time import sleep, time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from pytest_flopguard import __version__
from pytest_flopguard.core.errors import FlopguardError, message

if TYPE_CHECKING:
    from types import TracebackType

    import urllib3
    from urllib3.connectionpool import ConnectionPool

# A pull request with more comments than this is not searched further.
_MOST_PAGES = 100
_PER_PAGE = 100
_AGAIN = (429, 500, 502, 503, 504)
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
        self._http, self._retries = _client(url, pause, patience, tries)

    def pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the rows of all pages of a list."""
        address = f"{self._url}{path}?{urlencode({'per_page': str(_PER_PAGE), **query})}"
        # Whoever looks for something in vain must have seen everything.
        for _ in range(_MOST_PAGES):
            rows, links = self._request("GET", address, None)
            if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
                raise ApiError(f"GET {_path(address)}: the answer is no list")
            yield from rows
            address = _next(links)
            if not address:
                return
            # The token is for this server alone, wherever an answer points to.
            if not address.startswith(f"{self._url}/"):
                raise ApiError(f"GET {path[1:]}: the next page is on another server")
        raise ApiError(f"GET {path[1:]}: it has more than {_MOST_PAGES} pages")

    def get(self, path: str) -> Any:
        """Return the answer to a GET."""
        return self._request("GET", self._url + path, None)[0]

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a POST, which is tried once: it may have been done though its answer was lost."""
        return self._request("POST", self._url + path, body)[0]

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a PATCH, which may be done twice."""
        return self._request("PATCH", self._url + path, body)[0]

    def delete(self, path: str) -> None:
        """Take something away; where that was done already, DeniedError says that it is not there."""
        self._request("DELETE", self._url + path, None)

    def graphql(self, query: str) -> Any:
        """Return the ``data`` of a query that changes nothing, None where there is none."""
        root = f"{self._url.removesuffix('/v3')}/graphql"
        answer, _ = self._request("POST", root, {"query": query}, again=True)
        return answer.get("data") if isinstance(answer, dict) else None

    def wait(self, error: AbsentError, times: int) -> None:
        """Wait before another try of what was tried again so many times already; raises what asks for too long."""
        if error.after > _MOST_PATIENCE:
            raise error
        sleep(max(self._pause * 2**times, error.after))

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
        except (ValueError, RecursionError) as error:
            raise AbsentError(f"{method} {_path(address)}: the answer is no JSON") from error


def _client(url: str, pause: float, patience: float, tries: int) -> tuple[urllib3.PoolManager, urllib3.Retry]:
    try:
        import urllib3
    except ImportError as error:
        install = "pip install 'pytest-flopguard[action]'"
        raise ApiError(message("missing-extra", what="a comment", package="urllib3", install=install)) from error

    class Patience(urllib3.Retry):
        # GitHub asks with 403 too to be left alone for a while.
        RETRY_AFTER_STATUS_CODES = frozenset({403, 413, 429, 503})

        def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
            return _pause_of(response.headers)

        def increment(
            self,
            method: str | None = None,
            url: str | None = None,
            response: urllib3.BaseHTTPResponse | None = None,
            error: Exception | None = None,
            _pool: ConnectionPool | None = None,
            _stacktrace: TracebackType | None = None,
        ) -> Patience:
            # Whoever is not left alone when it asks for that turns callers away for longer.
            if response is not None and _pool is not None and (_pause_of(response.headers) or 0) > _MOST_PATIENCE:
                raise urllib3.exceptions.MaxRetryError(_pool, url)
            return super().increment(method, url, response, error, _pool, _stacktrace)

    retries = Patience(
        total=tries - 1,
        allowed_methods=("GET", "PATCH"),
        status_forcelist=_AGAIN,
        backoff_factor=pause,
        raise_on_status=False,
    )
    timeout = urllib3.Timeout(connect=patience, read=patience)
    # As pip does, which got here the same way.
    proxy = "" if proxy_bypass(urlsplit(url).netloc) else getproxies().get(urlsplit(url).scheme, "")
    return urllib3.ProxyManager(proxy, timeout=timeout) if proxy else urllib3.PoolManager(timeout=timeout), retries


def _pause_of(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds a server wants to be left alone, None where it does not say."""
    text = headers.get("Retry-After", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except ValueError:
        return None


def _refusal(what: str, status: int, headers: Mapping[str, str], said: str) -> ApiError:
    told = f"{what}: {status} {said}".rstrip()
    limited = status == 429 or headers.get("Retry-After") or headers.get("X-RateLimit-Remaining") == "0"
    if limited or status >= 500:
        absent = AbsentError(told)
        absent.after = _pause_of(headers) or 0.0
        return absent
    if status in (401, 403, 404):
        return DeniedError(told)
    return ApiError(told)


def _said(text: str) -> str:
    """Return what an answer tells people."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
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
