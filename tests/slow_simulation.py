"""A server of requests, simulated slowly: one object per request, one pass at a time, memory as lists of pages.

Written from the papers and from what the docstrings promise, with nothing of servegrid in it. Yu et al. 2022 (ORCA),
section 4: a batch that changes before each pass; blocks of contiguous memory. Kwon et al. 2023, sections 4.3 and 4.5:
pages as tokens come, first come first served, the last is preempted first and as a whole, recomputed or swapped.
Agrawal et al. 2024 (Sarathi-Serve), algorithm 3: what decodes goes first, prompts get what is left of the budget.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Request:
    number: int
    arrival: float
    prompt: int
    output: int
    cached: int = 0
    """Tokens of the prompt that need not be computed."""
    seen: float = 0.0
    made: int = 0
    """Tokens of the output."""
    held: int = 0
    """Tokens in memory."""
    computed: int = 0
    """Tokens of the prompt that earlier passes have processed."""
    in_host: bool = False
    handed_over: bool = False
    pages: list[int] = field(default_factory=list)
    block: tuple[int, int] | None = None
    steps_left: int = 0
    first: float = math.nan
    finish: float = math.nan
    refused: bool = False


@dataclass
class Times:
    """How long things take [s]."""

    decode: Callable[[float, float], float]  # of requests, mean tokens of each
    attention: Callable[[float, float], float]  # of tokens, tokens there are after them
    prompts: Callable[[float, float, float], float]  # of tokens, requests that decode, time of the attention
    transfer: Callable[[float], float] = lambda tokens: 0.0
    swap: float = 0.0


@dataclass
class Policy:
    iteration_level: bool = True
    reservation: str = "pages"
    mixed: bool = True
    chunked: bool = True
    swapping: bool = False
    spare: int = 0
    batch: int = 8
    budget: int = 16
    pages: int = 64
    page: int = 4
    own: int = 0
    longest: int = 64
    clients: int = 0
    share: float = 0.0
    servers: int = 1


def up_to_power(number: int) -> int:
    return 1 if number <= 1 else 2 ** (number - 1).bit_length()


class Paged:
    """Pages, each with a number; a request takes one when its last page is full."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.free = list(range(policy.pages))

    def needed(self, tokens: int) -> int:
        return self.policy.own + len(range(0, tokens, self.policy.page))

    def can_ever(self, request: Request) -> bool:
        return self.needed(request.prompt + request.output) <= self.policy.pages

    def growth(self, running: list[Request]) -> int:
        return sum(self.needed(request.held + 1) > len(request.pages) for request in running)

    def admit(self, request: Request, tokens: int, running: list[Request], goes_on: bool) -> bool:
        wanted = self.needed(tokens + 1 if goes_on else tokens)
        spare = self.policy.spare if len(self.free) < self.policy.pages else 0
        growth = self.growth(running) if self.policy.mixed or goes_on else 0
        if wanted + spare + growth > len(self.free):
            return False
        request.pages = [self.free.pop() for _ in range(self.needed(tokens))]
        return True

    def another_token(self, request: Request) -> None:
        request.held += 1
        if self.needed(request.held) > len(request.pages):
            request.pages.append(self.free.pop())

    def give_back(self, request: Request) -> None:
        self.free += request.pages
        request.pages = []

    def used(self) -> int:
        return self.policy.pages - len(self.free)


class Buddies:
    """Blocks (address, size): of those that are large enough the smallest, then the one with the lowest address."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.free: list[tuple[int, int]] = []
        address = 0
        while address < pages:
            size = 2 ** ((pages - address).bit_length() - 1)
            self.free.append((address, size))
            address += size

    def take(self, size: int) -> tuple[int, int] | None:
        fitting = sorted((block[1], block[0]) for block in self.free if block[1] >= size)
        if not fitting:
            return None
        found, address = fitting[0]
        self.free.remove((address, found))
        while found > size:
            found //= 2
            self.free.append((address + found, found))
        return address, size

    def give(self, block: tuple[int, int]) -> None:
        address, size = block
        while (address ^ size, size) in self.free:
            self.free.remove((address ^ size, size))
            address, size = min(address, address ^ size), 2 * size
        self.free.append((address, size))


class Contiguous:
    """One block for each request, for all that it may ever need."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.buddies = Buddies(policy.pages)

    def asked(self, request: Request) -> int:
        whole = request.prompt + request.output
        tokens = {
            "exact": whole,
            "power": min(request.prompt + up_to_power(request.output), self.policy.longest),
            "longest": self.policy.longest,
        }[self.policy.reservation]
        return self.policy.own + len(range(0, tokens, self.policy.page))

    def can_ever(self, request: Request) -> bool:
        enough = self.policy.own + len(range(0, request.prompt + request.output, self.policy.page))
        return up_to_power(self.asked(request)) <= self.policy.pages and enough <= self.asked(request)

    def growth(self, running: list[Request]) -> int:
        return 0

    def admit(self, request: Request, tokens: int, running: list[Request], goes_on: bool) -> bool:
        request.block = self.buddies.take(up_to_power(self.asked(request)))
        return request.block is not None

    def another_token(self, request: Request) -> None:
        request.held += 1

    def give_back(self, request: Request) -> None:
        assert request.block is not None
        self.buddies.give(request.block)
        request.block = None

    def used(self) -> int:
        return self.policy.pages - sum(size for _, size in self.buddies.free)


class Server:
    def __init__(self, requests: list[Request], policy: Policy, times: Times) -> None:
        self.policy, self.times = policy, times
        self.memory: Paged | Contiguous = Paged(policy) if policy.reservation == "pages" else Contiguous(policy)
        self.unsent = deque(requests)
        self.coming: deque[Request] = deque()
        self.waiting: deque[Request] = deque()
        self.preempted: list[Request] = []
        self.running: list[Request] = []
        self.cut: Request | None = None  # whose prompt is not yet in memory as a whole
        self.entering: list[Request] = []
        self.prefill_free = [0.0] * policy.servers
        self.last_seen = 0.0
        self.sent = 0
        self.now = 0.0
        self.debt = 0.0
        self.passes = self.preemptions = self.longest_queue = self.most_used = 0
        self.over = 0

    def run(self) -> None:
        total = len(self.unsent)
        self.send(self.policy.clients or total)
        while self.over < total:
            while self.coming and self.coming[0].seen <= self.now:
                self.waiting.append(self.coming.popleft())
            self.one_pass()

    def send(self, number: int) -> None:
        for _ in range(min(number, len(self.unsent))):
            request = self.unsent.popleft()
            if self.policy.clients:
                request.arrival = self.now
            request.seen = request.arrival
            self.sent += 1
            if math.floor(self.sent * self.policy.share) > math.floor((self.sent - 1) * self.policy.share):
                self.process_elsewhere(request)
            request.seen = self.last_seen = max(request.seen, self.last_seen)
            self.coming.append(request)

    def process_elsewhere(self, request: Request) -> None:
        tokens = request.prompt - request.cached
        start = max(min(self.prefill_free), request.arrival)
        attention = self.times.attention(tokens, request.prompt)
        request.first = start + self.times.prompts(tokens, 0, attention)
        self.prefill_free[self.prefill_free.index(min(self.prefill_free))] = request.first
        request.seen = request.first + self.times.transfer(tokens)
        request.made, request.handed_over, request.cached = 1, True, 0

    def one_pass(self) -> None:
        before = self.over
        if self.policy.mixed:
            self.preempt()
        parts = list(self.parts())
        if self.policy.clients:
            self.send(self.over - before)  # for those who were refused
            before = self.over
        self.note_queue()
        self.note_memory()
        if parts:
            self.pass_with(parts)
        elif self.running and self.coming and self.coming[0].seen <= self.now:
            return  # whoever has just come may join the next pass
        elif self.running:
            self.preempt()
            self.note_queue()
            self.pass_without()
        elif self.over == before and self.coming:
            self.now = self.coming[0].seen
        ended = self.part_with()
        if self.policy.clients:
            self.send(ended)

    def note_queue(self) -> None:
        self.longest_queue = max(self.longest_queue, len(self.waiting) + len(self.preempted))

    def preempt(self) -> None:
        while isinstance(self.memory, Paged) and self.memory.growth(self.running) > len(self.memory.free):
            self.preemptions += 1
            if self.cut is not None:
                request, self.cut = self.cut, None
            else:
                request = max(self.running, key=lambda one: one.number)
                self.running.remove(request)
                if self.policy.swapping:
                    request.in_host = True
                    self.debt += len(request.pages) * self.times.swap
            self.memory.give_back(request)
            request.computed = 0
            request.held = request.held if request.in_host else 0
            self.preempted.append(request)

    def parts(self) -> Iterator[tuple[int, int]]:
        """The tokens of each prompt that are processed in this pass, and all that there are of it after that."""
        self.entering = []
        if not self.policy.iteration_level and self.running:
            return
        left = self.policy.budget - (len(self.running) if self.policy.chunked else 0)
        if self.cut is not None:
            request, self.cut = self.cut, None
            part = self.next_part(request, left)
            left -= part[0]
            if part[0] > 0:
                yield part
        begun = left < self.policy.budget - (len(self.running) if self.policy.chunked else 0)
        while self.cut is None and len(self.running) + len(self.entering) < self.policy.batch:
            if self.preempted:
                request = self.preempted[-1]
            elif self.waiting:
                request = self.waiting[0]
            else:
                return
            if not self.memory.can_ever(request):
                self.waiting.popleft()
                request.refused = True
                self.over += 1
                continue
            goes_on = request.in_host or request.handed_over
            to_compute = request.prompt + request.made - request.cached
            if not goes_on and self.policy.iteration_level:
                if self.policy.chunked and left < 1:
                    return
                if not self.policy.chunked and to_compute > left and begun:
                    return
            tokens = request.prompt + request.made - (1 if goes_on else 0)
            if not self.memory.admit(request, tokens, self.running, goes_on):
                return
            if self.preempted:
                self.preempted.pop()
            else:
                self.waiting.popleft()
            if goes_on:
                if request.in_host:
                    self.debt += len(request.pages) * self.times.swap
                request.in_host = request.handed_over = False
                request.held = tokens
                request.steps_left = request.output - request.made
                self.running.append(request)
            else:
                part = self.next_part(request, left)
                left -= part[0]
                begun = True
                yield part

    def next_part(self, request: Request, left: int) -> tuple[int, int]:
        start = request.cached + request.computed
        rest = request.prompt + request.made - start
        tokens = min(rest, max(left, 0)) if self.policy.chunked else rest
        request.computed += tokens
        if tokens == rest:
            self.entering.append(request)
        else:
            self.cut = request
        return tokens, start + tokens

    def pass_with(self, parts: list[tuple[int, int]]) -> None:
        if not self.policy.iteration_level and len(self.entering) > 1:
            longest = max(request.prompt for request in self.entering)
            parts = [(longest, longest)] * len(self.entering)
        attention = sum(self.times.attention(*part) for part in parts)
        fellows = self.running if self.policy.mixed else []
        seconds = self.times.prompts(sum(tokens for tokens, _ in parts), len(fellows), attention) + self.debt
        self.debt = 0.0
        if fellows:
            seconds += self.decode(fellows)
        self.now += seconds
        self.passes += 1
        until = max((request.output for request in self.entering), default=0)
        for request in self.entering:
            request.held = request.prompt + request.made
            request.made += 1
            request.cached = request.computed = 0
            request.first = self.now if math.isnan(request.first) else request.first
            request.steps_left = (request.output if self.policy.iteration_level else until) - request.made
            self.running.append(request)

    def pass_without(self) -> None:
        if any(request.steps_left == 0 for request in self.running):
            return  # another pool made its only token
        seconds = self.decode(self.running) + self.debt
        self.debt = 0.0
        self.now += seconds
        self.passes += 1

    def decode(self, running: list[Request]) -> float:
        """One more token of each; how long it takes."""
        for request in running:
            self.memory.another_token(request)
            request.made += 1
            request.steps_left -= 1
        self.note_memory()
        return self.times.decode(len(running), sum(request.held for request in running) / len(running))

    def note_memory(self) -> None:
        self.most_used = max(self.most_used, self.memory.used())

    def part_with(self) -> int:
        ended = [request for request in self.running if request.steps_left <= 0]
        for request in ended:
            self.running.remove(request)
            self.memory.give_back(request)
            request.finish = self.now
            self.over += 1
        return len(ended)
