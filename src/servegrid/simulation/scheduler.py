"""The loop of a server: who enters the next pass, how long it takes, who ends with it.

One state machine; a scheduler is a set of switches (see the catalogue's schedulers). First come, first served: nobody
overtakes, and whoever came last is preempted first (Kwon et al. 2023, section 4.5), as a whole.
"""

from __future__ import annotations

import numpy as np

from servegrid.simulation.responses import attention_time, decode_time, prompt_time, transfer_time
from servegrid.simulation.state import (
    ADMITTED,
    ARRIVED,
    BUSY,
    CONTEXT,
    COUNTED,
    ENTERING,
    FINAL,
    FINAL_TIME,
    FINISHED,
    LONGEST_QUEUE,
    NEXT_END,
    NOW,
    PAGES,
    PARTIAL,
    PASSES,
    PREEMPTIONS,
    PROMPTS,
    REFUSED,
    RELEASED,
    RESERVED,
    RESERVED_TIME,
    RUNNING,
    RUNNING_TIME,
    STACKED,
    STEPS,
    SWAPPING,
    TOKEN_TIME,
    USED,
    USED_TIME,
    WAITING_TIME,
    Requests,
    Rules,
    Server,
    fits_alone,
    free,
    is_counted,
    join,
    leave,
    pages_of,
    pass_time,
    reserve,
)


def serve(
    requests: Requests,
    rules: Rules,
    server: Server,
    physics: np.ndarray,
) -> None:
    """Serve all requests; fills `first` and `finish` of each, and the counters and integrals of the server."""
    n, clock = server.n, server.clock
    count = len(requests.arrival)
    n[PARTIAL] = -1
    send(count if rules.clients == 0 else rules.clients, 0.0, requests, rules, server, physics)
    while n[FINISHED] < count:
        while n[ARRIVED] < n[RELEASED] and requests.ready[n[ARRIVED]] <= clock[NOW]:
            n[ARRIVED] += 1
        ended = n[FINISHED]
        if rules.mixed:
            make_room(requests, rules, server)  # those that decode come before prompts
        tokens, attention = admit(requests, rules, server, physics)
        n[LONGEST_QUEUE] = max(n[LONGEST_QUEUE], n[ARRIVED] - n[ADMITTED] + n[STACKED])
        if rules.mixed:
            make_room(requests, rules, server)  # whoever came back from a swap may need a page at once
        if tokens > 0:
            fellows = n[RUNNING] if rules.mixed else 0
            seconds = prompt_time(float(tokens), float(fellows), attention, physics)
            if fellows > 0:
                seconds += decode_time(float(fellows), (n[CONTEXT] + fellows) / fellows, physics)
            run_prompts(seconds, fellows, requests, rules, server)
        elif n[RUNNING] > 0:
            make_room(requests, rules, server)
            decode(requests, rules, server, physics)
        elif n[FINISHED] == ended and n[ARRIVED] < n[RELEASED]:
            pass_time(requests.ready[n[ARRIVED]] - clock[NOW], False, server)
        if n[RUNNING] > 0 and n[NEXT_END] <= n[STEPS]:
            end_requests(requests, rules, server)
        if rules.clients > 0 and n[FINISHED] > ended:
            send(n[FINISHED] - ended, clock[NOW], requests, rules, server, physics)


def send(
    more: int,
    now: float,
    requests: Requests,
    rules: Rules,
    server: Server,
    physics: np.ndarray,
) -> None:
    """Let clients send requests: one each at once, or all at their own times."""
    n, pool = server.n, server.pool
    for i in range(n[RELEASED], min(n[RELEASED] + more, len(requests.arrival))):
        if rules.clients > 0:
            requests.arrival[i] = now
        requests.ready[i] = requests.arrival[i]
        if np.floor((i + 1) * rules.handed_over) > np.floor(i * rules.handed_over):
            # A pool of its own processes the prompt, one at a time on each of its servers, and hands the cache over.
            prompt, cached = requests.prompt[i], requests.cached[i]
            attention = attention_time(float(prompt - cached), float(prompt), physics)
            place = np.argmin(pool)
            begun = max(pool[place], requests.arrival[i])
            requests.first[i] = begun + prompt_time(float(prompt - cached), 0.0, attention, physics)
            pool[place] = requests.first[i]
            requests.made[i] = 1
            requests.ready[i] = requests.first[i] + transfer_time(float(prompt - cached), physics)
        if i > 0:
            requests.ready[i] = max(requests.ready[i], requests.ready[i - 1])
    n[RELEASED] = min(n[RELEASED] + more, len(requests.arrival))


def admit(requests: Requests, rules: Rules, server: Server, physics: np.ndarray) -> tuple[int, float]:
    """Choose the prompts of the next pass; return their tokens, and the time of their attention [s]."""
    n = server.n
    n[ENTERING] = 0
    if not rules.iteration_level and n[RUNNING] > 0:
        return 0, 0.0
    budget = rules.budget - n[RUNNING] if rules.chunked else rules.budget
    tokens, attention = 0, 0.0
    if n[PARTIAL] >= 0:
        i = n[PARTIAL]
        n[PARTIAL] = -1
        tokens, attention = begin(i, budget, requests, rules, server, physics)
    while n[PARTIAL] < 0 and n[RUNNING] + n[ENTERING] < rules.batch:
        if n[STACKED] > 0:
            i = server.stack[n[STACKED] - 1]
        elif n[ADMITTED] < n[ARRIVED]:
            i = n[ADMITTED]
        else:
            break
        if not fits_alone(i, requests, rules):
            n[ADMITTED] += 1
            n[REFUSED] += 1
            n[FINISHED] += 1
            continue
        handed = requests.swapped[i] or (requests.made[i] > 0 and n[STACKED] == 0)
        todo = 0 if handed else requests.prompt[i] + requests.made[i] - requests.cached[i]
        if todo > 0 and tokens > 0 and tokens + (1 if rules.chunked else todo) > budget:
            break
        if todo > 0 and rules.chunked and budget <= 0:
            break
        held = requests.prompt[i] + requests.made[i] - (1 if handed else 0)
        if not reserve(i, held, requests, rules, server):
            break
        if n[STACKED] > 0:
            n[STACKED] -= 1
        else:
            n[ADMITTED] += 1
        if handed:
            if requests.swapped[i]:
                requests.swapped[i] = False
                server.clock[SWAPPING] += pages_of(held, rules) * rules.swap_time
            join(i, held, requests.output[i] - requests.made[i], requests, rules, server)
        else:
            n[PROMPTS] += held
            more, time = begin(i, budget - tokens, requests, rules, server, physics)
            tokens += more
            attention += time
    if not rules.iteration_level and n[ENTERING] > 1:
        # All prompts of the batch are padded to the longest.
        longest = 0
        for k in range(n[ENTERING]):
            longest = max(longest, requests.prompt[server.entering[k]])
        tokens = longest * n[ENTERING]
        attention = n[ENTERING] * attention_time(float(longest), float(longest), physics)
    return tokens, attention


def begin(
    i: int,
    room: int,
    requests: Requests,
    rules: Rules,
    server: Server,
    physics: np.ndarray,
) -> tuple[int, float]:
    """Put as much of a prompt into the pass as there is room for; return its tokens and the time of their attention."""
    n = server.n
    start = requests.cached[i] + requests.done[i]
    rest = requests.prompt[i] + requests.made[i] - start
    part = min(rest, max(room, 0)) if rules.chunked else rest
    if part == rest:
        server.entering[n[ENTERING]] = i
        n[ENTERING] += 1
    else:
        n[PARTIAL] = i
    requests.done[i] += part
    if part == 0:
        return 0, 0.0
    return part, attention_time(float(part), float(start + part), physics)


def run_prompts(seconds: float, fellows: int, requests: Requests, rules: Rules, server: Server) -> None:
    """A pass with prompts: those that end give a first token, and decode from now on."""
    n, clock = server.n, server.clock
    if fellows > 0 and rules.reservation == PAGES:
        n[USED] += server.due[n[STEPS] % rules.page]
        n[RESERVED] = n[USED]
    pass_time(seconds + clock[SWAPPING], True, server)
    clock[SWAPPING] = 0.0
    n[PASSES] += 1
    if fellows > 0:
        n[STEPS] += 1
        n[CONTEXT] += n[RUNNING]
    longest = 0
    for k in range(n[ENTERING]):
        longest = max(longest, requests.output[server.entering[k]])
    for k in range(n[ENTERING]):
        i = server.entering[k]
        held = requests.prompt[i] + requests.made[i]
        n[PROMPTS] -= held
        requests.done[i] = 0
        requests.cached[i] = 0  # if it is preempted, it must compute all of it again
        if np.isnan(requests.first[i]):
            requests.first[i] = clock[NOW]
        requests.made[i] += 1
        # A batch that was formed as a whole runs until its longest output ends.
        last = requests.output[i] if rules.iteration_level else longest
        join(i, held, max(last - requests.made[i], 0), requests, rules, server)
    n[ENTERING] = 0


def decode(requests: Requests, rules: Rules, server: Server, physics: np.ndarray) -> None:
    """Passes in which requests only decode: until one ends, one arrives, or memory is short."""
    n, clock = server.n, server.clock
    running = n[RUNNING]
    paged = rules.reservation == PAGES
    alert = requests.ready[n[ARRIVED]] if n[ARRIVED] < n[RELEASED] else np.inf
    end, step = n[NEXT_END], n[STEPS]
    context, used = n[CONTEXT], n[USED]
    now, begun = clock[NOW], step
    phase = step % rules.page
    started = now
    now += clock[SWAPPING]
    clock[SWAPPING] = 0.0
    token_time, used_time = context * (now - started), used * (now - started)
    while step < end and now < alert:
        if paged:
            need = server.due[phase]
            if used + need > rules.pages:
                break
            used += need
            phase = phase + 1 if phase + 1 < rules.page else 0
        context += running
        seconds = decode_time(float(running), context / running, physics)
        now += seconds
        step += 1
        token_time += context * seconds
        used_time += used * seconds
    if is_counted(server):
        spent = now - started
        clock[COUNTED] += spent
        clock[BUSY] += spent
        clock[RUNNING_TIME] += spent * running
        clock[WAITING_TIME] += spent * (n[ARRIVED] - n[ADMITTED] + n[STACKED])
        clock[TOKEN_TIME] += token_time
        clock[FINAL_TIME] += spent * n[FINAL]
        clock[USED_TIME] += used_time
        clock[RESERVED_TIME] += used_time if paged else spent * n[RESERVED]
    clock[NOW] = now
    n[STEPS], n[CONTEXT], n[USED] = step, context, used
    n[PASSES] += step - begun
    if paged:
        n[RESERVED] = used


def end_requests(requests: Requests, rules: Rules, server: Server) -> None:
    """Let those go whose last token has been made, and find when the next will end."""
    n = server.n
    place = 0
    soonest = np.iinfo(np.int64).max
    while place < n[RUNNING]:
        i = server.running[place]
        if requests.ends[i] <= n[STEPS]:
            leave(place, requests, rules, server)
            requests.finish[i] = server.clock[NOW]
            n[FINISHED] += 1
        else:
            soonest = min(soonest, requests.ends[i])
            place += 1
    n[NEXT_END] = soonest


def make_room(requests: Requests, rules: Rules, server: Server) -> None:
    """Preempt whoever came last, until all that run can have the pages of their next token."""
    n = server.n
    while rules.reservation == PAGES and n[RUNNING] > 0 and n[USED] + server.due[n[STEPS] % rules.page] > rules.pages:
        n[PREEMPTIONS] += 1
        if n[PARTIAL] >= 0:
            i = n[PARTIAL]
            n[PARTIAL] = -1
            held = requests.prompt[i] + requests.made[i]
            n[PROMPTS] -= held
            free(i, held, requests, rules, server)
            requests.done[i] = 0
        else:
            last = 0
            for place in range(1, n[RUNNING]):
                if server.running[place] > server.running[last]:
                    last = place
            i = server.running[last]
            requests.made[i] = requests.output[i] - (requests.ends[i] - n[STEPS])
            held = leave(last, requests, rules, server)
            if rules.swapping:
                requests.swapped[i] = True
                server.clock[SWAPPING] += pages_of(held, rules) * rules.swap_time
        server.stack[n[STACKED]] = i
        n[STACKED] += 1
