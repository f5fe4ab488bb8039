"""The limits of one quantity: an amount, a table with more to say, or one of these for each device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_flopguard.budgets.draft import Draft, KeyPath
from pytest_flopguard.budgets.run_device import SIMULATED
from pytest_flopguard.budgets.tolerances import unreadable
from pytest_flopguard.core.errors import nearest
from pytest_flopguard.core.expectation import SEVERITIES, UNITS, Expectation, Quantity, Severity
from pytest_flopguard.core.gpu_names import gpu_name
from pytest_flopguard.core.units import AmountError, parse_amount, parse_tolerance

MEMORY: tuple[Quantity, ...] = ("peak_memory", "memory_growth")
FORMULA = "formula"
KEYS = ("limit", "at_least", "tolerance", "severity", "predict")
_OTHER_NAMES = {"gpu": "cuda", "nvidia": "cuda", "host": "cpu", "ram": "cpu"}
DEVICES = ("cpu", "cuda", "sim", "meta", "fake", "mps", "xpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for a limit that does not say otherwise; the tolerance is as written and known to be readable."""

    tolerance: object = 0
    severity: Severity = "error"
    predict: bool = False


def read_limits(draft: Draft, quantity: Quantity, value: object, terms: Terms) -> tuple[Expectation, ...]:
    """Read what is written for a quantity; what is wrong goes to the draft."""
    path = (draft.spelled(quantity),)
    by_device = (
        quantity in MEMORY
        and isinstance(value, Mapping)
        and bool(value)
        and not any(draft.known(key, KEYS) for key in value)
    )
    if not by_device or not isinstance(value, Mapping):
        return tuple(_read_limit(draft, path, quantity, value, terms))
    devices: dict[str, str] = {}
    found: list[Expectation] = []
    for keys, inner in value.items():
        for device in _read_devices(draft, (*path, str(keys)), devices):
            found.extend(_read_limit(draft, (*path, str(keys)), quantity, inner, terms, device))
    return tuple(found)


def read_formula(draft: Draft, value: object, severity: Severity) -> tuple[Expectation, ...]:
    """Read ``"auto"``: the closed form of the models that will have run; anything else goes to the draft."""
    if value != "auto":
        draft.complain_value((FORMULA,), value, "'auto'; a closed form of your own is stated by flopguard.expect")
        return ()
    origin = draft.locate((FORMULA,))
    return (Expectation(quantity="flops", origin=origin, severity=severity, source="formula", derive="auto"),)


def read_severity(draft: Draft, path: KeyPath, value: object, otherwise: Severity) -> Severity:
    """Read ``"error"`` or ``"warn"``; anything else goes to the draft and counts as not written."""
    for each in SEVERITIES:
        if value == each:
            return each
    draft.complain_value(path, value, "'error' or 'warn'")
    return otherwise


def read_switch(draft: Draft, path: KeyPath, value: object, otherwise: bool) -> bool:
    """Read true or false; anything else goes to the draft and counts as not written."""
    if isinstance(value, bool):
        return value
    draft.complain_value(path, value, "true or false")
    return otherwise


def _read_devices(draft: Draft, path: KeyPath, devices: dict[str, str]) -> Iterator[str]:
    """Yield the devices of a key such as ``"cuda:sm80, cuda:sm90"``; ``devices`` holds the key of each so far."""
    for device in (_named(each.strip()) for each in path[-1].split(",")):
        kind, colon, detail = device.partition(":")
        if kind not in DEVICES or (colon and not detail):
            hint = nearest(_OTHER_NAMES.get(kind, kind), DEVICES) or nearest(device, map(draft.spelled, KEYS))
            draft.complain("unknown-device", path, name=device, hint=hint)
        elif detail.isdecimal():
            hint = f"; a device has no number here: write {kind!r}, or its architecture as in 'cuda:sm90'"
            draft.complain("unknown-device", path, name=device, hint=hint)
        elif device in devices:
            draft.complain_value(path, path[-1], f"each device once, and {device!r} stands in {devices[device]!r} too")
        else:
            devices[device] = path[-1]
            yield device


def _named(device: str) -> str:
    """Return a device key with the one name that a simulated GPU is measured under: sim:a100 is sim:a100-80gb."""
    kind, _, gpu = device.partition(":")
    return f"{kind}:{gpu_name(gpu)}" if kind == SIMULATED and gpu else device


def _read_limit(
    draft: Draft, path: KeyPath, quantity: Quantity, value: object, terms: Terms, device: str | None = None
) -> Iterator[Expectation]:
    """Yield the one expectation that is written, unless something is wrong with it."""
    before = len(draft.problems)
    written = _entries(draft, path, quantity, value)
    if not written.keys() & {"limit", "at_least"} and len(draft.problems) == before:
        draft.complain_value(path, value, f"an amount, or a table with 'limit' or {draft.spelled('at_least')!r}")
    high, low = (_read_bound(draft, quantity, written, name) for name in ("limit", "at_least"))
    if high is not None and low is not None and low > high:
        place, amount = written["at_least"]
        draft.complain_value(place, amount, f"at most the limit, {written['limit'][1]!r}")
    severity, tolerance, predict = terms.severity, terms.tolerance, terms.predict
    if "severity" in written:
        severity = read_severity(draft, *written["severity"], otherwise=severity)
    if "predict" in written:
        place, wanted = written["predict"]
        predict = read_switch(draft, place, wanted, otherwise=predict)
        if quantity not in MEMORY or (device or "").partition(":")[0] != "cuda":
            draft.complain_value(place, wanted, "a limit of memory for 'cuda': nothing else is predicted")
    if "tolerance" in written:
        place, tolerance = written["tolerance"]
        if reason := unreadable(tolerance, quantity):
            draft.complain("bad-amount", place, name=".".join(place), value=tolerance, reason=reason)
    if len(draft.problems) == before:
        unit, place = UNITS[quantity], written.get("limit", written.get("at_least", (path, None)))[0]
        yield Expectation(
            quantity=quantity,
            low=None if low is None else max(0, low - parse_tolerance(tolerance, low, unit)),
            high=None if high is None else high + parse_tolerance(tolerance, high, unit),
            origin=draft.locate(place),
            severity=severity,
            device=device,
            predict=predict and (device or "").partition(":")[0] == "cuda",
        )


def _entries(draft: Draft, path: KeyPath, quantity: Quantity, value: object) -> dict[str, tuple[KeyPath, object]]:
    """Return what a limit says, by our names, with the place of each."""
    if not isinstance(value, Mapping):
        return {"limit": (path, value)}
    found: dict[str, tuple[KeyPath, object]] = {}
    for key, inner in value.items():
        name, place = draft.known(key, KEYS), (*path, str(key))
        if name is not None:
            found[name] = (place, inner)
        elif quantity in MEMORY and place[-1].partition(":")[0] in DEVICES:
            hint = "; write one limit for all devices, or limits by device"
            draft.complain("unknown-budget-key", place, name=key, quantity=path[0], hint=hint)
        else:
            hint = nearest(place[-1], map(draft.spelled, KEYS))
            draft.complain("unknown-budget-key", place, name=key, quantity=path[0], hint=hint)
    return found


def _read_bound(
    draft: Draft, quantity: Quantity, written: Mapping[str, tuple[KeyPath, object]], name: str
) -> int | None:
    if name not in written:
        return None
    place, value = written[name]
    try:
        return parse_amount(value, UNITS[quantity], up=name == "at_least")
    except AmountError as error:
        draft.complain("bad-amount", place, name=".".join(place), value=value, reason=error)
        return None
