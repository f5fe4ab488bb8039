"""The one comment: found on any page, written by us, and never twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from github_server import GitHubServer

from pytest_flopguard.cli.github.api import AbsentError, Api, DeniedError
from pytest_flopguard.cli.github.sticky import Written, write

REPO, NUMBER = "octo/net", 7
Put = Callable[..., Written]
FIRST = "<!-- flopguard:gpu -->"


@pytest.fixture
def put(github: GitHubServer) -> Put:
    api = Api(github.url, "secret", pause=0.01, patience=0.5)

    def call(text: str, name: str = "gpu", create: bool = True) -> Written:
        return write(api, REPO, NUMBER, name, f"<!-- flopguard:{name} -->\n{text}", create=create)

    return call


def test_it_is_created_then_changed_then_left_alone(put: Put, github: GitHubServer) -> None:
    github.comment(REPO, NUMBER, "nice work", "ada")
    assert [put("one"), put("two"), put("two")] == ["created", "updated", "same"]
    assert github.bodies(REPO, NUMBER) == ["nice work", f"{FIRST}\ntwo"]
    assert (len(github.asked("POST", "/comments")), len(github.asked("PATCH"))) == (1, 1)


def test_it_is_found_beyond_the_first_page(put: Put, github: GitHubServer) -> None:
    for number in range(230):
        github.comment(REPO, NUMBER, f"{number}", "ada")
    assert put("one") == "created"
    assert put("two") == "updated"
    assert len(github.bodies(REPO, NUMBER)) == 231


def test_each_id_has_its_own(put: Put, github: GitHubServer) -> None:
    assert [put("x", "a"), put("x", "a/b"), put("y", "a")] == ["created", "created", "updated"]
    assert [each.partition("\n")[2] for each in github.bodies(REPO, NUMBER)] == ["y", "x"]


def test_a_planted_marker_is_not_ours(put: Put, github: GitHubServer) -> None:
    github.comment(REPO, NUMBER, f"{FIRST}\nall fine, merge me", "mallory")
    github.comment(REPO, NUMBER, f"{FIRST}\nall fine", "mallory[bot]")
    github.comment(REPO, NUMBER, f"> {FIRST}\nquoted")
    assert put("one") == "created"
    assert put("two") == "updated"
    assert github.bodies(REPO, NUMBER)[:2] == [f"{FIRST}\nall fine, merge me", f"{FIRST}\nall fine"]
    assert github.bodies(REPO, NUMBER)[3] == f"{FIRST}\ntwo"


@pytest.mark.parametrize(
    ("login", "person", "viewer"),
    [
        ("github-actions[bot]", False, True),
        # An app of one's own, which only GraphQL can tell.
        ("widget-ci[bot]", False, True),
        ("ada", True, True),
        # Servers without GraphQL: REST knows people, and of apps there is the usual one.
        ("ada", True, False),
        ("github-actions[bot]", False, False),
    ],
)
def test_whoever_the_token_is_finds_its_own(
    put: Put, github: GitHubServer, login: str, person: bool, viewer: bool
) -> None:
    github.login, github.person, github.viewer = login, person, viewer
    assert [put("one"), put("two")] == ["created", "updated"]


def test_without_create_only_one_that_is_there_is_changed(put: Put, github: GitHubServer) -> None:
    assert put("one", create=False) == "not needed"
    assert github.comments.get((REPO, NUMBER), []) == []
    put("one")
    assert put("two", create=False) == "updated"


def test_a_lost_answer_makes_no_second_comment(put: Put, github: GitHubServer) -> None:
    github.fail("POST", "/comments$", 502, times=1, done=True)
    assert put("one") == "same"
    assert github.bodies(REPO, NUMBER) == [f"{FIRST}\none"]


def test_two_runs_at_once_leave_one_comment(put: Put, github: GitHubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    comment = github.comment

    def late(repository: str, number: int, body: str, login: str) -> object:
        # Neither run has seen a comment, and the other one is a moment quicker.
        monkeypatch.setattr(github, "comment", comment)
        comment(repository, number, f"{FIRST}\nof the other run")
        return comment(repository, number, body, login)

    monkeypatch.setattr(github, "comment", late)
    assert put("one") == "updated"
    assert github.bodies(REPO, NUMBER) == [f"{FIRST}\none"]


def test_nothing_else_is_taken_away(put: Put, github: GitHubServer) -> None:
    github.comment(REPO, NUMBER, f"{FIRST}\nplanted", "mallory")
    assert put("one") == "created"
    assert github.asked("DELETE") == []
    # Where nobody can look again, the comment is there all the same.
    github.comments.clear()
    seen = len(github.asked("GET"))
    github.fail("GET", "/comments$", 200, raw=b"[]", times=1)
    github.fail("GET", "/comments$", 500)
    assert put("one") == "created"
    assert len(github.asked("GET")) > seen + 1
    assert len(github.bodies(REPO, NUMBER)) == 1


def test_a_server_that_stays_broken_is_told_after_three_tries(put: Put, github: GitHubServer) -> None:
    github.fail("POST", "/comments$", 503, headers={"Retry-After": "0"})
    with pytest.raises(AbsentError, match="503"):
        put("one")
    assert len(github.asked("POST", "/comments")) == 3


def test_a_server_that_asks_for_a_long_pause_is_not_pressed(put: Put, github: GitHubServer) -> None:
    github.fail("POST", "/comments$", 429, headers={"Retry-After": "60"}, message="secondary rate limit")
    with pytest.raises(AbsentError, match="429 secondary rate limit"):
        put("one")
    assert len(github.asked("POST", "/comments")) == 1


@pytest.mark.parametrize("number", ["", '"id": "7/../..",', '"id": null,', '"id": true,'])
def test_a_comment_without_a_number_is_none(put: Put, github: GitHubServer, number: str) -> None:
    row = f'[{{{number} "body": "{FIRST}", "user": {{"login": "github-actions[bot]"}}}}]'
    github.fail("GET", "/comments$", 200, raw=row.encode())
    assert put("one") == "created"
    assert github.asked("PATCH") == []


def test_a_token_that_may_only_read_is_told_at_once(put: Put, github: GitHubServer) -> None:
    github.read_only()
    with pytest.raises(DeniedError, match="Resource not accessible by integration"):
        put("one")
    assert len(github.asked("POST", "/comments")) == 1
