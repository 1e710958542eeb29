"""Speculative decoding. Leviathan et al. 2023, arXiv:2211.17192; the drafter's own time is not counted."""

from servegrid.quantity import COUNT, quantity

LEVIATHAN = "Leviathan et al. 2023, equation 1, arXiv:2211.17192"


@quantity(unit="token", long_name="tokens that one step yields", bounds=COUNT, source=LEVIATHAN, better="higher")
def step_tokens(draft_len: float, acceptance: float) -> float:
    """Return (1 - a^(d + 1)) / (1 - a); 1 without a draft, d + 1 when all is accepted. Limits alone are checked."""
    return (1 - acceptance ** (draft_len + 1)) / (1 - acceptance) if acceptance < 1 else draft_len + 1
