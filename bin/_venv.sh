# shellcheck shell=sh
# Makes and updates the checkout's .venv; sourced by the other programs here, never run by itself.
#   ensure_venv EXTRA    EXTRA is '' (run time) or an extra of pyproject.toml, such as 'test'
# A stamp holds a hash of pyproject.toml and of this file, and where the checkout is, so a second call costs one comparison.
# shellcheck disable=SC3043

die() { echo "$name: $*" >&2; exit 1; }

find_python() {
    for candidate in "${APID_PYTHON:-python3}" python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

ensure_venv() {
    extra=$1
    venv=${APID_VENV:-$top/.venv}
    want="$(cat "$top/pyproject.toml" "$top/bin/_venv.sh" | cksum) $top"
    stamp="$venv/.apid-stamp${extra:+-$extra}"
    [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return
    (
        # Two first calls at once must not install into each other; without flock(1) the second may repeat the work.
        if command -v flock >/dev/null 2>&1; then exec 9> "$top/.venv.lock"; flock 9; fi
        [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && exit 0
        if ! "$venv/bin/python" -c '' 2>/dev/null; then
            python=$(find_python) || die "needs Python 3.11 or newer, and found none on PATH (set APID_PYTHON to name one)"
            "$python" -c 'import venv, ensurepip' 2>/dev/null ||
                die "the venv module of $python is missing: install it (Debian: apt-get install python3-venv) and call again"
            echo "$name: first call: making ${venv} with $("$python" --version)" >&2
            "$python" -m venv "$venv" || die "could not make $venv"
        fi
        echo "$name: installing apid${extra:+ and its '$extra' extra} into ${venv} (once; a minute or so)" >&2
        # compat: a path in a .pth, which mypy follows too; setuptools' import hook hides apid from it in other projects.
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check --config-settings editable_mode=compat \
            --editable "$top${extra:+[$extra]}" >&2 ||
            die "could not install; the lines above say why, and the next call tries again"
        echo "$want" > "$stamp"
    ) || exit 1
}
