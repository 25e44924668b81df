# The same for the STM32H743, with a neck of 256 channels (docs/detectors.md has what was tried).
_base_ = "./yolov3_animals_f412.py"

expected = dict(map50=0.62, tolerance=0.02)  # on val.txt; 35 minutes of one core beside other work
model = dict(neck=dict(width=256))
train_cfg = dict(max_epochs=44, val_interval=44)
