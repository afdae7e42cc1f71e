"""Files are whole or not there, and what prevents writing becomes one typed error."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tuner import files
from tuner.errors import OutputError

ROOT = Path(__file__).resolve().parents[2]


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "summary.json"
    files.write_aside(path, b"one")
    files.write_aside(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def run_killed(script: str, *arguments: object) -> None:
    """Run Python that ends by its own SIGKILL."""
    kill = "import os, signal, sys\ndef die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
    done = subprocess.run([sys.executable, "-c", kill + script, *map(str, arguments)], cwd=ROOT, capture_output=True)
    assert done.returncode == -9, done.stderr


@pytest.mark.parametrize("last", ["os.fsync", "os.replace"])
def test_a_file_is_whole_whenever_its_writer_dies(tmp_path: Path, last: str) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(b"old")
    script = f"from tuner import files\nfrom pathlib import Path\n{last} = die\n"
    run_killed(script + "files.write_aside(Path(sys.argv[1]), b'new' * 1000)\n", path)
    assert path.read_bytes() == b"old"
    run_killed(
        "from tuner import files\nfrom pathlib import Path\nfiles.sync = die\n"
        "files.write_aside(Path(sys.argv[1]), b'new' * 1000)\n",
        path,
    )
    assert path.read_bytes() == b"new" * 1000


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "model.so").write_text(content)
    return path


@pytest.mark.parametrize(("deadly", "expected"), [(1, "old"), (2, "old"), (3, "new")])
def test_an_export_is_old_or_new_whenever_its_writer_dies(tmp_path: Path, deadly: int, expected: str) -> None:
    """Deaths before the first rename, between the two, and before the old one is removed."""
    final, made = folder(tmp_path / "export", "old"), folder(tmp_path / "made", "new")
    script = (
        "from pathlib import Path\nfrom tuner import files\n"
        "calls, replace = [], os.replace\n"
        "def counted(a, b):\n"
        "    calls.append(a)\n"
        "    die() if len(calls) == int(sys.argv[1]) else replace(a, b)\n"
        "os.replace = counted\n"
        "files.sync = lambda _: die()\n"
        "files.replace_folder(Path(sys.argv[2]), Path(sys.argv[3]))\n"
    )
    run_killed(script, deadly, made, final)
    files.finish_replacing(final)
    assert (final / "model.so").read_text() == expected
    assert not (tmp_path / ".export.old").exists()
    if made.exists():
        files.replace_folder(made, final)
        assert (final / "model.so").read_text() == "new"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["export"]


def test_a_lock_is_held_by_one_and_dropped_by_death(tmp_path: Path) -> None:
    lock = tmp_path / "runs" / ".lock"
    script = (
        "from pathlib import Path\nfrom tuner import files\n"
        "with files.locked(Path(sys.argv[1]), 'a run is going on'):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    die()\n"
    )
    head = "import os, signal, sys\ndef die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
    with subprocess.Popen(
        [sys.executable, "-c", head + script, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match=rf"a run is going on in it already \(process {holder.pid}\)") as caught:  # noqa: SIM117
            with files.locked(lock, "a run is going on"):
                pass
        assert caught.value.exit_code == 3
        assert caught.value.hint
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        assert holder.wait() == -9
    with files.locked(lock, "a run is going on"):
        pass


def test_a_passing_lock_leaves_no_file_and_lets_one_in_at_a_time(tmp_path: Path) -> None:
    lock, inside, most = tmp_path / ".lock", [], []

    def work(number: int) -> None:
        for _ in range(40):
            with contextlib.suppress(OutputError), files.locked(lock, "work", passing=True):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and not lock.exists()
    with pytest.raises(ValueError), files.locked(lock, "work", passing=True):
        raise ValueError
    assert not lock.exists()


# --- where nothing can be written -----------------------------------------------------------------

ATTEMPTS = """
import os, sqlite3, sys, tempfile
from pathlib import Path
from tuner import files
from tuner.errors import TunerError
from tuner.store import SqlStore
from tuner.commands.prepare import run_folder
from tuner.config import parse

parse("model: {source: onnx:x}", "first.yaml")  # what it imports late, nobody may not be allowed to read

def locked(folder):
    with files.locked(folder / ".lock", "a run is going on"):
        pass

def temporary(folder):
    tempfile.tempdir = None
    os.environ.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)))
    tempfile._candidate_tempdir_list = lambda: [str(folder)]
    files.require_temporary_folder()

folder = Path(sys.argv[1])
if sys.argv[2:]:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
config = parse(f"model: {{source: 'onnx:x'}}\\nout: {folder}", "run file")
for attempt in (
    lambda: files.write_aside(folder / "summary.json", b"x"),
    lambda: files.require_room(folder),
    lambda: locked(folder),
    lambda: SqlStore(f"sqlite:///{folder}/records.db"),
    lambda: run_folder(config, None),
    lambda: temporary(folder),
):
    try:
        attempt()
    except TunerError as error:
        assert error.exit_code == 3 and error.hint, error
        print(str(error).splitlines()[0])
    else:
        print("written")
"""


def attempts(path: Path, *arguments: str, wrap: tuple[str, ...] = ()) -> list[str]:
    done = subprocess.run(
        [*wrap, sys.executable, "-c", ATTEMPTS, str(path), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_everything_can_be_written_where_nothing_is_wrong(tmp_path: Path) -> None:
    assert attempts(tmp_path) == ["written"] * 6


def test_a_folder_without_permission(tmp_path: Path) -> None:
    outside = Path("/tmp") / f"tuner-test-{os.getpid()}"  # where another user can come, too
    outside.mkdir(mode=0o555)
    try:
        outcomes = attempts(outside, *(["nobody"] if os.getuid() == 0 else []))
    finally:
        shutil.rmtree(outside)
    assert len(outcomes) == 6
    assert all(str(outside) in line or "temporary" in line for line in outcomes), outcomes
    assert sum("ermission denied" in line for line in outcomes) >= 4


def mounted(tmp_path: Path, options: str, after: str = "true") -> tuple[str, ...]:
    """A command prefix that runs what follows with a small file system of its own at `tmp_path/disk`."""
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f'mount -t tmpfs -o {options} none "$0" && {after} && shift 0 && exec "$@"'
    wrap = ("unshare", "--mount", *(() if os.getuid() == 0 else ("--map-root-user",)), "sh", "-c", script, str(disk))
    if shutil.which("unshare") is None or subprocess.run([*wrap, "true"], capture_output=True).returncode != 0:
        pytest.skip("no private mounts for this user here (unshare --mount)")
    return wrap


def test_a_read_only_folder(tmp_path: Path) -> None:
    wrap = mounted(tmp_path, "size=3m", 'mount -o remount,ro "$0"')
    outcomes = attempts(tmp_path / "disk", wrap=wrap)
    assert all(str(tmp_path) in line or "temporary" in line for line in outcomes), outcomes
    assert sum("ead-only" in line or "unable to open" in line for line in outcomes) >= 4, outcomes


def test_a_full_disk(tmp_path: Path) -> None:
    wrap = mounted(tmp_path, "size=1m", '{ head -c 2m /dev/zero > "$0/big" 2>/dev/null || true; }')
    outcomes = attempts(tmp_path / "disk", wrap=wrap)
    assert outcomes[2] == "written"  # an empty file for the lock has room
    assert all("No space left" in outcomes[i] or "full" in outcomes[i] for i in (0, 1, 3, 4)), outcomes


FILLING = """
import os, sys, sqlite3
from pathlib import Path
from tests.contracts.record_store import make_record
from tuner.errors import StoreError
from tuner.store import SqlStore
folder = Path(sys.argv[1])
url = f"sqlite:///{folder}/records.db"
stored = 0
with SqlStore(url) as store:
    (folder / "ballast").write_bytes(bytes(1 << 20))
    try:
        while True:
            store.append([make_record(trial=stored, features=(1.0,) * 200)])
            stored += 1
    except StoreError as error:
        assert error.exit_code == 3 and "disk" in error.hint, error
    assert [r.trial for r in store.read()] == list(range(stored))
    (folder / "ballast").unlink()
    store.append([make_record(trial=stored)])
with SqlStore(url) as store:
    store.check()
    assert [r.trial for r in store.read()] == list(range(stored + 1))
connection = sqlite3.connect(folder / "records.db")
assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
print(stored)
"""


def test_records_survive_a_disk_that_fills_up_and_go_on_when_there_is_room(tmp_path: Path) -> None:
    wrap = mounted(tmp_path, "size=3m")
    done = subprocess.run(
        [*wrap, sys.executable, "-c", FILLING, str(tmp_path / "disk")], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    files.write_aside(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE)
    files.write_aside(tmp_path / "pipe", b"through")
    assert reader.communicate(timeout=20)[0] == b"through"
    assert (tmp_path / "pipe").is_fifo()
    files.write_aside(Path(os.devnull), b"gone")
    assert Path(os.devnull).is_char_device()
