"""A chart as a file: a Vega-Lite specification drawn as SVG, PNG or a page of HTML that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pytest_flopguard.core.errors import UsageError, nearest, problem

SUFFIXES = (".svg", ".png", ".html")
# The version of the language that charts are written in.
_LANGUAGE = "5.20"
_PIXELS = 2.0
EXTRA = "pip install 'pytest-flopguard[plots]'"


def check_suffix(path: str) -> str:
    """Return the end of a path that says how to draw; UsageError with the code ``unknown-format`` for another one."""
    suffix = PurePath(path).suffix.lower()
    if suffix not in SUFFIXES:
        hint = nearest(suffix, SUFFIXES) or f"; known are {', '.join(SUFFIXES)}"
        raise UsageError([problem("unknown-format", "command line", suffix=suffix, path=path, hint=hint)])
    return suffix


def draw(chart: Mapping[str, Any], path: str) -> bytes:
    """Draw a chart as the end of the path asks; UsageError with the code ``missing-extra`` without vl-convert."""
    suffix = check_suffix(path)
    vl_convert = _converter(path)
    specification = {"background": "white", "config": _CONFIG, **chart}
    if suffix == ".svg":
        return str(vl_convert.vegalite_to_svg(specification, _LANGUAGE)).encode()
    if suffix == ".png":
        return bytes(vl_convert.vegalite_to_png(specification, _LANGUAGE, scale=_PIXELS))
    return str(vl_convert.vegalite_to_html(specification, _LANGUAGE, bundle=True)).encode()


def inline_svg(chart: Mapping[str, Any]) -> str:
    """Draw a chart as an SVG element for a page, in the colour of the text around it; UsageError without vl-convert."""
    specification = {"background": None, "config": {**_CONFIG, **_INLINE}, **chart}
    return str(_converter("a chart").vegalite_to_svg(specification, _LANGUAGE))


def _converter(what: str) -> Any:
    try:
        # Only here: nothing else of us needs it, and it is an optional extra.
        import vl_convert
    except ModuleNotFoundError as error:
        values = {"what": what, "package": "vl-convert-python", "install": EXTRA}
        raise UsageError([problem("missing-extra", "command line", **values)]) from error
    return vl_convert


_CONFIG = {
    "axis": {"labelFontSize": 12, "titleFontSize": 13, "titlePadding": 10, "gridOpacity": 0.5},
    "legend": {"labelFontSize": 12, "titleFontSize": 12},
    "title": {"fontSize": 15, "subtitleFontSize": 12, "anchor": "start", "offset": 12},
    "view": {"continuousWidth": 560, "continuousHeight": 340},
}
# A page is light or dark as its reader likes; what is drawn in it follows.
_INLINE = {
    "axis": {
        **dict.fromkeys(("labelColor", "titleColor", "domainColor", "tickColor", "gridColor"), "currentColor"),
        "gridOpacity": 0.15,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "view": {"stroke": None},
}
