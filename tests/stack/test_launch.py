"""How a server process gives up root."""

import subprocess
import sys
from pathlib import Path

from holdfast_workers.stack import launch
from holdfast_workers.stack.postgres import server_user

# `test -r` asks access(2), as PostgreSQL does about its own program.
REACHES = 'test "$(id -u)" -ne 0 && test -r "$0"'


def test_a_server_is_never_root_and_still_reaches_what_only_its_owner_may_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    file = closed / "program"
    file.touch(mode=0o600)

    user = server_user(closed / "data")
    told = f"{user.uid}:{user.gid}" if user else "-"
    command = ["/bin/sh", "-c", REACHES, str(file)]
    done = subprocess.run([sys.executable, "-I", "-S", launch.__file__, "15", told, "--", *command], check=False)
    assert done.returncode == 0
    assert (closed.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
