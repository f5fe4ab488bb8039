"""Everything about one record, exactly."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from pytest_flopguard.core.measurement import FlopTally, Measurement, MemoryPeak
from pytest_flopguard.reporters.details import details


def test_nothing_that_was_measured_is_left_out(build: SimpleNamespace) -> None:
    attention = replace(build.counted("aten.sdpa_backward", "net.attn", 800, "backward"), kernel_recompute=200)
    engine = FlopTally(engine="dispatch", counts=(build.counted("aten.mm", "", 1_200), attention))
    other = FlopTally(engine="fvcore", counts=(build.counted("aten.mm", "", 1_200),))
    peak = MemoryPeak(
        device="cuda:sm90",
        index=1,
        backend="cuda",
        start_bytes=1024,
        peak_bytes=4096,
        detail={"reserved_peak_bytes": 2_097_152},
    )
    seen = Measurement(
        label="step",
        flops=engine,
        other_tallies=(other,),
        memory=(peak,),
        unavailable={"sim": "no device was named"},
    )
    record = build.record("t.py::t", seen, build.limit("flops", "3 kFLOP", "t.py:2"))
    assert list(details(record)) == [
        "t.py::t  step",
        "  FLOPs (engine dispatch)",
        "    2,000  total",
        "    1,200  forward",
        "      800  backward",
        "        0  recompute",
        "        0  optimizer",
        "      200  kernel recompute, in no total",
        "  by module",
        # 1200 / 2000 and 800 / 2000.
        "    1,200 FLOP   60.00%  (outside any module)",
        "      800 FLOP   40.00%  net.attn",
        "  by op",
        "    1,200 FLOP   60.00%  aten.mm",
        "      800 FLOP   40.00%  aten.sdpa_backward",
        "  FLOPs for comparison (engine fvcore)",
        "    1,200  total",
        "    1,200  forward",
        "        0  backward",
        "        0  recompute",
        "        0  optimizer",
        "  memory on cuda:sm90 (device 1, backend cuda)",
        "    1,024  start",
        "    4,096  peak",
        "    3,072  growth",
        "  other figures of cuda",
        "    2,097,152  reserved_peak_bytes",
        "  not measured: sim, no device was named",
        "  findings",
        "    ok: FLOPs: 2 kFLOP, within 3 kFLOP [within-budget]",
        '      observed 2,000 FLOP, high 3,000 FLOP; t.py:2 flops = "3 kFLOP"',
        "    ok: unknown ops: 0, within 0 [within-budget]",
        "      observed 0, high 0; pyproject.toml",
    ]


def test_a_record_of_nothing(build: SimpleNamespace) -> None:
    empty = replace(build.record("t.py::t", Measurement()), findings=())
    assert list(details(empty)) == ["t.py::t"]
