"""Workers as actors of Ray's: one for each GPU, or for so many cores, of every machine."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray
from ray._private.state import state  # what is drained is told nowhere else
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runtime.backends.registry import BACKENDS
from runtime.errors import EXIT_BUG, HedgeError, one_line
from runtime.fleet.driver import IN_FLIGHT, Answer, Lost
from runtime.fleet.plan import Span
from runtime.fleet.shards import SpanRow
from runtime.fleet.work import Bench, StalledError, watched
from runtime.interrupt import Closing

# Nothing is told to anybody, and workers are what the machine is for: Ray would have them wait for
# everything else that runs (niceness 15).
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
_STORE = 80 << 20  # bytes of shared memory: frames never enter it
_ASK_S = 5.0  # until a cluster's address answers
_TRIES = 3  # workers of a machine that may end while they load
_STALLED = -1  # in place of an exit code: the worker has to be ended
_HELLO = ""  # what a worker answers before its first span


class Task(Protocol):
    """What a pool has to know of a job: where it computes."""

    @property
    def backend(self) -> str:
        """An engine, which may be one for CPUs alone."""

    @property
    def device(self) -> str:
        """Of that engine; "" for any."""


class Worker:
    """What an actor is: the engines, loaded once, and one span after another."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def _open(self) -> None:
        self._bench = Bench(self._job)

    def _do(self, span: Span, attempt: int) -> SpanRow:
        return watched(span, self._bench, attempt)

    def hello(self) -> tuple[None, str, int]:
        """Load the engines; what went wrong, and the code of its kind."""
        try:
            self._open()
        except (HedgeError, OSError) as error:
            return None, one_line(error), getattr(error, "exit_code", HedgeError.exit_code)
        return None, "", 0

    def work(self, span: Span, attempt: int) -> tuple[Any, str, int]:
        """A span's row, or what went wrong."""
        try:
            return self._do(span, attempt), "", 0
        except StalledError as error:
            return None, one_line(error), _STALLED
        except (HedgeError, OSError) as error:
            return None, one_line(error), getattr(error, "exit_code", HedgeError.exit_code)


@dataclass
class _Actor:
    handle: Any
    node: str
    ready: bool = False


@dataclass
class _Node:
    """A machine: how many workers it takes, what each one needs, and how many did not start."""

    id: str
    host: str
    slots: int
    needs: dict[str, float]
    failures: list[str] = field(default_factory=list)

    @property
    def given_up(self) -> bool:
        """Whether it gets no more workers."""
        return len(self.failures) >= _TRIES


class RayPool(Closing):
    """A pool of Ray's actors; a context manager. A machine that joins gets its workers.

    address: of a cluster, "auto" for the one of this machine; None starts Ray here, for this run;
    cores: of each worker without a GPU; at_once: spans that a worker is called for, each in a
    thread: one begins, or ends, while another computes. Ray repeats nothing by itself: who takes
    over is the driver's business. Raises HedgeError where there is no cluster.
    """

    def __init__(
        self, job: Task, cores: int, address: str | None, worker: type = Worker,
        at_once: int = IN_FLIGHT,
    ) -> None:  # fmt: skip
        self._job, self._cores = job, cores
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        _connect(address)
        self._remote = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=at_once)(
            worker
        )
        self._nodes: dict[str, _Node] = {}
        self._staying: set[str] = set()
        self._actors: dict[str, _Actor] = {}
        self._tasks: dict[Any, tuple[str, str]] = {}  # worker and span by what Ray will answer
        self._started: Counter[str] = Counter()

    def joined(self) -> list[str]:
        """See ``Pool``: workers are started where machines have room, and told once they loaded."""
        alive = self._look()
        self._staying = {node.id for node in alive}
        for node in alive:
            running = sum(actor.node == node.id for actor in self._actors.values())
            for _ in range(0 if node.given_up else node.slots - running):
                self._start(node)
        if alive and not self._actors and all(n.given_up for n in alive if n.slots):
            why = [node.failures[-1] for node in alive if node.failures]
            raise HedgeError(f"no worker starts: {why[0] if why else 'no machine has a core'}")
        new = [name for name, actor in self._actors.items() if actor.ready]
        for name in new:
            self._actors[name].ready = False
        return new

    def leaving(self) -> list[str]:
        """See ``Pool``: a cluster's scaler, or ``ray drain-node``, says so before it ends them."""
        return [name for name, actor in self._actors.items() if actor.node not in self._staying]

    def give(self, worker: str, span: Span, attempt: int) -> None:
        """See ``Pool``; of one that is lost, which the driver is about to hear, nothing comes."""
        if worker in self._actors:
            self._tasks[self._actors[worker].handle.work.remote(span, attempt)] = worker, span.id

    def wait(self, seconds: float) -> list[Answer | Lost]:
        """See ``Pool``."""
        tasks = list(self._tasks)
        ready, _ = ray.wait(tasks, timeout=seconds) if tasks else ([], None)
        if ready:
            ready, _ = ray.wait(tasks, num_returns=len(tasks), timeout=0)
        events = [self._event(task) for task in ready if task in self._tasks]
        return [event for event in events if event is not None]

    def retire(self, worker: str, why: str) -> None:
        """See ``Pool``."""
        if worker in self._actors:
            self._nodes[self._actors[worker].node].failures += [why] * _TRIES
            self._drop(worker)

    def machine(self, worker: str) -> str:
        """See ``Pool``."""
        return worker.rpartition(".")[0]

    def close(self) -> None:
        """End all workers, and Ray where it was started here."""
        for name in list(self._actors):
            self._drop(name)
        ray.shutdown()

    def _look(self) -> list[_Node]:
        """The machines that are alive and stay."""
        alive, drained = [], state.get_draining_nodes()
        for found in ray.nodes():
            if found["Alive"] and found["NodeID"] not in drained:
                node = self._nodes.setdefault(found["NodeID"], self._node(found))
                alive.append(node)
        return alive

    def _node(self, found: dict[str, Any]) -> _Node:
        has = found["Resources"]
        cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
        row = BACKENDS.get(self._job.backend)
        if gpus and not self._job.device and (row is None or row.device == "cuda"):
            needs, slots = {"num_gpus": 1.0, "num_cpus": 0.0}, gpus
        else:
            cores = min(self._cores, cpus)
            needs, slots = {"num_cpus": float(cores)}, cpus // cores if cores else 0
        return _Node(found["NodeID"], found["NodeManagerHostname"], slots, needs)

    def _start(self, node: _Node) -> None:
        self._started[node.id] += 1
        name = f"{node.host}/{node.id[:6]}.{self._started[node.id]}"
        strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
        handle = self._remote.options(scheduling_strategy=strategy, **node.needs).remote(self._job)
        self._actors[name] = _Actor(handle, node.id)
        self._tasks[handle.hello.remote()] = name, _HELLO

    def _event(self, task: Any) -> Answer | Lost | None:
        worker, span = self._tasks.pop(task)
        try:
            row, error, code = ray.get(task)
        except RayTaskError as fault:  # ours: nobody foresaw it
            row, error, code = None, f"unexpected {one_line(fault.cause)}", EXIT_BUG
        except RayError as gone:
            return self._gone(worker, span, gone)
        if code == _STALLED:
            self._drop(worker)
            return Lost(worker, error, span=span)
        if span != _HELLO:
            return Answer(worker, span, row, error, code)
        self._actors[worker].ready = not error
        if error:
            self._nodes[self._actors[worker].node].failures.append(error)
            self._drop(worker)
        return None

    def _gone(self, worker: str, span: str, error: RayError) -> Lost:
        node = self._nodes[self._actors[worker].node]
        dead = node not in self._look()
        sudden = not isinstance(error, RayActorError) or dead
        if span == _HELLO and not dead:
            node.failures.append(f"{node.host}: a worker died as it loaded ({one_line(error)})")
        self._drop(worker)
        why = "its machine is gone" if dead else "its process died"
        return Lost(worker, why, blameless=sudden)

    def _drop(self, worker: str) -> None:
        actor = self._actors.pop(worker)
        self._tasks = {task: held for task, held in self._tasks.items() if held[0] != worker}
        with suppress(RayError):
            ray.kill(actor.handle)


def _connect(address: str | None) -> None:
    """Join the cluster there, or start one here; HedgeError where that cannot be."""
    own: dict[str, Any] = {
        "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "object_store_memory": _STORE, "include_dashboard": False, "_node_ip_address": "127.0.0.1",
    }  # fmt: skip
    host, colon, port = (address or "").rpartition(":")
    for last in (False, True):  # Ray gives up after 30 s, which a busy machine may take
        try:
            if colon and port.isdigit():  # where nobody listens, Ray would ask for minutes
                socket.create_connection((host, int(port)), _ASK_S).close()
            with _own_end():
                ray.init(
                    address=address or "local", log_to_driver=False, logging_level="ERROR",
                    **({} if address else own),
                )  # fmt: skip
            return
        except Exception as error:  # Ray raises whatever it met
            ray.shutdown()
            if address or last:
                what = f"--address {address}: no cluster there" if address else "Ray does not start"
                raise HedgeError(f"{what} ({one_line(error)})") from error


@contextmanager
def _own_end() -> Iterator[None]:
    """Let SIGTERM end the command as it does all others: Ray would take it for itself."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
