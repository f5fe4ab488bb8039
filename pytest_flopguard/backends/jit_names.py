"""Which ops of a torch.jit trace are free or uncounted.

A trace names ops above autograd, where the lists for the dispatch level lack those that torch takes apart before
they get there (``softmax`` becomes ``_softmax``), and the interpreter's own scalar ops. Only ops whose parts are all
free or uncounted may stand here.
"""

from __future__ import annotations

import torch

from pytest_flopguard.backends import op_traits
from pytest_flopguard.backends.base import CostModel
from pytest_flopguard.backends.torch_api.dispatch import schema_of
from pytest_flopguard.core.measurement import Kind

_SCALARS = """
Bool Float FloatImplicit Int IntImplicit ScalarImplicit __and__ __contains__ __getitem__ __not__ __or__
device is_complex is_floating_point is_nonzero len tensor
"""

_MOVES = """
_pad_circular _pad_packed_sequence argwhere atleast_1d atleast_2d atleast_3d broadcast_tensors cartesian_prod
column_stack combinations concatenate data diag diagflat dstack fill_diagonal_ fliplr flipud meshgrid msort
native_channel_shuffle nonzero_numpy one_hot pad pad_sequence requires_grad_ row_stack take_along_dim tile to_dense
type_as unsafe_chunk vstack
"""

_ELEMENTWISE = """
absolute alpha_dropout arccos arccosh arcsin arcsinh arctan arctan2 arctanh diff divide dropout feature_alpha_dropout
feature_dropout fix ger greater greater_equal hinge_embedding_loss isclose isreal kron l1_loss less less_equal
log_sigmoid multiply negative not_equal outer prelu special_digamma special_erf special_erfc special_erfinv
special_exp2 special_expit special_expm1 special_gammainc special_gammaincc special_gammaln special_i0 special_log1p
special_logit special_multigammaln special_ndtr special_polygamma special_psi special_round special_sinc
special_xlogy subtract true_divide
"""

_REDUCING = """
adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d batch_norm cosine_embedding_loss cosine_similarity
cross_entropy_loss ctc_loss embedding_bag frobenius_norm grid_sampler group_norm instance_norm kl_div layer_norm
margin_ranking_loss max_pool1d max_pool1d_with_indices max_pool2d max_pool3d multilabel_margin_loss nanmean
nanquantile nll_loss nll_loss2d nll_loss_nd norm_except_dim pairwise_distance poisson_nll_loss quantile rms_norm
special_log_softmax special_logsumexp special_softmax sum_to_size triplet_margin_loss _weight_norm
"""

_FREE = frozenset(f"aten.{name}" for name in (_SCALARS + _MOVES).split())
_UNCOUNTED = frozenset(f"aten.{name}" for name in (_ELEMENTWISE + _REDUCING).split())


def kind_of(op: str, costs: CostModel) -> Kind:
    """Classify ``"aten.softmax"``: as the cost model does, then by the lists of this module."""
    kinds = {costs.kind(op, each) for each in _traits(op)}
    if len(kinds) == 1 and "unknown" not in kinds:
        return kinds.pop()
    names = {op, op.removesuffix("_")}
    if names & _FREE:
        return "free"
    return "uncounted" if names & _UNCOUNTED else "unknown"


def _traits(op: str) -> list[frozenset[str]]:
    """Return the traits of each overload of an aten op; a trace does not say which one runs, so all must agree."""
    space, _, name = op.partition(".")
    packet = getattr(torch.ops.aten, name, None) if space == "aten" else None
    if packet is None:
        return [frozenset()]
    # Overloads on plain numbers and lists (aten::eq.int) belong to the interpreter; an out= overload is never traced.
    overloads = [getattr(packet, each) for each in packet.overloads() if not each.endswith("out")]
    on_tensors = [each for each in overloads if any(str(arg.type) == "Tensor" for arg in schema_of(each).arguments)]
    return [op_traits.traits(each) for each in on_tensors or overloads] or [frozenset()]
