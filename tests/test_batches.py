"""Batches that are formed as a whole, and pipelines: served without a compiler, in passes of whole seconds."""

from __future__ import annotations

import numpy as np
import pytest

from servegrid.simulation import scheduler as serving
from servegrid.simulation.simulate import Scheduler, play
from servegrid.simulation.state import RULES, SERVER
from servegrid.simulation.workload import Workload

# Two requests at once: prompts of 10 and 40 tokens, outputs of 6 and 3.
PAIR = Workload(
    concurrency=0, request_rate=0, arrival_cv=1, requests=2, seed=0, length_shape=0, input_len=5, input_cv=0,
    longest_input=1e9, output_len=5, output_cv=0, longest_output=5, max_len=64, prefix_hit_rate=0,
    attention_data_parallel=1, trace_times=np.zeros(2), trace_inputs=np.array([10.0, 40.0]),
    trace_outputs=np.array([6.0, 3.0]),
)  # fmt: skip
STATIC = Scheduler(
    iteration_level=0, reservation=3, mixed_passes=0, chunked_prompts=0, swapping=0, watermark=0, max_batch_size=8,
    chunk_size=8192, pool_pages=512, page_size=1, state_pages=0, swap_page_time=0, disaggregated=0, prefill_servers=1,
    pipeline_parallel=1,
)  # fmt: skip


@pytest.fixture(autouse=True)
def whole_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of a prompt takes a second, and so does a pass that decodes."""
    monkeypatch.setattr(serving, "attention_time", lambda tokens, context, physics: 0.0)
    monkeypatch.setattr(serving, "prompt_time", lambda tokens, fellows, attention, physics: tokens)
    monkeypatch.setattr(serving, "decode_time", lambda requests, context, physics: 1.0)


def served(scheduler: Scheduler, workload: Workload = PAIR) -> np.ndarray:
    return play(workload, scheduler, 0.0, np.empty(0), np.zeros(1, RULES), np.zeros(1, SERVER))


def test_prompts_of_a_batch_are_padded_to_the_longest() -> None:
    requests = served(STATIC)
    assert requests["first"].tolist() == [80, 80]
    assert requests["finish"].tolist() == [85, 85]  # five more tokens of the longer output


def test_prompts_of_a_batch_are_cut_to_the_shortest_and_the_rest_goes_token_by_token() -> None:
    requests = served(STATIC._replace(chunked_prompts=1))
    assert requests["first"].tolist() == [20, 50]  # 30 tokens of the longer prompt are left
    assert requests["finish"].tolist() == [52, 52]  # and two more of its output


def test_a_batch_of_one_has_nothing_to_cut() -> None:
    for chunked in (0, 1):
        requests = served(STATIC._replace(chunked_prompts=chunked, max_batch_size=1))
        assert requests["first"].tolist() == [10, 55]
        assert requests["finish"].tolist() == [15, 57]


@pytest.mark.parametrize("stages", [1, 4])
def test_a_prompt_holds_each_stage_up_for_its_share(stages: int) -> None:
    """The second request comes with the first one's last prompt token, and its prompt of 40 goes beside decoding."""
    workload = PAIR._replace(trace_times=np.array([0.0, 10.0]))
    requests = served(STATIC._replace(iteration_level=1, mixed_passes=1, pipeline_parallel=stages), workload)
    assert requests["first"].tolist() == [10, 10 + 40 / stages + 1]
    assert requests["finish"].tolist() == [10 + 40 / stages + 5, 10 + 40 / stages + 3]
