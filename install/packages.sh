#!/bin/sh
# Install the packages of a lock file, and Flowhook itself, into a virtual environment that has uv in it.
#
#   install/packages.sh VENV LOCK
#
# What an earlier lock file installed and this one lacks is removed, and nothing else: users add components. VENV/.locked
# has the names of the former. VENV/.uv is away meanwhile, so that an environment which an interrupt left half filled is
# made anew.
set -eu
venv=$1
lock=$2

# Print pip's setting $1, if there is one: uv doesn't read them, and a mirror or its certificate may be set there.
setting() {
    echo "$settings" | sed -n -e "s/^:env:\.$1='\(.*\)'\$/\1/p" -e "s/^global\.$1='\(.*\)'\$/\1/p" | head -n 1
}
settings=$("$venv/bin/python" -m pip config list)
index=${UV_DEFAULT_INDEX:-$(setting index-url)}
certificates=${SSL_CERT_FILE:-$(setting cert)}
[ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
[ -z "$certificates" ] || export SSL_CERT_FILE="$certificates"

mv "$venv/.uv" "$venv/.installing"
rm -f "$venv/.run" "$venv/.dev"
echo "installing $lock into $venv ..."
sed -n 's/^\([A-Za-z0-9._-]*\)==.*/\1/p' "$lock" | LC_ALL=C sort >"$venv/.locking"
if [ -f "$venv/.locked" ]; then
    stale=$(LC_ALL=C comm -23 "$venv/.locked" "$venv/.locking")
    # shellcheck disable=SC2086 # names without spaces
    [ -z "$stale" ] || "$venv/bin/uv" pip uninstall --quiet --python "$venv/bin/python" $stale
fi
# --quiet is also about the cache's being on another file system than VENV
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --require-hashes -r "$lock"
mv "$venv/.locking" "$venv/.locked"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --offline --no-deps --no-build-isolation --editable .
mv "$venv/.installing" "$venv/.uv"
