"""Check the YAML of an NNI experiment before anything is started. The tuner's own settings are read in ../config.py."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from ...core.types import Plain, PlainDict
from ...core.validate import check_keys, integer, read_yaml, short
from ..config import ExperimentError, SearchConfig, check_trials, search_config, search_space
from ..evolution import Evolution
from ..run.result_folder import ResultsError, check_folder

TOP_KEYS = {
    "experimentName", "experimentWorkingDirectory", "searchSpace", "searchSpaceFile", "trialCommand",
    "trialCodeDirectory", "trialConcurrency", "maxTrialNumber", "maxExperimentDuration", "maxTrialDuration", "tuner",
    "trainingService", "logLevel", "debug", "trialGpuNumber", "tunerGpuIndices", "nniManagerIp", "sharedStorage",
}  # fmt: skip
PATHS = ("experimentWorkingDirectory", "searchSpaceFile", "trialCodeDirectory")
TUNER_KEYS = {"name", "className", "codeDirectory", "classArgs"}
SERVICE_KEYS = {"platform", "useActiveGpu", "maxTrialNumberPerGpu", "gpuIndices", "reuseMode"}  # of "local"
SERVICES = ("local", "remote", "kubeflow", "frameworkcontroller")


def load_config(path: str | Path) -> PlainDict:
    """Read the YAML and make its paths absolute, as NNI reads them: relative to the file. Raises ExperimentError."""
    path = Path(path)
    config = read_yaml(path, ExperimentError)
    if not isinstance(config, dict):
        raise ExperimentError(f"{path}: expected an NNI experiment's keys, see configs/nni/demo_h743.yml")
    try:
        _check(config)
        base = path.resolve().parent
        for key in PATHS:
            if key in config:
                config[key] = str((base / config[key]).resolve())
        check_folder(Path(config["experimentWorkingDirectory"]), "experimentWorkingDirectory")
        for machine in _machines(config):  # NNI will read a copy of the file from elsewhere
            if "sshKeyFile" in machine:
                machine["sshKeyFile"] = str(base / Path(machine["sshKeyFile"]).expanduser())
        tuner, folders = config["tuner"], {"trialCodeDirectory": config["trialCodeDirectory"]}
        if "className" in tuner:
            tuner["codeDirectory"] = str((base / tuner.get("codeDirectory", ".")).resolve())
            folders["tuner.codeDirectory"] = tuner["codeDirectory"]
        for key, folder in folders.items():
            if not Path(folder).is_dir():
                raise ExperimentError(f"{key} is {folder}: expected an existing folder")
        _check_class(tuner)
        _ask_nni(config)
    except (ExperimentError, ResultsError) as error:
        raise ExperimentError(f"{path}: {error}") from None
    return config


def read_begun(path: Path) -> PlainDict:
    """Read the configuration of an experiment that load_config has checked and launch.py has stored. Raises
    ExperimentError."""
    config = read_yaml(path, ExperimentError)
    try:
        _check(config)
    except ExperimentError as error:
        raise ExperimentError(f"{path}: {error}; begin a new search") from None
    return config


def _check(config: PlainDict) -> None:
    """Check keys and types that NNI would refuse in its own long way, or would not look at. Raises ExperimentError."""
    needed = ["tuner", "trainingService", "trialCodeDirectory", "experimentWorkingDirectory", "trialConcurrency"]
    _check_keys(config, TOP_KEYS, "the experiment", needed)
    _check_keys(config["tuner"], TUNER_KEYS, "tuner")
    services = config["trainingService"]
    _check_keys(services, services if isinstance(services, dict) else SERVICE_KEYS, "trainingService", ("platform",))
    tuner, service = config["tuner"], config["trainingService"]
    if service["platform"] not in SERVICES:
        raise ExperimentError(
            f"trainingService.platform is {short(service['platform'])}: known are {', '.join(SERVICES)}"
        )
    if service["platform"] in ("local", "remote"):  # the others name the command in their roles
        _check_keys(config, TOP_KEYS, "the experiment", ("trialCommand",))
    if service["platform"] == "local":
        _check_keys(service, SERVICE_KEYS, "trainingService")
        if service.get("reuseMode"):
            raise ExperimentError("trainingService.reuseMode is true: use false, NNI's local service does not work so")
    if ("name" in tuner) == ("className" in tuner):
        raise ExperimentError("tuner: expected 'className' or 'name', one of them")
    values = [(key, config[key]) for key in (*PATHS, "trialCommand", "experimentName", "nniManagerIp") if key in config]
    values += [(f"tuner.{key}", tuner[key]) for key in ("name", "className", "codeDirectory") if key in tuner]
    values += [("sshKeyFile", machine["sshKeyFile"]) for machine in _machines(config) if "sshKeyFile" in machine]
    for key, value in values:
        if not isinstance(value, str) or not value.strip():
            raise ExperimentError(f"{key} is {short(value)}: expected a non-empty string")
    for key in ("trialConcurrency", "maxTrialNumber"):
        integer(config.get(key, 1), key, 1, kind=ExperimentError)
    if not isinstance(tuner.get("classArgs"), (dict, type(None))):
        raise ExperimentError(f"tuner.classArgs is {short(tuner['classArgs'])}: expected a mapping, see SearchConfig")


def _machines(config: PlainDict) -> list[PlainDict]:
    """List a remote service's machines, as far as they look like machines: NNI has the last word."""
    machines = config["trainingService"].get("machineList")
    return [machine for machine in machines if isinstance(machine, dict)] if isinstance(machines, list) else []


def _check_keys(data: Plain, known: Iterable[str], where: str, needed: Iterable[str] = ()) -> None:
    check_keys(data, sorted(known, key=str), where, needed, ExperimentError)


def _check_class(tuner: PlainDict) -> None:
    """Import the tuner's class, with its codeDirectory on the path as NNI puts it there. Raises ExperimentError where
    that fails."""
    from .nni_checks import registered_class  # imports NNI, and so does the next line
    from .tuner import EvolutionTuner

    key, folder = "tuner.className", tuner.get("codeDirectory", str(Path().resolve()))
    name = tuner.get("className")
    if name is None:
        key, name = "tuner.name", registered_class(tuner["name"])
        if name is None:
            raise ExperimentError(
                f"tuner.name is {short(tuner['name'])}, which NNI does not know: register it with "
                f"`nnictl algo register --meta {Path(__file__).with_name('register.yml')}`"
            )
    module, _, attribute = name.rpartition(".")
    sys.path.append(folder)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # importing runs the module, which may raise anything
        reason = short(" ".join(str(error).split()))
        raise ExperimentError(
            f"{key} is {short(name)}, which does not import from {folder} ({reason}): "
            "use nni_mcunet.search.tuner.EvolutionTuner"
        ) from None
    finally:
        sys.path.remove(folder)
    if not isinstance(found, type) or not issubclass(found, EvolutionTuner):
        raise ExperimentError(f"{key} is {short(name)}, no subclass of nni_mcunet.search.tuner.EvolutionTuner")


def _ask_nni(config: PlainDict) -> None:
    """Let NNI check the experiment before it starts anything. Raises ExperimentError in NNI's words."""
    from .nni_checks import refusal  # imports NNI

    message = refusal({key: value for key, value in config.items() if key != "searchSpaceFile"} | {"searchSpace": {}})
    if message:
        raise ExperimentError(f"NNI says: {message}")


def prepare(path: str | Path, overrides: PlainDict) -> tuple[PlainDict, SearchConfig, Evolution]:
    """Check a new experiment whole, all but the super-network. overrides: of the classArgs. Returns NNI's
    configuration, the tuner's settings and the search. Raises UserError."""
    config = load_config(path)
    config["tuner"]["classArgs"] = (config["tuner"].get("classArgs") or {}) | overrides
    search = search_config(config)
    check_trials(config, search)
    evolution = search.evolution(search_space(config))
    evolution.ask()  # so that an infeasible limit is said before anything is started
    return config, search, evolution
