"""torchtitan's FLOPs per token: parameters without the embedding, dense attention, recompute left out."""

from __future__ import annotations

from pytest_flopguard.core.errors import SizeError, message
from pytest_flopguard.formulas.sizes import positive, whole


def token_flops(
    parameters: int, *, embedding: int, layers: int, heads: int, sequence: int, query_size: int, value_size: int
) -> int:
    """6*(N - N_embedding) + 6*L*a*(qk + v)*s, forward and backward; 12*L*a*d*s where qk = v = d."""
    if whole("embedding parameters", embedding) > positive("parameters", parameters):
        rule = f"at most parameters = {parameters}"
        raise SizeError(message("bad-size", name="embedding parameters", value=embedding, rule=rule))
    sizes = positive("query size", query_size) + positive("value size", value_size)
    core = positive("layers", layers) * positive("heads", heads) * sizes * positive("sequence", sequence)
    return 6 * (parameters - embedding) + 6 * core
