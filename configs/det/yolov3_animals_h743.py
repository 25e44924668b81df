# The same at 320x256 for the STM32H743, which goes on from the STM32F412's weights (docs/detectors.md).
_base_ = "./yolov3_animals_f412.py"

expected = dict(map50=0.62, tolerance=0.02)  # on val.txt
load_from = "out/detection/yolov3_animals_f412/det/last.pth"
model = dict(backbone=dict(arch=dict(resolution=[256, 320])))
train_cfg = dict(max_epochs=24, val_interval=24)
optim_wrapper = dict(optimizer=dict(lr=0.0007))
