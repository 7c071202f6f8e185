"""One gateway of four workers over a file, and whatever can befall the file and the workers."""

from __future__ import annotations

import os
import signal

from tests.faults.files import FileWorld
from tests.faults.truth import now
from tests.faults.watching import BOUND, POLL


def test_without_a_fault_every_worker_answers_rightly(file_world: FileWorld) -> None:
    with file_world.trial():
        file_world.until(lambda: len(file_world.workers) > 2, "the others have nothing to do")
        file_world.calm(200)


def test_a_backup_in_the_place_of_the_file_is_the_truth(file_world: FileWorld) -> None:
    with file_world.trial():
        copy = file_world.backup()
        done = file_world.writers.done
        file_world.until(lambda: file_world.writers.done > done + 30, "nothing is written")
        with file_world.writers_pause(), file_world.unread():
            since = now()
            file_world.put(copy)
            changed = file_world.take_store_for_truth(since)
        assert len(changed) > 10, "the backup is no older than what it replaces"


def test_while_the_file_is_gone_known_keys_are_served_up_to_the_bound(file_world: FileWorld) -> None:
    with file_world.trial(), file_world.writers_pause(), file_world.unread():
        copy = file_world.backup()
        file_world.unlink()
        file_world.wait_stale(revoking=False)
        file_world.put(copy)


def test_workers_that_stood_still_believe_nothing_they_knew_before(file_world: FileWorld) -> None:
    with file_world.trial(), file_world.down(0) as frozen_at:
        file_world.replicas[0].freeze()
        ended = file_world.revoke_some(8)
        file_world.until(lambda: now() - frozen_at > BOUND + 2 * POLL, "time stands still")
        with file_world.sent_meanwhile(0, ended * 4) as answers:
            file_world.replicas[0].thaw()
    assert len(answers) == 32
    assert all(call.status in (401, 503) for call in answers), answers


def test_a_killed_worker_takes_no_connection_along_but_its_own(file_world: FileWorld) -> None:
    with file_world.trial():
        for _ in range(2):
            with file_world.frozen_worker() as worker:
                os.kill(worker, signal.SIGKILL)
            file_world.until(lambda worker=worker: worker not in file_world.workers, "it lives on")
            file_world.calm(100)
