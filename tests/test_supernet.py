"""The super-network: slices that are networks, a training that resumes exactly, one network of it fine-tuned."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from nni_mcunet.cli.main import main
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.ir.build import build_graph
from nni_mcunet.core.ir.published import make_divisible
from nni_mcunet.core.progress import Progress
from nni_mcunet.search.data import open_data
from nni_mcunet.search.data.classification import Classification
from nni_mcunet.search.space import Space, load_space
from nni_mcunet.search.supernet.fit import Recipe, _Run, load_checkpoint
from nni_mcunet.search.supernet.recipe_options import read_settings
from nni_mcunet.search.supernet.supernet import (
    accumulate,
    build_supernet,
    run_subnet,
    slice_net,
    sort_channels,
)
from nni_mcunet.search.supernet.training import (
    evaluate,
    finetune,
    load_supernet,
    load_weights,
    networks_of_step,
    specialise,
    train,
)

DEMO = load_space("demo")
SMALL = Space.from_dict(DEMO.to_dict() | {"r": [32, 64]})
TINY = Recipe(largest=3, shared=2, subnets=2, batch=4)
DIGITS = {"kind": "digits", "held_out": 20, "test": 10, "calibration": [1, 8]}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def supernet():
    torch.manual_seed(0)
    net = build_supernet(DEMO)
    for layer in net.layers.values():
        for tensor in [] if not hasattr(layer, "bn") else (layer.bn.weight, layer.bn.bias, layer.bn.running_mean):
            torch.nn.init.normal_(tensor)
    return net


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A hardly trained super-network's checkpoint."""
    path = tmp_path_factory.mktemp("supernet") / "x.pth"
    train(SMALL, TINY, path, open_data(DIGITS))
    return path


def equal(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def by_block(seed):
    """A network of the demo's space whose every block has its own width, as a flexible w gives it: shortcuts only where
    the channels agree."""
    rng, spec = np.random.default_rng(seed), DEMO.spec(DEMO.random(np.random.default_rng(seed)))
    cin, stages = spec.stages[0][0].c, [spec.stages[0]]
    for stage, whole in zip(spec.stages[1:], DEMO.stages, strict=True):
        blocks = []
        for block in stage:
            cout = make_divisible(whole.c * rng.choice(whole.w))
            blocks.append(replace(block, mid=make_divisible(cin * rng.choice(whole.e)), c=cout))
            cin = cout
        stages.append(tuple(blocks))
    return replace(spec, stages=tuple(stages))


# --- slices


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["stage", "block"])
@pytest.mark.parametrize("training", [False, True])
def test_a_slice_is_the_stand_alone_network(supernet, seed, kind, training):
    spec = by_block(seed) if kind == "block" else DEMO.spec(DEMO.random(np.random.default_rng(seed)))
    graph, x = build_graph(spec), torch.rand(2, 3, 64, 48)
    alone = slice_net(supernet, graph).train(training)
    assert torch.equal(run_subnet(supernet.train(training), graph, x)[0], alone(x)[0])


def test_widths_by_block_change_the_shortcuts():
    """Else the test above says nothing about them."""
    whole = build_graph(DEMO.spec(DEMO.largest()))
    graphs = [build_graph(by_block(seed)) for seed in range(4)]
    assert any(op.residual is None and whole.op(op.name).residual is not None for g in graphs for op in g.ops)


@pytest.mark.parametrize("seed", range(2))
def test_a_slice_trains_the_super_network_as_autograd_would(supernet, seed):
    graph = build_graph(DEMO.spec(DEMO.random(np.random.default_rng(seed))))
    criterion = partial(Classification(10).loss, labels=torch.tensor([3, 4]), smoothing=0)
    x = torch.rand(2, 3, 64, 64)
    supernet.train().zero_grad()
    loss = criterion(run_subnet(supernet, graph, x))
    (2 * loss).backward()
    wanted = {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}
    supernet.zero_grad()
    assert torch.equal(accumulate(supernet, graph, x, criterion), loss.detach())
    accumulate(supernet, graph, x, criterion)  # adds to what is there
    found = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-7) for name in wanted)


def test_only_the_slice_has_gradients(supernet):
    supernet.train().zero_grad()
    graph = build_graph(DEMO.spec(DEMO.smallest()))
    accumulate(supernet, graph, torch.rand(2, 3, 64, 64), lambda outputs: outputs[0].square().sum())
    grad, cout = supernet.layers["s1_b0_dw"].conv.weight.grad, graph.op("s1_b0_dw").cout
    assert grad[:cout, :, 2:5, 2:5].abs().sum() > 0
    assert grad[cout:].abs().sum() == 0 and grad[..., 0, :].abs().sum() == 0
    assert supernet.layers["s1_b1_dw"].conv.weight.grad is None  # a block that was skipped: no decay, no momentum


def test_sorting_channels_keeps_the_function(supernet):
    supernet.eval()
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before = supernet(x)[0]
        sort_channels(supernet)
        assert torch.allclose(supernet(x)[0], before, atol=1e-4)
    norms = supernet.layers["s1_b0_proj"].conv.weight.abs().sum((0, 2, 3))
    assert bool((norms[:-1] >= norms[1:]).all())


def test_a_foreign_network_is_refused(supernet):
    foreign = load_space("mcunet384")
    with pytest.raises(UserError, match="not of th"):
        slice_net(supernet, build_graph(foreign.spec(foreign.largest())))


# --- what a step trains


def test_the_networks_of_a_step():
    recipe = Recipe(largest=2, shared=50, subnets=4)
    first, later = networks_of_step(DEMO, recipe, 0), networks_of_step(DEMO, recipe, 7)
    assert [g.macs for g in first] == [build_graph(DEMO.spec(DEMO.largest() | {"r": first[0].inputs[0].h})).macs]
    assert len({g.macs for g in later}) == 4 and len({g.inputs[0].h for g in later}) == 1
    assert {networks_of_step(DEMO, recipe, step)[0].inputs[0].h for step in range(20)} == {96, 128}
    assert [g.macs for g in networks_of_step(DEMO, recipe, 7)] == [g.macs for g in later]
    both = networks_of_step(DEMO, replace(recipe, sandwich=True), 7)
    r = both[0].inputs[0].h
    extremes = [build_graph(DEMO.spec(c | {"r": r})).macs for c in (DEMO.largest(), DEMO.smallest())]
    assert [g.macs for g in both[:2]] == extremes and len(both) == 4


def test_a_slice_is_calibrated_with_as_many_pictures_as_asked(supernet):
    """The statistics are the mean over all batches of training pictures, at the network's resolution."""
    data, candidate = open_data(DIGITS | {"calibration": [3, 8]}), DEMO.smallest() | {"r": 128}
    for asked, batches in ((None, 3), ((2, 4), 2)):
        net = specialise(DEMO, supernet, candidate, data, asked)
        bn = net.layers["stem"].bn
        assert bn.num_batches_tracked == batches
        pictures = list(data.calibration(DEMO.resolution(candidate), *(asked or (3, 8))))
        with torch.no_grad():
            means = [net.layers["stem"].conv(images).mean((0, 2, 3)) for images in pictures]
        assert torch.allclose(bn.running_mean, torch.stack(means).mean(0), atol=1e-5)


# --- resuming

RECIPES = {
    "plain": TINY,
    "all of it": replace(TINY, subnets=3, sandwich=True, label_smoothing=0.1, ema=0.9, amp=True),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("at", [2, 3, 4])
def test_training_resumes_exactly(tmp_path, name, at):
    recipe, data = RECIPES[name], open_data(DIGITS)
    whole = train(SMALL, recipe, tmp_path / "whole.pth", data)

    def killed(step, loss):
        if step == at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(SMALL, recipe, tmp_path / "part.pth", data, save_every=1, progress=killed)
    assert load_checkpoint(tmp_path / "part.pth")["step"] == at
    time.sleep(1 - time.time() % 1)  # TensorBoard reads the logs of one second in any order
    resumed = train(SMALL, recipe, tmp_path / "part.pth", data)
    assert equal(whole, resumed)
    assert equal(load_supernet(tmp_path / "part.pth")[1], resumed.eval())
    log = EventAccumulator(str(tmp_path / "part_log")).Reload()
    assert [event.step for event in log.Scalars("loss")] == [1, 2, 3, 4, 5]  # the step that was done twice stands once
    assert {event.value for event in log.Scalars("height")} <= {32.0, 64.0}


def test_a_training_that_diverges_ends_and_keeps_its_last_checkpoint(tmp_path):
    """Weights that are no numbers would train on for hours, and then score like guessing."""
    path = tmp_path / "x.pth"
    with pytest.raises(UserError, match=r"the training has diverged by step \d: give a smaller --lr"):
        train(SMALL, replace(TINY, lr=1e18), path, open_data(DIGITS), save_every=1)
    state = load_checkpoint(path)
    weights = [tensor for name, tensor in state["net"].items() if name.endswith(("weight", "bias"))]
    assert state["step"] >= 1 and all(tensor.isfinite().all() for tensor in weights)


def test_a_step_is_sgd_on_the_mean_of_the_networks_losses(tmp_path):
    """Two networks, label smoothing, the norm of their mean gradient clipped, the averaged weights: by hand."""
    recipe = Recipe(largest=1, shared=2, subnets=2, batch=4, lr=0.1, weight_decay=0.01, label_smoothing=0.3, ema=0.5)
    torch.manual_seed(0)
    run, other = (_Run(build_supernet(SMALL).train(), recipe, Classification(10), {}) for _ in range(2))
    other.net.load_state_dict(run.net.state_dict())
    run.step, run.average = 2, run._copy()  # behind the phase of the largest network
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([1, 2, 3, 4])
    graphs = [build_graph(SMALL.spec(c | {"r": 32})) for c in (SMALL.largest(), SMALL.smallest())]
    before = run._copy()
    loss = run.advance(graphs, images, labels)

    logits = [run_subnet(other.net, graph, images)[0].flatten(1) for graph in graphs]
    expected = sum(F.cross_entropy(of, labels, label_smoothing=0.3) for of in logits) / 2
    expected.backward()
    gradients = {name: p.grad for name, p in other.net.named_parameters()}
    norm = torch.stack([g.norm() for g in gradients.values()]).norm()
    assert loss == pytest.approx(expected.item(), rel=1e-5) and norm > 5  # so that the clipping is seen
    for name, now in run._detached().items():
        g = gradients[name] * 5 / norm + 0.01 * before[name]
        wanted = before[name] - recipe.rate(2) * 1.9 * g  # Nesterov's first step
        assert torch.allclose(now, wanted, atol=1e-5), name
        # 3 / 13 of the old: less than 0.5 among the first steps
        assert torch.allclose(run.average[name], now + (before[name] - now) * 3 / 13, atol=1e-5), name


def test_the_learning_rate_by_hand():
    """A warm-up of five steps, then a cosine's half, in each phase anew."""
    recipe = Recipe(largest=100, shared=40, lr=0.5)
    for step, rate in ((0, 0.1), (1, 0.2), (25, 0.5 * (0.5 + 8**-0.5)), (50, 0.25), (100, 0.1), (120, 0.25)):
        assert recipe.rate(step) == pytest.approx(rate, rel=1e-3), step


@pytest.mark.parametrize("adam", [False, True])
def test_the_shared_phase_begins_without_the_momentum_of_channels_that_have_moved(adam):
    """And without their average: it is the same for a run that begins there with these weights."""
    recipe = Recipe(largest=2, shared=2, subnets=1, batch=4, ema=0.9, adam=adam)
    torch.manual_seed(0)
    run = _Run(build_supernet(SMALL).train(), recipe, Classification(10), {})
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([1, 2, 3, 4])
    graphs = [build_graph(SMALL.spec(SMALL.largest() | {"r": 32}))]
    for _ in range(2):
        run.advance(graphs, images, labels)
    other = _Run(deepcopy(run.net), recipe, Classification(10), {})
    other.step = run.step
    for each in (run, other):
        each.advance(graphs, images, labels)
    for name, weight in run._detached().items():
        assert torch.equal(weight, other._detached()[name]), name
        assert torch.equal(run.average[name], other.average[name]), name


def test_the_averaged_weights_are_what_is_judged(tmp_path):
    recipe = replace(TINY, ema=0.9)
    averaged = train(SMALL, recipe, tmp_path / "a.pth", open_data(DIGITS))
    state = load_checkpoint(tmp_path / "a.pth")
    plain = train(SMALL, TINY, tmp_path / "b.pth", open_data(DIGITS))
    name = "layers.s1_b0_dw.conv.weight"
    assert torch.equal(state["net"][name], plain.state_dict()[name])  # training itself is the same
    assert not torch.equal(averaged.state_dict()[name], plain.state_dict()[name])
    assert torch.equal(averaged.state_dict()[name], state["average"][name])


def test_a_killed_process_goes_on(tmp_path):
    """kill -9 in the middle of training; what it left behind ends like an undisturbed run."""
    recipe = replace(TINY, largest=6, shared=6, ema=0.9)
    script = f"""
import torch
torch.set_num_threads(1)
from nni_mcunet.search.data import open_data
from nni_mcunet.search.supernet.fit import Recipe
from nni_mcunet.search.space import Space
from nni_mcunet.search.supernet.training import train
train(Space.from_dict({SMALL.to_dict()!r}), Recipe(**{asdict(recipe)!r}), {str(tmp_path / "killed.pth")!r},
      open_data({DIGITS!r}), save_every=1, progress=lambda step, loss: print(step, flush=True))
"""
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True)
    while int(child.stdout.readline()) < 7:
        pass
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    step = load_checkpoint(tmp_path / "killed.pth")["step"]
    assert 6 <= step < recipe.steps
    resumed = train(SMALL, recipe, tmp_path / "killed.pth", open_data(DIGITS))
    assert equal(resumed, train(SMALL, recipe, tmp_path / "whole.pth", open_data(DIGITS)))


def test_other_settings_and_broken_files_are_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"another recipe .*delete it"):
        train(SMALL, Recipe(seed=1), trained, open_data(DIGITS))
    with pytest.raises(UserError, match="another data"):
        train(SMALL, TINY, trained, open_data(DIGITS | {"scale": [0.3, 0.4]}))
    with pytest.raises(UserError, match="another space"):
        train(DEMO, TINY, trained, open_data(DIGITS))
    (tmp_path / "x.pth").write_bytes(trained.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"x\.pth is no checkpoint"):
        load_supernet(tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"mcunet train-supernet --space .* --out .*y\.pth"):
        load_supernet(tmp_path / "y.pth")
    longer = replace(TINY, shared=9)

    def stop(step, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            SMALL,
            longer,
            tmp_path / "z.pth",
            open_data(DIGITS),
            save_every=2,
            progress=lambda s, l: s > 2 and stop(s, l),
        )
    with pytest.raises(UserError, match="training stopped at step 2"):
        load_supernet(tmp_path / "z.pth")


# --- two processes


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.slow
def test_two_processes_agree_and_resume(tmp_path):
    """The mean of two halves of a batch, each normalised by itself: the ranks end with the same weights, and a run that
    was stopped and resumed ends where an undisturbed one does."""
    script = tmp_path / "run.py"
    script.write_text(f"""
import sys, torch
torch.set_num_threads(1)
from nni_mcunet.search.supernet import distributed as ranks
from nni_mcunet.search.data import open_data
from nni_mcunet.search.supernet.fit import Recipe
from nni_mcunet.search.space import Space
from nni_mcunet.search.supernet.training import train
def progress(step, loss):
    if sys.argv[2] == "stop" and step == 4:
        import os; os._exit(9)
ranks.join(ranks.pick_device("cpu"))
mine = [torch.tensor([1.0, 2.0]) * (1 + 2 * ranks.place()[0]), torch.tensor(4.0)]
ranks.average(mine)
assert [t.tolist() for t in mine] == [[2.0, 4.0], 4.0]
net = train(Space.from_dict({SMALL.to_dict()!r}), Recipe(**{asdict(TINY)!r}), sys.argv[1], open_data({DIGITS!r}),
            save_every=1, progress=progress, device="cpu")
torch.save({{k: p for k, p in net.named_parameters()}}, sys.argv[1] + str(ranks.place()[0]))
ranks.leave()
""")
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(name, how):
        command = [*TORCHRUN, str(script), str(tmp_path / name), how]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=170)

    assert run("stopped", "stop").returncode != 0
    assert load_checkpoint(tmp_path / "stopped")["step"] == 3
    for name in ("stopped", "whole"):
        done = run(name, "go")
        assert done.returncode == 0, done.stderr
    results = [torch.load(tmp_path / name) for name in ("stopped0", "stopped1", "whole0", "whole1")]
    for other in results[1:]:
        assert all(torch.equal(results[0][key], other[key]) for key in results[0])
    alone = train(SMALL, TINY, tmp_path / "alone.pth", open_data(DIGITS)).state_dict()
    key = "layers.s1_b0_dw.conv.weight"
    assert not torch.equal(results[0][key], alone[key])  # each rank had its own half: not two copies of one run


# --- a space and data that differ


def test_a_detection_space_is_trained_with_the_datas_classes(tmp_path):
    space = replace(SMALL, classes=None)
    train(space, TINY, tmp_path / "x.pth", open_data(DIGITS))
    loaded, net = load_supernet(tmp_path / "x.pth")
    assert loaded == space and net.graph.tensors[net.graph.outputs[0]].c == 10
    assert 0 <= evaluate(loaded, net, space.smallest(), open_data(DIGITS)) <= 1


def test_classes_that_differ_are_refused(trained, tmp_path):
    with pytest.raises(UserError, match="space demo has 7 classes and the data 10"):
        train(replace(SMALL, classes=7), TINY, tmp_path / "x.pth", open_data(DIGITS))
    space, net = load_supernet(trained)
    two = open_data(DIGITS)
    two.task = Classification(2)
    with pytest.raises(UserError, match=r"outputs of \[10\] channels and the data have \[2\]"):
        specialise(replace(space, classes=None), net, space.smallest(), two)


# --- a trial


def test_a_trial_scores_its_candidates_in_their_order(trained, monkeypatch):
    from nni_mcunet.search.nni import trial

    told = []
    monkeypatch.setattr(trial.nni, "report_intermediate_result", told.append)
    candidates = [SMALL.largest(), SMALL.smallest(), SMALL.largest() | {"r": 32}]
    parameters = {
        "supernet": str(trained),
        "data": DIGITS,
        "candidates": [{"index": i, "candidate": c} for i, c in enumerate(candidates)],
    }
    space, net = load_supernet(trained)
    wanted = [evaluate(space, net, candidate, open_data(DIGITS)) for candidate in candidates]
    assert trial.scores(parameters) == wanted
    assert sorted((t["index"], t["default"]) for t in told) == list(enumerate(wanted))
    del parameters["data"]  # the embedded digits, of which other ones are held out
    with pytest.raises(UserError, match="judged on pictures that it was trained on"):
        trial.scores(parameters)


@pytest.mark.parametrize("parameters", [None, {}, {"supernet": "x.pth"}, {"candidates": [{}]}])
def test_a_trial_outside_of_its_experiment_says_so(parameters):
    from nni_mcunet.search.nni import trial

    with pytest.raises(UserError, match="run it in an experiment"):
        trial.scores(parameters)


# --- fine-tuning


@pytest.fixture(scope="module")
def exported(trained):
    space, net = load_supernet(trained)
    spec = space.spec(space.smallest())
    torch.save(specialise(space, net, space.smallest(), open_data(DIGITS)).state_dict(), trained.parent / "best.pth")
    spec.save(trained.parent / "best.json")
    return spec, trained.parent / "best.pth"


def test_finetuning_resumes_exactly(exported, tmp_path):
    (spec, weights), recipe = exported, Recipe(largest=3, shared=0, batch=4, lr=0.02)
    before = load_weights(spec, weights)
    whole = finetune(spec, load_weights(spec, weights), recipe, open_data(DIGITS), tmp_path / "a.ckpt")
    assert not equal(before, whole)

    def killed(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    part = tmp_path / "b.ckpt"
    with pytest.raises(KeyboardInterrupt):
        finetune(spec, load_weights(spec, weights), recipe, open_data(DIGITS), part, 1, killed)
    assert load_checkpoint(part)["step"] == 2
    assert equal(whole, finetune(spec, load_weights(spec, weights), recipe, open_data(DIGITS), part))
    with pytest.raises(UserError, match="another weights"):
        finetune(spec, whole, recipe, open_data(DIGITS), part)
    with pytest.raises(UserError, match="single network"):
        load_supernet(part)


def test_wrong_weights_and_classes_are_refused(exported, trained, tmp_path):
    spec, _ = exported
    with pytest.raises(UserError, match="does not hold the weights of architecture demo"):
        load_weights(spec, trained)
    (tmp_path / "x.pth").write_text("no weights")
    with pytest.raises(UserError, match="does not hold"):
        load_weights(spec, tmp_path / "x.pth")
    backbone = replace(spec, classes=None)
    with pytest.raises(UserError, match="no classifier and the data 10 classes"):
        finetune(backbone, build_supernet(SMALL), TINY, open_data(DIGITS), tmp_path / "y.ckpt")


# --- the command lines


@pytest.fixture
def tool(monkeypatch, capsys):
    """A command line, run in this process (starting another costs seconds): exit code, stdout, stderr."""

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        monkeypatch.syspath_prepend(str(ROOT / "tools"))
        code = 0
        try:
            runpy.run_path(str(ROOT / "tools" / name), run_name="__main__")
        except SystemExit as end:
            code = end.code
        return (code, *capsys.readouterr())

    return run


DATA = "{kind: digits, held_out: 20, test: 10, calibration: [1, 8]}"


def test_a_super_network_is_trained_and_a_slice_fine_tuned(tool, exported, tmp_path):
    space = tmp_path / "small.json"
    space.write_text(json.dumps(SMALL.to_dict()))
    run = ["train_supernet.py", "--space", space, "--data", DATA, "--out", tmp_path / "x.pth"]
    run += ["--largest", 2, "--shared", 1, "--batch", 4, "--ema", 0.9]
    (code, first, error), (_, again, _) = tool(*run), tool(*run)
    assert code == 0, error
    assert first == again and first.count("accuracy") == 6
    weights, config = exported[1], tmp_path / "x.yml"
    config.write_text("recipe: {lr: 0.4, batch: 4, epochs: [1, 2]}")
    code, text, error = tool(
        "finetune.py", weights.with_name("best.json"), weights, "--config", config, "--data", DATA, "--steps", 2,
        "--out", tmp_path / "tuned.pth",
    )  # fmt: skip
    assert code == 0, error
    assert "before: held-out 0." in text and "test 0." in text.split("after:")[1]
    load_weights(exported[0], tmp_path / "tuned.pth")
    recipe = load_checkpoint(tmp_path / "tuned.pth.ckpt")["identity"]["recipe"]
    assert (recipe["lr"], recipe["largest"], recipe["shared"]) == (0.04, 2, 0)  # a tenth of the super-network's


def test_ctrl_c_says_how_a_super_network_goes_on(tmp_path, monkeypatch, capsys):
    space, out = tmp_path / "small.json", tmp_path / "x.pth"
    space.write_text(json.dumps(SMALL.to_dict()))
    words = ["--space", space, "--data", DATA, "--out", out, "--largest", 2, "--shared", 1, "--batch", 4]

    def stopped_at(step):
        def to(self, done, figures=""):
            if done == step:
                raise KeyboardInterrupt

        monkeypatch.setattr(Progress, "to", to)
        with pytest.raises(SystemExit) as end:
            main(["train-supernet", *map(str, words), "--save-every", "1"])
        assert end.value.code == 130
        return capsys.readouterr().err

    assert stopped_at(1) == "stopped before its first checkpoint: it begins anew\n"
    assert stopped_at(2) == f"stopped: the same command goes on from {out}\n"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--data", "imagenet:/nowhere"], "no folder /nowhere; expected there: train/nXXXXXXXX"),
        (["--batch", "0"], "recipe: batch is 0: expected at least 1"),
        (["--sandwich", "--subnets", "2"], "subnets is 2: expected at least 3"),
        (["--config", "nowhere.yml"], "no such file: nowhere.yml"),
        (["--device", "tpu"], "auto, cpu or cuda"),
    ],
)
def test_wrong_flags_are_one_line(tool, words, message, tmp_path):
    code, _, error = tool("train_supernet.py", "--out", tmp_path / "x.pth", *words)
    assert code == 2 and message in error and error.count("\n") == 1


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/cls/supernet_*.yml")), ids=lambda p: p.stem)
def test_the_papers_recipes_are_complete(path, monkeypatch):
    """lr, batch, weight decay and the epochs of appendix B: the shared phase is twice as long as the first."""
    monkeypatch.chdir(ROOT)
    settings = read_settings(str(path))
    load_space(settings["space"])
    recipe = settings["recipe"]
    assert recipe["epochs"][1] == 2 * recipe["epochs"][0]
    assert (recipe["batch"], recipe["lr"], recipe["weight_decay"]) == (1024, 0.2, 4e-5)

    class Counted:
        epoch = staticmethod(lambda batch: 7)

    assert Recipe.from_dict(recipe, Counted).largest == 7 * recipe["epochs"][0]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"lrr": 1}, "unknown key 'lrr'"),
        ({"lr": "0.2"}, "lr is '0.2'"),
        ({"amp": 1}, "amp is 1"),
        ({"batch": True}, "batch is True"),
        ({"ema": 1.0}, "below 1"),
        ({"largest": -1}, "largest is -1: expected a number from 0"),
        ({"lr": float("nan")}, "lr is nan: expected a number from 0"),
        ({"seed": 1 << 64}, "seed is 18446744073709551616: expected"),
        ({"epochs": 3}, "epochs is 3"),
        (3, "a mapping"),
    ],
)
def test_wrong_recipes_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_dict(values)
