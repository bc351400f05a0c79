"""What can strike an engine, and what mends it after a while. Each strike is drawn from a seeded source of chance.

`Strikes.strike` does one now and keeps what mends it (a restart, a CONT, an end of the delay) for `mend_due`.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import redis
from chaos_engine import PROGRAMS, ChaosEngine
from proxy import Treatment, Way
from tap import Tap

from workflows.broker import KEY_PREFIX

# How often each is in the bag from which strikes are drawn; when it is empty, it is filled again.
WEIGHTS = {
    "kill fleet-1": 2,
    "kill fleet-2": 2,
    "kill cluster": 2,
    "kill control": 2,
    "kill beat": 1,
    "kill redis": 2,
    "kill postgres": 2,
    "kill who is at work": 4,
    "freeze a worker": 2,
    "freeze who is at work": 4,
    "freeze redis": 1,
    "empty redis": 3,
    "send every message twice": 3,
    "send an old message again": 2,
    "steal a message": 3,
    "cut connections": 2,
    "cut after some bytes": 3,
    "swallow silently": 1,
    "delay": 2,
    "byte by byte": 2,
    "kill everything": 2,
}
_HEALS_WITHIN_S = (1.5, 4.0)


@dataclass(slots=True)
class _Mending:
    at: float
    what: str
    act: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    """What was drawn for one strike; each kind uses a part of it."""

    worker: str
    address: str
    after_s: float
    soon_s: float
    number: int
    way: Way


class Strikes:
    """The bad luck of one engine. *lease_s* says how long a worker must be frozen to lose its lease."""

    def __init__(self, engine: ChaosEngine, tap: Tap, chance: random.Random) -> None:
        self._engine = engine
        self._tap = tap
        self._chance = chance
        self._bag: list[str] = []
        self._mendings: list[_Mending] = []
        self._busy: set[str] = set()  # what is down, frozen or treated: not struck again before it is mended
        self.count: Counter[str] = Counter()

    @property
    def busy(self) -> frozenset[str]:
        """What waits to be mended: "fleet-1", "redis", "postgres", an address."""
        return frozenset(self._busy)

    def strike(self) -> str:
        """Do one thing that hurts, and return what."""
        if not self._bag:
            self._bag = [kind for kind, number in WEIGHTS.items() for _ in range(number)]
            self._chance.shuffle(self._bag)
        kind = self._bag.pop()
        done = self._strike(kind)
        if done:
            self.count[kind] += 1
        return kind if done else ""

    def mend_due(self, *, all_of_it: bool = False) -> None:
        """Mend what is due (*all_of_it*: everything, at the end)."""
        now = time.monotonic()
        for mending in sorted(self._mendings, key=lambda one: one.at):
            if all_of_it or mending.at <= now:
                self._mendings.remove(mending)
                mending.act()
                self._busy.discard(mending.what)

    def _later(self, what: str, after_s: float, act: Callable[[], None]) -> None:
        self._busy.add(what)
        self._mendings.append(_Mending(time.monotonic() + after_s, what, act))

    def _strike(self, kind: str) -> bool:
        # Drawn before anything is looked at, so that the same seed gives the same draws.
        chance = self._chance
        drawn = _Drawn(
            worker=chance.choice(("fleet-1", "fleet-2", "cluster", "control")),
            address=self._engine.addresses[chance.choice(sorted(self._engine.addresses))],
            after_s=chance.uniform(*_HEALS_WITHIN_S),
            soon_s=chance.uniform(0.0, 1.5),
            number=chance.randrange(50, 6000),
            way=chance.choice(("to", "from", "both")),
        )
        verb, _, whom = kind.partition(" ")
        if whom == "who is at work":
            whom = self._at_work(drawn)
            drawn = replace(drawn, worker=whom)
        if verb == "kill":
            return self._kill(whom, drawn)
        if verb == "freeze":
            return self._freeze_redis(drawn) if whom == "redis" else self._freeze(drawn)
        if kind == "cut connections":
            return self._engine.proxy.cut(drawn.address, reset=drawn.number % 2 == 0) > 0
        treatments = {
            "cut after some bytes": Treatment(cut_after=drawn.number, way=drawn.way),
            "swallow silently": Treatment(swallow_after=drawn.number, way=drawn.way),
            "delay": Treatment(delay_s=0.05 + drawn.soon_s / 5),
            "byte by byte": Treatment(piece=1, delay_s=0.0003),
        }
        if kind in treatments:
            return self._treat(drawn.address, treatments[kind], drawn.after_s)
        return self._on_queue(kind, drawn)

    def _at_work(self, drawn: _Drawn) -> str:
        """Return a worker that has a step in its hands, after a moment that was drawn; "" when nobody has for 2 s."""
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            names = self._engine.at_work()
            if names:
                time.sleep(drawn.soon_s / 5)
                return names[drawn.number % len(names)]
            time.sleep(0.02)
        return ""

    def _kill(self, whom: str, drawn: _Drawn) -> bool:
        engine = self._engine
        if whom == "redis":
            return self._down("redis", drawn.after_s, engine.kill_redis, engine.start_redis)
        if whom == "postgres":
            return self._down("postgres", drawn.soon_s, engine.kill_postgres, engine.start_postgres)
        if whom == "everything":
            return self._power_cut(drawn)
        if whom in self._busy or not engine.is_running(whom):
            return False
        engine.kill(whom, restart=False)
        self._later(whom, drawn.soon_s, lambda: engine.restart(whom))
        return True

    def _power_cut(self, drawn: _Drawn) -> bool:
        engine = self._engine
        if self._busy:
            return False
        engine.kill_everything()
        self._later("postgres", 0.0, engine.start_postgres)
        self._later("redis", 0.1, engine.start_redis)
        for name in PROGRAMS:
            self._later(name, 0.2 + drawn.soon_s, lambda name=name: engine.restart(name))
        return True

    def _freeze(self, drawn: _Drawn) -> bool:
        """Stop a worker for longer than its lease."""
        worker = drawn.worker
        if worker in self._busy or not self._engine.is_running(worker):
            return False
        pid = self._engine.alive()[worker]
        os.killpg(pid, signal.SIGSTOP)
        self._later(worker, self._engine.settings.lease_s + 1.5, lambda: _continue(pid))
        return True

    def _freeze_redis(self, drawn: _Drawn) -> bool:
        pid = 0 if "redis" in self._busy else self._engine.redis_pid()
        if not pid:
            return False
        os.kill(pid, signal.SIGSTOP)
        self._later("redis", drawn.after_s, lambda: _continue(pid, group=False))
        return True

    def _down(self, what: str, after_s: float, kill: Callable[[], None], start: Callable[[], None]) -> bool:
        if what in self._busy:
            return False
        kill()
        self._later(what, after_s, start)
        return True

    def _treat(self, address: str, treatment: Treatment, after_s: float) -> bool:
        if address in self._busy:
            return False
        self._engine.proxy.treat(address, treatment)
        self._later(address, after_s, lambda: self._engine.proxy.heal(address))
        return True

    def _on_queue(self, kind: str, drawn: _Drawn) -> bool:
        """Empty the broker, send an old message again, or take one away from the workers."""
        if kind == "send every message twice":
            if self._tap.doubling:
                return False
            self._tap.doubling = True
            self._later("tap", drawn.after_s * 2, self._double_no_more)
            return True
        if "redis" in self._busy:
            return False
        broker = self._engine.redis
        with contextlib.suppress(redis.RedisError):
            if kind == "empty redis":
                broker.flushall()
                return True
            if kind == "steal a message":
                # A competitor of the workers: whoever waits longest gets the next message.
                return broker.brpop([f"{KEY_PREFIX}fleet", f"{KEY_PREFIX}cluster"], timeout=1) is not None
            known = list(self._tap.messages)
            if known:
                queue, message = known[drawn.number % len(known)]
                broker.lpush(queue, message)
                return True
        return False

    def _double_no_more(self) -> None:
        self._tap.doubling = False


def _continue(pid: int, *, group: bool = True) -> None:
    with contextlib.suppress(ProcessLookupError):
        if group:
            os.killpg(pid, signal.SIGCONT)
        else:
            os.kill(pid, signal.SIGCONT)
