# Quantisation-aware training of what yolov3_bccd_f412.py has trained, 10 epochs at a tenth of the learning rate
# (appendix B): --cfg-options load_from=work_dirs/yolov3_bccd_f412/last.pth
_base_ = "./yolov3_bccd_f412.py"

expected = dict(map50=0.895, tolerance=0.02)  # on the test split, simulated and in the C engine
train_cfg = dict(max_epochs=10, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=0.0003))
default_hooks = dict(checkpoint=dict(interval=2))
custom_hooks = [dict(type="QATHook", freeze_epoch=8, outputs=(-6, 6))]
