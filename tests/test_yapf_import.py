"""A broken cache of yapf's grammar, as two first starts at once or a kill leave it, stops nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STARTS = {  # and how many bytes of the cache are left
    "the package": (["-c", "import detection"], 100),
    "an option": (["-m", "nni_mcunet", "test", "missing.py", "x.pth", "--cfg-options", "a=1"], 0),
    "a training": (["-m", "nni_mcunet", "train", "configs/det/yolov3_digits.py", "--resume", "missing.pth"], 0),
}


def start(words: list[str], cache: Path) -> subprocess.CompletedProcess:
    env = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(("words", "kept"), STARTS.values(), ids=STARTS)
def test_a_broken_cache_is_written_anew(words, kept, tmp_path):
    assert start(["-c", "import yapf"], tmp_path).returncode == 0
    whole = {path: path.stat().st_size for path in tmp_path.rglob("*.pickle")}
    assert len(whole) == 2
    for path in whole:
        path.write_bytes(path.read_bytes()[:kept])
    assert start(["-c", "import yapf"], tmp_path).returncode == 1  # what mmengine meets
    done = start(words, tmp_path)
    assert "Traceback" not in done.stderr
    assert {path: path.stat().st_size for path in tmp_path.rglob("*.pickle")} == whole


def test_several_first_starts_at_once(tmp_path):
    words = [sys.executable, "-c", "from nni_mcunet.core.yapf_import import import_yapf; import_yapf()"]
    env = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    starts = [subprocess.Popen(words, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    for one in starts:
        assert "Traceback" not in one.communicate()[1]
        assert one.returncode == 0
