from _command import run

run(__name__, "fits")
