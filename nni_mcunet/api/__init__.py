"""The functions behind `import nni_mcunet as mcu`, a module for each step: networks (load, zoo), planning (boards,
profile, plan, best_schedule), quantization (quantize), inspection (inspect), classification (accuracy), firmware
(compile, run) and deployment (report).

The package nni_mcunet imports a module here when one of its names is asked for. They join the rooms and compute
nothing themselves; the command lines call them, too.
"""
