"""What a simulated server knows: its rules, its requests, its counters. Functions that change one thing each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from servegrid.simulation.buddy import give, power_of_two, take

# How memory is reserved, as the catalogue's schedulers say: page by page, or one contiguous block for all that a
# request will need, for the next power of two of its output, or for the longest request that there may be.
PAGES = 0
EXACT = 1
POWER_OF_TWO = 2

# The counters of a server.
ARRIVED = 0  # requests that have come
ADMITTED = 1  # requests that were taken from the queue at least once, or refused
FINISHED = 2  # requests that have ended, or were refused
RELEASED = 3  # requests that their clients have sent, or will send at a known time
RUNNING = 4  # requests that decode
STACKED = 5  # requests that were preempted and wait
ENTERING = 6  # requests whose prompts end in this pass
PARTIAL = 7  # the request whose prompt was begun in an earlier pass, or -1
STEPS = 8  # passes in which requests decoded
NEXT_END = 9  # the step with which the first of the running requests ends
USED = 10  # pages that are handed out
RESERVED = 11  # pages of them that were asked for: blocks are powers of two
FINAL = 12  # tokens that those who hold memory will have in the end
CONTEXT = 13  # tokens that running requests have in memory
PROMPTS = 14  # tokens of those whose prompts are processed
PASSES = 15
PREEMPTIONS = 16
REFUSED = 17
LONGEST_QUEUE = 18
COUNTERS = 19

# Its clock, and integrals over the time that is counted.
NOW = 0
SWAPPING = 1  # time of swaps that the next pass will take
COUNTED = 2
BUSY = 3
RUNNING_TIME = 4
WAITING_TIME = 5
TOKEN_TIME = 6
RESERVED_TIME = 7
FINAL_TIME = 8
USED_TIME = 9
SUMS = 10


class Rules(NamedTuple):
    """The scheduler and the memory: switches are 0 or 1, sizes in requests, tokens and pages."""

    iteration_level: bool
    reservation: int
    mixed: bool
    chunked: bool
    swapping: bool
    batch: int
    budget: int
    pages: int
    page: int
    spare: int  # pages that admission leaves free
    own: int  # pages of a request whatever its length
    longest: int  # tokens of the longest request
    swap_time: float  # of one page, one way [s]
    clients: int  # 0: requests come at times of their own
    handed_over: float  # share of prompts that a pool of its own processes


class Requests(NamedTuple):
    """One number for each request; times in s, NaN where there is none yet."""

    arrival: np.ndarray
    ready: np.ndarray  # when the scheduler sees it; later than arrival where another pool processes its prompt
    prompt: np.ndarray
    cached: np.ndarray  # tokens of the prompt that are in the prefix cache
    output: np.ndarray
    first: np.ndarray
    finish: np.ndarray
    made: np.ndarray  # tokens of the output that exist, at the last time that it joined or left those that run
    done: np.ndarray  # tokens of the prompt that earlier passes have processed
    context: np.ndarray  # tokens in memory when it joined
    joined: np.ndarray  # the step at which it joined
    ends: np.ndarray  # the step with which it ends
    block: np.ndarray  # the node of its block
    swapped: np.ndarray


class Server(NamedTuple):
    """What changes: counters, clock, lists of requests, and how many requests need a page in which step."""

    n: np.ndarray
    clock: np.ndarray
    running: np.ndarray
    entering: np.ndarray
    stack: np.ndarray
    due: np.ndarray
    tree: np.ndarray
    pool: np.ndarray  # when each server of the prefill pool is free
    ignored: int  # requests at the start that are not counted
    burst: bool  # all come at once: the whole run counts


def pages_of(tokens: int, rules: Rules) -> int:
    """Return the pages of so many tokens of one request."""
    return (tokens + rules.page - 1) // rules.page + rules.own


def reserved_pages(prompt: int, output: int, rules: Rules) -> int:
    """Return the pages that are asked for where memory is contiguous."""
    if rules.reservation == EXACT:
        return pages_of(prompt + output, rules)
    if rules.reservation == POWER_OF_TWO:
        return pages_of(prompt + power_of_two(output), rules)
    return pages_of(rules.longest, rules)


def fits_alone(i: int, requests: Requests, rules: Rules) -> bool:
    """Return whether a request can ever be served: all of its tokens fit the empty memory."""
    whole = pages_of(requests.prompt[i] + requests.output[i], rules)
    if rules.reservation == PAGES:
        return whole <= rules.pages
    asked = reserved_pages(requests.prompt[i], requests.output[i], rules)
    return power_of_two(asked) <= rules.pages and whole <= asked


def reserve(i: int, tokens: int, requests: Requests, rules: Rules, server: Server) -> bool:
    """Take memory for a request that has so many tokens now; return whether there was enough."""
    n = server.n
    if rules.reservation == PAGES:
        asked = taken = pages_of(tokens, rules)
        spare = rules.spare if n[USED] > 0 else 0
        growing = server.due[n[STEPS] % rules.page] if rules.mixed else 0
        if n[USED] + taken + spare + growing > rules.pages:
            return False
    else:
        asked = reserved_pages(requests.prompt[i], requests.output[i], rules)
        taken = power_of_two(asked)
        node = take(server.tree, taken)
        if node == 0:
            return False
        requests.block[i] = node
    n[USED] += taken
    n[RESERVED] += asked
    n[FINAL] += requests.prompt[i] + requests.output[i]
    return True


def free(i: int, tokens: int, requests: Requests, rules: Rules, server: Server) -> None:
    """Give the memory of a request back, which has so many tokens now."""
    n = server.n
    if rules.reservation == PAGES:
        asked = taken = pages_of(tokens, rules)
    else:
        asked = reserved_pages(requests.prompt[i], requests.output[i], rules)
        taken = power_of_two(asked)
        give(server.tree, requests.block[i], taken)
    n[USED] -= taken
    n[RESERVED] -= asked
    n[FINAL] -= requests.prompt[i] + requests.output[i]


def join(i: int, context: int, steps: int, requests: Requests, rules: Rules, server: Server) -> None:
    """Let a request decode for so many steps."""
    n = server.n
    requests.context[i] = context
    requests.joined[i] = n[STEPS]
    requests.ends[i] = n[STEPS] + steps
    server.running[n[RUNNING]] = i
    n[NEXT_END] = min(n[NEXT_END], requests.ends[i]) if n[RUNNING] > 0 else requests.ends[i]
    n[RUNNING] += 1
    n[CONTEXT] += context
    server.due[(n[STEPS] - context) % rules.page] += 1


def leave(place: int, requests: Requests, rules: Rules, server: Server) -> int:
    """Take the request at this place out of those that run, and its memory; return its tokens in memory."""
    n = server.n
    i = server.running[place]
    context = int(requests.context[i] + n[STEPS] - requests.joined[i])
    n[RUNNING] -= 1
    server.running[place] = server.running[n[RUNNING]]
    n[CONTEXT] -= context
    server.due[(n[STEPS] - context) % rules.page] -= 1
    free(i, context, requests, rules, server)
    return context


def is_counted(server: Server) -> bool:
    """Return whether time counts: from the first request that does to the last that arrives."""
    arrived = server.n[ARRIVED]
    return server.burst or server.ignored < arrived < len(server.running)


def pass_time(seconds: float, busy: bool, server: Server) -> None:
    """Let the clock go on, with everything as it is."""
    n, clock = server.n, server.clock
    if is_counted(server):
        clock[COUNTED] += seconds
        if busy:
            clock[BUSY] += seconds
        clock[RUNNING_TIME] += seconds * (n[RUNNING] + n[ENTERING])
        clock[WAITING_TIME] += seconds * (n[ARRIVED] - n[ADMITTED] + n[STACKED])
        clock[TOKEN_TIME] += seconds * (n[CONTEXT] + n[PROMPTS])
        clock[RESERVED_TIME] += seconds * n[RESERVED]
        clock[FINAL_TIME] += seconds * n[FINAL]
        clock[USED_TIME] += seconds * n[USED]
    clock[NOW] += seconds
