"""How long a pass takes: what the simulation asks of the equations, for the batch at hand."""

from __future__ import annotations

from servegrid.response import Response

# One token of each running request; prompts are counted apart, in the pass in which they come.
decode_time = Response("decode_time", "token_time", ("rank_requests", "mean_context"), {"prefill_stall": 0})

# A part of a prompt: its tokens, and all that are in memory after it.
attention_time = Response("attention_time", "prefill_attention_time", ("prompt_tokens", "input_len"))

# All prompts of a pass together: tokens, requests that decode in the same pass, time of their attention.
prompt_time = Response(
    "prompt_time",
    "prefill_time",
    ("prompt_tokens", "fellow_tokens", "prefill_attention_time"),
    {"prompts_per_step": 1},
)

# The cache of a prompt, from the pool that processed it.
transfer_time = Response("transfer_time", "transfer_time", ("prompt_tokens",), {"disaggregated": 1})
