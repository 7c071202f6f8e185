"""Three gateways over one PostgreSQL, and whatever can befall the line, the database and themselves."""

from __future__ import annotations

import contextlib
import random

import pytest

from gateway.store.postgres import PostgresStore
from tests.faults.chaos import STEPS, Chaos
from tests.faults.effects import measured, quantile
from tests.faults.fleet import Fleet
from tests.faults.slow_stores import SleepingStore, UnorderedStore
from tests.faults.standby import Standby
from tests.faults.truth import now
from tests.faults.watching import BOUND, POLL
from tests.faults.world import SEED, STARTED_S


def test_without_a_fault_every_answer_is_right_and_changes_show_within_a_second(fleet: Fleet) -> None:
    with fleet.trial() as results:
        fleet.calm(100)
        began = now()
        effects = measured(fleet, 30)
        had_time = not fleet.pulse.was_short(began, now())
    assert results[0].counts.keys() >= {"live: 200", "revoked: key_revoked", "absent: key_unknown"}
    print(effects)
    assert len(effects.revoked) == len(effects.made) == 90
    assert quantile(effects.all, 0.99) <= 1.0 or not had_time


def test_lost_notifications_are_made_up_for_by_the_poll(fleet: Fleet) -> None:
    with fleet.trial():
        for proxy in fleet.proxies:
            proxy.drop_notifications(True)
        fleet.wait_tried(now())
        fleet.calm()
        for proxy in fleet.proxies:
            assert proxy.dropped > 5, "nothing was notified"
            proxy.drop_notifications(False)


def test_behind_a_line_that_swallows_all_nothing_old_is_believed(fleet: Fleet) -> None:
    with fleet.trial(), fleet.unread():
        for proxy in fleet.proxies:
            proxy.hold()
        fleet.wait_stale()
        for proxy in fleet.proxies:
            proxy.release()


def test_dead_connections_are_given_up_for_new_ones(fleet: Fleet) -> None:
    with fleet.trial():
        with fleet.unread(0) as dead_since:
            fleet.proxies[0].hold_present()
            fleet.until(lambda: fleet.is_fresh(0, dead_since), "it waits at a dead connection", within=20)
        fleet.proxies[0].cut()


def test_a_reading_is_as_old_as_its_beginning_however_late_it_ends(fleet: Fleet) -> None:
    with fleet.trial(), fleet.unread(1):
        # A dozen answers make a reading, so that it is old when it ends and soon too old.
        fleet.proxies[1].delay_answers(0.07 * BOUND)
        began = now()
        fleet.until(lambda: fleet.readings(1, since=began) >= 2, "it reads nothing")
        fleet.proxies[1].delay_answers(0)


def test_behind_a_transaction_pooler_the_poll_makes_up_for_what_is_not_heard(fleet: Fleet) -> None:
    with fleet.trial(), fleet.pooled() as pooler:
        # A connection of the pooler's has been told to LISTEN: what it hears reaches hardly anybody.
        heard, head = [proxy.notified for proxy in fleet.proxies], fleet.head()
        fleet.wait_tried(now())
        some = (fleet.head() - head) / 2
        assert all(proxy.notified - before < some for proxy, before in zip(fleet.proxies, heard, strict=True))
        with fleet.unread():
            pooler.kill()
            pooler.start()
            fleet.calm()
            pooler.freeze()
            fleet.wait_stale(revoking=False)
            pooler.thaw()


def test_while_the_database_is_stopped_known_keys_are_served_up_to_the_bound(fleet: Fleet) -> None:
    with fleet.trial(), fleet.unread():
        fleet.server.stop()
        fleet.wait_stale(revoking=False)
        fleet.server.start()


def test_while_the_database_is_frozen_known_keys_are_served_up_to_the_bound(fleet: Fleet) -> None:
    with fleet.trial(), fleet.unread():
        fleet.server.freeze()
        fleet.wait_stale(revoking=False)
        fleet.server.thaw()


def test_a_gateway_that_stood_still_believes_nothing_it_knew_before(fleet: Fleet) -> None:
    with fleet.trial(), fleet.unread(2):
        with fleet.down(2) as frozen_at:
            fleet.replicas[2].freeze()
            # Nor can it learn anything when it goes on: the first that it sees are its callers.
            fleet.proxies[2].hold()
            ended = fleet.revoke_some(8)
            fleet.until(lambda: now() - frozen_at > BOUND + 2 * POLL, "time stands still")
            with fleet.sent_meanwhile(2, ended * 4) as answers:
                fleet.replicas[2].thaw()
        fleet.proxies[2].release()
    assert len(answers) == 32
    assert {call.code for call in answers} == {"key_table_stale"}, answers


def test_a_gateway_that_starts_without_its_database_lets_nobody_in(fleet: Fleet) -> None:
    replica = fleet.replicas[0]
    with fleet.trial(), fleet.down(0), fleet.unread():
        fleet.server.stop()
        replica.kill()
        since = now()
        replica.start()
        fleet.until(lambda: len(fleet.asked(0, since=since)) > 60, "nobody asked")
        assert {call.status for call in fleet.asked(0, since=since)} <= {0, 503}
        fleet.server.start()
        # As whoever supervises it does, each time that it ends for want of its database.
        fleet.until(replica.is_ready_or_begins_anew, "it does not come back", within=STARTED_S)


@pytest.mark.parametrize("kind", [SleepingStore, UnorderedStore])
def test_commits_of_sixteen_writers_are_all_seen(fleet: Fleet, kind: type[PostgresStore]) -> None:
    with fleet.trial(), fleet.others_write(kind, 16):
        before = len(fleet.truth.lives)
        fleet.until(lambda: len(fleet.truth.lives) > before + 50, "nothing is written")
        fleet.calm(60)


def test_wherever_a_writers_line_breaks_what_was_acknowledged_is_kept_and_seen(fleet: Fleet) -> None:
    chance = random.Random(SEED)
    cuts = {True: 0, False: 0}

    def is_cut(data: bytes) -> bool:
        commits = b"COMMIT" in data  # what is asked, or what is answered
        cut = chance.random() < (0.2 if commits else 0.02)
        cuts[commits] += cut
        return cut

    with fleet.trial(), fleet.writers_line() as line:
        line.passing = is_cut
        fleet.until(lambda: min(cuts.values()) >= 20, "nothing is written")
        line.passing = lambda data: False


def test_a_gateway_that_was_away_while_the_log_was_trimmed_reads_all_anew(fleet: Fleet) -> None:
    with fleet.trial(), fleet.unread(1):
        fleet.proxies[1].hold()
        done = fleet.writers.done
        fleet.until(lambda: fleet.writers.done > done + 20, "nothing is written")
        fleet.server.sql(
            "DELETE FROM changes WHERE number < (SELECT number FROM change_counter)", fleet.database
        )
        fleet.proxies[1].release()
    assert "reading all keys again" in fleet.replicas[1].stderr


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_restored_backup_is_the_truth(fleet: Fleet, overtaken: bool) -> None:
    """Overtaken: when the gateways see it again, as much has been written to it as was before."""
    with fleet.trial():
        backup = fleet.dump()
        done = fleet.writers.done
        fleet.until(lambda: fleet.writers.done > done + 30, "nothing is written")
        with fleet.unread():
            for proxy in fleet.proxies if overtaken else []:
                proxy.hold()
            with fleet.writers_pause():
                head, since = fleet.head(), now()
                fleet.restore(backup)
                changed = fleet.take_store_for_truth(since)
            if overtaken:
                fleet.until(lambda: fleet.head() > head + 5, "nothing is written")
            for proxy in fleet.proxies:
                proxy.release()
        assert len(changed) > 10, "the backup is no older than what it replaces"


def test_faults_of_any_kind_in_any_order_let_no_wrong_answer_through(fleet: Fleet) -> None:
    chance = random.Random(SEED)
    pooled = fleet.pooled() if chance.random() < 0.5 else contextlib.nullcontext()
    with fleet.trial(), fleet.unread(), pooled:
        chaos = Chaos(fleet, chance)
        try:
            for _ in range(STEPS):
                chaos.step()
                fleet.pause(0.2 + 0.8 * chance.random())
        finally:
            print(*chaos.told, sep="\n")
            chaos.calm()


def test_a_failover_to_a_host_that_the_url_names_loses_nothing_and_needs_nobody(fleet: Fleet) -> None:
    standby = Standby(fleet.server)
    with contextlib.ExitStack() as unless_taken, fleet.trial():
        unless_taken.callback(standby.close)
        standby.be_awaited()
        fleet.silent.hold()
        fleet.spare.lead_to(("127.0.0.1", standby.port))
        # They too find their way past the one that says nothing, and the one that takes no writes.
        fleet.write_to(fleet.url_of(fleet.server.port))
        fleet.calm()
        with fleet.unread():
            fleet.server.kill()
            standby.promote()
            fleet.proxies[-1].lead_to(("127.0.0.1", standby.port))
            promoted, done = now(), fleet.writers.done
            for number in range(len(fleet.replicas)):
                fleet.until(lambda number=number: fleet.is_fresh(number, promoted), "it finds no primary")
            fleet.until(lambda: fleet.writers.done > done + 10, "the writers find no primary")
        fleet.silent.release()
        fleet.succeeded_by(standby)
        unless_taken.pop_all()


def test_a_failover_that_loses_commits_is_the_truth_and_a_standby_proves_nothing(fleet: Fleet) -> None:
    standby = Standby(fleet.server)
    with contextlib.closing(standby), fleet.trial():
        standby.wait_in_step()
        standby.fall_behind()
        done = fleet.writers.done
        fleet.until(lambda: fleet.writers.done > done + 30, "nothing is written")
        with fleet.unread():
            for proxy in fleet.proxies:
                proxy.lead_to(("127.0.0.1", standby.port))
            fleet.wait_stale()
            with fleet.writers_pause():
                fleet.server.kill()
                since = now()
                standby.promote()
                fleet.write_to(standby.url(fleet.database))
                changed = fleet.take_store_for_truth(since)
            assert len(changed) > 10, "no commit was lost"
