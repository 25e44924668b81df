"""Run nnictl, with repairs of NNI 3.0: `python -m nni_mcunet.search.nnictl create --config ...`, any command of nnictl.

The manager's web server listens on 127.0.0.1 (and on MCUNET_NNI_LISTEN, one more address). Concurrent trials are shown
with their own parameters. A loaded machine has a minute to bring the manager up and two for the tuner. A proxy of
http_proxy is not asked for this machine. Trials' `python` is this one. A port in use is one line. A pipe gets no
colours, see said.py.

Plain nnictl searches as well and finds the same networks; `export NODE_OPTIONS="--require .../manager.cjs"` gives it
the first two. NNI is not imported here but run.
"""

import http.client
import json
import os
import sys
import urllib.request
from pathlib import Path

from ...core.errors import VERBOSE
from ...core.types import Plain

MANAGER = Path(__file__).parents[1] / "manager.cjs"
_LISTENS = "lambda: {name: [a for a in found if a.address == '127.0.0.1'] for name, found in addresses().items()}; "
_CODE = (
    "import sys; from nni_mcunet.search.nni.said import plain; plain(sys.stdout); "
    f"import psutil; addresses = psutil.net_if_addrs; psutil.net_if_addrs = {_LISTENS}"  # the URLs that it prints
    "import nni.experiment.launcher as launcher; launcher._check_rest_server.__defaults__ = (60, None); "
    "from nni_mcunet.search.nni.ports import exit_if_busy; launcher._ensure_port_idle = exit_if_busy; "
    "from nni.tools.nnictl.nnictl import parse_args; parse_args()"
)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know this machine's 127.0.0.1


def command(*args: str, id: str | None = None) -> list[str]:
    """Return the command line of nnictl with these arguments. id: of the experiment that `create` makes; None: NNI
    takes a random one."""
    named = f"import nni.experiment.management as m; m.generate_experiment_id = lambda: {id!r}; " if id else ""
    return [sys.executable, "-W", "ignore:pkg_resources is deprecated", "-c", named + _CODE, *args]


def environment(listen: str | None = None) -> dict[str, str]:
    """Return the environment for `command`: os.environ with the preload, the interpreter that runs here as `python`,
    and no proxy between NNI's processes on this machine."""
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    preload, options = f'--require "{MANAGER}"', os.environ.get("NODE_OPTIONS", "")
    node = options if preload in options else f"{options} {preload}".strip()
    env = os.environ | {"PATH": os.pathsep.join(paths), "NODE_OPTIONS": node, "NNI_FRAMEWORK": "none"}
    ours = ["127.0.0.1", "localhost", *([listen] if listen else [])]
    for name in ("no_proxy", "NO_PROXY"):  # programs differ in which of them they read
        given = [host.strip() for host in env.get(name, "").split(",") if host.strip()]
        env[name] = ",".join([*given, *(host for host in ours if host not in given)])
    return env | ({"MCUNET_NNI_LISTEN": listen} if listen else {})


def request(root: str, path: str, method: str = "GET", body: Plain = None, timeout: float = 60) -> Plain:
    """Return the manager's answer, decoded from JSON; None when empty. root: "http://host:port" and its prefix. Raises
    OSError."""
    data = None if body is None else json.dumps(body).encode()
    call = urllib.request.Request(f"{root}/api/v1/nni{path}", data, {"Content-Type": "application/json"}, method=method)
    try:
        with _DIRECT.open(call, timeout=timeout) as reply:
            text = reply.read()
        return json.loads(text) if text else None
    except (http.client.HTTPException, ValueError) as error:  # it is ending, or is no manager of NNI's
        raise OSError(f"no answer of NNI's manager at {root} ({error})") from None


def main(arguments: list[str] | None = None) -> None:
    """Become nnictl with these words (default: the program's own): replace this process by it. --verbose shows NNI's
    lines as they are."""
    words = sys.argv[1:] if arguments is None else arguments
    line = command(*(word for word in words if word != "--verbose"))
    shown = {VERBOSE: "1"} if "--verbose" in words else {}
    os.execve(line[0], line, environment() | shown)  # signals reach nnictl itself
