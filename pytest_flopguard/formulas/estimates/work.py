"""The FLOPs of an estimate: by closed form and, beside it, by the rule of thumb 2ND forward and 6ND in training."""

from __future__ import annotations

from dataclasses import replace

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.core.figure import Figure, inapplicable, unknown
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.encoder_decoder import EncoderDecoderSizes
from pytest_flopguard.formulas.architectures.models import checked_length, closed_form
from pytest_flopguard.formulas.architectures.parameters import active_parameters, matrix_parameters
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes
from pytest_flopguard.formulas.breakdown import Breakdown
from pytest_flopguard.formulas.estimates.asked import Subject, Workload
from pytest_flopguard.formulas.scaling.compute import FORWARD, TRAINING, forward_compute, pf_days, training_compute

# What stands outside the blocks is never done again.
EDGES = ("lm_head", "classifier", "pooler", "transform", "patch", "conv1", "conv2")


def form_of(subject: Subject, work: Workload) -> Breakdown | None:
    """Return the closed form of the workload's step; None where nothing but a number of parameters is known."""
    if subject.sizes is None:
        if work.recompute == "selective":
            rule = "'none' or 'full', as a number of parameters does not say what scores and values cost"
            raise SizeError(message("bad-size", name="recompute", value=work.recompute, rule=rule))
        return None
    checked_length(subject.sizes, work.seq)
    seq = 1 if work.decode else work.seq
    form = closed_form(subject.sizes, batch=work.batch, seq=seq, past=work.past, attention=work.attention)
    if not work.train or work.recompute == "none":
        return form
    core = tuple(each.name for each in form if in_core(each.name))
    if work.recompute == "selective":
        return form.recomputed(*core)
    return form.recomputed(but=EDGES)


def in_core(term: str) -> bool:
    """Whether a term is scores or values: what grows with the square of the context."""
    return term.endswith(("_scores", "_values"))


def core_of(form: Breakdown) -> Breakdown:
    """Return the scores and values of a closed form."""
    return replace(form, terms=tuple(each for each in form if in_core(each.name)))


def parameter_figures(subject: Subject) -> dict[str, Figure]:
    """Return how many parameters there are, how many a token meets, and how many it is multiplied with."""
    count = subject.parameters
    found = {"parameters": Figure(value=count, how="each shared one once" if subject.sizes else "as given")}
    if not isinstance(subject.sizes, DecoderSizes):
        reason = "known for decoders only"
        return found | {"active_parameters": inapplicable(reason), "matrix_parameters": inapplicable(reason)}
    return found | {
        "active_parameters": Figure(value=active_parameters(subject.sizes), how="those that one token meets"),
        "matrix_parameters": Figure(
            value=matrix_parameters(subject.sizes),
            how="those that one token is multiplied with: no embedding, biases and norms",
        ),
    }


def step_figures(subject: Subject, work: Workload, form: Breakdown | None) -> dict[str, Figure]:
    """Return the FLOPs of one step by phase, per token, and by the rule of thumb."""
    if form is None:
        forward = forward_compute(subject.parameters, work.new)
        found = {"forward": Figure(value=forward, unit="FLOP", how="2*N*tokens; attention over the context left out")}
        if work.train:
            found["backward"] = Figure(value=2 * forward, unit="FLOP", how="twice the forward")
        if work.recompute == "full":
            found["recompute"] = Figure(value=forward, unit="FLOP", how="full recompute: the forward again")
        total = forward * (1 if not work.train else 4 if work.recompute == "full" else 3)
    else:
        found = {"forward": Figure(value=form.forward, unit="FLOP", how="the terms above")}
        if work.train:
            found["backward"] = Figure(value=form.backward, unit="FLOP", how="two gradients of each product")
        if work.train and work.recompute != "none":
            found["recompute"] = Figure(value=form.recompute, unit="FLOP", how=f"{work.recompute} recompute")
        total = form.hardware_step if work.train else form.forward
    found.setdefault("backward", inapplicable("no --train: nothing is trained"))
    found.setdefault("recompute", inapplicable("nothing is computed again"))
    found["total"] = Figure(value=total, unit="FLOP", how=f"one {work.step}")
    found["per_token"] = (
        inapplicable("images are not tokens") if subject.reads_images else _per_token(total, step_tokens(subject, work))
    )
    found["by_rule"] = _by_rule(subject, work, step_tokens(subject, work))
    return {f"flops.{name}": each for name, each in found.items()}


def run_figures(subject: Subject, work: Workload, form: Breakdown | None) -> dict[str, Figure]:
    """Return the FLOPs of a whole training run; one unknown figure where no tokens are given."""
    if not work.tokens:
        return {"run": inapplicable("no --tokens: no training run was asked for")}
    if isinstance(subject.sizes, (VisionSizes, WhisperSizes)):
        rule = "none: a run over images or sound is not told in tokens"
        raise SizeError(message("bad-size", name="tokens", value=work.tokens, rule=rule))
    flops = run_flops(subject, work, form)
    return {
        "run.tokens": Figure(value=work.tokens, how=f"as given{_halves(subject)}"),
        "run.flops": Figure(value=flops, unit="FLOP", how="one step's FLOPs * tokens / its tokens"),
        "run.by_rule": _by_rule(subject, work, work.tokens),
        "run.pf_days": Figure(value=pf_days(flops), how="petaFLOP/s-days: FLOPs / (10**15 * 86,400)"),
    }


def run_flops(subject: Subject, work: Workload, form: Breakdown | None, *, recompute: bool = True) -> int:
    """FLOPs of all tokens of a run, exact; SizeError where these sequences leave a fraction of a FLOP."""
    if form is None:
        again = FORWARD if recompute and work.recompute == "full" else 0
        return training_compute(subject.parameters, work.tokens, per_parameter=TRAINING + again)
    step = form.hardware_step if recompute else form.training_step
    tokens = step_tokens(subject, work)
    whole, rest = divmod(step * work.tokens, tokens)
    if rest:
        rule = f"a multiple of the {tokens} tokens of a step: a token's share of this model's FLOPs is not whole"
        raise SizeError(message("bad-size", name="tokens", value=work.tokens, rule=rule))
    return whole


def step_tokens(subject: Subject, work: Workload) -> int:
    """Return the tokens of a step: an encoder-decoder reads as many as it writes, and both are tokens."""
    both = isinstance(subject.sizes, EncoderDecoderSizes) and not work.decode
    return work.new * (2 if both else 1)


def rule_factor(subject: Subject, work: Workload) -> int:
    """Return the FLOPs per parameter and token of the rule of thumb: 6 in training, 2 forward.

    A token of an encoder-decoder passes one half of the parameters: 3 and 1. Brown et al. 2020, table D.1.
    """
    factor = TRAINING if work.train else FORWARD
    return factor // 2 if isinstance(subject.sizes, EncoderDecoderSizes) else factor


def _halves(subject: Subject) -> str:
    return ", of source and target together" if isinstance(subject.sizes, EncoderDecoderSizes) else ""


def rule_flops(subject: Subject, work: Workload, tokens: int) -> int | None:
    """6*N*D in training, 2*N*D otherwise, half of that in an encoder-decoder; None where tokens meet other parts.

    N are the parameters that a token meets, D tokens; those of an encoder-decoder are of source and target together.
    """
    sizes = subject.sizes
    if isinstance(sizes, (VisionSizes, WhisperSizes)) or (isinstance(sizes, EncoderDecoderSizes) and work.decode):
        return None
    count = active_parameters(sizes) if isinstance(sizes, DecoderSizes) else subject.parameters
    return training_compute(count, tokens, per_parameter=rule_factor(subject, work))


def _by_rule(subject: Subject, work: Workload, tokens: int) -> Figure:
    flops = rule_flops(subject, work, tokens)
    if flops is None:
        return inapplicable("its tokens do not meet every parameter once")
    how = f"{rule_factor(subject, work)}*N*D, the rule of thumb: no attention over the context{_halves(subject)}"
    return Figure(value=flops, unit="FLOP", how=how)


def _per_token(total: int, tokens: int) -> Figure:
    if total % tokens:
        return unknown("windows leave a fraction: tokens do not all cost the same")
    return Figure(value=total // tokens, unit="FLOP", how="total / tokens")
