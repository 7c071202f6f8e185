"""When a worker counts as silent and as stuck: by how long its supervisor itself has run."""

from __future__ import annotations

import pytest

from gateway.app.workers.messages import FromWorker, Leaving, Refused, Report
from gateway.app.workers.process import START_S, STUCK_S, WorkerProcess
from gateway.app.workers.sharing import Standing


class Worker(WorkerProcess):
    """A worker of which there is no process: the test says what it says."""

    def __init__(self) -> None:
        self.heard: list[FromWorker | None] = []
        super().__init__(self.heard.append)

    def says(self, message: FromWorker) -> None:
        self._on_message(message)

    def answers_now(self, *, ready: bool = True) -> None:
        self.says(Report(self._asked, ready, "Ready.", True, ()))


@pytest.fixture
def worker() -> Worker:
    made = Worker()
    made.answers_now()
    return made


def ticks(worker: Worker, *ran: float) -> list[bool]:
    return [worker.tick(ran_s) for ran_s in ran]


def test_who_answers_every_time_is_never_stuck(worker: Worker) -> None:
    for _ in range(30):
        assert not worker.tick(1.0)
        worker.answers_now()
    assert worker.standing is Standing.SERVES


def test_who_does_not_answer_gets_no_connection_and_then_is_stuck(worker: Worker) -> None:
    assert ticks(worker, 1.0, 1.0, 0.4) == [False] * 3
    assert worker.standing is Standing.SERVES
    assert ticks(worker, 1.0) == [False]
    assert worker.standing is Standing.OUT
    assert ticks(worker, 1.0, 1.0, 1.0) == [False, False, True]


def test_one_answer_makes_up_for_a_silence(worker: Worker) -> None:
    ticks(worker, 1.0, 2.0, 1.0)
    assert worker.standing is Standing.OUT
    worker.answers_now()
    assert worker.standing is Standing.SERVES
    assert ticks(worker, 1.0, *[1.0] * (int(STUCK_S) - 1)) == [False] * int(STUCK_S)


def test_a_freeze_of_everything_counts_as_one_look(worker: Worker) -> None:
    """The supervisor, which was frozen too, says of such a time that it ran for two ticks at most."""
    ticks(worker, 1.0)
    assert ticks(worker, 2.0) == [False]
    worker.answers_now()
    assert ticks(worker, 1.0) == [False]


def test_a_start_takes_its_time_but_not_for_ever() -> None:
    worker = Worker()
    assert worker.standing is Standing.OUT
    assert ticks(worker, *[1.0] * (int(START_S) - 1)) == [False] * (int(START_S) - 1)
    assert ticks(worker, 1.0) == [True]


def test_what_it_tells_is_what_it_is(worker: Worker) -> None:
    worker.answers_now(ready=False)
    assert worker.standing is Standing.WAITS
    worker.says(Leaving())
    assert worker.wants_to_leave
    assert worker.standing is Standing.WAITS, "until the others can do without it"
    worker.leaving = True
    assert worker.standing is Standing.OUT
    worker.says(Refused("There is no store."))
    assert worker.refusal == "There is no store."
    assert len(worker.heard) == 4
