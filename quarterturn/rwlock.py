"""DVC's table of who reads and writes what, where a kill has left half of it.

DVC writes `.dvc/tmp/rwlock` in place. Killed in that moment it leaves the file empty or cut short, and every later DVC
command ends with "Unable to read RWLock-file".
"""

import json
from pathlib import Path


def mend_rwlock(folder: Path) -> bool:
    """Remove the table in DVC's ``folder`` for temporary files, if nothing can read it; True if that was so.

    An empty table is what DVC starts with; entries of processes that are gone it removes by itself.
    """
    path = folder / "rwlock"
    if _can_be_read(path):
        return False
    from dvc.lock import make_lock  # takes a second to import, and is seldom needed

    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)):  # what DVC holds while it writes
        if _can_be_read(path):
            return False
        path.unlink()
    return True


def _can_be_read(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True
