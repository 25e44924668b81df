"""Open nni/nnictl.py by the path that users know: `python -m nni_mcunet.search.nnictl`."""

from .nni.nnictl import main

if __name__ == "__main__":
    main()
