"""What a simulated server knows: its rules, its requests, its counters. Functions that change one thing each.

State is in records, which compiled functions hand on as one pointer. `rules` and `server` are arrays of one record: a
record alone does not keep its memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from servegrid.simulation.buddy import give, power_of_two, take

# How memory is reserved, as the catalogue's schedulers say: page by page, or one contiguous block for all that a
# request will need, for the next power of two of its output, or for the longest request that there may be.
RESERVATIONS = ("pages", "exact", "power_of_two", "longest")
PAGES = 0
EXACT = 1
POWER_OF_TWO = 2

RULES = np.dtype(
    [
        ("iteration_level", "i8"),
        ("reservation", "i8"),
        ("mixed", "i8"),
        ("chunked", "i8"),
        ("shortest", "i8"),  # prompts of a batch are cut to the shortest, and what is left goes token by token
        ("swapping", "i8"),
        ("batch", "i8"),  # most requests that run
        ("budget", "i8"),  # tokens of a pass with prompts
        ("pages", "i8"),
        ("page", "i8"),  # tokens of a page
        ("spare", "i8"),  # pages that admission leaves free
        ("own", "i8"),  # pages of a request whatever its length
        ("stages", "i8"),  # of the pipeline
        ("longest", "i8"),  # tokens of the longest request
        ("clients", "i8"),  # 0: requests come at times of their own
        ("ignored", "i8"),  # requests at the start that are not counted
        ("burst", "i8"),  # whether all come at once: then the whole run counts
        ("swap_time", "f8"),  # of one page, one way [s]
        ("handed_over", "f8"),  # share of prompts that a pool of their own processes
    ]
)

REQUEST = np.dtype(
    [
        ("arrival", "f8"),  # times [s] are NaN until they are known
        ("ready", "f8"),  # when the scheduler sees it: later, where another pool processes its prompt
        ("first", "f8"),
        ("finish", "f8"),
        ("prompt", "i8"),
        ("cached", "i8"),  # tokens of the prompt that are in the prefix cache
        ("output", "i8"),
        ("made", "i8"),  # tokens of the output that there were when it last joined those that run, or left them
        ("done", "i8"),  # tokens of the prompt that earlier passes have processed
        ("context", "i8"),  # tokens in memory when it joined
        ("joined", "i8"),  # the step at which it joined
        ("ends", "i8"),  # the step with which it ends
        ("block", "i8"),  # where its contiguous memory is
        ("swapped", "i8"),  # whether its cache is in the host's memory
    ]
)

SERVER = np.dtype(
    [
        ("arrived", "i8"),
        ("admitted", "i8"),  # requests that were taken from the queue at least once, or refused
        ("finished", "i8"),  # requests that have ended, or were refused
        ("released", "i8"),  # requests whose time of arrival is known
        ("running", "i8"),  # requests that decode
        ("stacked", "i8"),  # requests that were preempted and wait
        ("entering", "i8"),  # requests whose prompts end in this pass
        ("partial", "i8"),  # the request whose prompt was begun in an earlier pass, or -1
        ("steps", "i8"),  # passes in which requests decoded
        ("next_end", "i8"),  # the step with which the first of the running requests ends
        ("used", "i8"),  # pages that are handed out
        ("reserved", "i8"),  # pages that were asked for; blocks are powers of two
        ("final", "i8"),  # tokens that those who hold memory will have in the end
        ("context", "i8"),  # tokens that running requests have in memory
        ("prompts", "i8"),  # tokens of those whose prompts are processed
        ("passes", "i8"),
        ("preemptions", "i8"),
        ("refused", "i8"),
        ("longest_queue", "i8"),
        ("most_used", "i8"),
        ("now", "f8"),
        ("swap_debt", "f8"),  # time of swaps that the next pass will take
        ("counted", "f8"),  # time that counts, and integrals over it
        ("busy", "f8"),
        ("running_time", "f8"),
        ("waiting_time", "f8"),
        ("token_time", "f8"),
        ("reserved_time", "f8"),
        ("final_time", "f8"),
        ("used_time", "f8"),
    ]
)

RUN = 0  # the rows of `order`: requests that run, that enter, that were preempted (the last one comes back first)
ENTER = 1
STACK = 2


class Lists(NamedTuple):
    """Requests by their places in line, and the memory."""

    order: np.ndarray  # (3, requests)
    due: np.ndarray  # (page,): how many running requests need a page for their next token, by the step
    tree: np.ndarray  # free blocks of contiguous memory


def pages_of(tokens: int, rules: np.ndarray) -> int:
    """Return the pages of so many tokens of one request."""
    return int((tokens + rules[0]["page"] - 1) // rules[0]["page"] + rules[0]["own"])


def reserved_pages(request: np.void, rules: np.ndarray) -> int:
    """Return the pages that are asked for where memory is contiguous."""
    if rules[0]["reservation"] == EXACT:
        return pages_of(request["prompt"] + request["output"], rules)
    if rules[0]["reservation"] == POWER_OF_TWO:
        return pages_of(min(request["prompt"] + power_of_two(request["output"]), rules[0]["longest"]), rules)
    return pages_of(rules[0]["longest"], rules)


def fits_alone(request: np.void, rules: np.ndarray) -> bool:
    """Return whether a request can ever be served: all of its tokens fit the empty memory."""
    whole = pages_of(request["prompt"] + request["output"], rules)
    if rules[0]["reservation"] == PAGES:
        return bool(whole <= rules[0]["pages"])
    asked = reserved_pages(request, rules)
    return bool(power_of_two(asked) <= rules[0]["pages"] and whole <= asked)


def reserve(request: np.void, tokens: int, decodes: bool, rules: np.ndarray, server: np.ndarray, lists: Lists) -> bool:
    """Take memory for a request that has so many tokens now; return whether there was enough.

    Who `decodes` in the next pass must find room for one token more: it would be preempted at once otherwise.
    """
    if rules[0]["reservation"] == PAGES:
        asked = taken = pages_of(tokens, rules)
        soon = pages_of(tokens + 1, rules) if decodes else taken
        spare = rules[0]["spare"] if server[0]["used"] > 0 else 0
        growing = lists.due[server[0]["steps"] % rules[0]["page"]] if rules[0]["mixed"] or decodes else 0
        if server[0]["used"] + soon + spare + growing > rules[0]["pages"]:
            return False
    else:
        asked = reserved_pages(request, rules)
        taken = power_of_two(asked)
        node = take(lists.tree, taken)
        if node == 0:
            return False
        request["block"] = node
    server[0]["used"] += taken
    server[0]["reserved"] += asked
    server[0]["final"] += request["prompt"] + request["output"]
    server[0]["most_used"] = max(server[0]["most_used"], server[0]["used"])
    return True


def free(request: np.void, tokens: int, rules: np.ndarray, server: np.ndarray, lists: Lists) -> None:
    """Give the memory of a request back, which has so many tokens now."""
    if rules[0]["reservation"] == PAGES:
        asked = taken = pages_of(tokens, rules)
    else:
        asked = reserved_pages(request, rules)
        taken = power_of_two(asked)
        give(lists.tree, request["block"], taken)
    server[0]["used"] -= taken
    server[0]["reserved"] -= asked
    server[0]["final"] -= request["prompt"] + request["output"]


def join(
    i: int, context: int, steps: int, requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists
) -> None:
    """Let a request decode for so many steps."""
    request = requests[i]
    request["context"] = context
    request["joined"] = server[0]["steps"]
    request["ends"] = server[0]["steps"] + steps
    if server[0]["running"] == 0 or request["ends"] < server[0]["next_end"]:
        server[0]["next_end"] = request["ends"]
    lists.order[RUN, server[0]["running"]] = i
    server[0]["running"] += 1
    server[0]["context"] += context
    lists.due[(server[0]["steps"] - context) % rules[0]["page"]] += 1


def leave(place: int, requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists) -> int:
    """Take the request at this place out of those that run, and its memory; return its tokens in memory."""
    request = requests[lists.order[RUN, place]]
    context = request["context"] + server[0]["steps"] - request["joined"]
    server[0]["running"] -= 1
    lists.order[RUN, place] = lists.order[RUN, server[0]["running"]]
    server[0]["context"] -= context
    lists.due[(server[0]["steps"] - context) % rules[0]["page"]] -= 1
    free(request, context, rules, server, lists)
    return int(context)


def is_counted(requests: np.ndarray, rules: np.ndarray, server: np.ndarray) -> bool:
    """Return whether time counts: from the first request that does to the last that arrives."""
    return bool(rules[0]["burst"] or rules[0]["ignored"] < server[0]["arrived"] < len(requests))


def arrive(requests: np.ndarray, rules: np.ndarray, server: np.ndarray) -> None:
    """Note who has come by now, and how long they have waited for the pass to end."""
    while server[0]["arrived"] < server[0]["released"] and requests[server[0]["arrived"]]["ready"] <= server[0]["now"]:
        if is_counted(requests, rules, server):
            server[0]["waiting_time"] += server[0]["now"] - requests[server[0]["arrived"]]["ready"]
        server[0]["arrived"] += 1


def in_hand(server: np.ndarray) -> int:
    """Return how many requests are served: they decode, or their prompts are processed."""
    return int(server[0]["running"] + server[0]["entering"] + (server[0]["partial"] >= 0))


def waiting(server: np.ndarray) -> int:
    """Return how many requests wait."""
    return int(server[0]["arrived"] - server[0]["admitted"] + server[0]["stacked"])


def note_queue(server: np.ndarray) -> None:
    """Note how many requests wait for the coming pass to end."""
    server[0]["longest_queue"] = max(server[0]["longest_queue"], waiting(server))


def pass_time(seconds: float, busy: bool, requests: np.ndarray, rules: np.ndarray, server: np.ndarray) -> None:
    """Let the clock go on, with everything as it is."""
    if is_counted(requests, rules, server):
        server[0]["counted"] += seconds
        server[0]["busy"] += seconds if busy else 0.0
        server[0]["running_time"] += seconds * in_hand(server)
        server[0]["waiting_time"] += seconds * waiting(server)
        server[0]["token_time"] += seconds * (server[0]["context"] + server[0]["prompts"])
        server[0]["reserved_time"] += seconds * server[0]["reserved"]
        server[0]["final_time"] += seconds * server[0]["final"]
        server[0]["used_time"] += seconds * server[0]["used"]
    server[0]["now"] += seconds
