"""The one comment of ours on a pull request: found by its first line and its author, written anew or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pytest_flopguard.cli.github.api import AbsentError, Api, ApiError, DeniedError
from pytest_flopguard.reporters.github_comment import marker

# Who writes with the token of a job.
_BOT = "github-actions[bot]"
_TRIES = 3

Written = Literal["created", "updated", "same", "not needed"]


def write(
    api: Api, repository: str, number: int, name: str, body: str, *, create: bool, tries: int = _TRIES
) -> Written:
    """Put a body into the comment with an id; without ``create`` only where there is one. ApiError where that fails."""
    found = _ours(api, repository, number, marker(name))
    if found is not None:
        if found.get("body") == body:
            return "same"
        api.patch(_path(repository, found), {"body": body})
        return "updated"
    if not create:
        return "not needed"
    try:
        made = api.post(f"/repos/{repository}/issues/{number}/comments", {"body": body})
    except AbsentError as error:
        if tries == 1:
            raise
        # It may be there though the answer was lost, so look again before writing a second one.
        api.wait(error, _TRIES - tries)
        return write(api, repository, number, name, body, create=create, tries=tries - 1)
    return "updated" if _was_second(api, repository, number, name, body, made) else "created"


def _was_second(api: Api, repository: str, number: int, name: str, body: str, made: object) -> bool:
    """Keep only the first of two comments where another run has made one at the same moment."""
    try:
        first = _ours(api, repository, number, marker(name))
        if first is None or not isinstance(made, dict) or type(made.get("id")) is not int or first["id"] == made["id"]:
            return False
        api.patch(_path(repository, first), {"body": body})
        api.delete(_path(repository, made))
    except ApiError:
        # What was made is there; the next run finds the first of them.
        return False
    return True


def _path(repository: str, comment: Mapping[str, Any]) -> str:
    return f"/repos/{repository}/issues/comments/{comment['id']}"


def _ours(api: Api, repository: str, number: int, first: str) -> dict[str, Any] | None:
    """Return the first comment that begins with the marker and was written by whose token this is."""
    login = ""
    for each in api.pages(f"/repos/{repository}/issues/{number}/comments"):
        if type(each.get("id")) is not int or not str(each.get("body", "")).startswith(first):
            continue
        # Anybody can write the marker: nobody can write as somebody else.
        login = login or _login(api)
        author = each.get("user")
        if isinstance(author, dict) and author.get("login") == login:
            return each
    return None


def _login(api: Api) -> str:
    """Return whose token it is: GraphQL tells it of people and of apps, REST only of people."""
    asked: tuple[Callable[[], Any], ...] = (
        lambda: api.graphql("{ viewer { login } }")["viewer"]["login"],
        lambda: api.get("/user")["login"],
    )
    for ask in asked:
        try:
            return str(ask())
        except (DeniedError, KeyError, TypeError):
            continue
    return _BOT
