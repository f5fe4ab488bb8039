"""What an estimate is of: a model, the work that it does, and the machine that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_flopguard.core.errors import SizeError, message, unknown_name
from pytest_flopguard.formulas.architectures.families import Sizes
from pytest_flopguard.formulas.architectures.models import parameters
from pytest_flopguard.formulas.architectures.pairs import convention
from pytest_flopguard.formulas.architectures.vision_transformer import VisionSizes
from pytest_flopguard.formulas.dtypes import dtype_bits, dtype_name
from pytest_flopguard.formulas.hardware.gpus import Gpu
from pytest_flopguard.formulas.memory.activations import RECOMPUTE
from pytest_flopguard.formulas.memory.optimizers import optimizer
from pytest_flopguard.formulas.memory.recipes import training_recipe
from pytest_flopguard.formulas.memory.sharding import ZERO_STAGES
from pytest_flopguard.formulas.rates import above_zero, share
from pytest_flopguard.formulas.sizes import divided, positive

# The recipe of a training step where none is named.
RECIPES_BY_DTYPE: Mapping[str, str] = MappingProxyType(
    {"bfloat16": "mixed-adamw", "float16": "mixed-adamw", "float32": "fp32-adamw"}
)
_BYTE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model: its sizes, or nothing but its number of parameters."""

    name: str
    sizes: Sizes | None = None
    count: int = 0

    def __post_init__(self) -> None:
        if self.sizes is None:
            positive("parameters", self.count)

    @property
    def parameters(self) -> int:
        """All parameters, each shared one once."""
        return self.count if self.sizes is None else parameters(self.sizes)

    @property
    def reads_images(self) -> bool:
        """Whether its sequences are images of its own size."""
        return isinstance(self.sizes, VisionSizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """``batch`` sequences of ``seq`` tokens; with ``decode`` only the last of these is new, the others are cached.

    ``train`` is one training step, under a ``recipe`` or, with all in ``dtype``, one of torch's optimizers; with
    neither of them it is AdamW, mixed for 16 bits and plain for float32. ``tokens`` are those of a whole training run.
    ``dtype`` is that of activations, caches and products.
    """

    batch: int = 1
    seq: int = 1
    train: bool = False
    decode: bool = False
    attention: str = "dense"
    dtype: str = "bfloat16"
    recipe: str = ""
    optimizer: str = ""
    recompute: str = "none"
    tokens: int = 0

    def __post_init__(self) -> None:
        positive("batch", self.batch)
        positive("seq", self.seq)
        convention(self.attention)
        if self.train and (dtype_bits(self.dtype) < _BYTE or "float" not in dtype_name(self.dtype)):
            rule = "a floating dtype of 8 bits or more, as gradients have it"
            raise SizeError(message("bad-size", name="dtype", value=self.dtype, rule=rule))
        dtype_bits(self.dtype)
        if self.recipe:
            training_recipe(self.recipe)
        if self.optimizer:
            optimizer(self.optimizer)
        if self.recompute not in RECOMPUTE:
            raise unknown_name("recompute", self.recompute, RECOMPUTE)
        if self.decode and self.train:
            raise SizeError(message("bad-size", name="decode", value=True, rule="no decode step where there is train"))
        if self.tokens and not self.train:
            raise SizeError(
                message("bad-size", name="tokens", value=self.tokens, rule="train, as a run is of training")
            )
        if self.train:
            self._check_recipe()

    def _check_recipe(self) -> None:
        if not self.recipe and not self.optimizer and dtype_name(self.dtype) not in RECIPES_BY_DTYPE:
            rule = f"a recipe or an optimizer beside {self.dtype}: there is no usual one"
            raise SizeError(message("bad-size", name="recipe", value=None, rule=rule))

    @property
    def past(self) -> int:
        """Tokens of each sequence that lie in the cache."""
        return self.seq - 1 if self.decode else 0

    @property
    def new(self) -> int:
        """Tokens of all sequences that go through the model."""
        return self.batch * (1 if self.decode else self.seq)

    @property
    def step(self) -> str:
        """What is estimated, in words."""
        if self.train:
            return "training step"
        return "decode step" if self.decode else "forward pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """GPUs of one kind, how they share the work, and what is known of the time: at most one of the last three.

    ``mfu`` is an expected share of the peak; ``seconds`` and ``gpu_hours`` were measured. ``tensor``, ``pipeline`` and
    ``zero`` are None where nothing is said of the layout; what they leave over is data parallel.
    """

    gpu: Gpu
    gpus: int = 1
    sparse: bool = False
    tensor: int | None = None
    pipeline: int | None = None
    zero: int | None = None
    sequence_parallel: bool = False
    mfu: float | None = None
    seconds: float | None = None
    gpu_hours: float | None = None

    def __post_init__(self) -> None:
        positive("gpus", self.gpus)
        if self.zero is not None and self.zero not in ZERO_STAGES:
            raise SizeError(message("bad-size", name="zero", value=self.zero, rule="one of 0, 1, 2, 3"))
        if self.mfu is not None:
            share("mfu", self.mfu)
        for name in ("seconds", "gpu_hours"):
            if getattr(self, name) is not None:
                above_zero(name, getattr(self, name))
        if self.sequence_parallel and (self.tensor or 1) == 1:
            rule = "a tensor-parallel size above 1 with it"
            raise SizeError(message("bad-size", name="sequence_parallel", value=True, rule=rule))
        if self.laid_out:
            divided("gpus", self.gpus, "tensor * pipeline", self.shards)

    @property
    def laid_out(self) -> bool:
        """Whether something is said of how the GPUs share the work."""
        return (self.tensor, self.pipeline, self.zero) != (None, None, None)

    @property
    def shards(self) -> int:
        """Parts that one copy of the model is in."""
        tensor = 1 if self.tensor is None else positive("tensor", self.tensor)
        return tensor * (1 if self.pipeline is None else positive("pipeline", self.pipeline))

    @property
    def copies(self) -> int:
        """Data-parallel copies of the model."""
        return self.gpus // self.shards
