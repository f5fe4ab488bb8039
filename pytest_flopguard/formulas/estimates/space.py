"""The memory of an estimate: one copy of the model, and what each GPU holds of it where a layout is given."""

from __future__ import annotations

from pytest_flopguard.core.figure import Figure, inapplicable, unknown
from pytest_flopguard.formulas.architectures.decoder_sizes import DecoderSizes
from pytest_flopguard.formulas.architectures.encoder import EncoderSizes
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes
from pytest_flopguard.formulas.architectures.whisper import WhisperSizes
from pytest_flopguard.formulas.dtypes import dtype_bits, dtype_bytes, dtype_name
from pytest_flopguard.formulas.estimates.asked import RECIPES_BY_DTYPE, Machine, Subject, Workload
from pytest_flopguard.formulas.estimates.kept import activations, known
from pytest_flopguard.formulas.memory.decoder import decoder_kv_cache
from pytest_flopguard.formulas.memory.inference import inference, requests_that_fit
from pytest_flopguard.formulas.memory.kv_cache import grouped, kv_cache_bytes
from pytest_flopguard.formulas.memory.optimizers import optimizer
from pytest_flopguard.formulas.memory.recipes import Recipe, training_recipe
from pytest_flopguard.formulas.memory.sharding import model_parallel
from pytest_flopguard.formulas.sizes import divided

_GATHERS = 3


def memory_figures(subject: Subject, work: Workload, machine: Machine | None) -> dict[str, Figure]:
    """Return the bytes of one copy of the model, then of each GPU, then how many requests fit beside the weights."""
    found = _training(subject, work) if work.train else _inference(subject, work)
    found["total"] = _sum(found)
    found |= {f"per_gpu{name}": each for name, each in _per_gpu(subject, work, machine).items()}
    found["requests_that_fit"] = _requests(subject, work, machine)
    return {f"memory.{name}": each for name, each in found.items()}


def recipe_of(work: Workload) -> Recipe:
    """Return the workload's recipe: a named one, or torch's optimizer on parameters of the workload's dtype."""
    if not work.optimizer:
        return training_recipe(work.recipe or RECIPES_BY_DTYPE[dtype_name(work.dtype)])
    each = dtype_bytes(work.dtype)
    return Recipe(
        name=work.optimizer,
        weights=each,
        gradients=each,
        master=0,
        states=optimizer(work.optimizer).moments * each,
        source=f"torch's {work.optimizer}, all in {work.dtype}; its step counters, 4 bytes a tensor, left out",
    )


def _inference(subject: Subject, work: Workload) -> dict[str, Figure]:
    weights = dtype_bytes(work.dtype, subject.parameters)
    freed = "not held: what a layer computes is freed as the next one runs"
    return {
        "weights": Figure(value=weights, unit="B", how=f"N * {dtype_bits(work.dtype)} bits"),
        "gradients": inapplicable("no --train: nothing is trained"),
        "optimizer": inapplicable("no --train: nothing is trained"),
        "activations": inapplicable(freed),
        "kv_cache": _cache(subject, work, batch=work.batch),
        "kv_cache_per_sequence": _cache(subject, work, batch=1),
    }


def _training(subject: Subject, work: Workload) -> dict[str, Figure]:
    recipe, count = recipe_of(work), subject.parameters
    parts = (("weights", recipe.weights), ("gradients", recipe.gradients), ("optimizer", recipe.optimizer))
    found = {name: Figure(value=each * count, unit="B", how=f"{each} bytes * N") for name, each in parts}
    source = f"{recipe.weights} bytes * N, {recipe.name}: {recipe.source}"
    found["weights"] = Figure(value=recipe.weights * count, unit="B", how=source)
    master = "float32 master weights" if recipe.master else f"no master weights, all in {work.dtype}"
    how = f"{recipe.total} bytes per parameter, {master}; flopguard memory runs one dtype without master weights"
    return (
        {"recipe": Figure(value=recipe.name, how=how)}
        | found
        | {
            "activations": activations(subject, work, work.batch),
            "kv_cache": inapplicable("training keeps no cache"),
        }
    )


def _cache(subject: Subject, work: Workload, *, batch: int, tensor: int = 1) -> Figure:
    sizes = subject.sizes
    if sizes is None:
        return unknown("a number of parameters does not say how large the keys and values are")
    if isinstance(sizes, (EncoderSizes, VisionSizes)):
        return inapplicable("it reads all positions at once, and keeps none")
    if isinstance(sizes, DecoderSizes):
        held = decoder_kv_cache(sizes, tokens=work.seq, dtype=work.dtype, batch=batch, tensor=tensor)
        return Figure(value=held, unit="B", how=f"{_number(work.seq, 'token')} of {_number(batch, 'sequence')}")
    text = sizes.text if isinstance(sizes, WhisperSizes) else sizes
    source = sizes.source_positions if isinstance(sizes, WhisperSizes) else work.seq
    layer = grouped(kv_heads=text.decoder.heads, head_dim=text.decoder.head_dim)
    layers = (layer,) * text.decoder_layers
    held = sum(
        kv_cache_bytes(layers, tokens=tokens, dtype=work.dtype, batch=batch, tensor=tensor)
        for tokens in (work.seq, source)
    )
    how = f"{_number(work.seq, 'token')} and {_number(source, 'position')} of the encoder, {_number(batch, 'sequence')}"
    return Figure(value=held, unit="B", how=how)


def _number(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _sum(parts: dict[str, Figure]) -> Figure:
    names = [name for name in parts if name not in ("kv_cache_per_sequence", "recipe")]
    missing = [name for name in names if parts[name].value is None and parts[name].applies]
    total = sum(value for name in names if isinstance(value := parts[name].value, int))
    if missing:
        return unknown(f"without {' and '.join(missing)} it is {total:,} B")
    held = " + ".join(name for name in names if parts[name].value is not None)
    return Figure(value=total, unit="B", how=held)


def _per_gpu(subject: Subject, work: Workload, machine: Machine | None) -> dict[str, Figure]:
    if machine is None:
        return {"": inapplicable("no --gpu")}
    if not machine.laid_out:
        return {"": unknown("no --tensor, --pipeline or --zero: nothing is said of how the GPUs share the model")}
    tensor, stages = machine.tensor or 1, machine.pipeline or 1
    batch = divided("batch", work.batch, "data-parallel copies", machine.copies)
    if work.train:
        held = model_parallel(
            subject.parameters,
            tensor=tensor,
            pipeline=stages,
            data=machine.copies,
            stage=machine.zero or 0,
            recipe=recipe_of(work),
        )
        layout = f"tensor {tensor} * pipeline {stages} * data {machine.copies}, ZeRO {machine.zero or 0}"
        # ZeRO 3 gathers a layer's weights where it is computed, and lets them go after it.
        layout += ", without what is gathered at the moment" if machine.zero == _GATHERS else ""
        kept = activations(subject, work, batch, tensor, sequence_parallel=machine.sequence_parallel)
        if stages > 1:
            kept = unknown("no formula here for the microbatches that a pipeline holds at once")
        found = {name: Figure(value=held.parts()[name], unit="B", how=layout) for name in _parts()}
        found |= {"activations": kept}
    else:
        found = {
            "weights": Figure(
                value=inference(subject.parameters, dtype=work.dtype, tensor=machine.shards).weights,
                unit="B",
                how=f"split evenly over {machine.shards}",
            ),
            "kv_cache": _split_cache(subject, work, batch, tensor, stages),
        }
    found["total"] = _sum(found)
    return {f".{name}": each for name, each in found.items()}


def _split_cache(subject: Subject, work: Workload, batch: int, tensor: int, stages: int) -> Figure:
    if stages > 1:
        return unknown("no formula here for the caches of a pipeline's stages")
    return known(lambda: _cache(subject, work, batch=batch, tensor=tensor))


def _parts() -> tuple[str, ...]:
    return ("weights", "gradients", "optimizer")


def _requests(subject: Subject, work: Workload, machine: Machine | None) -> Figure:
    if work.train:
        return inapplicable("training answers no requests")
    if machine is None:
        return inapplicable("no --gpu")
    one = _cache(subject, work, batch=1).value
    if not isinstance(one, int):
        return unknown("the cache of one sequence is not known")
    memory, weights = machine.gpus * machine.gpu.memory_bytes, dtype_bytes(work.dtype, subject.parameters)
    if memory < weights:
        return unknown(f"the weights alone take {weights:,} B of {memory:,} B")
    number = requests_that_fit(memory=memory, weight_bytes=weights, bytes_per_request=one)
    how = f"({memory:,} B - weights) // kv_cache_per_sequence, one copy of the weights, nothing reserved"
    return Figure(value=number, how=how)
