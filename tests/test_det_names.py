"""Names of classes: one order from the annotations to the board, whatever the files' own; and what a derived config
says at its top reaches its data."""

import json
from pathlib import Path

import detection  # before mmdet

# isort: split
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image
from test_det_data import GOOD, encoded, picture, voc, xml

from detection import config_classes, load_config, load_detector
from detection.config.loader_pictures import busy_picture, input_pictures
from detection.data.data_files import check_dataset, check_folders
from detection.data.data_survey import survey
from detection.data.datasets import build_dataset, build_pictures, leaves, loader_leaves
from detection.training.testing import with_tta
from nni_mcunet.bridge import as_model, of_checkpoint
from nni_mcunet.cli.main import run
from nni_mcunet.core.errors import UserError
from nni_mcunet.core.view import STRETCH, View

BCCD, VOC, FACES = (ROOT / f"configs/det/{name}.py" for name in ("yolov3_bccd", "yolov3_voc_h743", "s3fd_widerface_s"))
CELLS = ("RBC", "WBC", "Platelets")


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    torch.set_num_threads(1)


@pytest.fixture
def derived(tmp_path):
    """derived(base, text, options) -> the config of a file that begins with `_base_ = base`."""

    def read(base, text: str = "", options=None) -> Config:
        (tmp_path / "mine.py").write_text(f"_base_ = {str(base)!r}\n{text}\n")
        return load_config(tmp_path / "mine.py", options)

    return read


def coco(folder: Path, names=("cat", "dog", "bird"), ids=(3, 1, 7)) -> dict:
    """Four pictures, object i of category i % 3; the JSON lists the categories in the order of `names`."""
    (folder / "images").mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.full((40, 60, 3), 40 * i, np.uint8)).save(folder / f"images/{i}.png")
    content = dict(
        images=[dict(id=i, file_name=f"{i}.png", width=60, height=40) for i in range(4)],
        categories=[dict(id=k, name=name) for k, name in zip(ids, names, strict=True)],
        annotations=[dict(id=i + 1, image_id=i, category_id=ids[i % 3], bbox=[5 + i, 5, 20, 25], area=500, iscrowd=0)
                     for i in range(4)],
    )  # fmt: skip
    (folder / "notes.json").write_text(json.dumps(content))
    return dict(type="CocoDataset", data_root=str(folder), ann_file="notes.json", data_prefix=dict(img="images/"),
                pipeline=[], test_mode=True)  # fmt: skip


@pytest.mark.parametrize("classes", [("cat", "dog", "bird"), ("bird", "cat", "dog"), ("dog", "bird", "cat"), ("dog",)])
def test_cocos_labels_are_by_name(classes, tmp_path):
    data = build_dataset(coco(tmp_path) | {"metainfo": dict(classes=classes)})
    found = [[classes[o["bbox_label"]] for o in data.get_data_info(i)["instances"]] for i in range(4)]
    assert found == [[name] if name in classes else [] for name in ("cat", "dog", "bird", "cat")]


@pytest.mark.parametrize("classes", [("cat", "dog", "bird"), ("bird", "cat", "dog")])
@pytest.mark.parametrize("from_file", [True, False])
def test_cocos_metric_is_by_name(classes, from_file, tmp_path):
    """Right boxes of cat and dog, a wrong one of bird: each class has its own AP, twice in a row."""
    from mmdet.evaluation import CocoMetric

    data = build_dataset(coco(tmp_path) | {"metainfo": dict(classes=classes)})
    metric = CocoMetric(ann_file=str(tmp_path / "notes.json") if from_file else None, classwise=True)
    metric.dataset_meta = data.metainfo
    for _ in range(2):
        for i in range(4):
            (item,) = data.get_data_info(i)["instances"]
            box, label = torch.tensor([item["bbox"]]), torch.tensor([item["bbox_label"]])
            wrong = classes[item["bbox_label"]] == "bird"
            sample = dict(
                img_id=i, ori_shape=(40, 60),
                pred_instances=dict(bboxes=box + 40.0 * wrong, scores=torch.ones(1), labels=label),
                gt_instances=InstanceData(bboxes=box, labels=label),
                ignored_instances=InstanceData(bboxes=box[:0], labels=torch.zeros(0, dtype=int)),
                instances=[dict(item, ignore_flag=0)],
            )  # fmt: skip
            metric.process({}, [sample])
        found = metric.evaluate(4)
        assert {name: found[f"coco/{name}_precision"] for name in classes} == {"cat": 1.0, "dog": 1.0, "bird": 0.0}


def test_coco_names_that_are_not_there_or_twice(tmp_path):
    """Left to themselves the labels behind such a name would move up by one."""
    data = coco(tmp_path / "a")
    for check in (check_dataset, build_dataset):
        with pytest.raises(UserError, match=r"no category 'fish' of metainfo\.classes; it has cat, dog, bird"):
            check(data | {"metainfo": dict(classes=("cat", "fish", "dog"))})
    twice = coco(tmp_path / "b", ("cat", "cat", "dog")) | {"metainfo": dict(classes=("cat", "dog"))}
    for check in (check_dataset, build_dataset):
        with pytest.raises(UserError, match=r"2 categories 'cat'.*ids \[3, 1\]"):
            check(twice)


def test_cocos_metric_judges_the_pictures_that_are_read(tmp_path):
    """Picture 1 of one file is not picture 1 of another."""
    names = {"metainfo": dict(classes=("cat", "dog", "bird"))}
    data, _ = coco(tmp_path / "a") | names, coco(tmp_path / "b")
    metric = dict(type="CocoMetric", ann_file=str(tmp_path / "b/notes.json"))
    config = Config(dict(test_dataloader=dict(dataset=data), test_evaluator=[metric]))
    check_folders(config)  # the same pictures by the same numbers
    content = (tmp_path / "b/notes.json").read_text().replace('"2.png"', '"9.png"')
    (tmp_path / "b/notes.json").write_text(content)
    with pytest.raises(UserError, match=r"picture 2 is 2\.png in .*a/notes\.json, .* and 9\.png in .*b/notes\.json"):
        check_folders(config)
    (tmp_path / "b/notes.json").write_text("{")
    with pytest.raises(UserError, match=r"b/notes\.json: not valid JSON"):
        check_folders(config)
    metric["ann_file"] = str(tmp_path / "none.json")
    config = Config(dict(test_dataloader=dict(dataset=data), test_evaluator=metric))
    with pytest.raises(UserError, match=r"none\.json is missing"):
        check_folders(config)


def test_objects_of_other_classes_are_counted(tmp_path):
    boxes = xml(GOOD).replace("</annotation>", "") + xml(GOOD, name="three").split("</size>")[1]
    items = {"a": (encoded(picture()), xml(GOOD)), "b": (encoded(picture()), boxes),
             "c": (encoded(picture()), xml((*GOOD, *GOOD), name="Two"))}  # fmt: skip
    found = survey(build_dataset(voc(tmp_path / "voc", items)))
    assert found.unlisted == {"Two": 2, "three": 1}
    line = found.line()
    assert "3 objects of classes that are not listed: Two 2, three 1" in line and "no object of two" in line
    assert "nothing amiss" not in line
    found = survey(build_dataset(coco(tmp_path / "coco") | {"metainfo": dict(classes=("dog",))}))
    assert found.unlisted == {"cat": 2, "bird": 1} and "not listed: cat 2, bird 1" in found.line()
    assert survey(
        build_dataset(coco(tmp_path / "all") | {"metainfo": dict(classes=("dog", "cat", "bird"))})
    ).line() == ("4 pictures, 4 boxes: nothing amiss")


def every(config: Config, key: str) -> set:
    values = [data.get(key) for _, data in loader_leaves(config)]
    return {tuple(v["classes"]) if isinstance(v, dict) else v for v in values}


@pytest.mark.parametrize("base", [BCCD, VOC, FACES, ROOT / "configs/det/yolov3_voc_mini.py"])
def test_data_root_at_the_top_reaches_every_loader(base, derived):
    assert every(derived(base, "data_root = '/mine/'"), "data_root") == {"/mine/"}
    assert every(derived(base, "", {"data_root": "/mine"}), "data_root") == {"/mine"}
    twice = derived(base, "data_root = '/first/'", {"data_root": "/second/"})
    assert every(twice, "data_root") == {"/second/"}


def test_data_root_at_the_top_reaches_the_evaluators(derived):
    config = derived(FACES, "data_root = '/mine'")
    assert config.val_evaluator.ground_truth == config.test_evaluator.ground_truth == "/mine/eval_tools/ground_truth"
    text = "data_root = 'd/'\nval_evaluator = dict(_delete_=True, type='CocoMetric', ann_file=data_root + 'n.json')"
    base = derived(BCCD, text).filename
    Path(base).rename(Path(base).with_name("theirs.py"))
    assert derived(Path(base).with_name("theirs.py"), "data_root = 'e'").val_evaluator.ann_file == "e/n.json"


def test_a_loaders_own_value_stays(derived):
    """Also one that is the base's: the test on the official data, the training on one's own."""
    text = "data_root = '/mine/'\nval_dataloader = dict(dataset=dict(data_root='data/VOCdevkit/'))"
    config = derived(VOC, text)
    assert config.val_dataloader.dataset.data_root == "data/VOCdevkit/"
    assert {data.data_root for data in leaves(config.train_dataloader.dataset)} == {"/mine/"}
    config = derived(VOC, "", {"data_root": "/mine/", "test_dataloader.dataset.data_root": "/theirs/"})
    assert config.test_dataloader.dataset.data_root == "/theirs/"
    config = derived(VOC, "", {"train_dataloader.dataset.datasets.1.data_root": "/one"})
    assert [data.data_root for data in leaves(config.train_dataloader.dataset)] == ["data/VOCdevkit/", "/one"]


def test_the_top_fills_what_no_loader_says(derived):
    """A config on the base that has no data of its own."""
    text = """data_root = 'mine/'
metainfo = dict(classes=('nut', 'bolt'))
model = dict(backbone=dict(arch='configs/arch/mcu_w50_r128.json', out_indices=(2, 4)),
             bbox_head=dict(anchors=[[(0.1, 0.1)], [(0.2, 0.2)]]))
train_dataloader = dict(dataset=dict(ann_file='train.txt'))
val_dataloader = dict(dataset=dict(ann_file=data_root + 'val.txt'))"""
    config = derived(ROOT / "configs/det/_base_/yolov3_mcunet.py", text)
    assert config.train_dataloader.dataset.data_root == "mine/" and every(config, "metainfo") == {("nut", "bolt")}
    assert "data_root" not in config.val_dataloader.dataset  # its paths begin with it
    assert config.model.bbox_head.num_classes == 2


def test_a_top_that_nothing_reads_is_refused(derived):
    loaders = "\n".join(f"{name} = dict(dataset=dict({{}}))" for name in ("train_dataloader", "val_dataloader",
                                                                            "test_dataloader"))  # fmt: skip
    with pytest.raises(UserError, match=r"data_root is '/mine/', and no loader reads it: train_dataloader has '/o"):
        derived(BCCD, "data_root = '/mine/'\n" + loaders.format(*["data_root='/other/'"] * 3))
    derived(BCCD, loaders.format(*["data_root='/other/'"] * 3))  # the top is the base's: nothing new is said there
    other = "metainfo=dict(classes=('a', 'b', 'c'))"
    with pytest.raises(UserError, match=r"metainfo at the top names .*'x'.*, and no loader has these classes"):
        derived(BCCD, "metainfo = dict(classes=('x', 'y', 'z'))\n" + loaders.format(*[other] * 3))


def test_pipelines_at_the_top_reach_the_loaders(derived):
    config = derived(VOC, "train_pipeline = [dict(type='LoadPicture'), dict(type='PackDetInputs')]")
    assert [[step.type for step in data.pipeline] for data in leaves(config.train_dataloader.dataset)] == [
        ["LoadPicture", "PackDetInputs"]
    ] * 2
    assert len(config.val_dataloader.dataset.pipeline) == 4


@pytest.mark.parametrize("where", ["file", "options"])
def test_names_at_the_top_count_the_classes(where, derived):
    names = ("nut", "bolt")
    top = (
        ("metainfo = dict(classes=('nut', 'bolt'))", None)
        if where == "file"
        else ("", {"metainfo.classes": list(names)})
    )
    for base in (BCCD, VOC):
        config = derived(base, *top)
        assert every(config, "metainfo") == {names} == {config_classes(config)}
        assert config.model.bbox_head.num_classes == 2
        assert load_detector(config).dataset_meta == {"classes": names}


@pytest.mark.parametrize(
    "text, options, message",
    [
        ("model = dict(bbox_head=dict(num_classes=4))", None, "num_classes is 4 and metainfo.classes of the data"),
        ("", {"model.bbox_head.num_classes": 2}, "num_classes is 2 and metainfo.classes of the data names 3, RBC, WBC"),
        ("", {"val_dataloader.dataset.metainfo.classes": ["WBC", "RBC", "Platelets"]},
         "train_dataloader and val_dataloader have the same classes in another order, RBC, WBC, Platelets and WBC"),
        ("test_dataloader = dict(dataset=dict(metainfo=dict(classes=('RBC', 'WBC'))))", None,
         "train_dataloader has 3 classes and test_dataloader has 2; only train_dataloader has Platelets"),
        ("metainfo = dict(classes=('cell'))", None, r"metainfo.classes is the text 'cell'.*\('cell',\)"),
        ("metainfo = dict(classes=(1, 2, 3))", None, r"is \(1, 2, 3\): expected a tuple of names"),
        ("metainfo = dict(classes=())", None, "expected a tuple of names"),
        ("metainfo = dict(classes=('a', 'b', 'a'))", None, "names 'a' twice"),
    ],
)  # fmt: skip
def test_names_that_do_not_agree(text, options, message, derived):
    with pytest.raises(UserError, match=message):
        derived(BCCD, text, options)


def test_a_face_detector_finds_one_class(derived):
    with pytest.raises(UserError, match=r"MCUNetS3FDHead finds 1 and metainfo\.classes of the data names 2"):
        derived(FACES, "metainfo = dict(classes=('face', 'mask'))")


def trained(path: Path, model, **meta) -> Path:
    torch.save({"meta": meta, "state_dict": model.state_dict()}, path)
    return path


def test_names_come_from_what_was_trained(derived, tmp_path):
    """The checkpoint's, and the data set's where it has none; a difference is refused, no top-level metainfo needed."""
    config = derived(BCCD)
    config.pop("metainfo")
    model = load_detector(config)
    assert detection.detector_meta(model)["classes"] == list(CELLS)
    same = trained(tmp_path / "same.pth", model, dataset_meta=dict(classes=CELLS, palette=[(1, 2, 3)]))
    silent, old = trained(tmp_path / "silent.pth", model), trained(tmp_path / "old.pth", model, CLASSES=list(CELLS))
    for checkpoint in (same, silent, old):
        assert detection.detector_meta(load_detector(config, checkpoint))["classes"] == list(CELLS)
    other = trained(tmp_path / "other.pth", model, dataset_meta=dict(classes=("WBC", "RBC", "Platelets")))
    with pytest.raises(UserError, match=r"other\.pth and the config have the same classes in another order, WBC, RBC"):
        load_detector(config, other)
    config.metainfo = dict(classes=("x", "y", "z"))  # a plain variable: nothing was trained on it
    assert detection.detector_meta(load_detector(config, same))["classes"] == list(CELLS)


def changed(network, part, key, value):
    config = load_config(f"configs/det/{network}.py")
    config.model[part][key] = value
    return config


@pytest.mark.parametrize(
    ("network", "part", "key", "value"),
    [
        ("yolov3_bccd", "bbox_head", "anchors", [[(0.061, 0.079), (0.145, 0.183), (0.173, 0.198)],
                                                 [(0.156, 0.223), (0.188, 0.238), (0.34, 0.412)]]),
        ("yolox_bccd_f412", "backbone", "out_indices", (3, 5)),
        ("s3fd_widerface_mini", "bbox_head", "sizes", [[8, 16, 32], [64], [128], [192]]),
        ("s3fd_widerface_mini", "bbox_head", "background", 1),
    ],
)  # fmt: skip
def test_boxes_are_decoded_as_in_the_training(network, part, key, value, tmp_path):
    """Anchors have no weights: a checkpoint of others would load, and find its boxes elsewhere."""
    config, path = load_config(f"configs/det/{network}.py"), tmp_path / "x.pth"
    torch.save({"meta": {"cfg": config.pretty_text}, "state_dict": {}}, path)
    detection.check_trained(path, config)
    other = changed(network, part, key, value)
    with pytest.raises(
        UserError, match=rf"x\.pth was trained with {part}\.{key}=.*{network}\.py has .*: give the config"
    ):
        detection.check_trained(path, other)
    other.model = dict(type="DetTTAModel", module=other.model)
    with pytest.raises(UserError, match=f"was trained with {part}"):
        detection.check_trained(path, other)


def test_a_checkpoints_config_may_say_less(tmp_path):
    """One of an older training has not every key; the text of others is not run, nor has it to be one of ours."""
    config, path = load_config("configs/det/s3fd_widerface_mini.py"), tmp_path / "x.pth"
    mark = tmp_path / "ran"
    for text in (
        "model = dict(bbox_head=dict(sizes=[(8, 16, 32), (64, ), [128], [256]], loss=inf))",
        f"model = dict(type=open({str(mark)!r}, 'w'), bbox_head=dict({{'a b': 1}}))",
        "model = dict(" * 300, "model = ", "\0", "x.y = 1\nmodel = None\npicture = dict()",
    ):  # fmt: skip
        torch.save({"meta": {"cfg": text}, "state_dict": {}}, path)
        detection.check_trained(path, config)
    assert not mark.exists()
    text = "model = dict(loss=inf, bbox_head=dict(type=X, sizes=[(8, 16), (64, )]))"
    torch.save({"meta": {"cfg": text}, "state_dict": {}}, path)
    with pytest.raises(UserError, match=r"bbox_head\.sizes=\[\[8, 16\], \[64\]\]"):
        detection.check_trained(path, config)


def test_no_command_takes_a_checkpoint_of_other_anchors(derived, tmp_path):
    config = derived(BCCD)
    path = trained(tmp_path / "x.pth", load_detector(config), cfg=config.pretty_text)
    load_detector(config, path)
    config.model.bbox_head.anchors[1][2] = (0.3, 0.4)
    with pytest.raises(UserError, match=r"x\.pth was trained with bbox_head\.anchors"):
        load_detector(config, path)
    (tmp_path / "other.py").write_text(config.pretty_text)
    words = [str(tmp_path / "other.py"), str(path)]
    for command in (
        ["export", *words, "-o", str(tmp_path / "x.onnx")],
        ["compare-boxes", *words],
    ):
        with pytest.raises(UserError, match=r"was trained with bbox_head\.anchors"):
            run(command[0], command[1:])


def test_no_exported_network_takes_weights_of_other_anchors(derived, tmp_path):
    """quantize --qat puts a checkpoint's weights into an exported network, whose anchors stay; compare-boxes judges an
    int8 file by a checkpoint."""
    config = derived(BCCD)
    model = as_model(load_detector(config))
    image, meta = model.graph.inputs[0], model.meta["detector"]
    path = trained(tmp_path / "x.pth", load_detector(config), cfg=config.pretty_text)
    detection.check_exported(path, meta, STRETCH, (image.h, image.w), "m")
    with pytest.raises(UserError, match=r"was trained on pictures seen by stretch, m sees them by letterbox:114: give"):
        detection.check_exported(path, meta, View(pad=114), (image.h, image.w), "m")
    config.model.bbox_head.anchors[1][2] = (0.3, 0.4)
    path = trained(tmp_path / "y.pth", load_detector(config), cfg=config.pretty_text)
    with pytest.raises(UserError, match=r"y\.pth has other bbox_head\.anchors than .*: give files of one training"):
        of_checkpoint(model, str(path))
    faces = load_config("configs/det/s3fd_widerface_mini.py")
    meta = {"sizes": [16, 32, 64, 128, 256]}
    for sizes, said in (([[16, 32], [64], [128], [256]], None), ([[16, 32], [64], [128], [192]], "bbox_head.sizes")):
        faces.model.bbox_head.sizes = sizes
        if said:
            with pytest.raises(UserError, match=said):
                detection.check_anchors("c.py", faces.model.bbox_head, meta, (1, 1), "m")
        else:
            detection.check_anchors("c.py", faces.model.bbox_head, meta, (1, 1), "m")


@pytest.fixture
def nested(tmp_path) -> Config:
    """Digits' config on two years of VOC's layout: training repeated and mixed, test concatenated and repeated."""
    parts = []
    for year in ("VOC2007", "VOC2012"):
        items = {f"{year}{k}": (encoded(picture(60 + k, 40)), xml(GOOD * (k + 1), (60 + k, 40))) for k in range(3)}
        parts.append(voc(tmp_path, items, year) | {"metainfo": dict(classes=("one", "two"))})
    config = load_config("configs/det/yolov3_digits.py")
    train, test = (config[loader].dataset.pipeline for loader in ("train_dataloader", "test_dataloader"))

    def both(pipeline, **more):
        return dict(type="ConcatDataset", ignore_keys=["dataset_type"],
                    datasets=[part | dict(pipeline=pipeline, **more) for part in parts])  # fmt: skip

    config.train_dataloader.dataset = dict(
        type="MultiImageMixDataset", pipeline=[], dataset=dict(type="RepeatDataset", times=3, dataset=both(train))
    )
    config.test_dataloader.dataset = dict(type="RepeatDataset", times=1, dataset=both(test, test_mode=True))
    config.val_dataloader.dataset = both(test, test_mode=True)
    config.model.bbox_head.pop("num_classes")
    return load_config(config)


def test_nested_data_sets_are_unwrapped_by_one_function(nested):
    assert nested.model.bbox_head.num_classes == 2 and config_classes(nested) == ("one", "two")
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        found = list(input_pictures(nested, 100, loader))
        assert len(found) == 6 and {image.shape for image in found} == {(128, 128, 3)}
    assert [list(input_pictures(nested, 2, loader))[1].shape for loader in ("test_dataloader",)] == [(128, 128, 3)]
    assert busy_picture(nested).endswith("VOC20072.jpg")
    assert len(build_pictures(nested.train_dataloader.dataset)) == 6
    data = list(leaves(with_tta(nested).test_dataloader.dataset))
    assert [part.pipeline[-1].type for part in data] == ["TestTimeAug"] * 2
    sample = build_dataset(nested.test_dataloader.dataset)[4]
    assert len(sample["inputs"]) == len(sample["data_samples"]) == 2


def test_nested_data_sets_must_agree(nested):
    parts = list(leaves(nested.train_dataloader.dataset))
    parts[1].metainfo = dict(classes=("two", "one"))
    with pytest.raises(UserError, match="the same classes in another order, one, two and two, one"):
        load_config(nested)
    with pytest.raises(UserError, match="the same classes in another order"):
        build_pictures(nested.train_dataloader.dataset)


def test_a_search_takes_nested_data_sets(nested):
    nested.train_dataloader.dataset = nested.train_dataloader.dataset.dataset
    assert len(detection.DetectorData._dataset(nested)) == 6
    with pytest.raises(UserError, match="different pipelines"):
        next(leaves(nested.train_dataloader.dataset)).pipeline = []
        detection.data.datasets.only_pipeline(nested.train_dataloader)


def test_advice_on_how_to_get_data_is_of_the_data(derived):
    """A config with data of its own does not say how to get its base's."""
    own = "dict(dataset=dict(type='CocoDataset', ann_file='a.json'))"
    for text, options, kept in (
        ("", None, True),
        ("train_dataloader = dict(batch_size=2)", {"train_dataloader.num_workers": 0}, True),
        (f"train_dataloader = {own}", None, False),
        ("data_root = '/other/'", None, False),
        ("", {"test_dataloader.dataset.data_root": "/other/"}, False),
        ("data_root = '/other/'; data_source = 'mine'", None, True),
    ):
        assert ("data_source" in derived(BCCD, text, options)) is kept, (text, options)
