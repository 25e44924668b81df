"""Search a network that fits a board: space, constraint, evolution, and around them data, supernet, run and nni.

The search stands on nni_mcunet.core and knows neither engine nor detection. A candidate passes space.py (genes ->
spec), constraint.py (spec -> plan or violation) and evolution.py (scores -> the next generation). data/ has the
pictures that judge it, supernet/ the weights that it is cut from, run/ the folder that a search leaves, nni/ what NNI
runs.

tuner.py, trial.py, strategy.py and nnictl.py are doors: paths that users' YAML, scripts and resumed searches name.
"""
