"""Open nni/trial.py by the path that users' YAML and resumed searches name: `python -m nni_mcunet.search.trial`."""

from ..core.errors import exit_on_user_error
from .nni.trial import main

if __name__ == "__main__":
    with exit_on_user_error():
        main()
