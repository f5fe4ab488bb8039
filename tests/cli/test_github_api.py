"""The API over real HTTP on the loopback interface: pages, patience, and three kinds of no."""

from __future__ import annotations

import pytest
from github_server import READ_ONLY, GitHubServer

from pytest_flopguard.cli.github.api import AbsentError, Api, ApiError, DeniedError

COMMENTS = "/repos/octo/net/issues/7/comments"


@pytest.fixture
def api(github: GitHubServer) -> Api:
    return Api(github.url, "secret", pause=0.01, patience=0.5)


def test_a_request_says_who_asks_and_for_what(api: Api, github: GitHubServer) -> None:
    api.post(COMMENTS, {"body": "x"})
    (request,) = github.requests
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["accept"] == "application/vnd.github+json"
    assert request.headers["x-github-api-version"] == "2022-11-28"
    assert request.headers["user-agent"].startswith("pytest-flopguard/")
    assert github.bodies("octo/net", 7) == ["x"]


@pytest.mark.parametrize(("rows", "requests"), [(0, 1), (100, 1), (101, 2), (250, 3)])
def test_all_pages_are_read(api: Api, github: GitHubServer, rows: int, requests: int) -> None:
    for number in range(rows):
        github.comment("octo/net", 7, f"{number}")
    assert [each["body"] for each in api.pages(COMMENTS)] == [f"{number}" for number in range(rows)]
    assert len(github.requests) == requests


def test_the_token_goes_to_no_other_server(api: Api, github: GitHubServer) -> None:
    links = {"Link": '<http://127.0.0.1:1/evil?page=2>; rel="next"'}
    github.fail("GET", "/comments$", 200, headers=links, raw=b"[]")
    # What stands on that page nobody knows, so nobody may say that something is not there.
    with pytest.raises(ApiError, match="the next page is on another server"):
        list(api.pages(COMMENTS))
    assert len(github.requests) == 1


def test_a_list_without_an_end_is_given_up(api: Api, github: GitHubServer) -> None:
    links = {"Link": f'<{github.url}{COMMENTS}?page=2>; rel="next"'}
    github.fail("GET", "/comments$", 200, headers=links, raw=b"[]")
    with pytest.raises(ApiError, match="it has more than 100 pages"):
        list(api.pages(COMMENTS))
    assert len(github.requests) == 100


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"<html>", "the answer is no JSON"),
        (b'[{"id": 5, "bo', "the answer is no JSON"),
        (b"\xff\xfe", "the answer is no JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "the answer is no JSON"),
        (b"[" + b"9" * 5000 + b"]", "the answer is no JSON"),
        (b"", "the answer is no list"),
        (b"null", "the answer is no list"),
        (b'{"message": "later"}', "the answer is no list"),
        (b"[1]", "the answer is no list"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_what_is_no_list_is_not_an_empty_one(api: Api, github: GitHubServer, raw: bytes, told: str) -> None:
    github.fail("GET", "/comments$", 200, raw=raw)
    with pytest.raises(ApiError, match=told):
        list(api.pages(COMMENTS))


def test_an_answer_that_breaks_off_is_asked_for_again(api: Api, github: GitHubServer) -> None:
    github.comment("octo/net", 7, "here")
    github.fail("GET", "/comments$", 200, raw=b'[{"body": "not here"}]', lost=5, times=1)
    assert [each["body"] for each in api.pages(COMMENTS)] == ["here"]
    github.fail("GET", "/comments$", 200, raw=b'[{"body": "not here"}]', lost=5)
    with pytest.raises(AbsentError, match=r"no answer \(Protocol\)"):
        list(api.pages(COMMENTS))


def test_a_proxy_of_the_environment_is_used(github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    github.comment("octo/net", 7, "here")
    monkeypatch.setenv("http_proxy", github.url)
    monkeypatch.setenv("no_proxy", "inside.example")
    api = Api("http://api.example", "secret", pause=0.01, patience=0.5, tries=1)
    assert [each["body"] for each in api.pages(COMMENTS)] == ["here"]
    inside = Api("http://inside.example", "secret", pause=0.01, patience=0.5, tries=1)
    with pytest.raises(AbsentError, match="no answer"):
        list(inside.pages(COMMENTS))
    assert len(github.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_fault_that_passes_is_not_noticed(api: Api, github: GitHubServer, status: int) -> None:
    github.comment("octo/net", 7, "here")
    github.fail("GET", "/comments$", status, times=2)
    assert [each["body"] for each in api.pages(COMMENTS)] == ["here"]
    assert len(github.requests) == 3


def test_a_fault_that_stays_is_told(api: Api, github: GitHubServer) -> None:
    github.fail("GET", "/comments$", 502, message="Server Error")
    with pytest.raises(AbsentError, match=r"^GET repos/octo/net/issues/7/comments: 502 Server Error$"):
        list(api.pages(COMMENTS))
    assert len(github.requests) == 4


@pytest.mark.parametrize("status", [403, 429])
def test_who_asks_for_a_pause_gets_it(api: Api, github: GitHubServer, status: int) -> None:
    github.fail("GET", "/comments$", status, times=1, headers={"Retry-After": "1"}, message="secondary rate limit")
    assert list(api.pages(COMMENTS)) == []
    assert len(github.requests) == 2


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "soon"}, {"Retry-After": "-1"}])
def test_too_many_requests_are_asked_again(api: Api, github: GitHubServer, headers: dict[str, str]) -> None:
    github.fail("GET", "/comments$", 429, times=2, headers=headers)
    assert list(api.pages(COMMENTS)) == []
    assert len(github.requests) == 3


@pytest.mark.parametrize("status", [403, 429, 503])
@pytest.mark.parametrize("asked", ["21", "9" * 400, "Wed, 21 Oct 2065 07:28:00 GMT"])
def test_who_asks_for_a_long_pause_is_left_alone(api: Api, github: GitHubServer, status: int, asked: str) -> None:
    github.fail("GET", "/comments$", status, headers={"Retry-After": asked}, message="secondary rate limit")
    with pytest.raises(AbsentError, match=f"{status} secondary rate limit"):
        list(api.pages(COMMENTS))
    assert len(github.requests) == 1


def test_a_used_up_limit_is_not_waited_for(api: Api, github: GitHubServer) -> None:
    github.fail("GET", "/comments$", 403, headers={"X-RateLimit-Remaining": "0"}, message="API rate limit exceeded")
    with pytest.raises(AbsentError, match="403 API rate limit exceeded"):
        list(api.pages(COMMENTS))
    assert len(github.requests) == 1


def test_a_silent_server_is_given_up(github: GitHubServer) -> None:
    github.fail("GET", "/comments$", 200, late=5)
    api = Api(github.url, "secret", pause=0.01, patience=0.1, tries=2)
    with pytest.raises(AbsentError, match=r"no answer \(ReadTimeout\)"):
        list(api.pages(COMMENTS))
    assert len(github.requests) == 2


def test_no_server_at_all_is_told() -> None:
    # Port 1 of the loopback interface: nobody listens there.
    api = Api("http://127.0.0.1:1", "secret", pause=0.01, patience=0.5, tries=2)
    with pytest.raises(AbsentError, match=r"^GET user: no answer \(NewConnection\)$"):
        api.get("/user")


@pytest.mark.parametrize(("status", "text"), [(401, "Bad credentials"), (403, READ_ONLY), (404, "Not Found")])
def test_what_the_token_may_not_do_is_asked_once(api: Api, github: GitHubServer, status: int, text: str) -> None:
    github.fail("POST", "/comments$", status, message=text)
    with pytest.raises(DeniedError, match=f"{status} {text}"):
        api.post(COMMENTS, {"body": "x"})
    assert len(github.requests) == 1


def test_what_is_not_taken_is_neither(api: Api) -> None:
    with pytest.raises(ApiError, match="422 Validation Failed: body is too long") as caught:
        api.post(COMMENTS, {"body": "x" * 65_537})
    assert type(caught.value) is ApiError


def test_a_post_is_tried_once_and_a_patch_more_often(api: Api, github: GitHubServer) -> None:
    number = github.comment("octo/net", 7, "old")["id"]
    github.fail("POST", "/comments$", 502)
    github.fail("PATCH", "/comments/", 502, times=1)
    with pytest.raises(AbsentError):
        api.post(COMMENTS, {"body": "x"})
    api.patch(f"/repos/octo/net/issues/comments/{number}", {"body": "new"})
    assert (len(github.asked("POST")), len(github.asked("PATCH"))) == (1, 2)
    assert github.bodies("octo/net", 7) == ["new"]


def test_graphql_stands_beside_rest(github: GitHubServer) -> None:
    github.fail("POST", "/api/graphql$", 418, message="here")
    with pytest.raises(ApiError, match="POST api/graphql: 418 here"):
        Api(f"{github.url}/api/v3", "secret").graphql("{ viewer { login } }")
    assert Api(github.url, "secret").graphql("{ viewer { login } }") == {"viewer": {"login": "github-actions[bot]"}}
