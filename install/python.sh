#!/bin/sh
# Print the Python to make .venv with: the one that is named, or else the newest on PATH.
#
#   install/python.sh [PYTHON]
#
# Fails, and says why on stderr, if the one that is named, or every one on PATH, is unfit.
set -u

# newest first; those that every locked package has wheels for ("… a newer Python" in CONTRIBUTING.md)
versions="3.14 3.13 3.12 3.11"

# Debian splits ensurepip off, a Python built by hand may lack the others, and wheels are for CPython with the GIL
probe='
import sys
version = "%d.%d" % sys.version_info[:2]
if sys.version_info < (3, 11): sys.exit("is Python " + version + ", older than 3.11")
if sys.implementation.name != "cpython" or "t" in sys.abiflags: sys.exit("is not CPython with the GIL")
for name in ("ensurepip", "venv", "ssl", "zlib"):
    try: __import__(name)
    except ImportError: sys.exit("lacks the module " + name)
print(version, sys._base_executable)
'

# Print the version of the Python $1, and its path: of a virtual environment, which may be the one to be made anew,
# that of the Python it was made with. Or fail and print the first line of what is wrong: one that exists may yet not
# run, such as a launcher of pyenv whose version is not the chosen one.
ask() {
    if answer=$("$1" -I -c "$probe" 2>&1); then echo "$answer"; else echo "$answer" | head -n 1; return 1; fi
}

if [ -n "${1-}" ]; then
    if ! answer=$(ask "$1"); then
        echo "Flowhook can't be installed with $1: $answer" >&2
        exit 1
    fi
    echo "${answer#* }"
    exit
fi

unfit=""
for name in $(printf 'python%s ' $versions) python3 python; do
    IFS=:
    for folder in $PATH; do
        unset IFS
        [ -x "$folder/$name" ] || continue
        if answer=$(ask "$folder/$name"); then
            case " $versions " in *" ${answer%% *} "*) echo "${answer#* }"; exit ;; esac
            answer="is Python ${answer%% *}, for which not every locked package has a wheel"
        fi
        unfit="$unfit
  $folder/$name: $answer"
    done
    unset IFS
done
echo "Flowhook needs one of Python $versions, with its modules ensurepip and venv. Found on PATH:${unfit:- none}
make PYTHON=... names another." >&2
exit 1
