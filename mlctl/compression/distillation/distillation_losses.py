"""How far a student's answers are from its teacher's."""

# B batch, C classes, V vocabulary, K tokens that are kept; `...` stands for [B], or [B, T] for T tokens of a window

import torch
from torch import Tensor
from torch.nn import functional


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), in nats, over logits [..., C] each: the mean, a scalar.

    T² keeps the gradients as large as those of the hard loss, whatever T is (Hinton et al. 2015, section 2).
    """
    return temperature**2 * _divergence(_log_shares(teacher / temperature), _log_shares(student / temperature))


def decoupled(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float, *, others_weight: float) -> Tensor:
    """T² · (TCKD + `others_weight` · NCKD) over logits [..., C] and class numbers int64 [...]: the mean, a scalar.

    TCKD is the divergence of what is said of the true class against all others together, NCKD that of the shares of
    the others among themselves (Zhao et al. 2022, equation 7). The mean weighs all places alike. C is 2 or more.
    """
    places = _other_places(targets, student.shape[-1])
    of_true, of_others = [], []
    for logits in (teacher / temperature, student / temperature):
        others = logits.gather(-1, places)
        together = others.logsumexp(-1, keepdim=True)
        of_true.append(_log_shares(torch.cat((logits.gather(-1, targets.unsqueeze(-1)), together), -1)))
        of_others.append(others - together)
    return temperature**2 * (_divergence(*of_true) + others_weight * _divergence(*of_others))


def squared_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference of raw outputs [B, outputs]: in deviations, where the target is standardized."""
    return functional.mse_loss(student, teacher)


def coarse(logits: Tensor, kept: Tensor) -> Tensor:
    """Logits [..., K + 1] of the kept tokens int64 [..., K] and, last, of all others together; K is less than V.

    Their softmax is what the softmax of `logits` [..., V] gives each kept token and the sum of what it gives the
    others, so nothing is made up about tokens that were not kept.
    """
    # Not the whole minus the kept: where nearly all lies on the kept tokens, no digit of the difference is left.
    others = logits.scatter(-1, kept, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat((logits.gather(-1, kept), others), -1)


def _other_places(targets: Tensor, classes: int) -> Tensor:
    """The numbers of all classes but the true one, ascending, int64 [..., C - 1]."""
    places = torch.arange(classes - 1, device=targets.device)
    return places + (places >= targets.unsqueeze(-1))


def _log_shares(logits: Tensor) -> Tensor:
    return functional.log_softmax(logits, -1)


def _divergence(reference: Tensor, found: Tensor) -> Tensor:
    """The mean Kullback-Leibler divergence of `found` from `reference`, logarithms of shares [..., C] each."""
    return functional.kl_div(found, reference, reduction="none", log_target=True).sum(-1).mean()
