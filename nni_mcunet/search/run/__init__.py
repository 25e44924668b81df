"""Keep what a search leaves: history (its whole state), run_folder (whose search a folder holds), result_folder (how a
new search takes an older one's place), export (architectures and weights), report (pictures).

NNI is not known here: a search through its NAS API leaves the same files.
"""
