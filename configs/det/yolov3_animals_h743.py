# YOLOv3 on six animals for the STM32H743: 320x256 and a wider neck. The second of two parts, without Mosaic and at the
# network's own size, goes on from the weights of the first, yolov3_animals_h743_mosaic.py: train these first, or give
# others by --cfg-options load_from=LAST.pth.
_base_ = "./_base_/voc2012_animals.py"

expected = dict(map50=0.663, tolerance=0.02)  # on val.txt; 13 minutes of one core beside other work
load_from = "work_dirs/yolov3_animals_h743_mosaic/last.pth"
model = dict(backbone=dict(arch=dict(resolution=[256, 320])), neck=dict(width=192))
train_pipeline = _base_.train_pipeline
train_pipeline[3].update(type="MinIoUCrop")
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_epochs=8, val_interval=8)
optim_wrapper = dict(optimizer=dict(lr=0.0005))
