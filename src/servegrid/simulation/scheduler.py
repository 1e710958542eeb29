"""The loop of a server: who enters the next pass, how long it takes, who ends with it.

One state machine; a scheduler is a set of switches (see the catalogue's schedulers). First come, first served: nobody
overtakes, and whoever came last is preempted first (Kwon et al. 2023, section 4.5), as a whole.
"""

from __future__ import annotations

import numpy as np

from servegrid.simulation.responses import attention_time, decode_time, prompt_time, transfer_time
from servegrid.simulation.state import (
    ENTER,
    PAGES,
    RUN,
    STACK,
    Lists,
    arrive,
    fits_alone,
    free,
    in_hand,
    is_counted,
    join,
    leave,
    note_queue,
    pages_of,
    pass_time,
    reserve,
    waiting,
)


def serve(
    requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists, pool: np.ndarray, physics: np.ndarray
) -> None:
    """Serve all requests; fills `first` and `finish` of each, and the counters and integrals of the server.

    `pool`: when each server of the prefill pool is free [s].
    """
    count = len(requests)
    server[0]["partial"] = -1
    send(rules[0]["clients"] if rules[0]["clients"] > 0 else count, requests, rules, server, pool, physics)
    while server[0]["finished"] < count and server[0]["now"] < np.inf:  # a time that is no number would never pass
        arrive(requests, rules, server)
        ended = server[0]["finished"]
        if rules[0]["mixed"]:
            make_room(requests, rules, server, lists)  # those that decode come before prompts
        tokens, attention = admit(requests, rules, server, lists, physics)
        if rules[0]["clients"] > 0 and server[0]["finished"] > ended:  # whoever is refused sends the next one at once
            send(server[0]["finished"] - ended, requests, rules, server, pool, physics)
            ended = server[0]["finished"]
        note_queue(server)
        if tokens > 0:
            run_prompts(tokens, attention, requests, rules, server, lists, physics)
        elif server[0]["running"] > 0:
            make_room(requests, rules, server, lists)
            note_queue(server)
            if server[0]["running"] > 0:
                decode(requests, rules, server, lists, physics)
        elif server[0]["finished"] == ended and server[0]["arrived"] < server[0]["released"]:
            pass_time(requests[server[0]["arrived"]]["ready"] - server[0]["now"], False, requests, rules, server)
        if server[0]["running"] > 0 and server[0]["next_end"] <= server[0]["steps"]:
            end_requests(requests, rules, server, lists)
        if rules[0]["clients"] > 0 and server[0]["finished"] > ended:
            send(server[0]["finished"] - ended, requests, rules, server, pool, physics)


def send(
    more: int, requests: np.ndarray, rules: np.ndarray, server: np.ndarray, pool: np.ndarray, physics: np.ndarray
) -> None:
    """Let clients send so many requests now, or all at their own times."""
    until = min(server[0]["released"] + more, len(requests))
    for i in range(server[0]["released"], until):
        request = requests[i]
        if rules[0]["clients"] > 0:
            request["arrival"] = server[0]["now"]
        request["ready"] = request["arrival"]
        if np.floor((i + 1) * rules[0]["handed_over"]) > np.floor(i * rules[0]["handed_over"]):
            # A pool of its own processes the prompt, one at a time on each of its servers, and hands the cache over.
            tokens = float(request["prompt"] - request["cached"])
            attention = attention_time(tokens, float(request["prompt"]), physics)
            place = np.argmin(pool)
            request["first"] = max(pool[place], request["arrival"]) + prompt_time(tokens, 0.0, attention, physics)
            pool[place] = request["first"]
            request["made"] = 1
            request["cached"] = 0  # if it is preempted, it must compute all of it again
            request["ready"] = request["first"] + transfer_time(tokens, physics)
        if i > 0:
            request["ready"] = max(request["ready"], requests[i - 1]["ready"])
    server[0]["released"] = until


def admit(
    requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists, physics: np.ndarray
) -> tuple[int, float]:
    """Choose the prompts of the next pass; return their tokens, and the time of their attention [s]."""
    server[0]["entering"] = 0
    if not rules[0]["iteration_level"] and server[0]["running"] > 0:
        return 0, 0.0
    budget = rules[0]["budget"] - (server[0]["running"] if rules[0]["chunked"] else 0)
    tokens, attention = 0, 0.0
    if server[0]["partial"] >= 0:
        i = server[0]["partial"]
        server[0]["partial"] = -1
        tokens, attention = begin(i, budget, requests, rules, server, lists, physics)
    while server[0]["partial"] < 0 and server[0]["running"] + server[0]["entering"] < rules[0]["batch"]:
        returning = server[0]["stacked"] > 0
        if not returning and server[0]["admitted"] == server[0]["arrived"]:
            break
        i = lists.order[STACK, server[0]["stacked"] - 1] if returning else server[0]["admitted"]
        request = requests[i]
        if not fits_alone(request, rules):
            server[0]["admitted"] += 1
            server[0]["refused"] += 1
            server[0]["finished"] += 1
            continue
        # Whose cache comes from the host or from another pool goes on where it was.
        ready = request["swapped"] or (request["made"] > 0 and not returning)
        todo = 0 if ready else request["prompt"] + request["made"] - request["cached"]
        least = min(todo, 1) if rules[0]["chunked"] else todo
        together = not rules[0]["iteration_level"] or (tokens == 0 and not rules[0]["chunked"])
        if todo > 0 and tokens + least > budget and not together:
            break
        held = request["prompt"] + request["made"] - (1 if ready else 0)
        if not reserve(request, held, ready, rules, server, lists):
            break
        if returning:
            server[0]["stacked"] -= 1
        else:
            server[0]["admitted"] += 1
        if ready:
            if request["swapped"]:
                request["swapped"] = 0
                server[0]["swap_debt"] += pages_of(held, rules) * rules[0]["swap_time"]
            join(i, held, request["output"] - request["made"], requests, rules, server, lists)
        else:
            server[0]["prompts"] += held
            part, time = begin(i, budget - tokens, requests, rules, server, lists, physics)
            tokens += part
            attention += time
    if not rules[0]["iteration_level"] and server[0]["entering"] > 1:
        length = batch_prompt(requests, rules, server, lists)
        tokens = length * server[0]["entering"]
        attention = server[0]["entering"] * attention_time(float(length), float(length), physics)
    return tokens, attention


def batch_prompt(requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists) -> int:
    """Return the tokens of each prompt in the first pass of a batch that is formed as a whole.

    Those of the longest, to which the others are padded; or, where prompts are cut, those of the shortest.
    """
    found = 0
    for k in range(server[0]["entering"]):
        request = requests[lists.order[ENTER, k]]
        prompt = request["prompt"] + request["made"]
        found = min(found, prompt) if rules[0]["shortest"] and k > 0 else max(found, prompt)
    return int(found)


def begin(
    i: int, room: int, requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists, physics: np.ndarray
) -> tuple[int, float]:
    """Put as much of a prompt into the pass as there is room for; return its tokens and the time of their attention."""
    request = requests[i]
    start = request["cached"] + request["done"]
    rest = request["prompt"] + request["made"] - start
    part = min(rest, max(room, 0)) if rules[0]["chunked"] else rest
    if part == rest:
        lists.order[ENTER, server[0]["entering"]] = i
        server[0]["entering"] += 1
    else:
        server[0]["partial"] = i
    request["done"] += part
    return part, attention_time(float(part), float(start + part), physics) if part > 0 else 0.0


def run_prompts(
    tokens: int,
    attention: float,
    requests: np.ndarray,
    rules: np.ndarray,
    server: np.ndarray,
    lists: Lists,
    physics: np.ndarray,
) -> None:
    """A pass with prompts: those that end give a first token, and decode from now on."""
    fellows = server[0]["running"] if rules[0]["mixed"] else 0
    seconds = prompt_time(float(tokens), float(fellows) / rules[0]["stages"], attention, physics)
    if server[0]["running"] > 0:
        seconds /= rules[0]["stages"]  # meanwhile the other stages work on those that decode
    seconds += server[0]["swap_debt"]
    server[0]["swap_debt"] = 0.0
    if fellows > 0:
        seconds += decode_time(float(fellows), float(server[0]["context"] + fellows) / fellows, physics)
        if rules[0]["reservation"] == PAGES:
            grow(lists.due[server[0]["steps"] % rules[0]["page"]], server)
    pass_time(seconds, True, requests, rules, server)
    server[0]["passes"] += 1
    if fellows > 0:
        server[0]["steps"] += 1
        server[0]["context"] += fellows
    if not rules[0]["iteration_level"] and server[0]["entering"] > 0:
        start_batch(requests, rules, server, lists, physics)
    for k in range(server[0]["entering"]):
        i = lists.order[ENTER, k]
        request = requests[i]
        held = request["prompt"] + request["made"]
        server[0]["prompts"] -= held
        request["done"] = 0
        request["cached"] = 0  # if it is preempted, it must compute all of it again
        if np.isnan(request["first"]):
            request["first"] = server[0]["now"]
        request["made"] += 1
        join(i, held, request["output"] - request["made"], requests, rules, server, lists)
    server[0]["entering"] = 0


def start_batch(requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists, physics: np.ndarray) -> None:
    """Let a batch that was formed as a whole decode, until the output ends that does so last.

    Where prompts are cut to the shortest, what is left of the others goes token by token, as outputs do.
    """
    shortest = batch_prompt(requests, rules, server, lists)
    size, last = server[0]["entering"], 0
    for k in range(size):
        request = requests[lists.order[ENTER, k]]
        rest = request["prompt"] - shortest if rules[0]["shortest"] else 0
        last = max(last, request["output"] - request["made"] + rest)
    for k in range(size):
        i = lists.order[ENTER, k]
        request = requests[i]
        held = request["prompt"] + request["made"]
        server[0]["prompts"] -= held
        request["done"] = request["cached"] = 0
        request["made"] += 1
        if np.isnan(request["first"]):
            request["first"] = server[0]["now"]
        if rules[0]["shortest"]:
            rest, held = request["prompt"] - shortest, shortest
            request["first"] += rest * decode_time(float(size), shortest + rest / 2, physics)
        join(i, held, last - 1, requests, rules, server, lists)
    server[0]["entering"] = 0


def grow(pages: int, server: np.ndarray) -> None:
    """Hand out pages for tokens that are about to be made."""
    server[0]["used"] += pages
    server[0]["reserved"] += pages
    server[0]["most_used"] = max(server[0]["most_used"], server[0]["used"])


def decode(requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists, physics: np.ndarray) -> None:
    """Passes in which requests only decode: until one ends, one arrives, or memory is short."""
    paged = rules[0]["reservation"] == PAGES
    alert = requests[server[0]["arrived"]]["ready"] if server[0]["arrived"] < server[0]["released"] else np.inf
    running, end, pages, page = server[0]["running"], server[0]["next_end"], rules[0]["pages"], rules[0]["page"]
    step, context, used, started = server[0]["steps"], server[0]["context"], server[0]["used"], server[0]["now"]
    now, debt, token_time, used_time = started, server[0]["swap_debt"], 0.0, 0.0
    phase = step % page
    while step < end and now < alert:
        if paged:
            need = lists.due[phase]
            if used + need > pages:
                break
            used += need
            phase = phase + 1 if phase + 1 < page else 0
        context += running
        seconds = decode_time(float(running), float(context) / running, physics) + debt
        debt = 0.0
        now += seconds
        step += 1
        token_time += context * seconds
        used_time += used * seconds
    if is_counted(requests, rules, server):
        spent = now - started
        server[0]["counted"] += spent
        server[0]["busy"] += spent
        server[0]["running_time"] += spent * in_hand(server)
        server[0]["waiting_time"] += spent * waiting(server)
        server[0]["token_time"] += token_time
        server[0]["final_time"] += spent * server[0]["final"]
        server[0]["used_time"] += used_time
        server[0]["reserved_time"] += used_time if paged else spent * server[0]["reserved"]
    server[0]["now"], server[0]["swap_debt"] = now, debt
    server[0]["passes"] += step - server[0]["steps"]
    server[0]["steps"], server[0]["context"] = step, context
    grow(used - server[0]["used"], server)


def end_requests(requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists) -> None:
    """Let those go whose last token has been made, and find when the next will end."""
    place, steps = 0, server[0]["steps"]
    soonest = steps + 2**62
    while place < server[0]["running"]:
        i = lists.order[RUN, place]
        ends = requests[i]["ends"]
        if ends <= steps:
            leave(place, requests, rules, server, lists)
            requests[i]["finish"] = server[0]["now"]
            server[0]["finished"] += 1
        else:
            soonest = min(soonest, ends)
            place += 1
    server[0]["next_end"] = soonest


def make_room(requests: np.ndarray, rules: np.ndarray, server: np.ndarray, lists: Lists) -> None:
    """Preempt whoever came last, until all that run can have the pages of their next token."""
    if rules[0]["reservation"] != PAGES:
        return
    while (
        server[0]["running"] > 0
        and server[0]["used"] + lists.due[server[0]["steps"] % rules[0]["page"]] > rules[0]["pages"]
    ):
        if server[0]["partial"] >= 0:
            i = server[0]["partial"]
            server[0]["partial"] = -1
            request = requests[i]
            held = request["prompt"] + request["made"]
            server[0]["prompts"] -= held
            free(request, held, rules, server, lists)
            request["done"] = 0
        else:
            last = 0
            for place in range(1, server[0]["running"]):
                if lists.order[RUN, place] > lists.order[RUN, last]:
                    last = place
            i = lists.order[RUN, last]
            request = requests[i]
            request["made"] += server[0]["steps"] - request["joined"]
            held = leave(last, requests, rules, server, lists)
            if request["made"] >= request["output"]:  # it only waits for the others of a batch that runs as a whole
                request["finish"] = server[0]["now"]
                server[0]["finished"] += 1
                continue
            if rules[0]["swapping"]:
                request["swapped"] = 1
                server[0]["swap_debt"] += pages_of(held, rules) * rules[0]["swap_time"]
        server[0]["preemptions"] += 1
        lists.order[STACK, server[0]["stacked"]] = i
        server[0]["stacked"] += 1
