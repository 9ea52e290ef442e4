"""The namespaces a cluster lives in, and what must not outlive it: processes, mounts, cgroups, its folder.

`run` starts itself once more in here. Processes and network end with the namespaces; cgroups do not, so they are all
below one group of the run's own, which is removed afterwards, and looked for.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

HIERARCHIES = pathlib.Path("/sys/fs/cgroup")
ENTER = ("unshare", "--net", "--mount", "--pid", "--mount-proc", "--kill-child", "--fork")
PREFIX = "bearerd-cluster-"


def roots():
    """The folders where groups are made: one for each hierarchy of version 1, or the one of version 2."""
    if (HIERARCHIES / "cgroup.controllers").exists():
        return [HIERARCHIES]
    found = {path.resolve() for path in HIERARCHIES.iterdir() if path.is_dir()}
    return sorted(path for path in found if (path / "cgroup.procs").exists())


def make_groups(name):
    for root in roots():
        group = root / name
        group.mkdir()
        if root.name == "cpuset":
            # An empty set lets nobody in.
            for file in ("cpuset.cpus", "cpuset.mems"):
                (group / file).write_text((root / file).read_text())
        if root == HIERARCHIES:
            controllers = (root / "cgroup.controllers").read_text().split()
            for folder in (root, group):
                with contextlib.suppress(OSError):
                    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in controllers))


def remove_groups(name, limit=10):
    """Removes them all, innermost first; returns those that stayed because something lives there."""
    end = time.monotonic() + limit
    while True:
        left = [folder for root in roots() if (root / name).exists() for folder in tree(root / name)]
        for folder in left:
            with contextlib.suppress(OSError):
                folder.rmdir()
        left = [folder for folder in left if folder.exists()]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.1)


def tree(top):
    return [pathlib.Path(path) for path, _, _ in os.walk(top, topdown=False)]


@contextlib.contextmanager
def one_at_a_time(cache):
    """Two clusters would not fit the machine, nor its ports if a namespace leaked."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(command, keep, say):
    """Runs `command` with the folder as last argument in there; returns its exit status, or 1 where something is left."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
    group = folder.name
    make_groups(group)
    try:
        status = subprocess.run([*ENTER, *map(str, command), str(folder)]).returncode
    finally:
        left = remove_groups(group)
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if not keep and folder.exists():
        left.append(folder)
    for path in left:
        say(f"FAILED  left behind: {path}")
    return status or (1 if left else 0)
