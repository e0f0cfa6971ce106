"""A process that has imported torch, from which the stages of one `dvc repro` are forked.

DVC starts one process a stage, and importing torch takes seconds of each. The first stage that
needs torch starts the standby, which ends with DVC. A stage hands its command over and then stands
for it: same folder, environment and output, signals passed on, same exit code. Either dies with the
other, and all with DVC. `PRUNING_STANDBY=0` in the environment does without.
"""

import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stages.engine import warm
from stages.engine.orphans import die_with_parent
from stages.environment import STANDBY, TRACKING, is_off

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

IDLE = 60.0
"""Seconds without a stage after which it ends, should what runs the stages live on."""

LULL = 1.0
"""Seconds in which no stage begins or ends, so that there is time to import MLflow."""

TRAINING = ("stages.pretrain", "stages.finetune")

NUMBER = struct.Struct("i")
PEER = struct.Struct("3i")


def hand_over() -> None:
    """Have the standby do this stage's command and exit as it does; return where there is none."""
    asked = "DVC_STAGE" in os.environ and not is_off(STANDBY)
    one_of_many = "RANK" in os.environ  # torchrun watches over its processes itself
    if not asked or one_of_many or "torch" in sys.modules or not hasattr(os, "pidfd_open"):
        return
    program = sys.modules["__main__"].__spec__
    if program is None or not program.name.startswith("stages."):  # a stage within another program
        return
    with suppress(OSError), _connected(os.getppid()) as server:
        _send_command(server, program.name)
        if process := _received(server):
            _stand_for(server, process)


def _connected(parent: int) -> socket.socket:
    """Return a connection to the standby of the process `parent`; the first who asks starts it.

    The name is an abstract one: no file, and nothing left over. Both sides listen to processes of
    this user only.
    """
    name = f"\0pruning-standby-{os.getuid()}-{parent}-{_began(parent)}"
    with socket.socket(socket.AF_UNIX) as listener, suppress(OSError):  # another stage had it first
        listener.bind(name)
        listener.listen()
        _start(listener, parent)
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(name)
        if not _is_ours(server):
            raise PermissionError("the standby is somebody else's")
    except OSError:
        server.close()
        raise
    return server


def _began(process: int) -> str:
    """Return when a process began, which tells it from a later one of the same number."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]


def _start(listener: socket.socket, parent: int) -> None:
    pidfd = os.pidfd_open(parent)
    fds = (listener.fileno(), pidfd)
    subprocess.Popen(
        [sys.executable, "-m", "stages.engine.standby", *map(str, fds)],
        pass_fds=fds,
        # NumPy would start threads, which a fork does not have.
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(pidfd)


def _send_command(server: socket.socket, module: str) -> None:
    command = {
        "module": module,
        "arguments": sys.argv[1:],
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "path": sys.path,
    }
    message = json.dumps(command).encode()
    socket.send_fds(server, [NUMBER.pack(len(message))], [0, 1, 2])
    server.sendall(message)


def _stand_for(server: socket.socket, process: int) -> NoReturn:
    """Pass signals on until the command has ended, and end likewise."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: _kill(process, number))  # noqa: ARG005
    code = _received(server)
    if code is None:
        print("error: the process that did this stage's work was killed", file=sys.stderr)
        raise SystemExit(1)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    raise SystemExit(code)


def _received(connection: socket.socket) -> int | None:
    """Return a number that the other side sends, or None where it has gone."""
    with suppress(OSError):
        said = connection.recv(NUMBER.size, socket.MSG_WAITALL)
        return int(NUMBER.unpack(said)[0]) if len(said) == NUMBER.size else None
    return None


def _is_ours(connection: socket.socket) -> bool:
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size)
    return bool(PEER.unpack(said)[1] == os.getuid())


def _kill(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


def serve(listener: socket.socket, parent: int) -> None:
    """Fork a process for each command that is handed over, until `parent` (a pidfd) has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm.load(*warm.PACKAGES)
    stages: dict[socket.socket, ForkProcess] = {}  # by the connection to who asked
    wants_store = False
    while True:
        ends = {process.sentinel: asker for asker, process in stages.items()}
        patience = LULL if stages and wants_store else IDLE
        ready = select.select([parent, listener, *ends, *stages], [], [], patience)[0]
        if parent in ready or not (ready or stages):
            break
        if not ready and wants_store:
            warm.load(*warm.STORE)
            wants_store = False
        for asker in [ends[each] for each in ready if each in ends]:
            _end(asker, stages.pop(asker))
        for asker in [each for each in ready if each in stages]:  # it never speaks: it has gone
            stages[asker].kill()
        if listener in ready and (asked := _accepted(listener)):
            asker, command, streams = asked
            stages[asker] = _forked(command, streams, [listener, asker, *stages])
            with suppress(OSError):
                asker.sendall(NUMBER.pack(stages[asker].pid))
            wants_store = "mlflow" not in sys.modules and _is_tracked(command)
    for process in stages.values():
        process.kill()


def _accepted(listener: socket.socket) -> tuple[socket.socket, dict[str, Any], list[int]] | None:
    """Return who asks, the command and its three streams; None where it is not one of ours."""
    asker, _ = listener.accept()
    streams: list[int] = []
    with suppress(OSError, ValueError, struct.error):
        if _is_ours(asker):
            said, streams, _, _ = socket.recv_fds(asker, NUMBER.size, 3)
            size = NUMBER.unpack(said)[0]
            command = json.loads(asker.recv(size, socket.MSG_WAITALL))
            return asker, command, streams
    for stream in streams:
        os.close(stream)
    asker.close()
    return None


def _forked(
    command: dict[str, Any], streams: list[int], connections: list[socket.socket]
) -> "ForkProcess":
    from multiprocessing.context import ForkProcess

    if command["module"] in TRAINING:
        warm.load(*warm.OPTIMIZER)
    gc.freeze()  # what is there stays, so that its pages stay shared
    process = ForkProcess(target=_become, args=(command, streams, connections))
    process.start()
    for stream in streams:
        os.close(stream)
    return process


def _become(
    command: dict[str, Any], streams: list[int], connections: list[socket.socket]
) -> NoReturn:
    """Be the process of a command, as if DVC had started it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for connection in connections:
        connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for written in (sys.stdout, sys.stderr):
        written.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.chdir(command["folder"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.path[:] = command["path"]
    for name in [name for name in sys.modules if name.split(".")[0] in ("pruning", "stages")]:
        del sys.modules[name]  # the code is that of the command's folder, as it is now
    calls = import_module("stages.engine.calls")
    raise SystemExit(calls.call(command["module"], command["arguments"]))


def _end(asker: socket.socket, process: "ForkProcess") -> None:
    """Tell who asked how the command has ended."""
    process.join()
    with suppress(OSError):
        asker.sendall(NUMBER.pack(process.exitcode))
    asker.close()
    process.close()


def _is_tracked(command: dict[str, Any]) -> bool:
    import yaml

    if is_off(TRACKING, command["environment"]):
        return False
    with suppress(OSError, ValueError, yaml.YAMLError, AttributeError):
        params = yaml.safe_load(Path(command["folder"], "params.yaml").read_text())
        return bool(params.get("tracking", True))
    return False


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
