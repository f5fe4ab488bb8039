"""Names and inputs that try to be more than names: shell, workflow commands, Markdown, mentions.

Each would leave a file, an annotation, or markup behind, and none may.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from action.act import TOKEN, Act
from action.github_server import GitHubServer
from action.project import CHECKOUT, NUMBER, REPOSITORY, USES, Project
from markdown_it import MarkdownIt

LINKS = ("link_open", "image")
pytestmark = pytest.mark.slow

# Whoever runs one of these makes the file; {0} is its path.
SHELL = [
    "$(touch {0})",
    "`touch {0}`",
    "; touch {0} ;",
    "'; touch {0} #",
    '"; touch {0} #',
    "\n touch {0}\n",
    "| touch {0}",
]
COMMANDS = [
    "::error::injected",
    "::warning file=a.py::injected",
    "##[error]injected",
    "::set-output name=outcome::passed",
]
MARKDOWN = [
    "<img src=x onerror=alert(1)>",
    "[click](https://evil.example)",
    "![x](https://evil.example/x.png)",
    "https://evil.example/bare",
    "</details></table><h1>injected</h1>",
    "<!-- flopguard:cpu -->",
    "a | b | c",
    "@octocat and @octo/team",
    "octo/widget#1 GH-1 #1",
    "``` \n # injected",
    "**bold** _it_ ~~no~~",
]
TEST = """\
import pytest
from model import run

HOSTILE = {hostile!r}


@pytest.mark.parametrize("number", range(len(HOSTILE)), ids=[str(each) for each in HOSTILE])
def test_hostile(number):
    print(HOSTILE[number])
    print("::add-mask::flopguard")
    run(layers=2)
"""
PEEK = """\
import os


def test_forward():
    # Of this process, of the one that started it, and of the script of the step.
    seen, process = "", "self"
    for _ in range(3):
        with open(f"/proc/{{process}}/environ") as stream:
            seen += stream.read()
        with open(f"/proc/{{process}}/stat") as stream:
            process = stream.read().rpartition(")")[2].split()[1]
    with open({file!r}, "w") as stream:
        stream.write(seen)
"""
WORKFLOW = f"""\
on: pull_request
jobs:
  flops:
    runs-on: ubuntu-latest
    steps:
      - uses: {CHECKOUT}
        with:
          persist-credentials: false
      - id: flops
        uses: {USES}
        with:
          id: ${{{{ github.event.pull_request.head.ref }}}}
          args: ${{{{ github.event.pull_request.title }}}}
          working-directory: ${{{{ github.event.pull_request.body }}}}
"""
BUDGET = """\
[tool.pytest.ini_options]
pythonpath = ["."]

[tool.flopguard.default-budget]
flops = 1
"""


def hostile(canary: Path) -> list[str]:
    return [*(each.format(canary) for each in SHELL), *COMMANDS, *MARKDOWN]


def reached(text: str) -> list[str]:
    """Return what names reached that they should not, as a reader of Markdown sees it; code is never read again."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    tokens = [each for token in tokens for each in [token, *(token.children or ())]]
    links = [str(each.attrs.get("href") or each.attrs.get("src")) for each in tokens if each.type in LINKS]
    html = [each.content for each in tokens if each.type in ("html_block", "html_inline")]
    plain = [each.content for each in tokens if each.type == "text"]
    return [
        *(each for each in links if "evil" in each),
        *(each for each in html if re.search(r"evil|injected|onerror|flopguard:", each)),
        # GitHub finds these by itself.
        *(each for each in plain if re.search(r"@octo|https?://|\bGH-1|#1\b", each)),
        # The verdict of a row is set in bold by us.
        *(
            after.content
            for each, after in itertools.pairwise(tokens)
            if each.type in ("strong_open", "em_open", "s_open") and after.content != "OVER"
        ),
    ]


def test_names_of_tests(act: Act, project: Project, github: GitHubServer, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    project.workflow(comment="always")
    project.model(layers=2)
    names = hostile(canary)
    project.write({"tests/test_model.py": TEST.format(hostile=names)})
    project.write({"pyproject.toml": BUDGET})
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    assert not canary.exists()
    assert run.outputs("flops")["broken"] == str(len(names))
    # All annotations are ours: the worst nine, and one that counts the rest.
    assert len(run.annotations) == 10
    assert {each.message for each in run.annotations} & {"injected"} == set()
    assert all(each.properties["file"] == "pyproject.toml" for each in run.annotations[:9])
    # What a test prints is no command: nothing was masked.
    assert "***" not in run.log
    (body,) = github.bodies(REPOSITORY, NUMBER)
    first, _, rest = body.partition("\n")
    assert first == "<!-- flopguard:cpu -->"
    for text in (rest, run.summary):
        assert "test_hostile" in text
        assert reached(text) == []


def test_the_token_is_kept_from_the_tests(act: Act, project: Project, github: GitHubServer, tmp_path: Path) -> None:
    project.workflow(comment="always")
    project.write({"tests/test_model.py": PEEK.format(file=str(tmp_path / "seen"))})
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert run.code == 0, run.told()
    seen = (tmp_path / "seen").read_text().split("\0")
    assert "FLOPGUARD_ID=cpu" in seen
    # act sets INPUT_* in every step of an action; the real runner does not, where the steps are scripts.
    assert {each for each in seen if TOKEN in each} <= {f"INPUT_TOKEN={TOKEN}"}
    # The comment was made with it nevertheless.
    assert [each.headers["authorization"] for each in github.asked("POST", "/comments")] == [f"Bearer {TOKEN}"]


def test_the_step_with_the_token_imports_nothing_of_the_checkout(
    act: Act, project: Project, github: GitHubServer, tmp_path: Path
) -> None:
    project.workflow(comment="always")
    thief = f"import os\nopen({str(tmp_path / 'seen')!r}, 'a').write(os.environ.get('FLOPGUARD_TOKEN', '') + ';')\n"
    project.nothing()
    project.write({"urllib3.py": thief})
    project.commit()
    run = act.run(project.folder, "pull_request", project.pull_request())
    assert run.code == 0, run.told()
    assert not (tmp_path / "seen").exists()
    assert len(github.bodies(REPOSITORY, NUMBER)) == 1


@pytest.mark.parametrize("where", ["id", "args", "working-directory"])
def test_inputs(where: str, act: Act, project: Project, github: GitHubServer, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    everything = "".join(hostile(canary))
    project.write({".github/workflows/flops.yml": WORKFLOW})
    project.model(layers=2)
    project.commit()
    payload = project.pull_request(branch=everything if where == "id" else "change")
    payload["pull_request"]["title"] = everything if where == "args" else ""
    payload["pull_request"]["body"] = everything if where == "working-directory" else ""
    run = act.run(project.folder, "pull_request", payload)
    assert (run.code, run.jobs) == (1, {"flops": "failure"}), run.told()
    assert not canary.exists()
    assert "injected" not in {each.message for each in run.annotations}
    assert run.outputs("flops")["outcome"] == "error"
    assert "Traceback" not in run.log
    for body in github.bodies(REPOSITORY, NUMBER):
        assert reached(body) == []


@pytest.mark.parametrize("text", [each for each in MARKDOWN if not each.startswith(("a |", "```"))])
def test_what_is_hostile_here_would_be_seen(text: str) -> None:
    assert reached(text)
