"""The fields of a transformers config, read with the names that they have been written under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pytest_flopguard.core.errors import ConfigError, message, nearest

# How alike two names are that differ by a slip: a letter in ten.
_MISSPELT = 0.9
_SLIDING = ("sliding_attention",)
_FULL = ("full_attention", "attention")


class Fields:
    """A config as a plain mapping; ConfigError names the model type, the field and the rule."""

    def __init__(self, config: Mapping[str, object]) -> None:
        self.config = config
        self.model_type = str(config.get("model_type", ""))
        self._asked: set[str] = set()

    def get(self, name: str) -> object:
        """Return what stands under a name, None where nothing does."""
        self._asked.add(name)
        return self.config.get(name)

    def refuse_misspelt(self) -> None:
        """Refuse a field that nobody asked for, where one of nearly its name was asked for and is not there."""
        absent = [name for name in sorted(self._asked) if name not in self.config]
        for key in self.config:
            close = get_close_matches(key, absent, n=1, cutoff=_MISSPELT) if key not in self._asked else []
            if close:
                raise self.wrong(f"unknown field {key!r}; did you mean {close[0]!r}?")

    def size(self, *names: str, default: int | None = None) -> int:
        """Return a whole number under the first name that is there and not null; ``default`` if none is."""
        for name in names:
            value = self.get(name)
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                    raise self.wrong(f"{name} = {value!r}: expected a whole number, 0 or more")
                return value
        if default is None:
            known = [key for key in self.config if key not in names]
            hint = next((text for name in names if (text := nearest(name, known))), "")
            raise self.wrong(f"{names[0]} is missing{hint}")
        return default

    def flag(self, name: str, default: bool) -> bool:
        """Return a switch; null and a missing one are the default."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(f"{name} = {value!r}: expected true or false")
        return value

    def text(self, name: str, default: str = "") -> str:
        """Return a text; null and a missing one are the default."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(f"{name} = {value!r}: expected a text")
        return value

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return a list of whole numbers; empty where it is missing."""
        value = self.get(name)
        if value is None:
            return ()
        if not isinstance(value, (list, tuple)) or not all(type(each) is int and each >= 0 for each in value):
            raise self.wrong(f"{name} = {value!r}: expected a list of whole numbers")
        return tuple(value)

    def inner(self, name: str) -> Fields | None:
        """Return a config inside the config; None where it is missing."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(f"{name} = {value!r}: expected a table")
        return Fields(value)

    def fixed(self, name: str, *allowed: object) -> None:
        """Refuse a field whose value no formula here stands for."""
        value = self.get(name)
        if value is not None and value not in allowed:
            rule = " or ".join(repr(each) for each in allowed)
            raise self.wrong(f"{name} = {value!r}: the formula holds for {rule} only")

    def windows(self, layers: int, slides: Iterator[bool]) -> tuple[int, ...]:
        """Return each layer's window, 0 for none: as ``layer_types`` says, else as the family's pattern does."""
        types = self.get("layer_types")
        if types is not None:
            if not isinstance(types, (list, tuple)) or len(types) != layers:
                raise self.wrong(f"layer_types = {types!r}: expected one for each of {layers} layers")
            strange = sorted({str(each) for each in types if each not in (*_SLIDING, *_FULL)})
            if strange:
                raise self.wrong(f"layer_types has {', '.join(strange)}: the formula knows full and sliding attention")
            slides = iter([each in _SLIDING for each in types])
        pattern = [next(slides) for _ in range(layers)]
        if not any(pattern):
            return ()
        window = self.size("sliding_window", default=0)
        return tuple(window if each else 0 for each in pattern) if window else ()

    def wrong(self, problem: str) -> ConfigError:
        """Build the error that a problem is raised as."""
        return ConfigError(message("bad-config", model_type=self.model_type, problem=problem))
