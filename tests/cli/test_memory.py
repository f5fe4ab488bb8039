"""``flopguard memory``: peaks of real steps on a simulated GPU, and what fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch._dynamo.config  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st

from pytest_flopguard.backends.simulated.fitting import largest
from pytest_flopguard.cli import main
from pytest_flopguard.formulas.architectures.families import from_config
from pytest_flopguard.formulas.architectures.models import parameters

MIB = 2**20
# One step makes and drops a block of batch x seq KiB.
PROGRAM = """
import torch

def blocks(batch, seq):
    kept = torch.empty(2**20, dtype=torch.uint8, device="cuda")
    return lambda: (kept, torch.empty(batch * seq, 1024, dtype=torch.uint8, device="cuda"))

def raises(batch, seq):
    return lambda: torch.empty(4, device="cuda").sum().item()

number = 7
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the programs and go there; each test has a module of another name, since Python keeps modules."""
    name = f"program_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_step_that_fits(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:blocks", "--batch", "4", "--seq", "1024", "--gpu", "l4"]) == 0
    told = capsys.readouterr().out
    # 1 MiB and 4 x 1024 KiB; a segment of 2 MiB for small blocks, and one of 20 MiB.
    assert "peak allocated  5 MiB" in told
    assert "peak reserved   22 MiB of 21.48 GiB" in told
    assert "fits            yes, 21.45 GiB to spare" in told
    assert "predicted, not measured: l4, torch " in told


def test_a_step_that_does_not_fit_ends_with_1(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:blocks", "--batch", "64", "--seq", "1024", "--capacity", "32 MiB"]) == 1
    # 64 MiB and the small segment of 2 MiB are 34 MiB more than there is.
    assert "fits            34 MiB more reserved than there is" in capsys.readouterr().out


def test_the_largest_that_fits_is_found_by_running(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["memory", f"{program}:blocks", "--seq", "1024", "--capacity", "64 MiB", "--largest", "batch", "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    # One of them is 1 MiB and comes out of a small segment; others out of segments of 20 MiB below 10 MiB, and of their
    # own size above. Beside the small segment of 2 MiB there is room for one of 62 MiB.
    assert found["largest"] == {"batch": 62}
    assert found["peak_bytes"] == 2 * MIB
    assert found["reserved_peak_bytes"] == 2 * MIB
    assert found["prediction"]["gpu"] == "h100"


def test_nothing_fits(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["memory", f"{program}:blocks", "--seq", "65536", "--capacity", "32 MiB", "--largest", "batch"]
    assert main(arguments) == 1
    assert "largest batch   none: not even 1 fits at seq 65,536" in capsys.readouterr().out


def test_all_mistakes_are_told_at_once(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "memory",
        f"{program}:blcks",
        "--gpu",
        "h1000",
        "--batch",
        "0",
        "--capacity",
        "much",
        "--plot",
        "x.gif",
    ]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    for part in ("did you mean 'blocks'?", "'h1000'", "--batch", "much", "x.gif"):
        assert part in told


def test_what_is_no_function_is_told(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:number"]) == 2
    assert "expected a function of (batch, seq), not int" in capsys.readouterr().err
    assert main(["memory", "no_such_module_here:step"]) == 2
    assert "a module that can be imported" in capsys.readouterr().err


def test_a_program_that_reads_values_is_told_its_line(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:raises"]) == 2
    told = capsys.readouterr().err
    assert f"{program}.py:9 in <lambda>" in told
    assert ": the test asks for a value" in told


@given(limit=st.integers(0, 300), most=st.integers(1, 200))
def test_the_largest_is_the_last_that_fits(limit: int, most: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= limit

    assert largest(fits, most) == min(limit, most)
    assert all(1 <= each <= most for each in tried)
    assert len(tried) == len(set(tried))


# A config of each kind that is small enough to run in a second: class, inputs, and the spans of its inference.
KINDS = {
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 16, "vocab_size": 100}, ["prefill", "decode"]),
    "t5": (
        {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16, "vocab_size": 100},
        ["prefill", "decode"],
    ),
    "vit": (
        {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 32, "patch_size": 16, "num_channels": 3, "num_labels": 10,
        },
        ["forward"],
    ),
    "whisper": (
        {
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
            "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 10,
            "vocab_size": 100, "max_source_positions": 20, "max_target_positions": 16, "pad_token_id": 0,
        },
        ["prefill", "decode"],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("model_type", KINDS)
def test_each_kind_of_model_has_its_own_class_and_inputs(
    model_type: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields, spans = KINDS[model_type]
    config = {"model_type": model_type, **fields}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert main(["memory", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["spans"]) == ["building", *spans]
    # Every parameter in bfloat16, the encoder's too. Each tensor takes up to 511 bytes more, and there are below 150.
    weights = 2 * parameters(from_config(config))
    assert weights <= found["by_category"]["parameters"] < weights + 150 * 512
    assert main(["memory", str(path), "--json", "--train"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert list(trained["spans"]) == ["building", "step"]
    assert trained["by_category"]["optimizer_state"] >= 2 * weights


@pytest.mark.slow
def test_inference_holds_a_cache(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One wide layer of 8 heads of 64, 1,025 tokens: the decode step holds keys and values of 1,024 tokens at least."""
    path = tmp_path / "config.json"
    config = {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 8, "vocab_size": 8,
    }  # fmt: skip
    path.write_text(json.dumps(config), encoding="utf-8")
    assert main(["memory", str(path), "--seq", "1025", "--batch", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["spans"]
    # 2 * 4 sequences * 1,024 tokens * 512 numbers of 2 bytes.
    assert found["decode"]["peak_bytes"] - found["building"]["peak_bytes"] >= 2 * 4 * 1024 * 512 * 2


def test_more_tokens_than_positions_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "gpt2", **KINDS["gpt2"][0]}), encoding="utf-8")
    for arguments in (["memory", str(path)], ["estimate", str(path)], ["context", str(path)]):
        assert main([*arguments, "--seq", "17"]) == 2
        assert "expected at most 16" in capsys.readouterr().err
    # A table of positions in a model without a closed form.
    opt = {
        "model_type": "opt", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 64,
        "vocab_size": 100, "max_position_embeddings": 128, "word_embed_proj_dim": 32,
    }  # fmt: skip
    path.write_text(json.dumps(opt), encoding="utf-8")
    assert main(["memory", str(path), "--seq", "129"]) == 2
    assert "expected at most 128" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"model_type": "zzz"}, "transformers refuses it: Unrecognized model identifier: zzz"),
        ({"model_type": "clap"}, "transformers has no class for it"),
        ({**KINDS["gpt2"][0], "model_type": "llama", "hidden_size": 65, "num_attention_heads": 4}, "65"),
    ],
)
def test_a_config_that_cannot_run_is_refused(
    config: dict[str, object], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    assert main(["memory", str(path), "--seq", "8"]) == 2
    assert problem in capsys.readouterr().err


def test_options_that_would_do_nothing_are_refused(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", f"{program}:blocks", "--train", "--dtype", "float16"]) == 2
    found = capsys.readouterr().err
    assert "--train = True: expected none: a program of your own decides that" in found
    assert "--dtype = 'float16': expected none" in found
    assert main(["memory", "vit-b-16", "--seq", "4", "--optimizer", "adm", "--largest", "all"]) == 2
    found = capsys.readouterr().err
    for part in ("--seq = 4: expected none: an image", "--optimizer = 'adm': expected adamw,", "--train", "--largest"):
        assert part in found


def test_a_program_that_raises_is_no_answer(program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / f"{program}.py").write_text("def step(batch, seq):\n    return lambda: 1 / 0\n", encoding="utf-8")
    assert main(["memory", f"{program}:step"]) == 2
    found = capsys.readouterr().err
    assert f"{program}.py:2: the program {program}:step raised ZeroDivisionError: division by zero" in found
