"""NNI's web page in a browser, Debian's chromium: it works, and other people's pages do not reach the manager."""

import http.server
import json
import os
import signal
import sqlite3
import sys
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from chromium import browser, opened
from conftest import ROOT
from tiny import finish, leftovers, make_experiment, search, until

from nni_mcunet.search.nni.launch import find
from nni_mcunet.search.nni.ports import free_port

pytestmark = pytest.mark.slow

PAGE = """<html><body>pending</body><script>
const root = 'http://127.0.0.1:PORT', api = root + '/api/v1/nni';
const status = async (path, options) => (await fetch(api + path, options)).status;
const tried = (what) => what().catch(() => 'refused');
const opened = async () => {
  let found;
  const socket = new WebSocket(root.replace('http', 'ws') + '/tuner');
  socket.onopen = () => { found = 'opened'; };
  socket.onerror = () => { found = 'refused'; };
  while (!found) {
    await fetch('/wait'); // the browser's time is that of its requests, and a socket is none
  }
  return found;
};
const change = { method: 'PUT', headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify({ params: { trialConcurrency: 1 } }) };
(async () => {
  const found = {
    read: await tried(() => status('/experiment')),
    change: await tried(() => status('/experiment?update_type=TRIAL_CONCURRENCY', change)),
    add: await tried(() => status('/trial-jobs', { method: 'POST', mode: 'no-cors', body: '{}' })),
    socket: FOREIGN ? await opened() : 'not tried',
  };
  document.body.textContent = JSON.stringify(found);
})();
</script></html>"""


class Site(http.server.SimpleHTTPRequestHandler):
    """Other people's pages."""

    def do_GET(self):
        if self.path == "/wait":
            time.sleep(0.3)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A search whose first trial waits: (folder, port of NNI's manager, NNI's id)."""
    home, port = tmp_path_factory.mktemp("browser"), free_port()
    make_experiment(home, f"{sys.executable} {ROOT}/tests/stub_trial.py {home}")
    for name in ("ran", "waiting"):
        (home / name).mkdir()
    (home / "hold").write_text("0")
    process = search(home, "run", "--config", home / "tiny.yml", "--port", port)
    until(lambda: os.listdir(home / "waiting"))
    yield home, port, find(out=home / "out")[0]
    (home / "hold").unlink()
    process.send_signal(signal.SIGTERM)
    finish(process)
    until(lambda: not leftovers(str(home)))


@pytest.fixture
def browse(tmp_path):
    names = "--host-resolver-rules=MAP evil.example 127.0.0.1"  # what a rebound name does
    browser()
    return lambda url: opened(url, tmp_path / "profile", names)


def answers(document: str) -> dict:
    return json.loads(document.partition("<body>")[2].partition("</body>")[0])


def added(home: Path) -> int:
    """Trials that pages have asked for."""
    (path,) = home.glob("nni/[!_]*/db/nni.sqlite")
    with closing(sqlite3.connect(path)) as db:
        return db.execute("select count(*) from TrialJobEvent where event = 'ADD_CUSTOMIZED'").fetchone()[0]


def test_the_web_page_works(running, browse):
    home, port, id = running
    for name in ("127.0.0.1", "localhost"):
        page = browse(f"http://{name}:{port}/")
        assert id in page and "tiny" in page and "RUNNING" in page
    page = PAGE.replace("PORT", str(port)).replace("FOREIGN", "false")
    (home / "nni" / id / "log/own.html").write_text(page)  # NNI serves this folder: a page of its own origin
    found = answers(browse(f"http://127.0.0.1:{port}/logs/own.html"))
    assert found["read"] == found["change"] == 200 and added(home) == 1


def test_other_peoples_pages_do_not_reach_the_manager(running, browse, tmp_path):
    home, port, _ = running
    before = added(home)
    (tmp_path / "site").mkdir()
    page = PAGE.replace("PORT", str(port)).replace("FOREIGN", "true")
    (tmp_path / "site/index.html").write_text(page)
    handler = partial(Site, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        for name in ("127.0.0.1", "localhost", "evil.example"):
            found = answers(browse(f"http://{name}:{site.server_port}/index.html"))
            assert found["read"] == found["change"] == found["socket"] == "refused", name
        site.shutdown()
    assert "NNI refuses this request: the Host header" in browse(f"http://evil.example:{port}/")
    assert added(home) == before
