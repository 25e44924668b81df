"""NNI beyond this machine and this repository: the tuner known by name, remote machines, who may reach the server."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from stub_trial import score
from tiny import environment, finish, history, leftovers, make_experiment, search, settings, start, until

from nni_mcunet.core.errors import UserError
from nni_mcunet.search.nni.experiment_file import prepare
from nni_mcunet.search.nni.nnictl import MANAGER
from nni_mcunet.search.nni.ports import free_port
from nni_mcunet.search.nni.tuner import ArgsValidator, EvolutionTuner


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    trial = "python -m nni_mcunet.search.trial"
    return make_experiment(tmp_path_factory.mktemp("nni"), trial, population=3, batch=3)


# --- known to NNI by name


def test_the_tuner_is_registered_by_name(experiment, tmp_path, monkeypatch):
    def algo(*args):
        result = finish(start(tmp_path, Path(sys.executable).with_name("nnictl"), "algo", *args))
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    algo("register", "--meta", ROOT / "nni_mcunet/search/register.yml")
    assert "MCUNetEvolution" in algo("list") and "ArgsValidator" in algo("show", "MCUNetEvolution")
    monkeypatch.setenv("NNI_CONFIG_DIR", environment(tmp_path)["NNI_CONFIG_DIR"])
    config = yaml.safe_load((experiment / "tiny.yml").read_text())
    config["tuner"] = {"name": "MCUNetEvolution", "classArgs": config["tuner"]["classArgs"]}
    (tmp_path / "named.yml").write_text(yaml.safe_dump(config))
    assert prepare(tmp_path / "named.yml", {})[0]["tuner"]["name"] == "MCUNetEvolution"
    from nni.tools.package_utils.tuner_factory import create_builtin_class_instance, create_validator_instance

    tuner = create_builtin_class_instance("mcunetevolution", settings(tmp_path), "tuners")
    assert isinstance(tuner, EvolutionTuner)
    with pytest.raises(UserError, match="batch is 0"):
        create_validator_instance("tuners", "MCUNetEvolution").validate_class_args(**settings(tmp_path, batch=0))
    algo("unregister", "MCUNetEvolution")
    assert "MCUNetEvolution" not in algo("list")


def test_the_validator_accepts_what_the_tuner_does(tmp_path):
    ArgsValidator().validate_class_args(**settings(tmp_path))


# --- other machines


@pytest.mark.parametrize("name", ["remote", "kubernetes"])
def test_configs_for_other_machines_are_valid(tmp_path, monkeypatch, name):
    """As NNI judges them, on a machine that has an SSH key and, where trials run, a super-network."""
    text = (ROOT / f"configs/nni/{name}.yml").read_text()
    for folder in ("configs/nni", "out/supernet", "home/.ssh"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home/.ssh/id_ed25519").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "configs/nni" / f"{name}.yml").write_text(text)
    shutil.copy(ROOT / "configs/nni/demo_space.json", tmp_path / "configs/nni")
    config, search, _ = prepare(tmp_path / "configs/nni" / f"{name}.yml", {})
    assert search.supernet == str(tmp_path / "out/supernet/demo.pth")
    assert config["trainingService"]["platform"] == yaml.safe_load(text)["trainingService"]["platform"]


def test_the_preload_listens_where_it_is_told_and_nowhere_else():
    import nni_node

    node = Path(nni_node.__path__[0]) / "node"
    server = "s = require('http').createServer((q, a) => a.end('y')); s.listen(0, () => console.log(s.address().port))"
    for more, expected in (({}, [True, False]), ({"MCUNET_NNI_LISTEN": "127.0.0.2"}, [True, True])):
        env = {key: value for key, value in os.environ.items() if key != "MCUNET_NNI_LISTEN"} | more
        command = [str(node), "--require", str(MANAGER), "-e", server]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
            port = int(process.stdout.readline())
            for host, answer in zip(("127.0.0.1", "127.0.0.2"), expected, strict=True):
                if answer:
                    until(lambda: answers(host, port))  # noqa: B023
                else:
                    assert not answers(host, port)
            process.kill()


def answers(host, port):
    try:
        with urllib.request.urlopen(f"http://{host}:{port}", timeout=30) as reply:
            return reply.read() == b"y"
    except OSError:
        return False


SERVER = """
const s = require('http').createServer((q, a) => a.end('y'));
s.on('upgrade', (q, socket) => socket.end('HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n'));
s.listen(0, () => console.log(s.address().port));
"""


@pytest.fixture(scope="module")
def guarded():
    """A server behind the preload, which names 127.0.0.3, too. asked(head) is the status of its answer."""
    import nni_node

    command = [str(Path(nni_node.__path__[0]) / "node"), "--require", str(MANAGER), "-e", SERVER]
    with subprocess.Popen(
        command, env=os.environ | {"MCUNET_NNI_LISTEN": "127.0.0.3"}, stdout=subprocess.PIPE, text=True
    ) as process:
        port = int(process.stdout.readline())

        def asked(head: str) -> int:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
                sock.sendall(head.replace("PORT", str(port)).replace("\n", "\r\n").encode() + b"\r\n\r\n")
                return int(sock.makefile("rb").readline().split()[1])

        yield asked
        process.kill()


HOME = "Host: 127.0.0.1:PORT"
OWN, OTHER = "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: cross-site"
SOCKET = "Connection: Upgrade\nUpgrade: websocket"


@pytest.mark.parametrize(
    "head, status",
    [
        # programs: nnictl, the tuner, trials, curl
        (f"GET / HTTP/1.1\n{HOME}", 200),
        (f"PUT /api/v1/nni/experiment HTTP/1.1\n{HOME}\nContent-Length: 0", 200),
        (f"GET /tuner HTTP/1.1\n{HOME}\n{SOCKET}", 101),
        ("GET / HTTP/1.1\nHost: 127.0.0.3:PORT", 200),  # MCUNET_NNI_LISTEN's
        # NNI's page, here and through ssh -L with another port
        ("GET / HTTP/1.1\nHost: localhost:9999\nSec-Fetch-Site: none", 200),
        ("GET / HTTP/1.1\nHost: LOCALHOST", 200),
        ("GET / HTTP/1.1\nHost: [::1]:9999", 200),
        (f"POST / HTTP/1.1\n{HOME}\nOrigin: http://127.0.0.1:PORT\n{OWN}\nContent-Length: 0", 200),
        ("DELETE / HTTP/1.1\nHost: localhost:9999\nOrigin: http://localhost:9999", 200),
        ("GET / HTTP/1.1\nHost: localhost\nOrigin: http://localhost:80", 200),
        (f"GET /tuner HTTP/1.1\n{HOME}\n{SOCKET}\nOrigin: http://127.0.0.1:PORT\n{OWN}", 101),
        # a link on another page may be followed
        (f"GET / HTTP/1.1\n{HOME}\n{OTHER}\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document", 200),
        # a rebound name
        ("GET / HTTP/1.1\nHost: evil.example", 403),
        ("GET / HTTP/1.1\nHost: evil.example:PORT\nX-Forwarded-Host: 127.0.0.1", 403),
        ("GET / HTTP/1.1\nHost: 127.0.0.1.evil.example:PORT", 403),
        ("GET / HTTP/1.1\nHost: localhost.:PORT", 403),
        ("GET / HTTP/1.1\nHost: 127.0.0.1@evil.example", 403),
        ("GET / HTTP/1.1\nHost: 127.0.0.2:PORT", 403),
        ("GET / HTTP/1.1\nHost: [::2]:PORT", 403),
        ("GET / HTTP/1.1\nHost: 0.0.0.0:PORT", 403),
        ("GET / HTTP/1.1\nHost: ", 403),
        ("GET / HTTP/1.0", 403),
        (f"GET / HTTP/1.1\n{HOME}\nHost: evil.example", 403),
        (f"GET http://evil.example/ HTTP/1.1\n{HOME}", 403),
        (f"GET /tuner HTTP/1.1\nHost: evil.example\n{SOCKET}", 403),
        # another site's page, one of another port and a file among them
        *(
            (f"{method} / HTTP/1.1\n{HOME}\nContent-Length: 0\nOrigin: {origin}", 403)
            for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS")
            for origin in ("http://evil.example", "http://127.0.0.1:3000", "http://localhost:PORT", "null", "file://")
        ),
        (f"GET /tuner HTTP/1.1\n{HOME}\n{SOCKET}\nOrigin: http://evil.example", 403),
        (f"GET /tuner HTTP/1.1\n{HOME}\n{SOCKET}\n{OTHER}", 403),
        (f"POST / HTTP/1.1\n{HOME}\n{OTHER}\nContent-Length: 0", 403),
        (f"POST / HTTP/1.1\n{HOME}\nSec-Fetch-Site: same-site\nContent-Length: 0", 403),
        (f"GET / HTTP/1.1\n{HOME}\n{OTHER}\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: script", 403),
        (f"GET / HTTP/1.1\n{HOME}\n{OTHER}\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe", 403),
        (
            f"POST / HTTP/1.1\n{HOME}\nContent-Length: 0\n{OTHER}\nSec-Fetch-Mode: navigate\n"
            "Sec-Fetch-Dest: document",
            403,
        ),
    ],
)  # fmt: skip
def test_who_may_talk_to_the_manager(guarded, head, status):
    assert guarded(head) == status


@pytest.fixture
def sshd(tmp_path):
    """A server of our own on 127.0.0.1 with keys to be thrown away: (port, key file, home folder of who logs in)."""
    server = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if server is None:
        pytest.skip("no sshd on this machine: apt-get install openssh-server")
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(key, check=True, stdin=subprocess.DEVNULL)
    home, port = tmp_path / "there", free_port()
    home.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        f"PasswordAuthentication no\nStrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
        f"SetEnv HOME={home} PYTHONPATH={ROOT} NNI_FRAMEWORK=none\n"
    )
    process = subprocess.Popen(
        [server, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=(tmp_path / "log").open("w")
    )
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    yield port, tmp_path / "user", home
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.slow
def test_a_search_on_a_remote_machine(sshd, tmp_path):
    """The `remote` service over SSH to this machine; the code directory is copied there, results come back."""
    port, key, home = sshd
    make_experiment(tmp_path, f"python stub_trial.py {tmp_path}", supernet="supernet.pth")
    for folder in ("ran", "code"):
        (tmp_path / folder).mkdir()
    for path in (ROOT / "tests/stub_trial.py", tmp_path / "supernet.pth"):
        shutil.copy(path, tmp_path / "code")
    config = yaml.safe_load((tmp_path / "tiny.yml").read_text())
    machine = {"host": "127.0.0.1", "port": port, "user": getpass.getuser(), "sshKeyFile": str(key)}
    machine["pythonPath"] = str(Path(sys.executable).parent)
    config["trainingService"] = {"platform": "remote", "reuseMode": False, "machineList": [machine]}
    config |= {"nniManagerIp": "127.0.0.1", "trialCodeDirectory": str(tmp_path / "code"), "trialConcurrency": 2}
    (tmp_path / "tiny.yml").write_text(yaml.safe_dump(config))
    result = finish(search(tmp_path, "run", "--config", tmp_path / "tiny.yml", "--timeout", "400"), timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = history(tmp_path / "out")
    assert len(rows) == 8 and all(p["score"] == score(p["candidate"]) for p in rows)
    ran = [json.loads(path.read_text()) for path in (tmp_path / "ran").iterdir()]
    assert {parameters["supernet"] for parameters in ran} == {"supernet.pth"}  # the copy there
    assert len(ran) == 4 == len(list(home.glob("nni-experiments/*/environments/*/trials/*")))
    until(lambda: not leftovers(str(tmp_path / "there")))
