"""The text of PYTORCH_CUDA_ALLOC_CONF: what it sets, and every mistake in it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_flopguard.backends.simulated.allocator_settings import AllocatorSettings, next_division
from pytest_flopguard.core.errors import UsageError

MIB = 1024 * 1024
GIB = 1024 * MIB


def problems(text: str) -> list[str]:
    with pytest.raises(UsageError) as raised:
        AllocatorSettings.parse(text)
    return [str(each) for each in raised.value.problems]


def test_nothing_set_is_what_torch_does_by_itself() -> None:
    assert AllocatorSettings.parse("") == AllocatorSettings()
    assert str(AllocatorSettings()) == "default"


def test_every_setting_is_read() -> None:
    settings = AllocatorSettings.parse(
        "max_split_size_mb:40, max_non_split_rounding_mb:35, garbage_collection_threshold:0.5,"
        "roundup_power2_divisions:4, expandable_segments:True, large_segment_size_mb:32,"
        "per_process_memory_fraction:0.75,backend:native"
    )
    assert settings == AllocatorSettings(
        max_split_size=40 * MIB,
        max_non_split_rounding=35 * MIB,
        large_segment_size=32 * MIB,
        roundup_power2_divisions=(4,) * 16,
        garbage_collection_threshold=0.5,
        expandable_segments=True,
        per_process_memory_fraction=0.75,
        text="max_split_size_mb:40,max_non_split_rounding_mb:35,garbage_collection_threshold:0.5,"
        "roundup_power2_divisions:4,expandable_segments:True,large_segment_size_mb:32,"
        "per_process_memory_fraction:0.75,backend:native",
    )
    assert str(settings) == settings.text


def test_the_last_of_two_counts_and_a_comma_may_end_it() -> None:
    settings = AllocatorSettings.parse("max_split_size_mb:30,max_split_size_mb:50,")
    assert settings.max_split_size == 50 * MIB


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({}, ""),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, "expandable_segments:True"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:99"}, "max_split_size_mb:99"),
        # Torch reads the older name first.
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True", "PYTORCH_CUDA_ALLOC_CONF": ""}, ""),
    ],
)
def test_the_environment_is_read_as_torch_does(environment: dict[str, str], text: str) -> None:
    assert AllocatorSettings.from_environment(environment).text == text


def test_a_mistake_is_told_with_the_variable_it_stands_in() -> None:
    with pytest.raises(UsageError, match=r"^PYTORCH_ALLOC_CONF: unknown setting 'foo' \[unknown-setting\]$"):
        AllocatorSettings.from_environment({"PYTORCH_ALLOC_CONF": "foo:1"})


def test_all_mistakes_are_told_at_once() -> None:
    told = problems("max_split_size:1,expandable_segments:true,nothing,max_split_size_mb:19")
    assert [each.removeprefix("PYTORCH_CUDA_ALLOC_CONF: ") for each in told] == [
        "unknown setting 'max_split_size'; did you mean 'max_split_size_mb'? [unknown-setting]",
        "expandable_segments = 'true': expected True or False; did you mean 'True'? [bad-value]",
        "entry = 'nothing': expected key:value [bad-value]",
        "max_split_size_mb = '19': expected a whole number of MiB, at least 20 [bad-value]",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("large_segment_size_mb:10", "a whole number of MiB, at least 11"),
        ("max_non_split_rounding_mb:19", "a whole number of MiB, at least 20"),
        # The least follows the large segment, wherever that stands.
        ("large_segment_size_mb:50,max_split_size_mb:49", "a whole number of MiB, at least 50"),
        ("max_split_size_mb:20,large_segment_size_mb:50", "a whole number of MiB, at least 50"),
        ("max_split_size_mb:-1", "a whole number of MiB, at least 20"),
        ("max_split_size_mb:", "a whole number of MiB, at least 20"),
        ("garbage_collection_threshold:0", "a number between 0 and 1, both excluded"),
        ("garbage_collection_threshold:1", "a number between 0 and 1, both excluded"),
        ("garbage_collection_threshold:much", "a number between 0 and 1, both excluded"),
        ("per_process_memory_fraction:1.1", "a number from 0 to 1"),
        ("per_process_memory_fraction:nan", "a number from 0 to 1"),
        ("roundup_power2_divisions:3", "a power of two, or a list such as [256:1,512:2,>:4]"),
        ("roundup_power2_divisions:0", "a power of two, or a list such as [256:1,512:2,>:4]"),
        ("roundup_power2_divisions:[100:8]", "a size in MiB, or >, and a number of divisions, both powers of two"),
        ("roundup_power2_divisions:[64:5]", "a size in MiB, or >, and a number of divisions, both powers of two"),
        ("backend:nativ", "native or cudaMallocAsync; did you mean 'native'?"),
        ("pinned_free_catch_all:yes", "True or False"),
        ("pinned_num_register_threads:few", "a whole number"),
        (",expandable_segments:True", "key:value"),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected(text: str, expected: str) -> None:
    (told,) = problems(text)
    assert told.endswith(f": expected {expected} [bad-value]")


@pytest.mark.parametrize(
    "text",
    [
        "large_segment_size_mb:11",
        "max_split_size_mb:20",
        "large_segment_size_mb:15,max_split_size_mb:15",
        "max_split_size_mb:15,large_segment_size_mb:15",
        "garbage_collection_threshold:.999",
        "garbage_collection_threshold:1e-3",
        "per_process_memory_fraction:0",
        "roundup_power2_divisions:1",
        "roundup_power2_divisions:[]",
        "roundup_power2_divisions:[256:0,>:1]",
    ],
)
def test_the_last_value_that_is_fine_is_fine(text: str) -> None:
    assert AllocatorSettings.parse(text).text == text


def test_what_the_model_leaves_out_is_told() -> None:
    settings = AllocatorSettings.parse(
        "backend:cudaMallocAsync,pinned_use_background_threads:True,throw_on_cudamalloc_oom:True"
    )
    assert settings.unmodelled == (
        "backend:cudaMallocAsync (the driver's pool allocates, not the caching allocator)",
        "throw_on_cudamalloc_oom:True (an early out-of-memory error is not modelled)",
    )
    assert settings.without_effect == ("pinned_use_background_threads:True (host memory)",)
    assert settings.replaced_by == "backend:cudaMallocAsync"


@pytest.mark.parametrize(("value", "replaced"), [("1", "PYTORCH_NO_CUDA_MEMORY_CACHING=1"), ("0", "")])
def test_no_caching_at_all_is_told(value: str, replaced: str) -> None:
    settings = AllocatorSettings.from_environment({"PYTORCH_NO_CUDA_MEMORY_CACHING": value})
    assert settings.replaced_by == replaced
    assert bool(settings.unmodelled) == bool(replaced)
    assert AllocatorSettings.parse("backend:native").replaced_by == ""


def test_divisions_by_size_begin_and_end_where_torch_has_them() -> None:
    # Of the test of torch itself: [64:8,128:2,256:4,512:2,1024:4,>:1], the sizes in MiB.
    settings = AllocatorSettings.parse("roundup_power2_divisions:[64:8,128:2,256:4,512:2,1024:4,>:1]")
    assert settings.roundup_power2_divisions == (8,) * 7 + (2, 4, 2, 4) + (1,) * 5


@pytest.mark.parametrize(
    ("text", "size", "rounded"),
    [
        # 1200 in 4 divisions: 1024, 1280, 1536, 1792. But below 512 x 4 bytes the plain rounding stays: 1536.
        ("roundup_power2_divisions:4", 1200, 1536),
        ("roundup_power2_divisions:4", 2048, 2048),
        # 2049 in 4: from 2048 in steps of 512.
        ("roundup_power2_divisions:4", 2049, 2560),
        # 5 MiB in 4: 4, 5, 6, 7 MiB.
        ("roundup_power2_divisions:4", 5 * MIB, 5 * MIB),
        ("roundup_power2_divisions:4", 5 * MIB + 1, 6 * MIB),
        ("roundup_power2_divisions:4", 7 * MIB + 1, 8 * MIB),
        # One division is none.
        ("roundup_power2_divisions:1", 5 * MIB + 1, 5 * MIB + 512),
        # Below 256 MiB 2 divisions, from there 8; from 512 MiB none.
        ("roundup_power2_divisions:[128:2,256:8]", 160 * MIB, 192 * MIB),
        ("roundup_power2_divisions:[128:2,256:8]", 260 * MIB, 288 * MIB),
        ("roundup_power2_divisions:[128:2,256:8]", 520 * MIB + 1, 520 * MIB + 512),
        ("roundup_power2_divisions:[128:2,256:8]", 3 * MIB + 1, 4 * MIB),
        # What is below 1 MiB goes with 1 MiB, what is above 64 GiB with the last.
        ("roundup_power2_divisions:[1:2,>:0]", 600_000, 786_432),
        ("roundup_power2_divisions:[1:2,>:0]", 3 * MIB + 1, 3 * MIB + 512),
        ("roundup_power2_divisions:[65536:2]", 150 * GIB, 192 * GIB),
        ("", 0, 512),
        ("", 513, 1024),
    ],
)
def test_how_a_request_is_rounded(text: str, size: int, rounded: int) -> None:
    assert AllocatorSettings.parse(text).rounded(size) == rounded


@pytest.mark.parametrize(
    ("size", "divisions", "expected"), [(1200, 4, 1280), (1024, 4, 1024), (1793, 4, 2048), (3, 8, 4)]
)
def test_the_next_division(size: int, divisions: int, expected: int) -> None:
    # The first is the example in torch's own comment. 3 in 8 divisions has steps below one byte: the next power.
    assert next_division(size, divisions) == expected


def test_what_may_be_wasted_follows_the_large_segment() -> None:
    # Read from the process of torch 2.13: with a large segment of 50 MiB the limit of waste is 50 MiB too.
    assert AllocatorSettings.parse("large_segment_size_mb:50").max_non_split_rounding == 50 * MIB
    both = AllocatorSettings.parse("max_non_split_rounding_mb:70,large_segment_size_mb:50")
    assert both.max_non_split_rounding == 70 * MIB


TOLD_TO_TORCH = [
    "large_segment_size_mb:10",
    "large_segment_size_mb:11",
    "max_split_size_mb:19",
    "max_split_size_mb:20",
    "large_segment_size_mb:50,max_split_size_mb:49",
    "large_segment_size_mb:50,max_split_size_mb:50",
    "max_non_split_rounding_mb:19",
    "expandable_segments:true",
    "expandable_segments:False,",
    "garbage_collection_threshold:1",
    "garbage_collection_threshold:0.9",
    "roundup_power2_divisions:3",
    "roundup_power2_divisions:0",
    "roundup_power2_divisions:[]",
    "roundup_power2_divisions:[100:8]",
    "roundup_power2_divisions:[64:8,256:4,>:2]",
]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="each text is told to a process that forks, and this system cannot")
def test_torch_itself_takes_and_refuses_the_same() -> None:
    # Each in a process of its own, for some settings of torch stay until its end.
    code = (
        "import os, sys, torch\n"
        "for text in sys.argv[1:]:\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        try:\n"
        "            torch._C._accelerator_setAllocatorSettings(text)\n"
        "        except (ValueError, RuntimeError):\n"
        "            os._exit(1)\n"
        "        os._exit(0)\n"
        "    print(os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *TOLD_TO_TORCH], check=True, capture_output=True, text=True)
    taken = {text: status == "0" for text, status in zip(TOLD_TO_TORCH, done.stdout.split(), strict=True)}
    if taken["large_segment_size_mb:10"]:
        # A release of torch that does not know the key yet passes it by.
        taken = {text: was for text, was in taken.items() if "large" not in text}
    assert taken == {text: _is_taken(text) for text in taken}
    assert {True, False} == set(taken.values())


def _is_taken(text: str) -> bool:
    try:
        AllocatorSettings.parse(text)
    except UsageError:
        return False
    return True
