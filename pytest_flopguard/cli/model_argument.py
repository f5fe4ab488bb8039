"""MODEL on the command line: a name, a transformers config.json, or nothing but a number of parameters."""

from __future__ import annotations

import json
from pathlib import Path

from pytest_flopguard.core.errors import ArchitectureError, ConfigError, message, nearest
from pytest_flopguard.core.units import AmountError, Unit, parse_amount
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.presets import PRESETS, Config, preset
from pytest_flopguard.formulas.estimates.asked import Subject

HELP = "a known name (flopguard formulas lists them), or the path of a transformers config.json"


def subject(text: str, *, counts: bool = False) -> Subject:
    """Read MODEL; ``counts`` allows a number of parameters (``7B``), of which only the rules of thumb are known.

    ArchitectureError for an unknown name, ConfigError for a file that is no config, and what its fields raise.
    """
    if text in PRESETS:
        return Subject(name=text, sizes=from_config(preset(text)))
    path = Path(text)
    if path.suffix == ".json" or len(path.parts) > 1 or path.exists():
        return Subject(name=text, sizes=from_config(_config(path)))
    if counts and text[:1].isdigit():
        try:
            return Subject(name=f"{text} parameters", count=parse_amount(text, Unit.COUNT))
        except AmountError as error:
            raise ConfigError(message("bad-amount", name="MODEL", value=text, reason=str(error))) from error
    raise _unknown(text)


def config_of(text: str) -> Config:
    """Read MODEL as the config of a transformers model; ArchitectureError or ConfigError as ``subject`` raises them."""
    if text in PRESETS:
        return preset(text)
    path = Path(text)
    if path.suffix == ".json" or len(path.parts) > 1 or path.exists():
        return _config(path)
    raise _unknown(text)


def _unknown(text: str) -> ArchitectureError:
    hint = f"{nearest(text.lower(), PRESETS)}; a config.json is named by its path"
    return ArchitectureError(message("unknown-architecture", name=text, hint=hint, known=", ".join(PRESETS)))


def _config(path: Path) -> Config:
    file = path / "config.json" if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise _wrong(file, f"cannot be read: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(file, f"not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise _wrong(file, f"expected a table of fields, not {type(data).__name__}")
    return data


def _wrong(file: Path, problem: str) -> ConfigError:
    return ConfigError(message("bad-config", model_type=str(file), problem=problem))
