"""Run the search under NNI: nothing of what is searched is decided here.

tuner, trial  what NNI starts: the evolution, and the evaluation of its candidates
strategy      the same search through NNI's NAS API, in one process
launch        an experiment from a script; experiment_file, nni_checks, nnictl, ports, processes, trouble serve it

Only tuner, trial, strategy and nni_checks import NNI.
"""
