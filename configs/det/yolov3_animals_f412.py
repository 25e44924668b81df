# YOLOv3 on six animals for the STM32F412: MCUNet's ImageNet classifier mcunet-in3 as backbone, at 256x192.
_base_ = "./_base_/voc2012_animals.py"

expected = dict(map50=0.622, tolerance=0.02)  # on val.txt; 40 minutes of one core beside other work
