"""How a server process gives up root."""

import subprocess
import sys
from pathlib import Path

from holdfast_workers.stack import launch
from holdfast_workers.stack.postgres import server_user

# access(2) is what PostgreSQL asks about its own program; it judges by other rules than opening a file.
REACHES = "import os, sys; sys.exit(os.geteuid() == 0 or not os.access(sys.argv[1], os.R_OK))"


def test_a_server_is_never_root_and_still_reaches_what_only_its_owner_may_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    file = closed / "program"
    file.touch(mode=0o600)

    user = server_user(closed / "data")
    told = f"{user.uid}:{user.gid}" if user else "-"
    command = [sys.executable, "-c", REACHES, str(file)]
    done = subprocess.run([sys.executable, "-I", "-S", launch.__file__, "15", told, "--", *command], check=False)
    assert done.returncode == 0
    assert (closed.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
