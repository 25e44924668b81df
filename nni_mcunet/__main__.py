"""`python -m nni_mcunet COMMAND ...`"""

from .cli.main import main

if __name__ == "__main__":
    main()
