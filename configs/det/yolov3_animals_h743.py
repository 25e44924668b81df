# The same at 320x256 for the STM32H743, which goes on from the STM32F412's weights (docs/detectors.md): train these
# first, or give others by --cfg-options load_from=LAST.pth.
_base_ = "./yolov3_animals_f412.py"

expected = dict(map50=0.644, tolerance=0.02)  # on val.txt; half an hour of one core beside other work
load_from = "work_dirs/yolov3_animals_f412/last.pth"
model = dict(backbone=dict(arch=dict(resolution=[256, 320])))
train_cfg = dict(max_epochs=24, val_interval=24)
optim_wrapper = dict(optimizer=dict(lr=0.0007))
