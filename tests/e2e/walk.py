"""Do what ``quickstart`` tells a stranger to do: run the lines that it prints, and hold each to its status.

The standard library alone, since ``.ci/run`` calls it before anything is installed:

    python3 tests/e2e/walk.py DIRECTORY 'COMMAND'

runs COMMAND (a shell line whose last part starts ``gateway quickstart``) in DIRECTORY, follows the
printed lines, stops it as Ctrl-C does, starts the last part again, follows those lines, and stops it by
SIGTERM.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

INSTALL_S = 400.0
START_S = 30.0
STOP_S = 60.0
FIRST = ["200", "403", "200", "401", "401", "201"]
LATER = ["200", "200", "401"]
_STEP = re.compile(r"(curl|sleep) |[A-Z]+=|[^#].* keys revoke --yes .*apk_")
_VARIABLE = re.compile(r"([A-Z]+)=")
_TOLD = re.compile(r"^# .*?: (\d{3})\b")


class Quickstart:
    """The command, running in a shell of its own, and the lines it has printed."""

    def __init__(self, command: str, directory: Path, environment: dict[str, str]) -> None:
        self.lines: list[str] = []
        self._directory, self._environment = directory, environment
        self._shell = subprocess.Popen(
            ["bash", "-c", command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._shell.stdout is not None
        with self._shell.stdout as stream:
            self.lines.extend(line.rstrip("\n") for line in iter(stream.readline, ""))

    def steps(self) -> list[tuple[str, list[str]]]:
        """Return what was printed to be tried: a status each, and the shell lines that lead to it."""
        found: list[tuple[str, list[str]]] = []
        before: list[str] = []
        for line in self.lines:
            told = _TOLD.match(line)
            if told:
                found.append((told[1], before))
                before = []
            elif _STEP.match(line):
                (found[-1][1] if found else before).append(line)
        return found

    def wait_for(self, statuses: list[str], within: float) -> list[tuple[str, list[str]]]:
        """Return the steps once they are all there."""

        def complete() -> bool:
            steps = self.steps()
            return [told for told, _ in steps] == statuses and steps[-1][1] != []

        try:
            until(complete, within, lambda: self._shell.poll() is None)
        except TimeoutError:
            raise AssertionError("it did not print what to try:\n" + "\n".join(self.lines)) from None
        return self.steps()

    def follow(self, statuses: list[str], within: float) -> None:
        """Run every line as printed, in one shell session's variables, and check each status."""
        variables = ""
        for told, lines in self.wait_for(statuses, within):
            for line in lines:
                if line.startswith("curl "):
                    self._ask(variables + line, told)
                elif variable := _VARIABLE.match(line):
                    value = self._run(f"{line}; echo ${variable[1]}").strip()
                    variables += f"{variable[1]}={value}; "
                else:
                    self._run(line)

    def _ask(self, line: str, told: str) -> None:
        """Run a curl line, at once and one time, as a stranger does who pastes all lines together."""
        got = self._run(line.replace("curl ", "curl -sS ", 1)).split(" ")[1]
        assert got == told, f"{told} was promised, {got} came: {line}"
        print(f"  {told} as printed")

    def _run(self, line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    def interrupt(self) -> int:
        """Stop it as Ctrl-C in its terminal does, and return the shell's exit code."""
        os.killpg(self._shell.pid, signal.SIGINT)
        return self._end()

    def terminate(self) -> int:
        """Send SIGTERM to the gateway itself, and return the shell's exit code."""
        shell = Path(f"/proc/{self._shell.pid}")
        gateway = self._shell.pid
        # A shell with one command becomes it; one with several waits for it.
        if (shell / "comm").read_text() == "bash\n":
            gateway = int((shell / f"task/{gateway}/children").read_text().split()[-1])
        os.kill(gateway, signal.SIGTERM)
        return self._end()

    def _end(self) -> int:
        code = self._shell.wait(STOP_S)
        self._reader.join(STOP_S)
        return code

    def kill(self) -> None:
        """End whatever is left of it."""
        if self._shell.poll() is None:
            os.killpg(self._shell.pid, signal.SIGKILL)
            self._shell.wait()


def until(holds: Callable[[], bool], within: float, alive: Callable[[], bool]) -> None:
    """Wait until ``holds``; raises TimeoutError when the time is over or ``alive`` ends."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline or not alive():
            raise TimeoutError
        time.sleep(0.05)


def walk(command: str, directory: Path, state: Path) -> None:
    """Be the stranger; raises AssertionError where something is not as printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment["XDG_STATE_HOME"] = str(state)
    environment.pop("STATE_DIRECTORY", None)
    first = Quickstart(command, directory, environment)
    try:
        first.follow(FIRST, INSTALL_S)
        assert first.interrupt() == 0, "\n".join(first.lines)
    finally:
        first.kill()
    print("  stopped by Ctrl-C; once more")
    again = Quickstart(command.rpartition("&& ")[2], directory, environment)
    try:
        again.wait_for(LATER, START_S)
        assert not any("gw_live_" in line for line in again.lines), "a key was made without being asked for"
        again.follow(LATER, START_S)
        _try_old_key(first, again)
        assert again.terminate() == 0, "\n".join(again.lines)
    finally:
        again.kill()
    assert not any("Traceback" in line for line in first.lines + again.lines), "\n".join(again.lines)
    print("  stopped by SIGTERM")


def _try_old_key(first: Quickstart, again: Quickstart) -> None:
    """The editor key of the first start still works."""
    line = first.steps()[2][1][0]
    place = re.compile(r"http://\S+")
    where = place.search(again.steps()[0][1][-1])
    assert where is not None
    again._ask(place.sub(where[0], line), "200")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        try:
            walk(sys.argv[2], Path(sys.argv[1]), Path(place))
        except AssertionError as error:
            sys.exit(f"quickstart is not what it says: {error}")
