# The same at 320x256 for the STM32H743, which goes on from the STM32F412's weights (docs/detectors.md).
_base_ = "./yolov3_animals_f412.py"

expected = dict(map50=0.644, tolerance=0.02)  # on val.txt; 50 minutes of one core beside other work
load_from = "out/detection/yolov3_animals_f412/det/last.pth"
model = dict(backbone=dict(arch=dict(resolution=[256, 320])))
train_cfg = dict(max_epochs=44, val_interval=44)
optim_wrapper = dict(optimizer=dict(lr=0.0007))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineRestartLR",
        periods=[24, 20],
        restart_weights=[1, 0.7],
        eta_min_ratio=0.01,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
